//! Class queue. Queues and their bindings.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::number::complete::{be_u8, be_u16, be_u32};

use crate::protocol::table::RawTable;
use crate::protocol::wire::{
    Fault, long_bytes, nothing, put_long_bytes, put_short_bytes, short_bytes, text, whole,
};

/// `queue.declare`: creates a queue, or checks that it exists as described.
///
/// Sent by the client; answered with [`DeclareOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Declare<'a> {
    /// The queue; empty lets the server choose a name.
    pub queue: &'a str,
    /// Only checks that it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to this connection and goes with it.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The peer sends no reply.
    pub nowait: bool,
    /// Optional arguments.
    pub arguments: RawTable<'a>,
}

impl<'a> Declare<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, queue, bits, arguments) =
            whole((be_u16, short_bytes, be_u8, long_bytes), fields)?;
        Ok(Self {
            queue: text(queue)?,
            passive: bits & 1 != 0,
            durable: bits & 2 != 0,
            exclusive: bits & 4 != 0,
            auto_delete: bits & 8 != 0,
            nowait: bits & 16 != 0,
            arguments: RawTable::parse(arguments)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 10]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.queue.as_bytes());
        out.push(
            u8::from(self.passive)
                | u8::from(self.durable) << 1
                | u8::from(self.exclusive) << 2
                | u8::from(self.auto_delete) << 3
                | u8::from(self.nowait) << 4,
        );
        put_long_bytes(out, self.arguments.as_bytes());
    }
}

/// `queue.declare-ok`: the queue exists.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeclareOk<'a> {
    /// The queue's name.
    pub queue: &'a str,
    /// Messages ready in the queue.
    pub message_count: u32,
    /// Consumers on the queue.
    pub consumer_count: u32,
}

impl<'a> DeclareOk<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (queue, message_count, consumer_count) = whole((short_bytes, be_u32, be_u32), fields)?;
        Ok(Self { queue: text(queue)?, message_count, consumer_count })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 11]);
        put_short_bytes(out, self.queue.as_bytes());
        out.extend_from_slice(&self.message_count.to_be_bytes());
        out.extend_from_slice(&self.consumer_count.to_be_bytes());
    }
}

/// `queue.bind`: lets messages flow from an exchange to a queue.
///
/// Sent by the client; answered with [`BindOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bind<'a> {
    /// The queue; empty for the last one declared on the channel.
    pub queue: &'a str,
    /// The exchange; empty for the default exchange.
    pub exchange: &'a str,
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
        let (_ticket, queue, exchange, routing_key, bits, arguments) =
            whole((be_u16, short_bytes, short_bytes, short_bytes, be_u8, long_bytes), fields)?;
        Ok(Self {
            queue: text(queue)?,
            exchange: text(exchange)?,
            routing_key: text(routing_key)?,
            nowait: bits & 1 != 0,
            arguments: RawTable::parse(arguments)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 20]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.queue.as_bytes());
        put_short_bytes(out, self.exchange.as_bytes());
        put_short_bytes(out, self.routing_key.as_bytes());
        out.push(u8::from(self.nowait));
        put_long_bytes(out, self.arguments.as_bytes());
    }
}

/// `queue.bind-ok`: the binding exists.
///
/// Sent by the server.
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
        out.extend_from_slice(&[0, 50, 0, 21]);
    }
}

/// `queue.purge`: removes the messages that are ready.
///
/// Sent by the client; answered with [`PurgeOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purge<'a> {
    /// The queue; empty for the last one declared on the channel.
    pub queue: &'a str,
    /// The peer sends no reply.
    pub nowait: bool,
}

impl<'a> Purge<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, queue, bits) = whole((be_u16, short_bytes, be_u8), fields)?;
        Ok(Self { queue: text(queue)?, nowait: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 30]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.queue.as_bytes());
        out.push(u8::from(self.nowait));
    }
}

/// `queue.purge-ok`: the messages are gone.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurgeOk {
    /// Messages removed.
    pub message_count: u32,
}

impl PurgeOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let message_count = whole(be_u32, fields)?;
        Ok(Self { message_count })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 31]);
        out.extend_from_slice(&self.message_count.to_be_bytes());
    }
}

/// `queue.delete`: deletes a queue with its messages and bindings.
///
/// Sent by the client; answered with [`DeleteOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delete<'a> {
    /// The queue; empty for the last one declared on the channel.
    pub queue: &'a str,
    /// Only if it has no consumers.
    pub if_unused: bool,
    /// Only if it holds no messages.
    pub if_empty: bool,
    /// The peer sends no reply.
    pub nowait: bool,
}

impl<'a> Delete<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, queue, bits) = whole((be_u16, short_bytes, be_u8), fields)?;
        Ok(Self {
            queue: text(queue)?,
            if_unused: bits & 1 != 0,
            if_empty: bits & 2 != 0,
            nowait: bits & 4 != 0,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 40]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.queue.as_bytes());
        out.push(
            u8::from(self.if_unused) | u8::from(self.if_empty) << 1 | u8::from(self.nowait) << 2,
        );
    }
}

/// `queue.delete-ok`: the queue is gone.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteOk {
    /// Messages that went with it.
    pub message_count: u32,
}

impl DeleteOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let message_count = whole(be_u32, fields)?;
        Ok(Self { message_count })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 41]);
        out.extend_from_slice(&self.message_count.to_be_bytes());
    }
}

/// `queue.unbind`: removes a binding between an exchange and a queue.
///
/// Sent by the client; answered with [`UnbindOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unbind<'a> {
    /// The queue; empty for the last one declared on the channel.
    pub queue: &'a str,
    /// The exchange; empty for the default exchange.
    pub exchange: &'a str,
    /// The binding key.
    pub routing_key: &'a str,
    /// The arguments that it was bound with.
    pub arguments: RawTable<'a>,
}

impl<'a> Unbind<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, queue, exchange, routing_key, arguments) =
            whole((be_u16, short_bytes, short_bytes, short_bytes, long_bytes), fields)?;
        Ok(Self {
            queue: text(queue)?,
            exchange: text(exchange)?,
            routing_key: text(routing_key)?,
            arguments: RawTable::parse(arguments)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 50, 0, 50]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.queue.as_bytes());
        put_short_bytes(out, self.exchange.as_bytes());
        put_short_bytes(out, self.routing_key.as_bytes());
        put_long_bytes(out, self.arguments.as_bytes());
    }
}

/// `queue.unbind-ok`: the binding is gone.
///
/// Sent by the server.
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
        out.extend_from_slice(&[0, 50, 0, 51]);
    }
}
