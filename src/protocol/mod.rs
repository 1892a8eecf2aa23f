//! The AMQP 0-9-1 codec, without IO: bytes in, values that borrow from them out, and back.
//!
//! Depends on nothing else of the crate. Input is never trusted: every length is checked before it
//! is used, nesting and counts are bounded, and nothing here panics on bytes from a peer. Output
//! is appended to a caller's `Vec<u8>`, without buffers in between.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`header`] | the first eight bytes of a connection |
//! | [`frame`] | frame heads and ends, the size check, frame emission |
//! | [`method`] | the 66 methods: generated from `spec/amqp-0-9-1.toml` |
//! | [`table`] | field tables, borrowed and owned |
//! | [`properties`] | content headers and the properties of class basic |
//! | [`reply_code`], [`refusal`] | what a peer is told when something is refused |

pub mod frame;
pub mod header;
pub mod method;
pub mod properties;
pub mod refusal;
pub mod reply_code;
pub mod table;
mod wire;

pub use frame::{Frame, FrameError, FrameKind};
pub use header::ProtocolHeader;
pub use method::{Method, MethodError};
pub use properties::{ContentHeader, Properties, PropertiesError, Summary};
pub use refusal::{Refusal, Scope};
pub use reply_code::ReplyCode;
pub use table::{RawArray, RawTable, ShortString, Table, TableError, Value, ValueRef};
