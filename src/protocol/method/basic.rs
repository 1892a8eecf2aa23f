//! Class basic. Messages: publishing, consuming, acknowledging.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use crate::protocol::table::RawTable;
use crate::protocol::wire::{
    Fault, long_bytes, nothing, put_long_bytes, put_short_bytes, short_bytes, text, whole,
};

/// `basic.qos`: limits the deliveries that may be unacknowledged at a time.
///
/// Sent by the client; answered with [`QosOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Qos {
    /// Bytes; RabbitMQ takes only 0.
    pub prefetch_size: u32,
    /// Messages; 0 for no limit.
    pub prefetch_count: u16,
    /// For the whole channel rather than each new consumer.
    pub global: bool,
}

impl Qos {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let (prefetch_size, prefetch_count, bits) = whole((be_u32, be_u16, be_u8), fields)?;
        Ok(Self { prefetch_size, prefetch_count, global: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 10]);
        out.extend_from_slice(&self.prefetch_size.to_be_bytes());
        out.extend_from_slice(&self.prefetch_count.to_be_bytes());
        out.push(u8::from(self.global));
    }
}

/// `basic.qos-ok`: the limit holds.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QosOk;

impl QosOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 11]);
    }
}

/// `basic.consume`: starts a consumer on a queue.
///
/// Sent by the client; answered with [`ConsumeOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consume<'a> {
    /// The queue; empty for the last one declared on the channel.
    pub queue: &'a str,
    /// The consumer's name; empty lets the server choose one.
    pub consumer_tag: &'a str,
    /// Not the connection's own messages; RabbitMQ ignores it.
    pub no_local: bool,
    /// Deliveries count as acknowledged when they are sent.
    pub no_ack: bool,
    /// No other consumer on the queue.
    pub exclusive: bool,
    /// The peer sends no reply.
    pub nowait: bool,
    /// Optional arguments.
    pub arguments: RawTable<'a>,
}

impl<'a> Consume<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, queue, consumer_tag, bits, arguments) =
            whole((be_u16, short_bytes, short_bytes, be_u8, long_bytes), fields)?;
        Ok(Self {
            queue: text(queue)?,
            consumer_tag: text(consumer_tag)?,
            no_local: bits & 1 != 0,
            no_ack: bits & 2 != 0,
            exclusive: bits & 4 != 0,
            nowait: bits & 8 != 0,
            arguments: RawTable::parse(arguments)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 20]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.queue.as_bytes());
        put_short_bytes(out, self.consumer_tag.as_bytes());
        out.push(
            u8::from(self.no_local)
                | u8::from(self.no_ack) << 1
                | u8::from(self.exclusive) << 2
                | u8::from(self.nowait) << 3,
        );
        put_long_bytes(out, self.arguments.as_bytes());
    }
}

/// `basic.consume-ok`: the consumer has started.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumeOk<'a> {
    /// The consumer's name, unique within its channel.
    pub consumer_tag: &'a str,
}

impl<'a> ConsumeOk<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let consumer_tag = whole(short_bytes, fields)?;
        Ok(Self { consumer_tag: text(consumer_tag)? })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 21]);
        put_short_bytes(out, self.consumer_tag.as_bytes());
    }
}

/// `basic.cancel`: ends a consumer; from the server, when its queue is gone.
///
/// Sent by either side; answered with [`CancelOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cancel<'a> {
    /// The consumer's name, unique within its channel.
    pub consumer_tag: &'a str,
    /// The peer sends no reply.
    pub nowait: bool,
}

impl<'a> Cancel<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (consumer_tag, bits) = whole((short_bytes, be_u8), fields)?;
        Ok(Self { consumer_tag: text(consumer_tag)?, nowait: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 30]);
        put_short_bytes(out, self.consumer_tag.as_bytes());
        out.push(u8::from(self.nowait));
    }
}

/// `basic.cancel-ok`: the consumer has ended.
///
/// Sent by either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CancelOk<'a> {
    /// The consumer's name, unique within its channel.
    pub consumer_tag: &'a str,
}

impl<'a> CancelOk<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let consumer_tag = whole(short_bytes, fields)?;
        Ok(Self { consumer_tag: text(consumer_tag)? })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 31]);
        put_short_bytes(out, self.consumer_tag.as_bytes());
    }
}

/// `basic.publish`: publishes a message.
///
/// Sent by the client, followed by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Publish<'a> {
    /// The exchange; empty for the default exchange.
    pub exchange: &'a [u8],
    /// What the exchange routes by.
    pub routing_key: &'a [u8],
    /// Returned if no queue gets it.
    pub mandatory: bool,
    /// Returned if no consumer takes it at once; RabbitMQ refuses it.
    pub immediate: bool,
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, exchange, routing_key, bits) =
            whole((be_u16, short_bytes, short_bytes, be_u8), fields)?;
        Ok(Self { exchange, routing_key, mandatory: bits & 1 != 0, immediate: bits & 2 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 40]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.exchange);
        put_short_bytes(out, self.routing_key);
        out.push(u8::from(self.mandatory) | u8::from(self.immediate) << 1);
    }
}

/// `basic.return`: gives back a message that reached no queue.
///
/// Sent by the server, followed by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Return<'a> {
    /// The reply code.
    pub reply_code: u16,
    /// The reply code's name.
    pub reply_text: &'a [u8],
    /// The exchange it was published to.
    pub exchange: &'a [u8],
    /// The routing key it was published with.
    pub routing_key: &'a [u8],
}

impl<'a> Return<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (reply_code, reply_text, exchange, routing_key) =
            whole((be_u16, short_bytes, short_bytes, short_bytes), fields)?;
        Ok(Self { reply_code, reply_text, exchange, routing_key })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 50]);
        out.extend_from_slice(&self.reply_code.to_be_bytes());
        put_short_bytes(out, self.reply_text);
        put_short_bytes(out, self.exchange);
        put_short_bytes(out, self.routing_key);
    }
}

/// `basic.deliver`: hands a message to a consumer.
///
/// Sent by the server, followed by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deliver<'a> {
    /// The consumer's name, unique within its channel.
    pub consumer_tag: &'a [u8],
    /// The delivery's number on its channel, from 1.
    pub delivery_tag: u64,
    /// The message was delivered before and came back.
    pub redelivered: bool,
    /// The exchange it was published to.
    pub exchange: &'a [u8],
    /// The routing key it was published with.
    pub routing_key: &'a [u8],
}

impl<'a> Deliver<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (consumer_tag, delivery_tag, bits, exchange, routing_key) =
            whole((short_bytes, be_u64, be_u8, short_bytes, short_bytes), fields)?;
        Ok(Self { consumer_tag, delivery_tag, redelivered: bits & 1 != 0, exchange, routing_key })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 60]);
        put_short_bytes(out, self.consumer_tag);
        out.extend_from_slice(&self.delivery_tag.to_be_bytes());
        out.push(u8::from(self.redelivered));
        put_short_bytes(out, self.exchange);
        put_short_bytes(out, self.routing_key);
    }
}

/// `basic.get`: fetches one message.
///
/// Sent by the client; answered with [`GetOk`] or [`GetEmpty`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Get<'a> {
    /// The queue; empty for the last one declared on the channel.
    pub queue: &'a str,
    /// Deliveries count as acknowledged when they are sent.
    pub no_ack: bool,
}

impl<'a> Get<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (_ticket, queue, bits) = whole((be_u16, short_bytes, be_u8), fields)?;
        Ok(Self { queue: text(queue)?, no_ack: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 70]);
        out.extend_from_slice(&[0; 2]);
        put_short_bytes(out, self.queue.as_bytes());
        out.push(u8::from(self.no_ack));
    }
}

/// `basic.get-ok`: the message fetched.
///
/// Sent by the server, followed by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GetOk<'a> {
    /// The delivery's number on its channel, from 1.
    pub delivery_tag: u64,
    /// The message was delivered before and came back.
    pub redelivered: bool,
    /// The exchange it was published to.
    pub exchange: &'a [u8],
    /// The routing key it was published with.
    pub routing_key: &'a [u8],
    /// Messages still ready after this one.
    pub message_count: u32,
}

impl<'a> GetOk<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (delivery_tag, bits, exchange, routing_key, message_count) =
            whole((be_u64, be_u8, short_bytes, short_bytes, be_u32), fields)?;
        Ok(Self { delivery_tag, redelivered: bits & 1 != 0, exchange, routing_key, message_count })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 71]);
        out.extend_from_slice(&self.delivery_tag.to_be_bytes());
        out.push(u8::from(self.redelivered));
        put_short_bytes(out, self.exchange);
        put_short_bytes(out, self.routing_key);
        out.extend_from_slice(&self.message_count.to_be_bytes());
    }
}

/// `basic.get-empty`: the queue holds no message that is ready.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GetEmpty;

impl GetEmpty {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let cluster_id = whole(short_bytes, fields)?;
        text(cluster_id)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 72]);
        put_short_bytes(out, b"");
    }
}

/// `basic.ack`: acknowledges deliveries; from the server, confirms publishes.
///
/// Sent by either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ack {
    /// The delivery; 0 with `multiple` means all.
    pub delivery_tag: u64,
    /// All up to and including the tag.
    pub multiple: bool,
}

impl Ack {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let (delivery_tag, bits) = whole((be_u64, be_u8), fields)?;
        Ok(Self { delivery_tag, multiple: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 80]);
        out.extend_from_slice(&self.delivery_tag.to_be_bytes());
        out.push(u8::from(self.multiple));
    }
}

/// `basic.reject`: refuses one delivery.
///
/// Sent by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// The delivery's number on its channel, from 1.
    pub delivery_tag: u64,
    /// Back to its queue; otherwise dead-lettered or dropped.
    pub requeue: bool,
}

impl Default for Reject {
    fn default() -> Self {
        Self { delivery_tag: 0, requeue: true }
    }
}

impl Reject {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let (delivery_tag, bits) = whole((be_u64, be_u8), fields)?;
        Ok(Self { delivery_tag, requeue: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 90]);
        out.extend_from_slice(&self.delivery_tag.to_be_bytes());
        out.push(u8::from(self.requeue));
    }
}

/// `basic.recover-async`: recovers without an answer; deprecated.
///
/// Sent by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoverAsync {
    /// Back to the queues; RabbitMQ requires it.
    pub requeue: bool,
}

impl RecoverAsync {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let bits = whole(be_u8, fields)?;
        Ok(Self { requeue: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 100]);
        out.push(u8::from(self.requeue));
    }
}

/// `basic.recover`: gives back all unacknowledged deliveries of the channel.
///
/// Sent by the client; answered with [`RecoverOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recover {
    /// Back to the queues; RabbitMQ requires it.
    pub requeue: bool,
}

impl Recover {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let bits = whole(be_u8, fields)?;
        Ok(Self { requeue: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 110]);
        out.push(u8::from(self.requeue));
    }
}

/// `basic.recover-ok`: the deliveries are back in their queues.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoverOk;

impl RecoverOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 111]);
    }
}

/// `basic.nack`: refuses deliveries; from the server, tells that publishes failed.
///
/// Sent by either side. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// The delivery; 0 with `multiple` means all.
    pub delivery_tag: u64,
    /// All up to and including the tag.
    pub multiple: bool,
    /// Back to its queue; otherwise dead-lettered or dropped.
    pub requeue: bool,
}

impl Default for Nack {
    fn default() -> Self {
        Self { delivery_tag: 0, multiple: false, requeue: true }
    }
}

impl Nack {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let (delivery_tag, bits) = whole((be_u64, be_u8), fields)?;
        Ok(Self { delivery_tag, multiple: bits & 1 != 0, requeue: bits & 2 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 60, 0, 120]);
        out.extend_from_slice(&self.delivery_tag.to_be_bytes());
        out.push(u8::from(self.multiple) | u8::from(self.requeue) << 1);
    }
}
