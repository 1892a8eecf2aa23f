//! A virtual host: the registries of its exchanges and queues, its bindings, and routing over them.
//!
//! Two planes. The control plane (declare, bind, delete; `declare.rs`) takes the topology lock, so
//! that changes are serial and a binding never outlives its ends. The data plane only reads: names
//! from sharded maps, matches under an exchange's read lock. Routes are cached by channels for as
//! long as [`generation`](Vhost::generation) stands still; every change of topology moves it
//! *after* the change is visible.
//!
//! Invariants: every binding's ends exist; `by_source` and `by_destination` hold the same bindings,
//! and the matchers of the exchanges hold them too; the predeclared exchanges are never deleted.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::DashMap;
use rustc_hash::FxHashSet;

use super::access::{Taken, VhostLimits};
use super::dead_letter::with_keys;
use super::definitions::read_arguments;
use super::exchange::{Besides, CreateError, Destination, Kind, Matcher, Traits, Verdict};
use super::message::Message;
use super::policy::{AppliedPolicy, Object, Policies, PolicyKind, PolicySpec};
use super::queue::Queue;
use super::trigger::{Registry, Trigger};
use crate::broker::views::{BindingView, ExchangeView, QueueView};
use crate::protocol::table::Table;
use crate::store::{Lsn, QueueKey};

/// What an exchange was declared as.
#[derive(Debug, Clone)]
pub struct ExchangeSpec {
    /// Its name.
    pub name: Arc<str>,
    /// How it matches.
    pub kind: Kind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding as a source.
    pub auto_delete: bool,
    /// Cannot be published to by clients.
    pub internal: bool,
    /// As declared.
    pub arguments: Table,
}

/// An exchange.
#[derive(Debug)]
pub struct Exchange {
    /// Its identity on this node.
    pub id: u64,
    /// What it was declared as.
    pub spec: ExchangeSpec,
    pub(super) matcher: RwLock<Matcher>,
    /// Asked with the matcher locked.
    pub(super) besides: Besides,
    /// Where a delayed exchange keeps messages. Clients do not see this queue.
    pub(super) delayed: Option<Arc<Queue>>,
    policy: RwLock<AppliedPolicy>,
}

impl Exchange {
    pub(super) fn new(
        id: u64,
        spec: ExchangeSpec,
        policy: AppliedPolicy,
        seed: u64,
    ) -> Result<Self, CreateError> {
        let matcher = RwLock::new(Matcher::new(spec.kind, &spec.arguments, seed)?);
        let besides = Besides::new(spec.kind, &spec.arguments)?;
        Ok(Self { id, spec, matcher, besides, delayed: None, policy: RwLock::new(policy) })
    }

    /// Where messages go that this exchange could not route: what it was declared with, else what
    /// its policy says.
    #[must_use]
    pub fn alternate(&self) -> Option<Arc<str>> {
        let declared = self.spec.arguments.get("alternate-exchange");
        declared.and_then(|value| value.as_str()).map(Arc::from).or_else(|| {
            let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
            policy.alternate_exchange().cloned()
        })
    }

    /// The name of the policy that it obeys.
    pub(super) fn policy_name(&self) -> Option<String> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).view().policy
    }

    /// Whether anything is bound to it.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !self.matcher.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn apply_policy(&self, policy: AppliedPolicy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    fn matches(&self, traits: Traits<'_>, stage: Stage, out: &mut Vec<Destination>) -> Matched {
        let matcher = self.matcher.read().unwrap_or_else(PoisonError::into_inner);
        if self.besides.needs_message() {
            let Some(message) = traits.message else { return Matched::NeedsMessage };
            match stage {
                Stage::Arriving => match self.besides.on_message(message, traits.properties) {
                    Verdict::Match => {}
                    Verdict::Delay => return Matched::Delayed,
                    Verdict::Duplicate => return Matched::Duplicate,
                },
                Stage::Due => self.besides.on_due(message, traits.properties),
                Stage::Withdrawn => self.besides.withdraw(message),
            }
        }
        matcher.matches(traits, out);
        let by_key = matcher.goes_by_keys() && !self.besides.needs_message();
        if by_key { Matched::ByKey } else { Matched::Once }
    }
}

/// One binding; its identity is all of its fields. There may be millions: 48 bytes and its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Binding {
    pub(super) source: u64,
    pub(super) destination: Destination,
    key_len: usize,
    /// The key, and behind it the arguments, encoded: tables have no order or hash of their own.
    text: Box<[u8]>,
}

impl Binding {
    /// A binding with a key and encoded arguments.
    pub(super) fn new(source: u64, destination: Destination, key: &[u8], arguments: &[u8]) -> Self {
        let text = [key, arguments].concat().into();
        Self { source, destination, key_len: key.len(), text }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.text[..self.key_len]
    }

    pub(super) fn encoded_arguments(&self) -> &[u8] {
        &self.text[self.key_len..]
    }

    /// The arguments. They were encoded from a table, or read as one at start.
    pub(super) fn arguments(&self) -> Table {
        read_arguments(self.encoded_arguments()).expect("invariant: an encoded table")
    }
}

/// The bindings of a vhost, findable from both ends.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    by_source: HashMap<u64, HashSet<Arc<Binding>>>,
    by_destination: HashMap<Destination, HashSet<Arc<Binding>>>,
}

impl Bindings {
    /// False when it was there already.
    fn insert(&mut self, binding: &Arc<Binding>) -> bool {
        let new = self.by_source.entry(binding.source).or_default().insert(Arc::clone(binding));
        if new {
            let end = self.by_destination.entry(binding.destination).or_default();
            end.insert(Arc::clone(binding));
        }
        new
    }

    /// False when it was not there.
    fn remove(&mut self, binding: &Binding) -> bool {
        remove_from(&mut self.by_destination, &binding.destination, binding);
        remove_from(&mut self.by_source, &binding.source, binding)
    }

    pub(super) fn contains(&self, binding: &Binding) -> bool {
        self.by_source.get(&binding.source).is_some_and(|set| set.contains(binding))
    }

    pub(super) fn has_source(&self, source: u64) -> bool {
        self.by_source.contains_key(&source)
    }

    pub(super) fn all(&self) -> Vec<Arc<Binding>> {
        self.by_source.values().flatten().cloned().collect()
    }

    pub(super) fn of_source(&self, source: u64) -> Vec<Arc<Binding>> {
        self.by_source.get(&source).into_iter().flatten().cloned().collect()
    }

    pub(super) fn of_destination(&self, destination: Destination) -> Vec<Arc<Binding>> {
        self.by_destination.get(&destination).into_iter().flatten().cloned().collect()
    }
}

fn remove_from<K: Eq + Hash>(
    map: &mut HashMap<K, HashSet<Arc<Binding>>>,
    key: &K,
    binding: &Binding,
) -> bool {
    let Some(set) = map.get_mut(key) else { return false };
    let removed = set.remove(binding);
    if set.is_empty() {
        map.remove(key);
    }
    removed
}

/// A virtual host.
#[derive(Debug)]
pub struct Vhost {
    name: Arc<str>,
    pub(super) exchanges: DashMap<Arc<str>, Arc<Exchange>>,
    pub(super) exchanges_by_id: DashMap<u64, Arc<Exchange>>,
    pub(super) queues: DashMap<Arc<str>, Arc<Queue>>,
    pub(super) queues_by_id: DashMap<u64, Arc<Queue>>,
    /// Deleted; written under the topology lock.
    gone: AtomicBool,
    /// Written under the topology lock.
    pub(super) policies: RwLock<Policies>,
    limits: RwLock<VhostLimits>,
    /// Written under the topology lock.
    triggers: RwLock<Registry>,
    connections: Arc<AtomicU64>,
    topology: Mutex<Bindings>,
    generation: AtomicU64,
    /// Beside the generation, which every publish looks at anyway.
    traced: AtomicBool,
    /// Where the store has the last change of a definition.
    defined: AtomicU64,
}

/// How a message was routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// The same key leads to the same queues until the generation moves.
    ByKey,
    /// Something else had a say: properties, or chance; or an exchange was shown the message.
    Once,
    /// An exchange on the way has to be shown the message itself: route again, with it.
    NeedsMessage,
    /// An exchange on the way was given it before. It may have gone elsewhere on other ways; if
    /// not, it is not unroutable either.
    Duplicate,
}

/// Why a message is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has come.
    Arriving,
    /// The first exchange has kept it until now.
    Due,
    /// It came, but nobody took it: exchanges forget it.
    Withdrawn,
}

/// What an exchange makes of a message.
enum Matched {
    ByKey,
    Once,
    NeedsMessage,
    Delayed,
    Duplicate,
}

impl Vhost {
    /// A vhost without exchanges; the broker adds the predeclared ones.
    #[must_use]
    pub fn new(name: Arc<str>) -> Self {
        Self::with_policies(name, Policies::default())
    }

    pub(super) fn with_policies(name: Arc<str>, policies: Policies) -> Self {
        Self {
            name,
            exchanges: DashMap::new(),
            exchanges_by_id: DashMap::new(),
            queues: DashMap::new(),
            queues_by_id: DashMap::new(),
            gone: AtomicBool::new(false),
            policies: RwLock::new(policies),
            limits: RwLock::default(),
            triggers: RwLock::default(),
            connections: Arc::default(),
            topology: Mutex::default(),
            generation: AtomicU64::new(1),
            traced: AtomicBool::new(false),
            defined: AtomicU64::new(Lsn::ZERO.0),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn write_policies(&self) -> RwLockWriteGuard<'_, Policies> {
        self.policies.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it may hold.
    #[must_use]
    pub fn limits(&self) -> VhostLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_limits(&self, limits: VhostLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Takes a place among its connections; `None` when it has as many as it may.
    #[must_use]
    pub fn take_connection(&self) -> Option<Taken> {
        Taken::from(&self.connections, self.limits().connections_max)
    }

    /// The policies that an object of this name obeys.
    pub(super) fn policy_for(&self, object: Object, name: &str) -> AppliedPolicy {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        policies.applied_to(object, name)
    }

    /// Its policies of one kind as they are written down, in the order in which they are tried.
    #[must_use]
    pub fn policy_specs(&self, kind: PolicyKind) -> Vec<PolicySpec> {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        policies.of(kind).iter().map(|policy| policy.spec().clone()).collect()
    }

    /// The trigger of this name.
    #[must_use]
    pub fn trigger(&self, name: &str) -> Option<Arc<Trigger>> {
        self.read_triggers().get(name).cloned()
    }

    /// All triggers, by name.
    #[must_use]
    pub fn triggers(&self) -> Vec<Arc<Trigger>> {
        self.read_triggers().all().cloned().collect()
    }

    /// The triggers that watch a queue of this name.
    pub(super) fn triggers_of(&self, queue: &str) -> Vec<Arc<Trigger>> {
        self.read_triggers().of_queue(queue).to_vec()
    }

    /// Called with the topology lock held.
    pub(super) fn write_triggers(&self) -> RwLockWriteGuard<'_, Registry> {
        self.triggers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_triggers(&self) -> RwLockReadGuard<'_, Registry> {
        self.triggers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the vhost as deleted. Called with the topology lock held.
    pub(super) fn close(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Whether it was deleted: nothing can be defined in it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Moves with every change of topology; read it before routing.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether copies of what is published and delivered here go to `amq.rabbitmq.trace`.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// Switches that on or off, until the node stops.
    pub fn set_traced(&self, traced: bool) {
        self.traced.store(traced, Ordering::Relaxed);
    }

    /// When everything that is defined here is durable: what "it exists already" must wait for.
    #[must_use]
    pub fn defined(&self) -> Lsn {
        Lsn(self.defined.load(Ordering::Acquire))
    }

    /// A definition was submitted. Called with the topology lock held.
    pub(super) fn note_defined(&self, lsn: Lsn) {
        self.defined.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// The exchange of this name. The default exchange has the empty name.
    #[must_use]
    pub fn exchange(&self, name: &[u8]) -> Option<Arc<Exchange>> {
        let name = std::str::from_utf8(name).ok()?;
        self.exchanges.get(name).map(|entry| Arc::clone(entry.value()))
    }

    /// The queue of this name.
    #[must_use]
    pub fn queue(&self, name: &[u8]) -> Option<Arc<Queue>> {
        let name = std::str::from_utf8(name).ok()?;
        self.queues.get(name).map(|entry| Arc::clone(entry.value()))
    }

    /// The queue with this key, unless it is gone.
    #[must_use]
    pub fn queue_by_key(&self, key: QueueKey) -> Option<Arc<Queue>> {
        self.queues_by_id.get(&key.queue).map(|entry| Arc::clone(entry.value()))
    }

    /// Appends the queues that a message reaches from `exchange`, each once. Exchange-to-exchange
    /// bindings and alternate exchanges are followed, each exchange at most once, so cycles end.
    /// Never needs a message that it was given.
    pub fn route(
        &self,
        exchange: &Arc<Exchange>,
        message: Traits<'_>,
        out: &mut Vec<Arc<Queue>>,
    ) -> Routed {
        self.walk(exchange, message, Stage::Arriving, out)
    }

    /// The same for a message that `exchange` has kept until it was due.
    pub(super) fn route_due(
        &self,
        exchange: &Arc<Exchange>,
        message: Traits<'_>,
        out: &mut Vec<Arc<Queue>>,
    ) {
        self.walk(exchange, message, Stage::Due, out);
    }

    /// Lets the exchanges that have seen a message forget it: it was routed, but nobody took it.
    pub fn withdraw(&self, message: &Message) {
        let Some(exchange) = self.exchange(message.exchange()) else { return };
        with_keys(message, |traits| {
            self.walk(&exchange, traits, Stage::Withdrawn, &mut Vec::new());
        });
    }

    fn walk(
        &self,
        exchange: &Arc<Exchange>,
        message: Traits<'_>,
        mut stage: Stage,
        out: &mut Vec<Arc<Queue>>,
    ) -> Routed {
        let mut routed = Routed::ByKey;
        let mut seen_exchanges = vec![exchange.id];
        let (mut exchanges_met, mut queues_met) = (Met::default(), Met::default());
        // One exchange names each of its destinations once for a key.
        let mut named_once = out.is_empty() && message.keys.len() == 1;
        let mut open = vec![Arc::clone(exchange)];
        let mut destinations = Vec::new();
        while let Some(exchange) = open.pop() {
            destinations.clear();
            if exchange.spec.name.is_empty() {
                for queue in message.keys.iter().filter_map(|key| self.queue(key)) {
                    destinations.push(Destination::Queue(queue.key().queue));
                }
            } else {
                let matched = exchange.matches(message, stage, &mut destinations);
                if stage == Stage::Due {
                    stage = Stage::Arriving;
                }
                match matched {
                    Matched::ByKey => {}
                    Matched::Once if routed == Routed::Duplicate => {}
                    Matched::Once => routed = Routed::Once,
                    Matched::NeedsMessage => return Routed::NeedsMessage,
                    Matched::Duplicate => {
                        routed = Routed::Duplicate;
                        continue;
                    }
                    Matched::Delayed => {
                        routed = Routed::Once;
                        let kept = exchange.delayed.as_ref().map(|queue| queue.key().queue);
                        destinations.extend(kept.map(Destination::Queue));
                    }
                }
            }
            if destinations.is_empty()
                && let Some(alternate) =
                    exchange.alternate().and_then(|name| self.exchange(name.as_bytes()))
            {
                destinations.push(Destination::Exchange(alternate.id));
            }
            for destination in &destinations {
                match destination {
                    Destination::Queue(id) => {
                        let met = out.iter().map(|queue| queue.key().queue);
                        // Those that keep delayed messages have ids, too, and no name.
                        if (named_once || queues_met.is_new(*id, met))
                            && let Some(queue) = self.queues_by_id.get(id)
                        {
                            out.push(Arc::clone(queue.value()));
                        }
                    }
                    Destination::Exchange(id) => {
                        if exchanges_met.is_new(*id, seen_exchanges.iter().copied())
                            && let Some(next) = self.exchanges_by_id.get(id)
                        {
                            seen_exchanges.push(*id);
                            open.push(Arc::clone(next.value()));
                        }
                    }
                }
            }
            named_once = false;
        }
        routed
    }

    /// Starts a change of topology. If something did change, the generation moves when the guard is
    /// dropped.
    pub(super) fn change(&self) -> TopologyChange<'_> {
        let bindings = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        TopologyChange { bindings, generation: &self.generation, changed: false }
    }

    /// Queues as operators see them.
    #[must_use]
    pub fn queue_views(&self) -> Vec<QueueView> {
        let queues: Vec<_> = self.queues.iter().map(|entry| Arc::clone(entry.value())).collect();
        queues.iter().map(|queue| queue.view()).collect()
    }

    /// Exchanges as operators see them.
    #[must_use]
    pub fn exchange_views(&self) -> Vec<ExchangeView> {
        let view = |exchange: &Exchange| ExchangeView {
            vhost: self.name.to_string(),
            name: exchange.spec.name.to_string(),
            kind: exchange.spec.kind.name().to_owned(),
            durable: exchange.spec.durable,
            auto_delete: exchange.spec.auto_delete,
            internal: exchange.spec.internal,
            arguments: exchange.spec.arguments.clone(),
            policy: exchange.policy.read().unwrap_or_else(PoisonError::into_inner).view(),
            messages_delayed: exchange.delayed.as_ref().map(|queue| queue.messages_delayed()),
        };
        self.exchanges.iter().map(|entry| view(entry.value())).collect()
    }

    /// Bindings as operators see them: the implicit ones from the default exchange first.
    #[must_use]
    pub fn binding_views(&self) -> Vec<BindingView> {
        let implicit = self.queues.iter().map(|entry| BindingView {
            vhost: self.name.to_string(),
            source: String::new(),
            destination: entry.key().to_string(),
            destination_kind: "queue",
            routing_key: entry.key().to_string(),
            arguments: Table::default(),
        });
        let mut views: Vec<BindingView> = implicit.collect();
        let bindings: Vec<Arc<Binding>> = {
            let topology = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
            topology.by_source.values().flatten().cloned().collect()
        };
        for binding in bindings {
            let source = self.exchanges_by_id.get(&binding.source);
            let destination = match binding.destination {
                Destination::Queue(id) => {
                    self.queues_by_id.get(&id).map(|queue| queue.name().to_string())
                }
                Destination::Exchange(id) => {
                    self.exchanges_by_id.get(&id).map(|exchange| exchange.spec.name.to_string())
                }
            };
            // An end that has just gone takes its bindings with it.
            let (Some(source), Some(destination)) = (source, destination) else { continue };
            views.push(BindingView {
                vhost: self.name.to_string(),
                source: source.spec.name.to_string(),
                destination,
                destination_kind: match binding.destination {
                    Destination::Queue(_) => "queue",
                    Destination::Exchange(_) => "exchange",
                },
                routing_key: String::from_utf8_lossy(binding.key()).into_owned(),
                arguments: binding.arguments(),
            });
        }
        views
    }
}

/// The queues or exchanges that a message's way has led to. A few are compared one by one; more are
/// gathered in a set.
#[derive(Default)]
struct Met(FxHashSet<u64>);

impl Met {
    const COMPARED_MAX: usize = 16;

    /// Whether `id` is not among `met`, which must grow by `id` and nothing else if so.
    fn is_new(&mut self, id: u64, mut met: impl ExactSizeIterator<Item = u64>) -> bool {
        if self.0.is_empty() {
            if met.len() <= Self::COMPARED_MAX {
                return met.all(|other| other != id);
            }
            self.0.extend(met);
        }
        self.0.insert(id)
    }
}

/// Arguments as they are kept in a [`Binding`]: in key order, for their order tells no bindings
/// apart.
pub(super) fn encode_arguments(arguments: &Table) -> Vec<u8> {
    let mut bytes = Vec::new();
    arguments.sorted().encode_body(&mut bytes);
    bytes
}

/// The topology lock, held. Dropping it makes cached routes stale if something changed.
pub(super) struct TopologyChange<'v> {
    bindings: MutexGuard<'v, Bindings>,
    generation: &'v AtomicU64,
    changed: bool,
}

impl TopologyChange<'_> {
    /// Adds a binding; false when it was there already.
    pub(super) fn insert(&mut self, binding: &Arc<Binding>) -> bool {
        let new = self.bindings.insert(binding);
        self.changed |= new;
        new
    }

    /// Takes a binding away; false when it was not there.
    pub(super) fn remove(&mut self, binding: &Binding) -> bool {
        let removed = self.bindings.remove(binding);
        self.changed |= removed;
        removed
    }

    /// An exchange or a queue comes or goes.
    pub(super) fn note(&mut self) {
        self.changed = true;
    }
}

impl std::ops::Deref for TopologyChange<'_> {
    type Target = Bindings;

    fn deref(&self) -> &Bindings {
        &self.bindings
    }
}

impl Drop for TopologyChange<'_> {
    fn drop(&mut self) {
        if self.changed {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}
