//! Field tables: the arguments and headers of AMQP.
//!
//! [`RawTable`] is a view of received bytes whose structure has been checked once; it is walked
//! when asked and never copied. [`Table`] is the owned form, for what the broker keeps or builds.
//! Tags are RabbitMQ's, which differ from the specification's in a few places: `s` is a 16-bit
//! integer, and `l` and `L` are both signed 64-bit.
//!
//! Limits: [`NESTING_MAX`] levels and [`ENTRIES_MAX`] entries; RabbitMQ has neither.

pub mod json;
mod owned;
mod raw;

pub use owned::{ShortString, Table, Value, values_equal};
pub use raw::{RawArray, RawTable, TableIter, ValueRef};

/// Levels of tables and arrays within one another, the outermost included.
pub const NESTING_MAX: usize = 32;

/// Entries of a table, those of the tables and arrays within it included.
pub const ENTRIES_MAX: usize = 8_192;

/// Entries that the broker adds to a table it was sent, at most.
pub(crate) const ENTRIES_ADDED_MAX: usize = 8;

/// Why bytes are not a field table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A key or value reaches past the end.
    #[error("field table is cut short")]
    Truncated,
    /// A value of a type that RabbitMQ does not know.
    #[error("field table holds a value of unknown type {0:#04x}")]
    UnknownType(u8),
    /// More than [`NESTING_MAX`] levels.
    #[error("field table is nested deeper than {NESTING_MAX} levels")]
    TooDeep,
    /// More than [`ENTRIES_MAX`] entries.
    #[error("field table has more than {ENTRIES_MAX} entries")]
    TooManyEntries,
}
