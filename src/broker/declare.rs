//! The control plane: declaring and deleting exchanges and queues. Bindings are next door.
//!
//! Every change is made under the vhost's topology lock, in one step for everyone who looks, and
//! what is durable goes to the store as one batch. The returned [`Lsn`] says when an answer may be
//! sent. Checks come in RabbitMQ's order, because it decides which refusal a client sees.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::access::{Identity, Resource, Right, Rights};
use super::bindings::{remove_binding, stored_binding};
use super::definitions::{DefinitionKey, Record, exchange_record, number_value, queue_record};
use super::events::{Told, fields};
use super::exchange::{CreateError, Destination, Kind};
use super::outbox::{ConnectionId, Item};
use super::paging::Paging;
use super::policy::{AppliedPolicy, Object};
use super::queue::args::{ArgumentError, inequivalent};
use super::queue::{
    DeleteCondition, DeleteRefusal, Effects, Queue, QueueArgs, QueueKind, QueueSpec,
};
use super::vhost::{Exchange, ExchangeSpec, TopologyChange, Vhost};
use super::{Broker, Now};
use crate::broker::views::NodeCounters;
use crate::protocol::refusal::{self, Refusal};
use crate::protocol::table::{Table, Value};
use crate::store::{Batch, Lsn, Op, QueueKey, Store};

/// exchange.declare, not passive.
#[derive(Debug)]
pub struct ExchangeDeclaration<'a> {
    /// The name.
    pub name: &'a str,
    /// The type's name.
    pub kind: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding as a source.
    pub auto_delete: bool,
    /// Cannot be published to by clients.
    pub internal: bool,
    /// The arguments.
    pub arguments: Table,
}

/// queue.declare, not passive.
#[derive(Debug)]
pub struct QueueDeclaration<'a> {
    /// The name; empty lets the broker choose one.
    pub name: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to this connection.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The arguments.
    pub arguments: Table,
}

/// Who asks. Whatever a client names, it is looked at here first whether they may.
#[derive(Debug)]
pub struct Asker {
    /// The connection.
    pub connection: ConnectionId,
    /// Its name.
    pub connection_name: Arc<str>,
    /// What its user may do in the vhost.
    pub rights: Rights,
}

const RESERVED: &str = "amq.";

impl Asker {
    /// A user in a vhost, by way of a connection.
    #[must_use]
    pub fn new(
        broker: &Broker,
        (connection, connection_name): (ConnectionId, Arc<str>),
        identity: Identity,
        vhost: &Vhost,
        now: Now,
    ) -> Self {
        let rights = Rights::new(broker.access(), identity, Arc::clone(vhost.name()), now);
        Self { connection, connection_name, rights }
    }
}

impl Broker {
    // ---- exchanges ---------------------------------------------------------------------------

    /// Declares an exchange, or checks that it is already what is asked for.
    ///
    /// # Errors
    /// `exchange.unknown-type`, `exchange.default-refused`, `access.refused` (also for reading what
    /// a new exchange cannot route, and writing it to its alternate), `exchange.reserved-name`,
    /// `exchange.inequivalent-arg`, `exchange.invalid-arg-type` and those of the type's arguments.
    pub fn declare_exchange(
        &self,
        vhost: &Arc<Vhost>,
        asked: ExchangeDeclaration<'_>,
        asker: &mut Asker,
        effects: &mut Effects,
    ) -> Result<Lsn, Refusal> {
        let name = clean_name(asked.name);
        let Some(kind) = Kind::from_name(asked.kind) else {
            return Err(refusal::exchange_unknown_type(asked.kind));
        };
        if name.is_empty() {
            return Err(refusal::exchange_default_refused());
        }
        asker.rights.check(Right::Configure, Resource::Exchange(&name))?;
        // Asked before anything is locked: whoever decides may take time.
        let alternate = asked.arguments.get("alternate-exchange").and_then(Value::as_long_str);
        let leads_on = alternate.map_or(Ok(()), |alternate| {
            asker.rights.check_on_way(Resource::Exchange(&name), alternate)
        });
        let mut change = vhost.change();
        if vhost.is_gone() {
            return Err(refusal::vhost_deleted(vhost.name()));
        }
        if let Some(existing) = vhost.exchange(name.as_bytes()) {
            check_exchange_equivalence(vhost, &existing.spec, &asked)?;
            return Ok(exists_from(vhost, existing.spec.durable));
        }
        if name.starts_with(RESERVED) {
            return Err(refusal::exchange_reserved_name(&name));
        }
        if let Some(value) = asked.arguments.get("alternate-exchange")
            && value.as_long_str().is_none()
        {
            return Err(refusal::exchange_invalid_arg_type(
                value.type_name(),
                "alternate-exchange",
                &name,
                vhost.name(),
            ));
        }
        leads_on?;
        let spec = ExchangeSpec {
            name: name.as_str().into(),
            kind,
            durable: asked.durable,
            auto_delete: asked.auto_delete,
            internal: asked.internal,
            arguments: asked.arguments,
        };
        // Held until the record is submitted and the exchange can be counted, as for a queue.
        let mut next_id = self.next_queue_id.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_exchange_limit(vhost, &name)?;
        let mut exchange =
            self.new_exchange(vhost, spec).map_err(|error| create_refusal(&name, vhost, error))?;
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        let delayed = (exchange.spec.kind == Kind::Delayed).then_some(*next_id);
        if let Some(id) = delayed {
            *next_id += 1;
            self.keep_delayed(vhost, &mut exchange, id);
        }
        if exchange.spec.durable {
            let key = DefinitionKey::Exchange { vhost: vhost.name().to_string(), name };
            batch.ops.push(key.put(exchange_record(&exchange.spec, delayed)));
            batch.ops.extend(delayed.map(|_| put_next_queue_id(*next_id)));
        }
        // Before anyone can see it: what is built on it must follow it into the store.
        let lsn = self.define(vhost, batch);
        self.told(effects).tell("exchange.created", || fields::exchange(vhost, &exchange));
        self.add_exchange(vhost, exchange);
        drop(next_id);
        change.note();
        drop(change);
        Ok(lsn)
    }

    /// exchange.declare with passive set: does it exist? Returns when that is durable.
    ///
    /// # Errors
    /// `exchange.default-refused`, `access.refused`, `exchange.not-found`.
    pub fn check_exchange(
        &self,
        vhost: &Vhost,
        name: &str,
        asker: &mut Asker,
    ) -> Result<Lsn, Refusal> {
        let name = clean_name(name);
        if name.is_empty() {
            return Err(refusal::exchange_default_refused());
        }
        asker.rights.check_any(Resource::Exchange(&name))?;
        match vhost.exchange(name.as_bytes()) {
            Some(exchange) => Ok(exists_from(vhost, exchange.spec.durable)),
            None => Err(refusal::exchange_not_found(name, vhost.name())),
        }
    }

    /// Deletes an exchange and its bindings. A missing one counts as deleted.
    ///
    /// # Errors
    /// `exchange.default-refused`, `exchange.system-deletion`, `access.refused`, `exchange.in-use`.
    pub fn delete_exchange(
        &self,
        vhost: &Arc<Vhost>,
        name: &str,
        if_unused: bool,
        asker: &mut Asker,
        effects: &mut Effects,
    ) -> Result<Lsn, Refusal> {
        let name = clean_name(name);
        if name.is_empty() {
            return Err(refusal::exchange_default_refused());
        }
        if name.starts_with(RESERVED) {
            return Err(refusal::exchange_system_deletion(name, vhost.name()));
        }
        asker.rights.check(Right::Configure, Resource::Exchange(&name))?;
        let mut change = vhost.change();
        let Some(exchange) = vhost.exchange(name.as_bytes()) else { return Ok(vhost.defined()) };
        if if_unused && change.has_source(exchange.id) {
            return Err(refusal::exchange_in_use(name, vhost.name()));
        }
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        let told = &mut self.told(effects);
        remove_exchanges(vhost, &mut change, vec![exchange], &mut batch.ops, told);
        Ok(self.define(vhost, batch))
    }

    fn check_exchange_limit(&self, vhost: &Vhost, name: &str) -> Result<(), Refusal> {
        let max = self.settings.exchanges_max;
        if max > 0 && self.vhosts.iter().map(|vhost| vhost.exchanges.len()).sum::<usize>() >= max {
            return Err(refusal::exchange_cluster_limit(name, vhost.name(), max));
        }
        Ok(())
    }

    /// An exchange that nobody can see yet.
    pub(super) fn new_exchange(
        &self,
        vhost: &Vhost,
        spec: ExchangeSpec,
    ) -> Result<Exchange, CreateError> {
        let id = self.next_exchange_id.fetch_add(1, Ordering::Relaxed);
        let policy = vhost.policy_for(Object::Exchange, &spec.name);
        let mut seed = [0; 8];
        (self.entropy)(&mut seed);
        Exchange::new(id, spec, policy, u64::from_ne_bytes(seed))
    }

    /// Gives a delayed exchange the queue of this id for what waits for its time.
    pub(super) fn keep_delayed(&self, vhost: &Vhost, exchange: &mut Exchange, id: u64) {
        let name = &exchange.spec.name;
        let spec = QueueSpec {
            key: QueueKey { shard: 0, queue: id },
            vhost: Arc::clone(vhost.name()),
            name: format!("delayed messages of exchange '{name}'").into(),
            durable: exchange.spec.durable,
            auto_delete: false,
            owner: None,
            arguments: Table::default(),
            args: QueueArgs::default(),
            delays_for: Some(Arc::clone(name)),
        };
        let policy = AppliedPolicy::default();
        let queue = Arc::new(Queue::new(spec, self.behind_queues(), policy, Now::default()));
        vhost.queues_by_id.insert(id, Arc::clone(&queue));
        exchange.delayed = Some(queue);
    }

    pub(super) fn add_exchange(&self, vhost: &Vhost, exchange: Exchange) {
        let exchange = Arc::new(exchange);
        vhost.exchanges_by_id.insert(exchange.id, Arc::clone(&exchange));
        vhost.exchanges.insert(Arc::clone(&exchange.spec.name), exchange);
    }

    // ---- queues ------------------------------------------------------------------------------

    /// Declares a queue, or checks that it is already what is asked for.
    ///
    /// # Errors
    /// `access.refused` (also for reading from a new queue what dies in it, and writing it to its
    /// dead-letter exchange) and the `queue.*` refusals of declarations, in the order of RabbitMQ's
    /// checks.
    pub fn declare_queue(
        &self,
        vhost: &Arc<Vhost>,
        mut asked: QueueDeclaration<'_>,
        asker: &mut Asker,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(Arc<Queue>, Lsn), Refusal> {
        let mut name = clean_name(asked.name);
        NodeCounters::add(&self.counters.queues_declared, 1);
        // The node's default kind, where it suits the queue: RabbitMQ writes it into the arguments.
        let default_kind = self.settings.default_queue_kind;
        if default_kind != QueueKind::Classic
            && asked.durable
            && !asked.exclusive
            && !asked.auto_delete
            && !name.is_empty()
            && asked.arguments.get("x-queue-type").is_none()
        {
            asked.arguments.insert("x-queue-type", default_kind.name());
        }
        if name.is_empty() {
            if let Some(Value::LongStr(kind)) = asked.arguments.get("x-queue-type")
                && kind != b"classic"
            {
                let kind = QueueArgs::parse(&asked.arguments)
                    .map_err(|error| argument_refusal(&name, vhost, error))?
                    .kind;
                return Err(refusal::queue_server_named_type(kind.module()));
            }
            name = self.generate_name("amq.gen-");
        } else if name.starts_with(RESERVED) {
            return Err(refusal::queue_reserved_name(name));
        }
        asker.rights.check(Right::Configure, Resource::Queue(&name))?;
        // Asked before anything is locked: whoever decides may take time.
        let dead_letters = asked.arguments.get("x-dead-letter-exchange");
        let leads_on = dead_letters
            .and_then(Value::as_long_str)
            .map_or(Ok(()), |exchange| asker.rights.check_on_way(Resource::Queue(&name), exchange));
        let tells = asked.arguments.get("x-initiation-exchange").and_then(Value::as_long_str);
        let leads_on = leads_on.and_then(|()| match tells {
            Some(exchange) => asker.rights.check_on_way(Resource::Queue(&name), exchange),
            None => Ok(()),
        });
        let mut change = vhost.change();
        if vhost.is_gone() {
            return Err(refusal::vhost_deleted(vhost.name()));
        }
        if let Some(existing) = vhost.queue(name.as_bytes()) {
            check_queue_equivalence(vhost, &existing, &asked, asker)?;
            let lsn = exists_from(vhost, existing.spec().durable);
            return Ok((existing, lsn));
        }
        if let Some(max) = vhost.limits().queues_max
            && u64::try_from(max).is_ok_and(|max| vhost.queues.len() as u64 >= max)
        {
            return Err(refusal::queue_vhost_limit(&name, vhost.name(), max));
        }
        let args = QueueArgs::parse(&asked.arguments)
            .map_err(|error| argument_refusal(&name, vhost, error))?;
        leads_on?;
        // Held until the record is submitted: in the store, too, the next id never goes back. And
        // until the queue is there to be counted: queues of other vhosts count, too.
        let mut next_id = self.next_queue_id.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_queue_limit(&name)?;
        check_kind_properties(vhost, &name, &args, &asked)?;
        let id = *next_id;
        *next_id += 1;
        let durable = asked.durable && !asked.exclusive;
        let spec = QueueSpec {
            key: QueueKey { shard: 0, queue: id },
            vhost: Arc::clone(vhost.name()),
            name: name.as_str().into(),
            durable,
            auto_delete: asked.auto_delete,
            owner: asked.exclusive.then(|| (asker.connection, Arc::clone(&asker.connection_name))),
            arguments: asked.arguments,
            args,
            delays_for: None,
        };
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        if durable {
            let record = queue_record(id, spec.auto_delete, &spec.arguments);
            let key = DefinitionKey::Queue { vhost: vhost.name().to_string(), name };
            batch.ops.push(key.put(record));
            batch.ops.push(put_next_queue_id(id + 1));
        }
        // Before anyone can see it: a message that another connection publishes to it must follow
        // it into the store, or a crash in between leaves a confirmed message without its queue.
        let lsn = self.define(vhost, batch);
        let queue = self.add_queue(vhost, spec, now);
        drop(next_id);
        change.note();
        drop(change);
        self.told(effects).tell("queue.created", || fields::queue(self, queue.spec()));
        NodeCounters::add(&self.counters.queues_created, 1);
        Ok((queue, lsn))
    }

    fn check_queue_limit(&self, name: &str) -> Result<(), Refusal> {
        let max = self.settings.queues_max;
        if max > 0 && self.vhosts.iter().map(|vhost| vhost.queues.len()).sum::<usize>() >= max {
            return Err(refusal::queue_cluster_limit(name, max));
        }
        Ok(())
    }

    /// What queues stand on.
    fn behind_queues(&self) -> (Arc<dyn Store>, Arc<Paging>) {
        (Arc::clone(&self.store), Arc::clone(&self.paging))
    }

    pub(super) fn add_queue(&self, vhost: &Vhost, spec: QueueSpec, now: Now) -> Arc<Queue> {
        let policy = vhost.policy_for(Object::Queue(spec.args.kind), &spec.name);
        let queue = Arc::new(Queue::new(spec, self.behind_queues(), policy, now));
        for trigger in vhost.triggers_of(queue.name()) {
            queue.arm(&trigger, now);
        }
        // It is empty: nothing is due yet.
        vhost.arm_declared(&queue, now, &mut Effects::default());
        vhost.queues_by_id.insert(queue.key().queue, Arc::clone(&queue));
        vhost.queues.insert(Arc::clone(queue.name()), Arc::clone(&queue));
        queue
    }

    /// queue.declare with passive set: the queue, if it exists, and when that is durable.
    ///
    /// # Errors
    /// `access.refused`, `queue.not-found`, `queue.locked`.
    pub fn check_queue(
        &self,
        vhost: &Vhost,
        name: &str,
        asker: &mut Asker,
    ) -> Result<(Arc<Queue>, Lsn), Refusal> {
        asker.rights.check_any(Resource::Queue(&clean_name(name)))?;
        let queue = owned_queue(vhost, name, asker)?;
        let lsn = exists_from(vhost, queue.spec().durable);
        Ok((queue, lsn))
    }

    /// The queue of this name, if this connection may use it, and its user has this right on it.
    ///
    /// # Errors
    /// `access.refused`, `queue.not-found`, `queue.locked`.
    pub fn find_queue(
        &self,
        vhost: &Vhost,
        name: &str,
        right: Right,
        asker: &mut Asker,
    ) -> Result<Arc<Queue>, Refusal> {
        asker.rights.check(right, Resource::Queue(&clean_name(name)))?;
        owned_queue(vhost, name, asker)
    }

    /// Deletes a queue: its bindings go, its consumers are told, its messages are forgotten.
    /// Returns how many waited.
    ///
    /// # Errors
    /// `queue.in-use`, `queue.not-empty`, `queue.quorum-conditional-delete`.
    pub fn delete_queue(
        &self,
        vhost: &Arc<Vhost>,
        queue: &Arc<Queue>,
        condition: DeleteCondition,
        effects: &mut Effects,
    ) -> Result<(u32, Lsn), Refusal> {
        let name = queue.name();
        if queue.spec().args.kind == QueueKind::Quorum
            && let DeleteCondition::Asked { if_unused, if_empty } = condition
            && (if_unused || if_empty)
        {
            let flag = if if_unused { "if-unused" } else { "if-empty" };
            return Err(refusal::queue_quorum_conditional_delete(name, vhost.name(), flag));
        }
        let mut change = vhost.change();
        if vhost.queues_by_id.get(&queue.key().queue).is_none() {
            return Ok((0, vhost.defined())); // someone else was faster
        }
        let closed = queue.close_if(condition).map_err(|refused| match refused {
            DeleteRefusal::InUse => refusal::queue_in_use(name, vhost.name()),
            DeleteRefusal::NotEmpty => refusal::queue_not_empty(name, vhost.name()),
        })?;
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        let destination = Destination::Queue(queue.key().queue);
        let (ops, told) = (&mut batch.ops, &mut self.told(effects));
        if !matches!(condition, DeleteCondition::Asked { .. }) {
            told.nobody_asked();
        }
        let abandoned = remove_bindings_to(vhost, &mut change, destination, ops, told);
        remove_exchanges(vhost, &mut change, abandoned, ops, told);
        let was = || Some(fields::queue(self, queue.spec()));
        told.tell_change("queue.deleted", was, || fields::deleted_queue(queue.spec()));
        vhost.queues.remove(name);
        vhost.queues_by_id.remove(&queue.key().queue);
        if queue.wanted_trigger().is_some() {
            vhost.forget_declared(queue);
        }
        change.note();
        if queue.spec().durable {
            let (vhost, name) = (vhost.name().to_string(), name.to_string());
            batch.ops.push(DefinitionKey::Queue { vhost, name }.delete());
            batch.ops.push(queue.drop_messages());
            queue.forget_publishers(&mut batch.ops);
        }
        let lsn = self.define(vhost, batch);
        drop(change);
        NodeCounters::add(&self.counters.queues_deleted, 1);
        closed.fetchers.iter().for_each(|outbox| effects.wakes.add(outbox));
        for consumer in closed.consumers {
            let gone = Item::Cancelled { channel: consumer.channel, consumer: consumer.id };
            if consumer.outbox.push(gone) {
                effects.wakes.add(&consumer.outbox);
            }
        }
        Ok((closed.messages, lsn))
    }
}

impl Broker {
    /// Submits a change of definitions.
    pub(super) fn define(&self, vhost: &Vhost, batch: Batch) -> Lsn {
        if vhost.is_gone() {
            return Lsn::ZERO; // it went with everything that is defined in it
        }
        let lsn = self.submit(batch);
        vhost.note_defined(lsn);
        lsn
    }
}

/// Takes exchanges away with their bindings, and with them the auto-delete exchanges that lose
/// their last binding by it. A chain of those may be as long as clients like, hence the work list.
pub(super) fn remove_exchanges(
    vhost: &Vhost,
    change: &mut TopologyChange<'_>,
    mut leaving: Vec<Arc<Exchange>>,
    ops: &mut Vec<Op>,
    told: &mut Told<'_>,
) {
    while let Some(exchange) = leaving.pop() {
        let was = || Some(fields::exchange(vhost, &exchange));
        told.tell_change("exchange.deleted", was, || fields::name(vhost, &exchange.spec.name));
        // Bindings first: their stored keys hold names, which the registries still know.
        for binding in change.of_source(exchange.id) {
            let names = stored_binding(vhost, &exchange.spec, &binding);
            change.remove(&binding);
            told.tell("binding.deleted", || fields::binding(vhost, &exchange, &binding));
            ops.extend(names.map(|key| DefinitionKey::Binding(key).delete()));
        }
        let destination = Destination::Exchange(exchange.id);
        leaving.append(&mut remove_bindings_to(vhost, change, destination, ops, told));
        vhost.exchanges.remove(&exchange.spec.name);
        vhost.exchanges_by_id.remove(&exchange.id);
        change.note();
        if let Some(delayed) = &exchange.delayed {
            // What waits goes with it, as a queue's messages go with the queue.
            vhost.queues_by_id.remove(&delayed.key().queue);
            delayed.close();
            if exchange.spec.durable {
                ops.push(delayed.drop_messages());
            }
        }
        if exchange.spec.durable {
            let (vhost, name) = (vhost.name().to_string(), exchange.spec.name.to_string());
            ops.push(DefinitionKey::Exchange { vhost, name }.delete());
        }
    }
}

/// Takes away the bindings that lead to something which is going. Returns the auto-delete exchanges
/// that have lost their last binding and must go, too.
fn remove_bindings_to(
    vhost: &Vhost,
    change: &mut TopologyChange<'_>,
    destination: Destination,
    ops: &mut Vec<Op>,
    told: &mut Told<'_>,
) -> Vec<Arc<Exchange>> {
    let mut abandoned = Vec::new();
    for binding in change.of_destination(destination) {
        let source = vhost.exchanges_by_id.get(&binding.source).map(|it| Arc::clone(it.value()));
        let Some(source) = source else { continue };
        abandoned.extend(remove_binding(vhost, change, &source, &binding, ops, told));
    }
    abandoned
}

/// The queue of this name, unless it belongs to another connection.
fn owned_queue(vhost: &Vhost, name: &str, asker: &Asker) -> Result<Arc<Queue>, Refusal> {
    let name = clean_name(name);
    let queue = vhost.queue(name.as_bytes());
    let queue = queue.ok_or_else(|| refusal::queue_not_found(&name, vhost.name()))?;
    check_owner(&queue, asker.connection)?;
    Ok(queue)
}

/// When "it exists" may be told: not before whoever declared it could be told.
fn exists_from(vhost: &Vhost, durable: bool) -> Lsn {
    if durable { vhost.defined() } else { Lsn::ZERO }
}

/// Exclusive queues belong to one connection.
pub(super) fn check_owner(queue: &Queue, asker: ConnectionId) -> Result<(), Refusal> {
    match &queue.spec().owner {
        Some((owner, _)) if *owner != asker => {
            Err(refusal::queue_locked(queue.name(), &queue.spec().vhost))
        }
        _ => Ok(()),
    }
}

fn check_kind_properties(
    vhost: &Vhost,
    name: &str,
    args: &QueueArgs,
    asked: &QueueDeclaration<'_>,
) -> Result<(), Refusal> {
    if args.kind != QueueKind::Quorum {
        return Ok(());
    }
    let property = match asked {
        QueueDeclaration { exclusive: true, .. } => "exclusive-owner",
        QueueDeclaration { auto_delete: true, .. } => "auto-delete",
        QueueDeclaration { durable: false, .. } => "non-durable",
        _ => return Ok(()),
    };
    Err(refusal::queue_invalid_property(property, name, vhost.name()))
}

fn check_queue_equivalence(
    vhost: &Vhost,
    existing: &Queue,
    asked: &QueueDeclaration<'_>,
    asker: &Asker,
) -> Result<(), Refusal> {
    let spec = existing.spec();
    let locked = || refusal::queue_locked(&spec.name, vhost.name());
    match &spec.owner {
        Some((owner, _)) if *owner != asker.connection || !asked.exclusive => return Err(locked()),
        None if asked.exclusive => return Err(locked()),
        _ => {}
    }
    let differs = |arg: &str, received: String, current: String| {
        Err(refusal::queue_inequivalent_arg(arg, &spec.name, vhost.name(), received, current))
    };
    let durable = asked.durable && !asked.exclusive;
    if durable != spec.durable {
        return differs("durable", quoted(durable), quoted(spec.durable));
    }
    if asked.auto_delete != spec.auto_delete {
        return differs("auto_delete", quoted(asked.auto_delete), quoted(spec.auto_delete));
    }
    if let Some((argument, received, current)) =
        inequivalent(spec.args.kind, &asked.arguments, &spec.arguments)
    {
        return differs(argument, received, current);
    }
    Ok(())
}

fn check_exchange_equivalence(
    vhost: &Vhost,
    existing: &ExchangeSpec,
    asked: &ExchangeDeclaration<'_>,
) -> Result<(), Refusal> {
    let differs = |arg: &str, received: String, current: String| {
        let name = &existing.name;
        Err(refusal::exchange_inequivalent_arg(arg, name, vhost.name(), received, current))
    };
    if asked.kind != existing.kind.name() {
        return differs("type", quoted(asked.kind), quoted(existing.kind.name()));
    }
    for (arg, received, current) in [
        ("durable", asked.durable, existing.durable),
        ("auto_delete", asked.auto_delete, existing.auto_delete),
        ("internal", asked.internal, existing.internal),
    ] {
        if received != current {
            return differs(arg, quoted(received), quoted(current));
        }
    }
    let argument = "alternate-exchange";
    let (received, current) = (asked.arguments.get(argument), existing.arguments.get(argument));
    if received != current {
        let (received, current) = super::queue::args::printed(received, current);
        return differs(argument, received, current);
    }
    Ok(())
}

fn quoted(value: impl std::fmt::Display) -> String {
    format!("'{value}'")
}

fn argument_refusal(name: &str, vhost: &Vhost, error: ArgumentError) -> Refusal {
    match error {
        ArgumentError::Invalid { argument, reason } => {
            refusal::queue_invalid_arg(argument, name, vhost.name(), reason)
        }
        ArgumentError::NotAName { argument, type_name } => {
            refusal::queue_invalid_arg_type(type_name, argument, name, vhost.name())
        }
        ArgumentError::WrongKind { argument, kind } => {
            refusal::queue_invalid_arg_for_type(argument, name, vhost.name(), kind.module())
        }
    }
}

fn put_next_queue_id(next: u64) -> Op {
    DefinitionKey::NextQueueId.put(Record::default().with("next", number_value(next)))
}

fn create_refusal(name: &str, vhost: &Vhost, error: CreateError) -> Refusal {
    match error {
        CreateError::DelayedTwice => refusal::exchange_delayed_twice(),
        CreateError::InvalidCacheSize => refusal::exchange_invalid_cache_size(),
        CreateError::InvalidCacheTtl => refusal::exchange_invalid_cache_ttl(),
        CreateError::NoDelayedType => refusal::exchange_no_delayed_type(),
        CreateError::UnknownDelayedType { name } => refusal::exchange_unknown_type(name),
        CreateError::InvalidHistoryLength { value } => {
            refusal::exchange_invalid_history_length(value)
        }
        CreateError::NotAString { argument, type_name } => {
            refusal::exchange_invalid_arg_type(type_name, argument, name, vhost.name())
        }
        CreateError::TwoHashSources => refusal::exchange_two_hash_sources(),
        CreateError::UnsupportedHashProperty { property } => {
            refusal::exchange_unsupported_hash_property(property)
        }
    }
}

/// Carriage returns and line feeds vanish from names, as in RabbitMQ.
pub(super) fn clean_name(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}
