//! What happens on the node, told in one place to all who listen: the event exchange, and the
//! [`Listener`]s that the edge gives the broker (the audit log, the log of logins).
//!
//! The exchange is RabbitMQ's plugin rabbitmq_event_exchange, always there: `amq.rabbitmq.event` in
//! the default vhost. An event's routing key says what happened (`queue.created`), its headers hold
//! the details, its body is empty.
//!
//! Invariants: while nobody listens, an event costs the question whether somebody does; events are
//! made where things happen, with locks held, and go out by [`Broker::finish`], with none, in the
//! order in which they were told; sending one makes no further event.

pub mod fields;

use std::fmt::Debug;
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

/// The detail that says who did it.
pub const ACTOR: &str = "user_who_performed_action";

/// Who does what nobody asked for, as RabbitMQ names itself.
const NOBODY: &str = "rmq-internal";

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    /// What it was: the routing key that it has on the exchange.
    pub key: &'static str,
    /// Its details.
    pub fields: Table,
    /// What was there before, if it changed something; not on the exchange.
    pub before: Option<Table>,
    /// The connection by which it came, as operators see its name; not on the exchange.
    pub connection: Option<Arc<str>>,
    /// The exchange is told: RabbitMQ has such an event.
    public: bool,
}

/// Someone besides the event exchange who wants to know.
pub trait Listener: Debug + Send + Sync {
    /// Whether events with this key are wanted. Asked with locks held, often.
    fn wants(&self, key: &str) -> bool;

    /// An event that is wanted. Called without any lock, on the turn of whoever made it happen.
    fn hear(&self, event: &Event, now: Now);
}

/// Where a change tells what it does. Without listeners nothing is noted.
pub struct Told<'e> {
    is_bound: bool,
    listeners: &'e [Arc<dyn Listener>],
    effects: &'e mut Effects,
    nobody_asked: bool,
}

/// What those who listen want to know of an event.
struct Interest {
    /// What was there before it, too: the exchange is not told.
    in_before: bool,
}

impl Told<'_> {
    /// Something happened; `fields` is asked for details if anyone wants to know.
    pub fn notice(&mut self, key: &'static str, fields: impl FnOnce() -> Table) {
        self.notice_change(key, || None, fields);
    }

    fn notice_change(
        &mut self,
        key: &'static str,
        before: impl FnOnce() -> Option<Table>,
        fields: impl FnOnce() -> Table,
    ) {
        if let Some(Interest { in_before }) = self.interest(key) {
            self.push(key, fields(), in_before.then(before).flatten(), true);
        }
    }

    /// The same for what a user did, or nobody: the details say who.
    pub fn tell(&mut self, key: &'static str, fields: impl FnOnce() -> Table) {
        self.tell_change(key, || None, fields);
    }

    /// The same where something else was there `before`.
    pub fn tell_change(
        &mut self,
        key: &'static str,
        before: impl FnOnce() -> Option<Table>,
        fields: impl FnOnce() -> Table,
    ) {
        if let Some(Interest { in_before }) = self.interest(key) {
            let actor = self.effects.actor.as_deref().filter(|_| !self.nobody_asked);
            let fields = fields().with(ACTOR, actor.unwrap_or(NOBODY));
            self.push(key, fields, in_before.then(before).flatten(), true);
        }
    }

    /// Something of which RabbitMQ has no event: the exchange is not told.
    pub fn aside(&mut self, key: &'static str, fields: impl FnOnce() -> Table) {
        if self.is_wanted(key) {
            let mut fields = fields();
            if let Some(actor) = &self.effects.actor {
                fields.insert(ACTOR, &**actor);
            }
            self.push(key, fields, None, false);
        }
    }

    /// The same where something else was there `before`.
    pub(super) fn change_aside(
        &mut self,
        key: &'static str,
        before: impl FnOnce() -> Option<Table>,
        fields: impl FnOnce() -> Table,
    ) {
        if self.is_wanted(key) {
            let actor = self.effects.actor.as_deref().filter(|_| !self.nobody_asked);
            let fields = fields().with(ACTOR, actor.unwrap_or(NOBODY));
            self.push(key, fields, before(), false);
        }
    }

    /// The broker does by itself what is told from now on.
    pub(super) fn nobody_asked(&mut self) {
        self.nobody_asked = true;
    }

    /// Whether anyone listens to events with this key, and to what.
    fn interest(&self, key: &str) -> Option<Interest> {
        let in_before = self.is_wanted(key);
        (self.is_bound || in_before).then_some(Interest { in_before })
    }

    fn is_wanted(&self, key: &str) -> bool {
        self.listeners.iter().any(|listener| listener.wants(key))
    }

    fn push(&mut self, key: &'static str, fields: Table, before: Option<Table>, public: bool) {
        let connection = self.effects.connection.clone();
        self.effects.events.push(Event { key, fields, before, connection, public });
    }
}

impl Broker {
    /// Where to tell what is done with these effects. [`finish`](Self::finish) sends it.
    pub fn told<'e>(&'e self, effects: &'e mut Effects) -> Told<'e> {
        let is_bound = self.event_exchange().is_some();
        Told { is_bound, listeners: self.listeners(), effects, nobody_asked: false }
    }

    /// Tells of something that happened to the node: `key` says what (`alarm.set`), `fields` is
    /// asked for the details if anyone listens. Call it with no lock held.
    pub fn emit(&self, key: &'static str, now: Now, fields: impl FnOnce() -> Table) {
        let mut effects = Effects::default();
        self.told(&mut effects).notice(key, fields);
        self.finish(&mut effects, now);
    }

    /// The same for a change of something that was there `before`, or was not.
    pub fn emit_change(
        &self,
        key: &'static str,
        now: Now,
        before: impl FnOnce() -> Option<Table>,
        fields: impl FnOnce() -> Table,
    ) {
        let mut effects = Effects::default();
        self.told(&mut effects).notice_change(key, before, fields);
        self.finish(&mut effects, now);
    }

    /// Tells of something of which RabbitMQ has no event.
    pub fn emit_aside(&self, key: &'static str, now: Now, fields: impl FnOnce() -> Table) {
        let mut effects = Effects::default();
        self.told(&mut effects).aside(key, fields);
        self.finish(&mut effects, now);
    }

    /// Gives the broker its listeners, once, before anyone is let in.
    pub fn listen(&self, listeners: Vec<Arc<dyn Listener>>) {
        let _only_once = self.listeners.set(listeners);
    }

    fn listeners(&self) -> &[Arc<dyn Listener>] {
        self.listeners.get().map_or(&[], Vec::as_slice)
    }

    /// The exchange, if anything is bound to it.
    fn event_exchange(&self) -> Option<(Arc<Vhost>, Arc<Exchange>)> {
        let vhost = self.vhost(&self.settings.default_vhost)?;
        let exchange = vhost.exchange(EVENT_EXCHANGE.as_bytes())?;
        exchange.is_bound().then_some((vhost, exchange))
    }

    /// Sends what was told to those who listen.
    pub(super) fn send_events(&self, effects: &mut Effects, now: Now) {
        if effects.events.is_empty() {
            return;
        }
        let bound = self.event_exchange();
        for event in std::mem::take(&mut effects.events) {
            let listeners = self.listeners().iter().filter(|it| it.wants(event.key));
            listeners.for_each(|listener| listener.hear(&event, now));
            let Some((vhost, exchange)) = bound.as_ref().filter(|_| event.public) else { continue };
            if let Some(message) = event.message(now) {
                let publisher = Publisher::GoesOn;
                self.publish_from(vhost, exchange, &message, publisher, now, effects);
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
