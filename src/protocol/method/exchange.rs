//! Class exchange. Exchanges and the bindings between them.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::number::complete::{be_u8, be_u16};

use crate::protocol::table::RawTable;
use crate::protocol::wire::{
    Fault, long_bytes, nothing, put_long_bytes, put_short_bytes, short_bytes, text, whole,
};

/// `exchange.declare`: creates an exchange, or checks that it exists as described.
///
/// Sent by the client; answered with [`DeclareOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declare<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The exchange's type.
    pub type_: &'a str,
    /// Only checks that it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// The peer sends no reply.
    pub nowait: bool,
    /// Optional arguments.
    pub arguments: RawTable<'a>,
}

impl Default for Declare<'_> {
    fn default() -> Self {
        Self {
            exchange: "",
            type_: "direct",
            passive: false,
            durable: false,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        }
    }
}

impl<'a> Declare<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, exchange, type_, bits, arguments) =
            whole((be_u16, short_bytes, short_bytes, be_u8, long_bytes), fields)?;
        Ok(Self {
            exchange: text(exchange)?,
            type_: text(type_)?,
            passive: bits & 1 != 0,
            durable: bits & 2 != 0,
            auto_delete: bits & 4 != 0,
            internal: bits & 8 != 0,
            nowait: bits & 16 != 0,
            arguments: RawTable::parse(arguments)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 10]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.exchange.as_bytes());
        put_short_bytes(out, self.type_.as_bytes());
        out.push(
            u8::from(self.passive)
                | u8::from(self.durable) << 1
                | u8::from(self.auto_delete) << 2
                | u8::from(self.internal) << 3
                | u8::from(self.nowait) << 4,
        );
        put_long_bytes(out, self.arguments.as_bytes());
    }
}

/// `exchange.declare-ok`: the exchange exists.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeclareOk;

impl DeclareOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 11]);
    }
}

/// `exchange.delete`: deletes an exchange and its bindings.
///
/// Sent by the client; answered with [`DeleteOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delete<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// Only if it has no bindings.
    pub if_unused: bool,
    /// The peer sends no reply.
    pub nowait: bool,
}

impl<'a> Delete<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, exchange, bits) = whole((be_u16, short_bytes, be_u8), fields)?;
        Ok(Self { exchange: text(exchange)?, if_unused: bits & 1 != 0, nowait: bits & 2 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 20]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.exchange.as_bytes());
        out.push(u8::from(self.if_unused) | u8::from(self.nowait) << 1);
    }
}

/// `exchange.delete-ok`: the exchange is gone.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteOk;

impl DeleteOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 21]);
    }
}

/// `exchange.bind`: lets messages flow from one exchange to another.
///
/// Sent by the client; answered with [`BindOk`]. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bind<'a> {
    /// The exchange that receives.
    pub destination: &'a str,
    /// The exchange that passes on.
    pub source: &'a str,
    /// The binding key.
    pub routing_key: &'a str,
    /// The peer sends no reply.
    pub nowait: bool,
    /// Optional arguments; part of the binding's identity.
    pub arguments: RawTable<'a>,
}

impl<'a> Bind<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, destination, source, routing_key, bits, arguments) =
            whole((be_u16, short_bytes, short_bytes, short_bytes, be_u8, long_bytes), fields)?;
        Ok(Self {
            destination: text(destination)?,
            source: text(source)?,
            routing_key: text(routing_key)?,
            nowait: bits & 1 != 0,
            arguments: RawTable::parse(arguments)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 30]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.destination.as_bytes());
        put_short_bytes(out, self.source.as_bytes());
        put_short_bytes(out, self.routing_key.as_bytes());
        out.push(u8::from(self.nowait));
        put_long_bytes(out, self.arguments.as_bytes());
    }
}

/// `exchange.bind-ok`: the binding exists.
///
/// Sent by the server. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BindOk;

impl BindOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 31]);
    }
}

/// `exchange.unbind`: removes a binding between exchanges.
///
/// Sent by the client; answered with [`UnbindOk`]. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unbind<'a> {
    /// The exchange that receives.
    pub destination: &'a str,
    /// The exchange that passes on.
    pub source: &'a str,
    /// The binding key.
    pub routing_key: &'a str,
    /// The peer sends no reply.
    pub nowait: bool,
    /// The arguments that it was bound with.
    pub arguments: RawTable<'a>,
}

impl<'a> Unbind<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, destination, source, routing_key, bits, arguments) =
            whole((be_u16, short_bytes, short_bytes, short_bytes, be_u8, long_bytes), fields)?;
        Ok(Self {
            destination: text(destination)?,
            source: text(source)?,
            routing_key: text(routing_key)?,
            nowait: bits & 1 != 0,
            arguments: RawTable::parse(arguments)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 40]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.destination.as_bytes());
        put_short_bytes(out, self.source.as_bytes());
        put_short_bytes(out, self.routing_key.as_bytes());
        out.push(u8::from(self.nowait));
        put_long_bytes(out, self.arguments.as_bytes());
    }
}

/// `exchange.unbind-ok`: the binding is gone.
///
/// Sent by the server. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnbindOk;

impl UnbindOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 40, 0, 51]);
    }
}
