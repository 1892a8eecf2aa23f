//! The firehose: copies of what is published and delivered in a vhost, for whoever debugs it.
//!
//! A vhost is traced when operators say so, until the node stops. The copies go to
//! `amq.rabbitmq.trace` under `publish.{exchange}` and `deliver.{queue}`; their bodies are the
//! originals', their headers tell the originals' properties and who moved them. They are transient,
//! and no step of theirs is traced. Sessions look at [`Vhost::is_traced`] before they come here.

use std::sync::Arc;

use super::dead_letter::with_keys;
use super::message::{Envelope, Message};
use super::queue::{Effects, Publisher, Queue};
use super::vhost::Vhost;
use super::{Broker, Now};
use crate::protocol::properties::Properties;
use crate::protocol::table::{RawTable, Table, Value};

const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";

/// What is traced of a message.
#[derive(Debug)]
pub struct Traced<'a> {
    /// The message.
    pub message: &'a Message,
    /// The name of the connection that moves it.
    pub connection: &'a str,
    /// The channel there.
    pub channel: u16,
    /// The user there.
    pub user: &'a str,
    /// Which way it goes.
    pub step: Step<'a>,
}

/// What happens to the message.
#[derive(Debug)]
pub enum Step<'a> {
    /// It came from a client.
    Published {
        /// The queues that it was routed to.
        queues: &'a [Arc<Queue>],
    },
    /// It goes to a client.
    Delivered {
        /// The queue that it leaves.
        queue: &'a str,
        /// Whether a client may have seen it before.
        redelivered: bool,
    },
}

impl Broker {
    /// Publishes the copy. Call it with no lock held, and [`finish`](Self::finish) later.
    pub fn trace(&self, vhost: &Vhost, traced: &Traced<'_>, now: Now, effects: &mut Effects) {
        if traced.message.exchange() == TRACE_EXCHANGE.as_bytes() {
            return;
        }
        let Some(exchange) = vhost.exchange(TRACE_EXCHANGE.as_bytes()) else { return };
        // A copy with more headers than fit a table is not worth a refusal of the original.
        let Some(copy) = self.copy(vhost, traced, now) else { return };
        self.publish_from(vhost, &exchange, &copy, Publisher::GoesOn, now, effects);
    }

    fn copy(&self, vhost: &Vhost, traced: &Traced<'_>, now: Now) -> Option<Message> {
        let &Traced { message, connection, channel, user, ref step } = traced;
        let mut keys = Vec::new();
        with_keys(message, |traits| keys.extend(traits.keys.iter().map(|key| Value::from(*key))));
        let mut headers = Table::new()
            .with("exchange_name", message.exchange())
            .with("routing_keys", keys)
            .with("properties", shown(message)?)
            .with("node", &*self.settings.node_name);
        if let Step::Delivered { redelivered, .. } = step {
            headers.insert("redelivered", i32::from(*redelivered));
        }
        headers
            .insert("vhost", &**vhost.name())
            .insert("connection", connection)
            .insert("channel", i32::from(channel))
            .insert("user", user);
        let routing_key = match step {
            Step::Published { queues } => {
                // What a delayed exchange keeps is in a queue that clients do not know.
                let queues = queues.iter().filter(|queue| queue.spec().delays_for.is_none());
                let names = queues.map(|queue| Value::from(&**queue.name()));
                headers.insert("routed_queues", names.collect::<Vec<_>>());
                [b"publish.", message.exchange()].concat()
            }
            Step::Delivered { queue, .. } => [b"deliver.", queue.as_bytes()].concat(),
        };
        let mut encoded_headers = Vec::new();
        headers.encode_body(&mut encoded_headers);
        let headers = Some(RawTable::parse(&encoded_headers).ok()?);
        let mut properties = Vec::new();
        Properties { headers, ..Properties::default() }.encode(&mut properties);
        // The longest names leave no room for the prefix in a key.
        let routing_key = routing_key.get(..u8::MAX.into()).unwrap_or(&routing_key);
        Some(message.readdressed(&Envelope {
            exchange: TRACE_EXCHANGE.as_bytes(),
            routing_key,
            properties: &properties,
            persistent: false,
            hides_bcc: false,
            published_ms: now.unix_ms,
        }))
    }
}

/// A message's properties as a table. Blind copies stay hidden.
fn shown(message: &Message) -> Option<Table> {
    let properties = Properties::parse(message.properties()).ok()?;
    let mut table = Table::new();
    let mut text = |name: &str, value: Option<&[u8]>| {
        if let Some(value) = value {
            table.insert(name, value);
        }
    };
    text("content_type", properties.content_type);
    text("content_encoding", properties.content_encoding);
    text("correlation_id", properties.correlation_id);
    text("reply_to", properties.reply_to);
    text("expiration", properties.expiration);
    text("message_id", properties.message_id);
    text("type", properties.type_);
    text("user_id", properties.user_id);
    text("app_id", properties.app_id);
    text("cluster_id", properties.cluster_id);
    if let Some(headers) = properties.headers {
        let mut headers = headers.to_table();
        if message.hides_bcc() {
            headers.remove("BCC");
        }
        table.insert("headers", headers);
    }
    if let Some(mode) = properties.delivery_mode {
        table.insert("delivery_mode", i32::from(mode));
    }
    if let Some(priority) = properties.priority {
        table.insert("priority", i32::from(priority));
    }
    if let Some(seconds) = properties.timestamp {
        // An int, as in RabbitMQ, while it fits one.
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        table.insert("timestamp", i32::try_from(seconds).map_or(Value::I64(seconds), Value::I32));
    }
    Some(table)
}
