//! The control plane's other half: bindings between exchanges and their destinations.
//!
//! As in `declare.rs`, every change is made under the vhost's topology lock, what is durable goes
//! to the store as one batch, and checks come in RabbitMQ's order.

use std::sync::{Arc, PoisonError};

use super::access::{Resource, Right};
use super::declare::{Asker, check_owner, clean_name, remove_exchanges};
use super::definitions::{BindingKey, DefinitionKey, DestinationName, Record};
use super::events::{Told, fields};
use super::exchange::{BindError, Destination, End, Kind};
use super::message::Message;
use super::outbox::ConnectionId;
use super::queue::{Effects, Publisher, Queue, QueueKind};
use super::vhost::{Binding, Exchange, ExchangeSpec, TopologyChange, Vhost, encode_arguments};
use super::{Broker, Now, REPLY_TO};
use crate::protocol::refusal::{self, Refusal};
use crate::protocol::table::Table;
use crate::store::{Batch, Lsn, Op};

/// One end of a binding, as a request names it.
#[derive(Debug, Clone, Copy)]
pub enum DestinationRef<'a> {
    /// A queue.
    Queue(&'a str),
    /// An exchange.
    Exchange(&'a str),
}

/// queue.bind, exchange.bind and their opposites.
#[derive(Debug)]
pub struct BindingRequest<'a> {
    /// The exchange it starts from.
    pub source: &'a str,
    /// Where it leads.
    pub destination: DestinationRef<'a>,
    /// The binding key.
    pub routing_key: &'a str,
    /// The arguments.
    pub arguments: Table,
}

impl BindingRequest<'_> {
    /// The names of both ends, as they are looked up.
    fn clean_names(&self) -> (String, String) {
        let target = match self.destination {
            DestinationRef::Queue(name) | DestinationRef::Exchange(name) => name,
        };
        (clean_name(self.source), clean_name(target))
    }
}

impl Broker {
    /// Binds; a binding that exists already is left as it is. An exchange with a memory tells the
    /// new destination what it remembers, before any other message that comes by the binding.
    ///
    /// # Errors
    /// `access.refused`, `exchange.default-refused`, `access.topic-refused`, `exchange.not-found`,
    /// `queue.not-found`, `queue.locked`, and the `binding.*` refusals.
    pub fn bind(
        &self,
        vhost: &Arc<Vhost>,
        asked: &BindingRequest<'_>,
        asker: &mut Asker,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Lsn, Refusal> {
        check_rights(vhost, asked, asker)?;
        let mut change = vhost.change();
        let Some(Ends { source, target }) = resolve_ends(vhost, asked, Missing::Refuse)? else {
            return Ok(Lsn::ZERO);
        };
        check_locality(&source, &target, asked.routing_key)?;
        {
            let matcher = source.matcher.read().unwrap_or_else(PoisonError::into_inner);
            let checked = matcher.check(asked.routing_key.as_bytes(), &asked.arguments);
            checked.map_err(bind_refusal)?;
        }
        target.check_owner(asker.connection)?;
        let binding = Arc::new(binding(&source, &target, asked));
        if !change.insert(&binding) {
            return Ok(vhost.defined());
        }
        // Held so that nothing overtakes what is remembered. Queues come before matchers.
        let mut queue = match &target {
            Target::Queue(queue) if source.besides.needs_message() => Some(queue.begin()),
            _ => None,
        };
        let remembered = {
            let mut matcher = source.matcher.write().unwrap_or_else(PoisonError::into_inner);
            let end = End { destination: binding.destination, name: target.name() };
            let bound = matcher.bind(binding.key(), &asked.arguments, end);
            bound.expect("invariant: checked above");
            source.besides.on_bind()
        };
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        if let Some(key) = stored_binding(vhost, &source.spec, &binding) {
            batch.ops.push(DefinitionKey::Binding(key).put(Record::default()));
        }
        if let Some(queue) = &mut queue {
            for message in &remembered {
                queue.offer(message.clone(), now, &mut batch.ops, effects);
            }
        }
        let mut lsn = self.define(vhost, batch);
        drop(queue);
        self.told(effects).tell("binding.created", || fields::binding(vhost, &source, &binding));
        drop(change);
        // RabbitMQ sends these newest first, and closes the connection when one finds no queue.
        if let Target::Exchange(exchange) = &target {
            for message in &remembered {
                let publisher = Publisher::Waits;
                let sent = self.publish_from(vhost, exchange, message, publisher, now, effects);
                lsn = lsn.max(sent.unwrap_or(Lsn::ZERO));
            }
        }
        Ok(lsn)
    }

    /// Sends a message on its way from `exchange` that no client publishes now: it was kept for a
    /// while, or the broker made it. Returns where the store has it; `None` when it reached no
    /// queue. Call it with no lock held.
    pub(super) fn publish_from(
        &self,
        vhost: &Vhost,
        exchange: &Arc<Exchange>,
        message: &Message,
        publisher: Publisher,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Lsn> {
        let mut queues = Vec::new();
        vhost.route_again(exchange, message, &mut queues);
        queues.sort_unstable_by_key(|queue| queue.key());
        let mut changes: Vec<_> = queues.iter().map(Queue::begin).collect();
        let mut batch = Batch { ops: Vec::new(), awaited: publisher == Publisher::Waits };
        let mut has_arrived = false;
        for change in &mut changes {
            has_arrived |= change.offer(message.clone(), now, &mut batch.ops, effects);
        }
        let lsn = self.submit(batch);
        has_arrived.then_some(lsn)
    }

    /// Unbinds; what is not there counts as unbound.
    ///
    /// # Errors
    /// `access.refused`, `exchange.default-refused`, `access.topic-refused`, `queue.locked`.
    pub fn unbind(
        &self,
        vhost: &Arc<Vhost>,
        asked: &BindingRequest<'_>,
        asker: &mut Asker,
        effects: &mut Effects,
    ) -> Result<Lsn, Refusal> {
        check_rights(vhost, asked, asker)?;
        let mut change = vhost.change();
        let Some(Ends { source, target }) = resolve_ends(vhost, asked, Missing::Ignore)? else {
            return Ok(vhost.defined());
        };
        let binding = binding(&source, &target, asked);
        if !change.contains(&binding) {
            return Ok(vhost.defined());
        }
        target.check_owner(asker.connection)?;
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        let (ops, told) = (&mut batch.ops, &mut self.told(effects));
        let abandoned = remove_binding(vhost, &mut change, &source, &binding, ops, told);
        remove_exchanges(vhost, &mut change, abandoned.into_iter().collect(), ops, told);
        Ok(self.define(vhost, batch))
    }
}

/// Whether the asker may lead messages from one end to the other: write to where they go, read
/// where they come from.
fn check_rights(
    vhost: &Vhost,
    asked: &BindingRequest<'_>,
    asker: &mut Asker,
) -> Result<(), Refusal> {
    let (source_name, target_name) = asked.clean_names();
    let (destination, leads_to_default) = match asked.destination {
        DestinationRef::Queue(_) => (Resource::Queue(&target_name), false),
        DestinationRef::Exchange(_) => (Resource::Exchange(&target_name), target_name.is_empty()),
    };
    asker.rights.check(Right::Write, destination)?;
    if source_name.is_empty() || leads_to_default {
        return Err(refusal::exchange_default_refused());
    }
    asker.rights.check(Right::Read, Resource::Exchange(&source_name))?;
    match vhost.exchange(source_name.as_bytes()) {
        Some(source) if source.spec.kind == Kind::Topic => {
            asker.rights.check_topic(Right::Read, &source_name, asked.routing_key.as_bytes())
        }
        _ => Ok(()),
    }
}

fn resolve_ends(
    vhost: &Vhost,
    asked: &BindingRequest<'_>,
    missing: Missing,
) -> Result<Option<Ends>, Refusal> {
    let (source_name, target_name) = asked.clean_names();
    let leads_to_queue = matches!(asked.destination, DestinationRef::Queue(_));
    let Some(source) = vhost.exchange(source_name.as_bytes()) else {
        return missing.answer(|| refusal::exchange_not_found(source_name, vhost.name()));
    };
    let name = target_name.as_bytes();
    if leads_to_queue && (target_name == REPLY_TO || Broker::is_reply_key(name)) {
        return Err(refusal::reply_to_binding_refused());
    }
    let target = if leads_to_queue {
        vhost.queue(name).map(Target::Queue)
    } else {
        vhost.exchange(name).map(Target::Exchange)
    };
    match target {
        Some(target) => Ok(Some(Ends { source, target })),
        None if leads_to_queue => {
            missing.answer(|| refusal::queue_not_found(target_name, vhost.name()))
        }
        None => missing.answer(|| refusal::exchange_not_found(target_name, vhost.name())),
    }
}

/// The ends of a binding, found.
struct Ends {
    source: Arc<Exchange>,
    target: Target,
}

enum Target {
    Queue(Arc<Queue>),
    Exchange(Arc<Exchange>),
}

impl Target {
    /// Exclusive queues belong to one connection.
    fn check_owner(&self, asker: ConnectionId) -> Result<(), Refusal> {
        match self {
            Self::Queue(queue) => check_owner(queue, asker),
            Self::Exchange(_) => Ok(()),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Queue(queue) => queue.name(),
            Self::Exchange(exchange) => &exchange.spec.name,
        }
    }
}

fn binding(source: &Exchange, target: &Target, asked: &BindingRequest<'_>) -> Binding {
    let destination = match target {
        Target::Queue(queue) => Destination::Queue(queue.key().queue),
        Target::Exchange(exchange) => Destination::Exchange(exchange.id),
    };
    let arguments = encode_arguments(&asked.arguments);
    Binding::new(source.id, destination, asked.routing_key.as_bytes(), &arguments)
}

/// A local exchange leads straight to queues that live on one node: classic ones.
fn check_locality(source: &Exchange, target: &Target, key: &str) -> Result<(), Refusal> {
    if source.spec.kind != Kind::LocalRandom {
        return Ok(());
    }
    if !key.is_empty() {
        return Err(refusal::binding_key_not_empty(key));
    }
    match target {
        Target::Queue(queue) if queue.spec().args.kind == QueueKind::Classic => Ok(()),
        Target::Queue(queue) => {
            Err(refusal::binding_queue_type_not_valid(queue.spec().args.kind.module()))
        }
        Target::Exchange(_) => Err(refusal::binding_destination_not_found()),
    }
}

/// What to do about an end that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refuse,
    Ignore,
}

impl Missing {
    fn answer<T>(self, refusal: impl FnOnce() -> Refusal) -> Result<Option<T>, Refusal> {
        match self {
            Self::Refuse => Err(refusal()),
            Self::Ignore => Ok(None),
        }
    }
}

/// Takes a binding away. Returns its source when that must go with it.
pub(super) fn remove_binding(
    vhost: &Vhost,
    change: &mut TopologyChange<'_>,
    source: &Arc<Exchange>,
    binding: &Binding,
    ops: &mut Vec<Op>,
    told: &mut Told<'_>,
) -> Option<Arc<Exchange>> {
    let names = stored_binding(vhost, &source.spec, binding);
    if !change.remove(binding) {
        return None;
    }
    told.tell("binding.deleted", || fields::binding(vhost, source, binding));
    ops.extend(names.map(|key| DefinitionKey::Binding(key).delete()));
    let arguments = binding.arguments();
    let mut matcher = source.matcher.write().unwrap_or_else(PoisonError::into_inner);
    matcher.unbind(binding.key(), &arguments, binding.destination);
    drop(matcher);
    let abandoned = source.spec.auto_delete && !change.has_source(source.id);
    abandoned.then(|| Arc::clone(source))
}

fn bind_refusal(error: BindError) -> Refusal {
    match error {
        BindError::TooManyWildcards { key, count } => {
            refusal::binding_too_many_wildcards(key, count)
        }
        BindError::InvalidXMatch { value } => refusal::binding_invalid_x_match(value),
        BindError::InvalidXMatchType { type_name, value } => {
            refusal::binding_invalid_x_match_type(type_name, value)
        }
        BindError::WeightNotInteger { key } => refusal::binding_weight_not_integer(key),
        BindError::WeightTooSmall => refusal::binding_weight_too_small(),
        BindError::WeightTooLarge => refusal::binding_weight_too_large(),
    }
}

/// The stored form of a binding whose ends are both durable, else nothing.
pub(super) fn stored_binding(
    vhost: &Vhost,
    source: &ExchangeSpec,
    binding: &Binding,
) -> Option<BindingKey> {
    if !source.durable {
        return None;
    }
    let destination = match binding.destination {
        Destination::Queue(id) => {
            let queue = vhost.queues_by_id.get(&id)?;
            queue.spec().durable.then(|| DestinationName::Queue(queue.name().to_string()))
        }
        Destination::Exchange(id) => {
            let exchange = vhost.exchanges_by_id.get(&id)?;
            let name = exchange.spec.name.to_string();
            exchange.spec.durable.then_some(DestinationName::Exchange(name))
        }
    }?;
    Some(binding_key(vhost, source, destination, binding))
}

fn binding_key(
    vhost: &Vhost,
    source: &ExchangeSpec,
    destination: DestinationName,
    binding: &Binding,
) -> BindingKey {
    BindingKey {
        vhost: vhost.name().to_string(),
        source: source.name.to_string(),
        destination,
        routing_key: binding.key().to_vec(),
        arguments: binding.encoded_arguments().to_vec(),
    }
}
