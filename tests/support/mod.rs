//! A broker and its clients in one thread: what the transcript tests are written in.
//!
//! Connections are driven as the edge drives them (bytes in, bytes out, wake-ups, deadlines),
//! without sockets and with a clock that moves only when a test says so. A test reads as a
//! transcript: what a client sends, and what it then sees.
//!
//! The same transcripts can be held against a broker elsewhere, by TCP: see [`oracle`].
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`world`] | the broker, its store, the clock, and the turns of every connection |
//! | [`client`] | one client: its handshake, what it sends, what it expects |
//! | [`requests`] | what clients send, with short names |
//! | [`properties`] | message properties, written and read |
//! | [`received`] | what clients see |
//! | [`transport`] | what lies between a client and its broker |
//! | [`socket`] | a client of a process that the test has started |
//! | [`oracle`] | a broker in another process, if the environment names one |

pub(crate) mod client;
mod oracle;
pub(crate) mod properties;
pub(crate) mod received;
pub(crate) mod requests;
pub(crate) mod socket;
mod transport;
pub(crate) mod world;

pub(crate) use client::{Client, Login};
pub(crate) use properties::{Props, props};
pub(crate) use received::Content;
pub(crate) use requests::*;
pub(crate) use world::World;
