//! What clients send: short names for the methods of the codec, with their usual values.
//!
//! A request is built in one expression, `queue("jobs").durable().arg("x-max-length", 10)`, and
//! sent by [`Client::send`](super::Client::send) or [`Client::ok`](super::Client::ok). Methods
//! without arguments worth naming are sent as the codec has them.

use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic, channel, confirm, tx};
use leveret::protocol::method::{exchange as exchanges, queue as queues};
use leveret::protocol::table::{RawTable, Table, Value};

use super::properties::Props;

/// Class basic, the only one with content.
pub(crate) const CLASS_BASIC: u16 = 60;
/// Bytes of body that the clients put into a frame at most.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 131_072 - frame::OVERHEAD_BYTES;

/// Something a client sends on a channel.
pub(crate) trait Request {
    /// Appends its frames.
    fn write(&self, channel: u16, out: &mut Vec<u8>);
}

impl Request for Method<'_> {
    fn write(&self, channel: u16, out: &mut Vec<u8>) {
        frame::method(out, channel, self);
    }
}

/// Gives a request named setters for its bits, and `arg` where it has arguments.
macro_rules! request {
    (
        $(#[$doc:meta])*
        $name:ident { $($text:ident),* } bits { $($bit:ident),* } $($arguments:ident)?
        => |$this:ident $(, $raw:ident)?| $method:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub(crate) struct $name {
            $($text: String,)*
            $($bit: bool,)*
            $($arguments: Table,)?
        }

        impl $name {
            $(
                pub(crate) fn $bit(mut self) -> Self {
                    self.$bit = true;
                    self
                }
            )*
            $(
                pub(crate) fn arg(mut self, name: &str, value: impl Into<Value>) -> Self {
                    self.$arguments.insert(name, value);
                    self
                }
            )?
        }

        impl Request for $name {
            fn write(&self, channel: u16, out: &mut Vec<u8>) {
                let $this = self;
                $(
                    let mut body = Vec::new();
                    self.$arguments.encode_body(&mut body);
                    let $raw = RawTable::parse(&body).expect("arguments within the limits");
                )?
                frame::method(out, channel, &$method);
            }
        }
    };
}

request! {
    /// queue.declare.
    QueueDeclare { name } bits { passive, durable, exclusive, auto_delete, nowait } arguments
    => |it, raw| Method::QueueDeclare(queues::Declare {
        queue: &it.name,
        passive: it.passive,
        durable: it.durable,
        exclusive: it.exclusive,
        auto_delete: it.auto_delete,
        nowait: it.nowait,
        arguments: raw,
    })
}

request! {
    /// exchange.declare.
    ExchangeDeclare { name, kind } bits { passive, durable, auto_delete, internal, nowait }
    arguments
    => |it, raw| Method::ExchangeDeclare(exchanges::Declare {
        exchange: &it.name,
        type_: &it.kind,
        passive: it.passive,
        durable: it.durable,
        auto_delete: it.auto_delete,
        internal: it.internal,
        nowait: it.nowait,
        arguments: raw,
    })
}

request! {
    /// queue.bind.
    QueueBind { queue, exchange, key } bits { nowait } arguments
    => |it, raw| Method::QueueBind(queues::Bind {
        queue: &it.queue,
        exchange: &it.exchange,
        routing_key: &it.key,
        nowait: it.nowait,
        arguments: raw,
    })
}

request! {
    /// queue.unbind.
    QueueUnbind { queue, exchange, key } bits {} arguments
    => |it, raw| Method::QueueUnbind(queues::Unbind {
        queue: &it.queue,
        exchange: &it.exchange,
        routing_key: &it.key,
        arguments: raw,
    })
}

request! {
    /// exchange.bind.
    ExchangeBind { destination, source, key } bits { nowait } arguments
    => |it, raw| Method::ExchangeBind(exchanges::Bind {
        destination: &it.destination,
        source: &it.source,
        routing_key: &it.key,
        nowait: it.nowait,
        arguments: raw,
    })
}

request! {
    /// exchange.unbind.
    ExchangeUnbind { destination, source, key } bits { nowait } arguments
    => |it, raw| Method::ExchangeUnbind(exchanges::Unbind {
        destination: &it.destination,
        source: &it.source,
        routing_key: &it.key,
        nowait: it.nowait,
        arguments: raw,
    })
}

request! {
    /// queue.delete.
    QueueDelete { queue } bits { if_unused, if_empty, nowait }
    => |it| Method::QueueDelete(queues::Delete {
        queue: &it.queue,
        if_unused: it.if_unused,
        if_empty: it.if_empty,
        nowait: it.nowait,
    })
}

request! {
    /// exchange.delete.
    ExchangeDelete { exchange } bits { if_unused, nowait }
    => |it| Method::ExchangeDelete(exchanges::Delete {
        exchange: &it.exchange,
        if_unused: it.if_unused,
        nowait: it.nowait,
    })
}

request! {
    /// queue.purge.
    QueuePurge { queue } bits { nowait }
    => |it| Method::QueuePurge(queues::Purge { queue: &it.queue, nowait: it.nowait })
}

request! {
    /// basic.consume.
    Consume { queue, tag } bits { no_local, no_ack, exclusive, nowait } arguments
    => |it, raw| Method::BasicConsume(basic::Consume {
        queue: &it.queue,
        consumer_tag: &it.tag,
        no_local: it.no_local,
        no_ack: it.no_ack,
        exclusive: it.exclusive,
        nowait: it.nowait,
        arguments: raw,
    })
}

request! {
    /// basic.cancel.
    Cancel { tag } bits { nowait }
    => |it| Method::BasicCancel(basic::Cancel { consumer_tag: &it.tag, nowait: it.nowait })
}

request! {
    /// basic.get.
    Get { queue } bits { no_ack }
    => |it| Method::BasicGet(basic::Get { queue: &it.queue, no_ack: it.no_ack })
}

/// queue.declare; an empty name lets the server choose.
pub(crate) fn queue(name: &str) -> QueueDeclare {
    QueueDeclare { name: name.into(), ..QueueDeclare::default() }
}

/// exchange.declare.
pub(crate) fn exchange(name: &str, kind: &str) -> ExchangeDeclare {
    ExchangeDeclare { name: name.into(), kind: kind.into(), ..ExchangeDeclare::default() }
}

/// queue.bind: from `exchange` to `queue`.
pub(crate) fn bind(queue: &str, exchange: &str, key: &str) -> QueueBind {
    let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
    QueueBind { queue, exchange, key, ..QueueBind::default() }
}

/// queue.unbind.
pub(crate) fn unbind(queue: &str, exchange: &str, key: &str) -> QueueUnbind {
    let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
    QueueUnbind { queue, exchange, key, ..QueueUnbind::default() }
}

/// exchange.bind: from `source` to `destination`.
pub(crate) fn bind_exchange(destination: &str, source: &str, key: &str) -> ExchangeBind {
    let (destination, source, key) = (destination.into(), source.into(), key.into());
    ExchangeBind { destination, source, key, ..ExchangeBind::default() }
}

/// exchange.unbind.
pub(crate) fn unbind_exchange(destination: &str, source: &str, key: &str) -> ExchangeUnbind {
    let (destination, source, key) = (destination.into(), source.into(), key.into());
    ExchangeUnbind { destination, source, key, ..ExchangeUnbind::default() }
}

/// queue.delete.
pub(crate) fn delete_queue(queue: &str) -> QueueDelete {
    QueueDelete { queue: queue.into(), ..QueueDelete::default() }
}

/// exchange.delete.
pub(crate) fn delete_exchange(exchange: &str) -> ExchangeDelete {
    ExchangeDelete { exchange: exchange.into(), ..ExchangeDelete::default() }
}

/// queue.purge.
pub(crate) fn purge(queue: &str) -> QueuePurge {
    QueuePurge { queue: queue.into(), ..QueuePurge::default() }
}

/// basic.consume; an empty tag lets the server choose.
pub(crate) fn consume(queue: &str, tag: &str) -> Consume {
    Consume { queue: queue.into(), tag: tag.into(), ..Consume::default() }
}

/// basic.cancel.
pub(crate) fn cancel(tag: &str) -> Cancel {
    Cancel { tag: tag.into(), ..Cancel::default() }
}

/// basic.get.
pub(crate) fn get(queue: &str) -> Get {
    Get { queue: queue.into(), ..Get::default() }
}

/// basic.publish with its content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publish {
    exchange: String,
    key: String,
    body: Vec<u8>,
    mandatory: bool,
    immediate: bool,
    properties: Option<Vec<u8>>,
}

/// basic.publish.
pub(crate) fn publish(exchange: &str, key: &str, body: impl AsRef<[u8]>) -> Publish {
    let (exchange, key, body) = (exchange.into(), key.into(), body.as_ref().to_vec());
    Publish { exchange, key, body, ..Publish::default() }
}

impl Publish {
    pub(crate) fn mandatory(mut self) -> Self {
        self.mandatory = true;
        self
    }

    pub(crate) fn immediate(mut self) -> Self {
        self.immediate = true;
        self
    }

    pub(crate) fn with(self, props: Props) -> Self {
        let bytes = props.encode();
        self.with_bytes(&bytes)
    }

    /// Takes property flags and values as they are to be sent.
    pub(crate) fn with_bytes(mut self, properties: &[u8]) -> Self {
        self.properties = Some(properties.to_vec());
        self
    }

    /// The method alone.
    pub(crate) fn method(&self) -> Method<'_> {
        Method::BasicPublish(basic::Publish {
            exchange: self.exchange.as_bytes(),
            routing_key: self.key.as_bytes(),
            mandatory: self.mandatory,
            immediate: self.immediate,
        })
    }
}

impl Request for Publish {
    fn write(&self, channel: u16, out: &mut Vec<u8>) {
        let properties = self.properties.as_deref().unwrap_or(&[0, 0]);
        frame::method(out, channel, &self.method());
        frame::content_header(out, channel, CLASS_BASIC, self.body.len() as u64, properties);
        for payload in self.body.chunks(PAYLOAD_BYTES_MAX) {
            frame::body(out, channel, payload);
        }
    }
}

/// basic.ack of one delivery.
pub(crate) fn ack(delivery_tag: u64) -> Method<'static> {
    Method::BasicAck(basic::Ack { delivery_tag, multiple: false })
}

/// basic.ack of all deliveries up to this one.
pub(crate) fn ack_up_to(delivery_tag: u64) -> Method<'static> {
    Method::BasicAck(basic::Ack { delivery_tag, multiple: true })
}

/// What becomes of a refused delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes back to its queue.
    Requeue,
    /// It is dead-lettered or dropped.
    Discard,
}

/// basic.nack of one delivery.
pub(crate) fn nack(delivery_tag: u64, then: Then) -> Method<'static> {
    let requeue = then == Then::Requeue;
    Method::BasicNack(basic::Nack { delivery_tag, multiple: false, requeue })
}

/// basic.nack of all deliveries up to this one.
pub(crate) fn nack_up_to(delivery_tag: u64, then: Then) -> Method<'static> {
    let requeue = then == Then::Requeue;
    Method::BasicNack(basic::Nack { delivery_tag, multiple: true, requeue })
}

/// basic.reject.
pub(crate) fn reject(delivery_tag: u64, then: Then) -> Method<'static> {
    Method::BasicReject(basic::Reject { delivery_tag, requeue: then == Then::Requeue })
}

/// basic.recover with requeue set.
pub(crate) fn recover() -> Method<'static> {
    Method::BasicRecover(basic::Recover { requeue: true })
}

/// basic.qos for the consumers to come.
pub(crate) fn prefetch(prefetch_count: u16) -> Method<'static> {
    Method::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count, global: false })
}

/// basic.qos for the channel as a whole.
pub(crate) fn prefetch_shared(prefetch_count: u16) -> Method<'static> {
    Method::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count, global: true })
}

/// confirm.select.
pub(crate) fn confirm_select() -> Method<'static> {
    Method::ConfirmSelect(confirm::Select { nowait: false })
}

/// tx.select.
pub(crate) fn tx_select() -> Method<'static> {
    Method::TxSelect(tx::Select)
}

/// tx.commit.
pub(crate) fn tx_commit() -> Method<'static> {
    Method::TxCommit(tx::Commit)
}

/// tx.rollback.
pub(crate) fn tx_rollback() -> Method<'static> {
    Method::TxRollback(tx::Rollback)
}

/// channel.close, as a client that is done.
pub(crate) fn close_channel() -> Method<'static> {
    let reply_text = "done";
    Method::ChannelClose(channel::Close { reply_code: 200, reply_text, class_id: 0, method_id: 0 })
}
