//! Start: what the store kept becomes the broker's state again, or a first state is made.
//!
//! Definitions come back in key order, so that whatever a record refers to is already there; a
//! record that is not understood stops the start rather than being skipped. Of messages only the
//! counts are read, unless their queue must know each of them; so a start takes as long with a
//! million as with none.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::access::{NamedLimits as _, Permission, TopicPermission, User, UserLimits, VhostLimits};
use super::definitions::{
    BindingKey, DefinitionError, DefinitionKey, DestinationName, Record, exchange_record,
    put_vhost, read_arguments,
};
use super::events::{self, EVENT_EXCHANGE};
use super::exchange::{Destination, End, Kind};
use super::message::Message;
use super::policy::{Policies, Policy};
use super::queue::{Queue, QueueArgs, QueueSpec};
use super::vhost::{Binding, ExchangeSpec, Vhost};
use super::{Broker, Now, trigger};
use crate::protocol::table::Table;
use crate::store::{Backlog, Batch, QueueKey, QueueSeq, Recovery, StoreError};

/// Exchanges that every vhost has.
const PREDECLARED: &[(&str, Kind, bool)] = &[
    ("", Kind::Direct, false),
    ("amq.direct", Kind::Direct, false),
    ("amq.fanout", Kind::Fanout, false),
    ("amq.headers", Kind::Headers, false),
    ("amq.match", Kind::Headers, false),
    ("amq.rabbitmq.trace", Kind::Topic, true),
    ("amq.topic", Kind::Topic, false),
];

/// Recovers `broker` from its store.
pub(super) fn recover(broker: &Arc<Broker>, now: Now) -> Result<(), StoreError> {
    let mut visitor = Visitor {
        broker,
        now,
        failure: None,
        any: false,
        policies: HashMap::new(),
        last_queue: None,
    };
    broker.store.recover(&mut visitor)?;
    if let Some(failure) = visitor.failure {
        return Err(StoreError::Damaged { path: broker.store.place(), reason: failure.0 });
    }
    if !visitor.any {
        create_first(broker);
    }
    declare_event_exchange(broker);
    // What expired while the node was down, or will, must not wait for someone to look.
    let mut effects = super::queue::Effects::default();
    for queue in broker.queues_in_order() {
        queue.count_cold();
        queue.wake_up(&mut effects);
    }
    broker.finish(&mut effects, now);
    Ok(())
}

fn create_first(broker: &Broker) {
    let settings = &broker.settings;
    let (name, vhost) = (&settings.default_user, &settings.default_vhost);
    let user = User {
        name: name.clone(),
        password: broker.hash_password(settings.default_password.expose()),
        tags: settings.default_user_tags.clone(),
        limits: UserLimits::default(),
    };
    let permission = settings.default_permissions.clone();
    let put = put_vhost(vhost, VhostLimits::default());
    let ops = vec![user.put(), put, permission.put(name, vhost)];
    add_vhost(broker, vhost, Policies::default());
    broker.access.permit(name, vhost, permission);
    broker.access.insert(user);
    broker.store.submit(Batch { ops, awaited: true });
}

/// The event exchange is kept like any other that was declared: where it is once, it stays, and
/// what is bound to it, even if another vhost is the default one by now.
fn declare_event_exchange(broker: &Broker) {
    let Some(vhost) = broker.vhost(&broker.settings.default_vhost) else { return };
    if vhost.exchange(EVENT_EXCHANGE.as_bytes()).is_some() {
        return;
    }
    let exchange = broker.new_exchange(&vhost, events::exchange_spec());
    let exchange = exchange.expect("invariant: it needs no arguments");
    let (vhost_name, name) = (vhost.name().to_string(), EVENT_EXCHANGE.to_owned());
    let key = DefinitionKey::Exchange { vhost: vhost_name, name };
    let put = key.put(exchange_record(&exchange.spec, None));
    broker.define(&vhost, Batch { ops: vec![put], awaited: true });
    broker.add_exchange(&vhost, exchange);
}

/// Adds a vhost with the exchanges that each has.
pub(super) fn add_vhost(broker: &Broker, name: &str, policies: Policies) -> Arc<Vhost> {
    let vhost = Arc::new(Vhost::with_policies(name.into(), policies));
    for &(name, kind, internal) in PREDECLARED {
        let spec = ExchangeSpec {
            name: name.into(),
            kind,
            durable: true,
            auto_delete: false,
            internal,
            arguments: Table::default(),
        };
        let exchange = broker.new_exchange(&vhost, spec);
        broker.add_exchange(&vhost, exchange.expect("invariant: they need no arguments"));
    }
    broker.vhosts.insert(Arc::clone(vhost.name()), Arc::clone(&vhost));
    vhost
}

struct Visitor<'b> {
    broker: &'b Arc<Broker>,
    now: Now,
    failure: Option<DefinitionError>,
    any: bool,
    /// Of vhosts that have not come yet.
    policies: HashMap<String, Policies>,
    /// Whose backlog came last, and whose messages come now.
    last_queue: Option<Arc<Queue>>,
}

impl Recovery for Visitor<'_> {
    fn meta(&mut self, key: &[u8], value: &[u8]) {
        self.any = true;
        if self.failure.is_none()
            && let Err(error) = self.definition(key, value)
        {
            self.failure = Some(error);
        }
    }

    fn backlog(&mut self, backlog: &Backlog) -> bool {
        self.last_queue = self.find_queue(backlog.queue);
        let (messages, id, level) = (backlog.messages, backlog.queue.queue, backlog.from.level());
        let Some(queue) = &self.last_queue else {
            // A queue's definition is stored before its first message and goes in one batch with
            // them all: something that was promised is missing.
            if messages > 0 {
                self.fail(format!("{messages} messages of queue {id}, which is not defined"));
            }
            return false;
        };
        let wants_messages = queue.recover_backlog(backlog);
        if wants_messages.is_none() {
            self.fail(format!("messages of queue {id} with a priority of {level}"));
        }
        wants_messages.unwrap_or(false)
    }

    fn message(&mut self, _: QueueKey, seq: QueueSeq, message: Message) {
        if let Some(queue) = &self.last_queue {
            queue.recover(seq, message);
        }
    }
}

impl Visitor<'_> {
    fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(DefinitionError(reason));
    }

    fn find_queue(&self, key: QueueKey) -> Option<Arc<Queue>> {
        self.broker.vhosts.iter().find_map(|vhost| {
            vhost.queues_by_id.get(&key.queue).map(|queue| Arc::clone(queue.value()))
        })
    }

    fn use_queue_ids_below(&self, next: u64) {
        let mut id = self.broker.next_queue_id.lock().unwrap_or_else(PoisonError::into_inner);
        *id = (*id).max(next);
    }

    fn vhost(&self, name: &str) -> Result<Arc<Vhost>, DefinitionError> {
        self.broker.vhost(name).ok_or_else(|| DefinitionError(format!("vhost '{name}' is missing")))
    }

    fn definition(&mut self, key: &[u8], value: &[u8]) -> Result<(), DefinitionError> {
        let key = DefinitionKey::decode(key)?;
        let kept = key.to_string();
        self.define(key, value).map_err(|error| DefinitionError(format!("{kept}: {}", error.0)))
    }

    fn define(&mut self, key: DefinitionKey, value: &[u8]) -> Result<(), DefinitionError> {
        let record = Record::decode(value)?;
        match key {
            DefinitionKey::Policy { vhost, kind, name } => {
                let policy = Policy::from_record(kind, name, &record)?;
                self.policies.entry(vhost).or_default().insert(kind, policy);
            }
            DefinitionKey::NextQueueId => {
                self.use_queue_ids_below(record.number("next")?);
            }
            DefinitionKey::User { name } => {
                self.broker.access.insert(User::from_record(name, &record)?);
            }
            DefinitionKey::Vhost { name } => {
                let policies = self.policies.remove(&name).unwrap_or_default();
                let vhost = add_vhost(self.broker, &name, policies);
                let limits = record.table("limits").map(VhostLimits::from_table);
                vhost.set_limits(limits.unwrap_or_default());
            }
            DefinitionKey::Permission { user, vhost } => {
                self.broker.access.permit(&user, &vhost, Permission::from_record(&record)?);
            }
            DefinitionKey::TopicPermission { user, vhost, exchange } => {
                let topic = TopicPermission::from_record(&user, &vhost, &record)?;
                self.broker.access.permit_topic(&user, &vhost, exchange, topic);
            }
            DefinitionKey::Exchange { vhost, name } => self.exchange(&vhost, &name, &record)?,
            DefinitionKey::Queue { vhost, name } => self.declared_queue(&vhost, &name, &record)?,
            DefinitionKey::Binding(binding) => self.binding(&binding)?,
            DefinitionKey::Trigger { vhost, name } => {
                let vhost = self.vhost(&vhost)?;
                let trigger = Arc::new(trigger::from_record(&vhost, &name, &record)?);
                if let Some(queue) = vhost.queue(trigger.spec.queue.as_bytes()) {
                    queue.arm(&trigger, self.now);
                }
                vhost.write_triggers().insert(trigger);
            }
            DefinitionKey::Publisher { queue, name } => {
                let missing = || DefinitionError("its queue is missing".into());
                let queue = self.find_queue(QueueKey { shard: 0, queue }).ok_or_else(missing)?;
                queue.recover_publisher(name.into(), record.integer("sequence")?);
            }
        }
        Ok(())
    }

    fn exchange(&self, vhost: &str, name: &str, record: &Record) -> Result<(), DefinitionError> {
        let kind = record.text("type")?;
        let kind = Kind::from_name(kind)
            .ok_or_else(|| DefinitionError(format!("unknown exchange type '{kind}'")))?;
        let spec = ExchangeSpec {
            name: name.into(),
            kind,
            durable: true,
            auto_delete: record.flag("auto_delete"),
            internal: record.flag("internal"),
            arguments: record.arguments()?,
        };
        let vhost = self.vhost(vhost)?;
        let mut exchange = self
            .broker
            .new_exchange(&vhost, spec)
            .map_err(|error| DefinitionError(format!("invalid arguments: {error}")))?;
        if kind == Kind::Delayed {
            let id = record.number("delayed")?;
            self.use_queue_ids_below(id + 1);
            self.broker.keep_delayed(&vhost, &mut exchange, id);
        }
        self.broker.add_exchange(&vhost, exchange);
        Ok(())
    }

    fn declared_queue(
        &self,
        vhost: &str,
        name: &str,
        record: &Record,
    ) -> Result<(), DefinitionError> {
        let arguments = record.arguments()?;
        let args = QueueArgs::parse(&arguments)
            .map_err(|error| DefinitionError(format!("invalid arguments: {error:?}")))?;
        let vhost = self.vhost(vhost)?;
        let id = record.number("id")?;
        self.use_queue_ids_below(id + 1);
        let spec = QueueSpec {
            key: QueueKey { shard: 0, queue: id },
            vhost: Arc::clone(vhost.name()),
            name: name.into(),
            durable: true,
            auto_delete: record.flag("auto_delete"),
            owner: None,
            arguments,
            args,
            delays_for: None,
        };
        let queue = self.broker.add_queue(&vhost, spec, self.now);
        let mut effects = super::queue::Effects::default();
        queue.touch(self.now, &mut effects);
        self.broker.finish(&mut effects, self.now);
        Ok(())
    }

    fn binding(&self, key: &BindingKey) -> Result<(), DefinitionError> {
        let vhost = self.vhost(&key.vhost)?;
        let arguments = read_arguments(&key.arguments)?;
        let dangling = || DefinitionError("one of its ends is missing".into());
        let source = vhost.exchange(key.source.as_bytes()).ok_or_else(dangling)?;
        let (destination, name) = match &key.destination {
            DestinationName::Queue(name) => {
                let queue = vhost.queue(name.as_bytes()).ok_or_else(dangling)?;
                (Destination::Queue(queue.key().queue), name)
            }
            DestinationName::Exchange(name) => {
                let exchange = vhost.exchange(name.as_bytes()).ok_or_else(dangling)?;
                (Destination::Exchange(exchange.id), name)
            }
        };
        let binding = Binding::new(source.id, destination, &key.routing_key, &key.arguments);
        vhost.change().insert(&Arc::new(binding));
        let mut matcher = source.matcher.write().unwrap_or_else(PoisonError::into_inner);
        matcher
            .bind(&key.routing_key, &arguments, End { destination, name })
            .map_err(|error| DefinitionError(format!("refused: {error:?}")))
    }
}
