//! The methods of AMQP 0-9-1 with RabbitMQ's extensions.
//!
//! The structs of each class, and [`Method`] over all of them, are generated from
//! `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`. They borrow from the payload they were read
//! from. Fields that the protocol no longer uses are not shown: they are read and ignored, and
//! written as their defaults.
//!
//! Short strings are `&str` in methods without content, which RabbitMQ checks for UTF-8, and bytes
//! in those with content, which it does not check.

pub mod access;
mod any;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

pub use any::Method;

use super::table::TableError;
use super::wire::Fault;

/// Why the payload of a method frame is not a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// The payload has no room for a class and a method id; RabbitMQ treats it as a frame of
    /// unknown type.
    #[error("method frame without class and method id")]
    NoMethod,
    /// No such method. RabbitMQ drops the connection without a word.
    #[error("unknown method {method} of class {class}")]
    UnknownMethod {
        /// The class id.
        class: u16,
        /// The method id.
        method: u16,
    },
    /// Arguments are missing or left over: FRAME_ERROR.
    #[error("cannot decode {name}")]
    Malformed {
        /// The class id.
        class: u16,
        /// The method id.
        method: u16,
        /// The method's name, such as "queue.declare".
        name: &'static str,
    },
    /// A short string is not UTF-8: FRAME_ERROR.
    #[error("{name} holds a short string that is not UTF-8")]
    MalformedUtf8 {
        /// The class id.
        class: u16,
        /// The method id.
        method: u16,
        /// The method's name.
        name: &'static str,
    },
    /// A field table is malformed. RabbitMQ drops the connection without a word.
    #[error("{name}: {error}")]
    Table {
        /// The class id.
        class: u16,
        /// The method id.
        method: u16,
        /// The method's name.
        name: &'static str,
        /// What is wrong with it.
        error: TableError,
    },
}

impl MethodError {
    #[cold]
    fn new((class, method): (u16, u16), name: &'static str, fault: Fault) -> Self {
        match fault {
            Fault::Structure => Self::Malformed { class, method, name },
            Fault::Utf8 => Self::MalformedUtf8 { class, method, name },
            Fault::Table(error) => Self::Table { class, method, name, error },
        }
    }
}
