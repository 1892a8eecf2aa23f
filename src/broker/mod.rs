//! The engine: vhosts, exchanges, queues and routing. Synchronous, without sockets and without a
//! clock: the time comes in as [`Now`], randomness as an [`Entropy`] source, durability as a
//! [`Store`].
//!
//! Everything is called directly by whichever connection needs it; there are no tasks here. Lock
//! order: a vhost's topology, then queues in key order, then a leaf (an outbox, a matcher, the
//! store). Nothing here waits.

pub mod access;
pub mod alarms;
mod bindings;
pub mod dead_letter;
mod declare;
mod dedup;
pub mod definitions;
pub mod events;
pub mod exchange;
mod header_key;
pub mod inspect;
mod inspection;
pub mod limits;
pub mod logins;
pub mod message;
pub mod moment;
pub mod operate;
pub mod outbox;
pub mod paging;
mod pattern;
pub mod policy;
pub mod queue;
mod recovery;
mod reply_to;
pub mod salvage;
pub mod seldom;
pub mod timers;
pub mod trace;
pub mod trigger;
pub mod vhost;
mod vhosts;
pub mod views;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dashmap::DashMap;

use access::{Access, Hashing, PasswordHash, Permission, Taken};
use alarms::AlarmState;
pub use bindings::{BindingRequest, DestinationRef};
pub use declare::{Asker, ExchangeDeclaration, QueueDeclaration};
use logins::LoginFailures;
use outbox::{ConnectionId, ConsumerId, Outbox};
use paging::Paging;
use queue::{Effects, Publisher, Queue};
pub use reply_to::REPLY_TO;
use reply_to::ReplyTargets;
use timers::Timers;
use vhost::Vhost;
pub use vhosts::TooManyVhosts;
use views::{ConnectionView, NodeCounters};

use crate::protocol::refusal::{self, Refusal};
use crate::secret::Secret;
use crate::store::{Batch, Lsn, Store, StoreError};

/// A moment, as the edge reads it from the clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since an arbitrary start; never goes back. For timeouts.
    pub mono_ms: u64,
    /// Milliseconds of Unix time, derived from `mono_ms` so that a clock that jumps expires
    /// nothing. For timestamps and for what is stored.
    pub unix_ms: u64,
}

/// Fills a buffer with unpredictable bytes.
pub type Entropy = Box<dyn Fn(&mut [u8]) + Send + Sync>;

/// How a node presents itself and what it creates on first start.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// "rabbit@host" by default: tools expect that form.
    pub node_name: String,
    /// As shown to clients and operators.
    pub cluster_name: String,
    /// `product` in the server properties; client libraries branch on it.
    pub product: String,
    /// `version` in the server properties.
    pub version: String,
    /// `product_name` there, and the product that operators see.
    pub product_name: String,
    /// `product_version` there.
    pub product_version: String,
    /// The first user.
    pub default_user: String,
    /// Its password.
    pub default_password: Secret,
    /// Its tags.
    pub default_user_tags: Vec<String>,
    /// The first vhost.
    pub default_vhost: String,
    /// The first user's configure, write and read patterns.
    pub default_permissions: Permission,
    /// How passwords are hashed.
    pub password_hashing: Hashing,
    /// Users that may only come from a loopback address.
    pub loopback_users: Vec<String>,
    /// Open connections at most; 0 is no limit.
    pub connections_max: usize,
    /// Open channels at most, of all connections; 0 is no limit.
    pub channels_max: usize,
    /// Vhosts at most; 0 is no limit.
    pub vhosts_max: usize,
    /// Queues at most, of all vhosts; 0 is no limit.
    pub queues_max: usize,
    /// Exchanges at most, of all vhosts, those included that are always there; 0 is no limit.
    pub exchanges_max: usize,
    /// Failed logins of one source in a minute before the next ones wait; 0 is no limit.
    pub login_failures_max: u64,
    /// The kind of durable queues declared without `x-queue-type`.
    pub default_queue_kind: queue::QueueKind,
    /// Memory that all queues' waiting messages may take together, in bytes; what is more is left
    /// to the store, as far as it is stored.
    pub queue_memory_bytes: u64,
    /// Where backups are made.
    pub backup_dir: PathBuf,
}

impl Default for BrokerSettings {
    /// RabbitMQ's defaults: user guest, from loopback only, in vhost "/".
    fn default() -> Self {
        Self {
            node_name: "rabbit@localhost".to_owned(),
            cluster_name: "rabbit@localhost".to_owned(),
            product: "RabbitMQ".to_owned(),
            version: "4.2.4".to_owned(),
            product_name: "Leveret".to_owned(),
            product_version: env!("CARGO_PKG_VERSION").to_owned(),
            default_user: "guest".to_owned(),
            default_password: "guest".into(),
            default_user_tags: vec!["administrator".to_owned()],
            default_vhost: "/".to_owned(),
            default_permissions: Permission::full(),
            password_hashing: Hashing::default(),
            loopback_users: vec!["guest".to_owned()],
            connections_max: 0,
            channels_max: 0,
            vhosts_max: 0,
            queues_max: 0,
            exchanges_max: 0,
            login_failures_max: 20,
            default_queue_kind: queue::QueueKind::Classic,
            queue_memory_bytes: 128 << 20,
            backup_dir: PathBuf::from("backups"),
        }
    }
}

/// A connection as the rest of the node sees it.
#[derive(Debug)]
pub struct ConnectionHandle {
    /// Its id.
    pub id: ConnectionId,
    /// Where to send it something.
    pub outbox: Arc<Outbox>,
    /// What operators see; the connection refreshes it now and then.
    pub view: Mutex<ConnectionView>,
}

/// One node's engine.
pub struct Broker {
    settings: BrokerSettings,
    store: Arc<dyn Store>,
    entropy: Entropy,
    vhosts: DashMap<Arc<str>, Arc<Vhost>>,
    /// Held while a vhost comes or goes.
    vhost_changes: Mutex<()>,
    access: Access,
    connections: DashMap<ConnectionId, Arc<ConnectionHandle>>,
    connection_places: Arc<AtomicU64>,
    channel_places: Arc<AtomicU64>,
    login_failures: LoginFailures,
    reply_targets: ReplyTargets,
    timers: Timers,
    paging: Arc<Paging>,
    engine: trigger::Engine,
    counters: NodeCounters,
    alarms: AlarmState,
    /// Who is told what happens, besides the event exchange.
    listeners: OnceLock<Vec<Arc<dyn events::Listener>>>,
    next_connection_id: AtomicU64,
    next_consumer_id: AtomicU64,
    next_exchange_id: AtomicU64,
    /// Taken under a vhost's topology lock and held until the queue's record is submitted.
    next_queue_id: Mutex<u64>,
    /// Held while a backup is made: they take turns.
    backing_up: Mutex<()>,
    started: Now,
    stopping: OnceLock<Refusal>,
}

impl Broker {
    /// Opens the engine on a store: recovers what is there, or creates the first vhost and user.
    ///
    /// # Errors
    /// When the store cannot be read, or a record in it is not understood: nothing is skipped.
    pub fn open(
        settings: BrokerSettings,
        store: Arc<dyn Store>,
        entropy: Entropy,
        now: Now,
    ) -> Result<Arc<Self>, StoreError> {
        let paging = Arc::new(Paging::new(settings.queue_memory_bytes));
        let broker = Arc::new(Self {
            paging,
            engine: trigger::Engine::new(now),
            access: Access::new(settings.loopback_users.clone(), settings.password_hashing),
            login_failures: LoginFailures::new(settings.login_failures_max),
            settings,
            store,
            entropy,
            vhosts: DashMap::new(),
            vhost_changes: Mutex::default(),
            connections: DashMap::new(),
            connection_places: Arc::default(),
            channel_places: Arc::default(),
            reply_targets: ReplyTargets::default(),
            timers: Timers::default(),
            counters: NodeCounters::default(),
            alarms: AlarmState::default(),
            listeners: OnceLock::new(),
            next_connection_id: AtomicU64::new(1),
            next_consumer_id: AtomicU64::new(1),
            next_exchange_id: AtomicU64::new(1),
            next_queue_id: Mutex::new(1),
            backing_up: Mutex::default(),
            started: now,
            stopping: OnceLock::new(),
        });
        recovery::recover(&broker, now)?;
        Ok(broker)
    }

    /// How it presents itself.
    #[must_use]
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// The store, for watermarks and back-pressure.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Node-wide counters.
    #[must_use]
    pub fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    /// Users and what they may do.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Hashes a password as configured. Slow if that is.
    #[must_use]
    pub fn hash_password(&self, password: &[u8]) -> PasswordHash {
        PasswordHash::new(self.settings.password_hashing, password, &self.entropy)
    }

    /// Deadlines of queues and messages.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The vhost of this name.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.get(name).map(|entry| Arc::clone(entry.value()))
    }

    /// All queues, oldest first: what is done to each is done in the same order every time.
    fn queues_in_order(&self) -> Vec<Arc<Queue>> {
        let vhosts = self.vhosts.iter().map(|entry| Arc::clone(entry.value()));
        let mut queues: Vec<Arc<Queue>> = vhosts
            .flat_map(|vhost| {
                vhost.queues_by_id.iter().map(|it| Arc::clone(it.value())).collect::<Vec<_>>()
            })
            .collect();
        queues.sort_unstable_by_key(|queue| queue.key());
        queues
    }

    /// A consumer id that was never used.
    #[must_use]
    pub fn next_consumer_id(&self) -> ConsumerId {
        ConsumerId(self.next_consumer_id.fetch_add(1, Ordering::Relaxed))
    }

    /// A connection id that was never used.
    #[must_use]
    pub fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.next_connection_id.fetch_add(1, Ordering::Relaxed))
    }

    /// `prefix` and 22 unpredictable characters (base64url of 128 bits), as RabbitMQ names things.
    #[must_use]
    pub fn generate_name(&self, prefix: &str) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut seed = [0u8; 16];
        (self.entropy)(&mut seed);
        let mut bits = u128::from_be_bytes(seed);
        let mut name = prefix.to_owned();
        for _ in 0..22 {
            name.push(char::from(ALPHABET[(bits % 64) as usize]));
            bits /= 64;
        }
        name
    }

    /// Takes a place for a connection that is about to open. It keeps it while it is open.
    ///
    /// # Errors
    /// When the node's limit is reached, however many ask at once.
    pub fn take_connection_place(&self) -> Result<Taken, Refusal> {
        let max = self.settings.connections_max;
        let place = Taken::from(&self.connection_places, some_limit(max));
        place.ok_or_else(|| refusal::connection_node_limit(max))
    }

    /// Takes a place for a channel that is about to open. It keeps it while it is open.
    ///
    /// # Errors
    /// When the node's limit is reached.
    pub fn take_channel_place(&self) -> Result<Taken, Refusal> {
        let max = self.settings.channels_max;
        let place = Taken::from(&self.channel_places, some_limit(max));
        place.ok_or_else(|| refusal::channel_node_limit(&self.settings.node_name, max))
    }

    /// Who failed to log in lately.
    #[must_use]
    pub fn login_failures(&self) -> &LoginFailures {
        &self.login_failures
    }

    /// Registers an opened connection. One that opens while the node begins to stop is asked to
    /// close, too.
    pub fn add_connection(&self, handle: &Arc<ConnectionHandle>) {
        self.connections.insert(handle.id, Arc::clone(handle));
        if let Some(refusal) = self.stopping() {
            handle.outbox.close(refusal.clone());
        }
        NodeCounters::add(&self.counters.connections_opened, 1);
    }

    /// Forgets a connection that has ended.
    pub fn remove_connection(&self, id: ConnectionId) {
        if self.connections.remove(&id).is_some() {
            NodeCounters::add(&self.counters.connections_closed, 1);
        }
    }

    /// Does what queues left to be done once their locks were released: dead-letters messages,
    /// tells of events, notes deadlines, has messages read back, wakes connections. Call it with no
    /// lock held.
    pub fn finish(&self, effects: &mut Effects, now: Now) {
        self.finish_for(Publisher::GoesOn, effects, now);
    }

    /// The same for someone who may wait for it. Returns where the store has what was moved.
    pub fn finish_for(&self, publisher: Publisher, effects: &mut Effects, now: Now) -> Lsn {
        let mut last = Lsn::ZERO;
        // An event may push others out of its queue, and what arrives may fire a trigger.
        while effects.is_for_others() {
            last = last.max(self.send_on(effects, publisher, now));
            self.send_events(effects, now);
            self.serve_triggers(effects, now);
        }
        for (at_ms, queue) in effects.deadlines.drain(..) {
            self.timers.note(at_ms, &queue);
        }
        effects.reads.drain(..).for_each(|queue| self.paging.ask(&queue));
        if std::mem::take(&mut effects.over_budget) {
            self.paging.ask_for_sweep();
        }
        effects.wakes.fire();
        last
    }

    /// Handles every deadline that has passed and returns the next one, in Unix milliseconds.
    pub fn handle_deadlines(&self, now: Now) -> Option<u64> {
        let mut effects = Effects::default();
        while let Some(queue) = self.timers.take_due(now.unix_ms) {
            let expired = queue.handle_deadline(now, &mut effects);
            if expired {
                let condition = queue::DeleteCondition::Expired(now);
                self.delete_gone_queue(&queue, condition, &mut effects);
            }
            self.finish(&mut effects, now);
        }
        self.timers.next()
    }

    /// Deletes a queue that has no more reason to be: its last consumer went, it expired, or its
    /// owner left. One that is in use again by now stays.
    pub fn delete_gone_queue(
        &self,
        queue: &Arc<Queue>,
        condition: queue::DeleteCondition,
        effects: &mut Effects,
    ) {
        if let Some(vhost) = self.vhost(&queue.spec().vhost) {
            // Refused only when the queue has a reason to be again.
            let _ = self.delete_queue(&vhost, queue, condition, effects);
        }
    }

    /// Asks every connection to close, with a reason for its client, and refuses new ones.
    pub fn close_connections(&self, refusal: &Refusal) {
        if self.stopping.set(refusal.clone()).is_ok() {
            self.close_connections_where(|_| true, refusal);
        }
    }

    /// Asks those connections to close. Call it with no lock held.
    fn close_connections_where(
        &self,
        is_meant: impl FnMut(&ConnectionView) -> bool,
        refusal: &Refusal,
    ) {
        for handle in self.connections_where(is_meant) {
            handle.outbox.close(refusal.clone());
        }
    }

    fn connections_where(
        &self,
        mut is_meant: impl FnMut(&ConnectionView) -> bool,
    ) -> Vec<Arc<ConnectionHandle>> {
        let mut handles: Vec<_> =
            self.connections.iter().map(|entry| Arc::clone(entry.value())).collect();
        handles
            .retain(|handle| is_meant(&handle.view.lock().unwrap_or_else(PoisonError::into_inner)));
        handles
    }

    /// Why the node takes no more connections, if it is stopping.
    #[must_use]
    pub fn stopping(&self) -> Option<&Refusal> {
        self.stopping.get()
    }

    /// Open connections.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    fn submit(&self, batch: Batch) -> Lsn {
        if batch.is_empty() { Lsn::ZERO } else { self.store.submit(batch) }
    }
}

/// A limit of the configuration, where 0 is none.
fn some_limit(max: usize) -> Option<i64> {
    i64::try_from(max).ok().filter(|max| *max > 0)
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("node", &self.settings.node_name).finish_non_exhaustive()
    }
}
