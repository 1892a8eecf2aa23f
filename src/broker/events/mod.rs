//! The event exchange: what happens on the node, as messages that clients can bind queues to.
//!
//! RabbitMQ's plugin rabbitmq_event_exchange, always there: `amq.rabbitmq.event` in the default
//! vhost. An event's routing key says what happened (`queue.created`), its headers hold the
//! details, its body is empty.
//!
//! Invariants: while nothing is bound to the exchange, an event costs the question whether
//! something is; events are made where things happen, with locks held, and published by
//! [`Broker::finish`], with none; publishing one makes no further event.

pub mod fields;

use std::sync::Arc;

use super::exchange::Kind;
use super::message::{Envelope, Message};
use super::queue::{Effects, Publisher};
use super::vhost::{Exchange, ExchangeSpec, Vhost};
use super::{Broker, Now};
use crate::protocol::properties::Properties;
use crate::protocol::table::{RawTable, Table};

/// The exchange's name.
pub const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";

/// Who does what nobody asked for, as RabbitMQ names itself.
const NOBODY: &str = "rmq-internal";

/// Something that happened, still to be published.
#[derive(Debug)]
pub struct Event {
    key: &'static str,
    fields: Table,
}

/// Where a change tells what it does. Without listeners nothing is noted.
pub struct Told<'e> {
    listeners: Option<Listeners<'e>>,
}

struct Listeners<'e> {
    events: &'e mut Vec<Event>,
    actor: Arc<str>,
}

impl Told<'_> {
    /// Something happened; `fields` is asked for details if anyone wants to know.
    pub fn notice(&mut self, key: &'static str, fields: impl FnOnce() -> Table) {
        if let Some(Listeners { events, .. }) = &mut self.listeners {
            events.push(Event { key, fields: fields() });
        }
    }

    /// The same for what a user did, or nobody: the details say who.
    pub fn tell(&mut self, key: &'static str, fields: impl FnOnce() -> Table) {
        if let Some(Listeners { events, actor }) = &mut self.listeners {
            let fields = fields().with("user_who_performed_action", &**actor);
            events.push(Event { key, fields });
        }
    }

    /// The broker does by itself what is told from now on.
    pub(super) fn nobody_asked(&mut self) {
        if let Some(Listeners { actor, .. }) = &mut self.listeners {
            *actor = NOBODY.into();
        }
    }
}

impl Broker {
    /// Where to tell what is done with these effects. [`finish`](Self::finish) publishes it.
    pub fn told<'e>(&self, effects: &'e mut Effects) -> Told<'e> {
        let listeners = self.event_exchange().map(|_| Listeners {
            events: &mut effects.events,
            actor: effects.actor.clone().unwrap_or_else(|| NOBODY.into()),
        });
        Told { listeners }
    }

    /// Publishes an event of the node: `key` says what happened (`alarm.set`), `fields` is asked
    /// for the details if anyone listens. Call it with no lock held.
    pub fn emit(&self, key: &'static str, now: Now, fields: impl FnOnce() -> Table) {
        let mut effects = Effects::default();
        self.told(&mut effects).notice(key, fields);
        self.finish(&mut effects, now);
    }

    /// The exchange, if anything is bound to it.
    fn event_exchange(&self) -> Option<(Arc<Vhost>, Arc<Exchange>)> {
        let vhost = self.vhost(&self.settings.default_vhost)?;
        let exchange = vhost.exchange(EVENT_EXCHANGE.as_bytes())?;
        exchange.is_bound().then_some((vhost, exchange))
    }

    /// Publishes what was told.
    pub(super) fn publish_events(&self, effects: &mut Effects, now: Now) {
        if effects.events.is_empty() {
            return;
        }
        let events = std::mem::take(&mut effects.events);
        let Some((vhost, exchange)) = self.event_exchange() else { return };
        for event in events {
            if let Some(message) = event.message(now) {
                let publisher = Publisher::GoesOn;
                self.publish_from(&vhost, &exchange, &message, publisher, now, effects);
            }
        }
    }
}

impl Event {
    /// `None` when its details are larger than a client could be sent.
    fn message(self, now: Now) -> Option<Message> {
        let headers = self.fields.with("timestamp_in_ms", fields::integer(now.unix_ms));
        let mut encoded_headers = Vec::new();
        headers.encode_body(&mut encoded_headers);
        let properties = Properties {
            headers: Some(RawTable::parse(&encoded_headers).ok()?),
            delivery_mode: Some(2),
            timestamp: Some(now.unix_ms / 1_000),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let envelope = Envelope {
            exchange: EVENT_EXCHANGE.as_bytes(),
            routing_key: self.key.as_bytes(),
            properties: &encoded,
            persistent: true,
            hides_bcc: false,
            published_ms: now.unix_ms,
        };
        Some(Message::new(&envelope, &[]))
    }
}

/// What the exchange is declared as.
pub(super) fn exchange_spec() -> ExchangeSpec {
    ExchangeSpec {
        name: EVENT_EXCHANGE.into(),
        kind: Kind::Topic,
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: Table::default(),
    }
}
