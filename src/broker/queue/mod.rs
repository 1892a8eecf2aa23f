//! Queues: passive objects behind a short lock, called by whichever connection publishes, consumes
//! or settles.
//!
//! Owns a queue's messages, their order and their assignment to consumers. Every change happens
//! under the queue's lock, and what must survive is submitted to the store while that lock is held,
//! so that the store sees one queue's changes in the order in which they happened. Assigned
//! messages go to the consumer's outbox (a leaf lock). What concerns others (waking connections,
//! dead letters, reading back from the store) is collected in [`Effects`] and done by the caller
//! after the lock is released.
//!
//! Invariants: `published == ready + unacked + settled`; a message is in exactly one place: ready,
//! assigned (an outbox or a channel's ledger), in transit to a dead-letter exchange, or settled.

pub mod args;
mod consumers;
pub mod dedup;
pub mod delays;
mod entry;
mod groups;
mod lease_calls;
pub mod leases;
mod level;
mod memory;
mod places;
mod ready;
pub mod rules;
mod state;
mod trigger_calls;
mod trigger_gather;
mod trigger_views;
mod triggers;
mod views;
mod watches;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use args::{Overflow, QueueArgs, QueueKind};
pub use consumers::{Acks, ConsumerSpec, Limiter};
use delays::Due;
pub use entry::{Entry, Settled, Transit};
pub use rules::{Rules, Wishes};
pub use state::Purged;
use state::State;
pub(in crate::broker) use trigger_calls::RunOut;

use crate::broker::Now;
use crate::broker::events::Event;
use crate::broker::message::Message;
use crate::broker::outbox::{ConnectionId, ConsumerId, Outbox, Wakes};
use crate::broker::paging::Paging;
use crate::broker::policy::AppliedPolicy;
use crate::broker::trigger::{Debt, Trigger};
use crate::protocol::table::Table;
use crate::store::{
    Backlog, Batch, Durability, Lsn, Op, Progress, QueueKey, QueueSeq, Store, StoreError,
};

/// What basic.get finds.
#[derive(Debug)]
pub enum Fetched {
    /// A message, and how many stay.
    Message(Entry, u32),
    /// The queue is empty.
    Nothing,
    /// The first message is being read from the store: whoever asked is woken, and asks again.
    NotYet,
}

/// What is left of a queue that is gone.
#[derive(Debug)]
pub struct Closed {
    /// Its consumers, to be told.
    pub consumers: Vec<ConsumerSpec>,
    /// How many messages waited.
    pub messages: u32,
    /// Connections that waited for a message, to be woken.
    pub fetchers: Vec<Arc<Outbox>>,
}

/// Why a message is dead-lettered, in RabbitMQ's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeathReason {
    /// A client rejected it without requeueing.
    Rejected,
    /// It outlived its time to live.
    Expired,
    /// The queue was too long.
    MaxLen,
    /// It came back too often.
    DeliveryLimit,
}

impl DeathReason {
    /// As written in `x-death`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// Why a message leaves its queue for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is a dead letter.
    Died(DeathReason),
    /// Its delay is over.
    Due,
}

/// A message on its way from its queue to an exchange. It is settled in its queue only together
/// with its arrival elsewhere.
#[derive(Debug)]
pub struct Departing {
    /// Where it was.
    pub queue: Arc<Queue>,
    /// The message.
    pub entry: Entry,
    /// Why it goes.
    pub departure: Departure,
    /// What its queue obeyed then.
    pub rules: Arc<Rules>,
}

/// What is left to do once a queue's lock is released.
#[derive(Debug, Default)]
pub struct Effects {
    /// Connections to wake.
    pub wakes: Wakes,
    /// Messages that go to other queues.
    pub departing: Vec<Departing>,
    /// Queues whose next deadline moved forward, with it in milliseconds of Unix time.
    pub deadlines: Vec<(u64, Arc<Queue>)>,
    /// Queues that want messages read back from the store.
    pub reads: Vec<Arc<Queue>>,
    /// All queues together hold more than they may.
    pub over_budget: bool,
    /// Queues that have new triggers.
    pub armed: Vec<Arc<Queue>>,
    /// Queues whose triggers have something to tell.
    pub tells: Vec<Arc<Queue>>,
    /// Queues whose triggers want something run.
    pub runs: Vec<Arc<Queue>>,
    /// Triggers that are to be switched off for good, or have got on with what they owe.
    pub switched_off: Vec<SwitchedOff>,
    /// What those who listen are to be told.
    pub events: Vec<Event>,
    /// The user on whose behalf all of this is done; nobody when the broker acts by itself.
    pub actor: Option<Arc<str>>,
    /// The connection by which it is asked for, if by one.
    pub connection: Option<Arc<str>>,
}

/// A trigger that has switched itself off.
#[derive(Debug)]
pub struct SwitchedOff {
    /// The trigger, as it was.
    pub trigger: Arc<Trigger>,
    /// What it owes still.
    pub debt: Option<Debt>,
}

impl Effects {
    /// Whether something is to be done that may have effects itself.
    pub(super) fn is_for_others(&self) -> bool {
        !self.departing.is_empty()
            || !self.events.is_empty()
            || !self.armed.is_empty()
            || !self.tells.is_empty()
            || !self.runs.is_empty()
            || !self.switched_off.is_empty()
    }
}

/// What does not change in a queue's life.
#[derive(Debug, Clone)]
pub struct QueueSpec {
    /// Its records' key in the store.
    pub key: QueueKey,
    /// Its vhost's name.
    pub vhost: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The connection it belongs to and goes with, if exclusive, and that connection's name.
    pub owner: Option<(ConnectionId, Arc<str>)>,
    /// As declared.
    pub arguments: Table,
    /// The arguments, understood.
    pub args: QueueArgs,
    /// The exchange whose delayed messages it keeps; clients do not see it then.
    pub delays_for: Option<Arc<str>>,
}

impl QueueSpec {
    fn stores(&self, message: &Message) -> bool {
        let stores_all = self.args.kind == QueueKind::Quorum || self.delays_for.is_some();
        self.durable && (message.is_persistent() || stores_all)
    }
}

/// Why a consumer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeRefusal {
    /// Someone consumes exclusively, or exclusive use was asked for and someone consumes.
    Exclusive,
    /// The queue was deleted in the meantime.
    Gone,
}

/// A queue.
pub struct Queue {
    spec: QueueSpec,
    store: Arc<dyn Store>,
    paging: Arc<Paging>,
    /// As the rules say; every publisher asks, and need not lock for it.
    may_reject: AtomicBool,
    state: Mutex<State>,
}

impl Queue {
    /// An empty queue, under the policies that apply to it.
    #[must_use]
    pub fn new(
        spec: QueueSpec,
        (store, paging): (Arc<dyn Store>, Arc<Paging>),
        policy: AppliedPolicy,
        now: Now,
    ) -> Self {
        let state = State::new(&spec, policy, now);
        let may_reject = AtomicBool::new(state.rules().may_reject());
        Self { spec, store, paging, may_reject, state: Mutex::new(state) }
    }

    fn paging(&self) -> &Paging {
        &self.paging
    }

    /// Obeys other policies from now on. What has come before keeps the time to live it had; the
    /// limits of length count at once.
    pub fn apply_policy(self: &Arc<Self>, policy: AppliedPolicy, now: Now, effects: &mut Effects) {
        let mut state = self.lock();
        state.apply_policy(&self.spec, policy);
        self.may_reject.store(state.rules().may_reject(), Ordering::Relaxed);
        let mut batch = Batch::default();
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
    }

    /// The policies it obeys.
    #[must_use]
    pub fn policy(&self) -> AppliedPolicy {
        self.lock().policy().clone()
    }

    /// What it was declared as.
    #[must_use]
    pub fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.spec.name
    }

    /// Its key in the store; also its identity on this node.
    #[must_use]
    pub fn key(&self) -> QueueKey {
        self.spec.key
    }

    /// Takes one of its levels in as the store has it at start. `None` when it has no such level;
    /// true when it must see the messages, by [`recover`](Self::recover). Recovered messages may
    /// have been delivered before the stop, so they are flagged as redelivered.
    #[must_use]
    pub fn recover_backlog(&self, found: &Backlog) -> Option<bool> {
        self.lock().recover_backlog(found)
    }

    /// Sees a message that the store has at start.
    pub fn recover(&self, seq: QueueSeq, message: Message) {
        self.lock().recover(&self.spec, seq, message);
    }

    /// Takes note of a publisher's highest number, which was found in the store at start.
    pub(super) fn recover_publisher(&self, name: Box<[u8]>, sequence: i64) {
        self.lock().recover_publisher(name, sequence);
    }

    /// What removes the publishers' numbers from the store, once the queue is closed.
    pub(super) fn forget_publishers(&self, ops: &mut Vec<Op>) {
        self.lock().forget_publishers(ops);
    }

    /// Whether it may answer a publish with a nack: such publishes are not gathered.
    #[must_use]
    pub fn may_reject(&self) -> bool {
        self.may_reject.load(Ordering::Relaxed)
    }

    /// How long a delivery from this queue may stay unacknowledged on a node that allows `node_ms`;
    /// `None` is for ever. RabbitMQ takes any value of `x-consumer-timeout` and heeds integers; of
    /// an argument and a policy the lower counts.
    #[must_use]
    pub fn ack_ms_max(&self, node_ms: u64) -> Option<i64> {
        let policy = self.lock().rules().ack_ms_max.and_then(|ms| i64::try_from(ms).ok());
        match (self.spec.arguments.get("x-consumer-timeout"), policy) {
            (None, policy) => policy.or_else(|| i64::try_from(node_ms).ok()),
            (Some(own), policy) => own.as_integer().into_iter().chain(policy).min(),
        }
    }

    /// Whether the store keeps this message once it is here.
    #[must_use]
    pub fn stores(&self, message: &Message) -> bool {
        self.spec.stores(message)
    }

    /// Takes a connection's turn: what it is done with, then what it publishes, in order; then
    /// assigns what can be assigned. Returns what the publishes' confirms wait for. A deleted queue
    /// takes and forgets them, as a queue that was deleted a moment later would.
    pub fn take_turn(
        self: &Arc<Self>,
        mut turn: Turn<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Progress {
        let mut ops = Vec::new();
        let waits = turn.publisher == Publisher::Waits;
        let mut change = self.begin();
        let stored = change.take_turn(&mut turn, now, &mut ops, effects);
        let durability = change.durability();
        // For the operating system's word alone the store need not sync: it hears of those who wait
        // for that when they have nothing else to do.
        let awaited = waits && stored && durability == Durability::Fsync;
        let lsn = self.submit(Batch { ops, awaited });
        if stored { Progress::at(lsn, durability) } else { Progress::NOW }
    }

    /// Messages come back. `attempt` says how, and whether a client may have seen them.
    pub fn requeue(
        self: &Arc<Self>,
        entries: impl IntoIterator<Item = (ConsumerId, Entry)>,
        attempt: Attempt,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut state = self.lock();
        let mut batch = Batch::default();
        for (consumer, entry) in entries {
            state.requeue(self, consumer, entry, attempt, &mut batch.ops, effects);
        }
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
    }

    /// Messages are rejected for good: dead-lettered where that is set up, else dropped.
    pub fn reject(
        self: &Arc<Self>,
        entries: impl IntoIterator<Item = (ConsumerId, Entry)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut state = self.lock();
        let mut batch = Batch::default();
        for (consumer, entry) in entries {
            state.reject(self, consumer, entry, &mut batch.ops, effects);
        }
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
    }

    /// Takes the next message for basic.get, on behalf of a connection. The message counts as
    /// unacknowledged until it is settled or given back.
    pub fn get(
        self: &Arc<Self>,
        acks: Acks,
        asker: &Arc<Outbox>,
        now: Now,
        effects: &mut Effects,
    ) -> Fetched {
        let mut state = self.lock();
        let mut batch = Batch::default();
        state.expire(self, now, &mut batch.ops, effects);
        let fetched = state.get(acks, now);
        if matches!(fetched, Fetched::NotYet) {
            state.await_first(asker);
        }
        // Another message has come to the head.
        state.rest(self, effects);
        self.submit(batch);
        fetched
    }

    /// Adds a consumer and assigns it what waits.
    ///
    /// # Errors
    /// When the queue is in exclusive use, or gone.
    pub fn add_consumer(
        self: &Arc<Self>,
        spec: ConsumerSpec,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), ConsumeRefusal> {
        let mut state = self.lock();
        state.add_consumer(&self.spec, spec, now)?;
        let mut batch = Batch::default();
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
        Ok(())
    }

    /// Removes a consumer; what it holds stays with its channel. True when the queue must now be
    /// deleted because it was declared auto-delete and this was its last consumer.
    #[must_use]
    pub fn remove_consumer(
        self: &Arc<Self>,
        consumer: ConsumerId,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let mut state = self.lock();
        let removed = state.remove_consumer(consumer, now);
        let mut batch = Batch::default();
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
        removed && self.spec.auto_delete && state.consumers() == 0
    }

    /// Lets consumers try again: their connection's outbox has room, or their channel's shared
    /// limit has credit.
    pub fn resume(self: &Arc<Self>, consumers: &[ConsumerId], now: Now, effects: &mut Effects) {
        let mut state = self.lock();
        state.resume(consumers);
        let mut batch = Batch::default();
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
    }

    /// Drops every waiting message.
    pub fn purge(self: &Arc<Self>, effects: &mut Effects) -> Purged {
        let mut state = self.lock();
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        let messages = state.purge(self, &mut batch.ops, effects);
        Purged { messages, lsn: self.submit(batch) }
    }

    /// Does what a deadline asks for: expires messages. True when the queue itself has expired and
    /// must be deleted.
    #[must_use]
    pub fn handle_deadline(self: &Arc<Self>, now: Now, effects: &mut Effects) -> bool {
        let mut state = self.lock();
        state.forget_deadline();
        state.note_time(now);
        let due = state.take_due(now);
        if !due.is_empty() {
            drop(state);
            self.release_due(due, now, effects);
            state = self.lock();
        }
        let mut batch = Batch::default();
        state.send_kept_dead(now, effects);
        state.end_overdue_leases(self, now, &mut batch.ops, effects);
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
        let expired = state.is_expired(now);
        if !expired {
            state.rest(self, effects);
        }
        expired
    }

    /// Sends on what has waited for its time, reading back what only the store keeps.
    fn release_due(self: &Arc<Self>, due: Vec<Due>, now: Now, effects: &mut Effects) {
        let Ok(mut found) = self.read_due(&due) else {
            // The store has failed, which ends the node: nothing more is confirmed.
            let mut state = self.lock();
            due.into_iter().for_each(|due| state.put_back_due(due, now));
            return;
        };
        let mut state = self.lock();
        for Due { seq, message } in due {
            let Some(message) = message.or_else(|| found.remove(&seq)) else { continue };
            let stored = self.spec.stores(&message);
            let entry = Entry { stored, ..Entry::new(QueueSeq(seq), message) };
            state.depart(self, entry, Departure::Due, effects);
        }
    }

    /// Reads what is not held in memory: runs of numbers at once.
    fn read_due(&self, due: &[Due]) -> Result<HashMap<u64, Message>, StoreError> {
        let missing = due.iter().filter(|due| due.message.is_none());
        let mut missing: Vec<_> = missing.map(|due| QueueSeq(due.seq)).collect();
        missing.sort_unstable();
        let read = self.read_places(&missing, u64::MAX)?;
        Ok(read.into_iter().map(|(seq, message)| (seq.0, message)).collect())
    }

    /// How many messages wait for their time.
    #[must_use]
    pub fn messages_delayed(&self) -> u64 {
        self.lock().messages_delayed()
    }

    /// Goes on after recovery: notes its next deadline, and has its first message read.
    pub fn wake_up(self: &Arc<Self>, effects: &mut Effects) {
        self.lock().rest(self, effects);
    }

    /// Marks the queue as used, for its own expiry (declare and get count, publishing does not).
    pub fn touch(self: &Arc<Self>, now: Now, effects: &mut Effects) {
        let mut state = self.lock();
        state.touch(now);
        state.rest(self, effects);
    }

    /// Ready messages and consumers.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        self.lock().counts()
    }

    /// Checks that the queue may go and marks it as gone, in one step. The caller holds the vhost's
    /// topology lock and submits the store's part.
    ///
    /// # Errors
    /// Says which condition failed; the queue is then unchanged.
    pub fn close_if(&self, condition: DeleteCondition) -> Result<Closed, DeleteRefusal> {
        let mut state = self.lock();
        let (ready, consumers) = state.counts();
        match condition {
            DeleteCondition::Asked { if_unused: true, .. } | DeleteCondition::Abandoned
                if consumers > 0 =>
            {
                Err(DeleteRefusal::InUse)
            }
            DeleteCondition::Expired(now) if !state.is_expired(now) => Err(DeleteRefusal::InUse),
            DeleteCondition::Asked { if_empty: true, .. } if ready > 0 => {
                Err(DeleteRefusal::NotEmpty)
            }
            _ => Ok(state.close(self)),
        }
    }

    /// Marks the queue as gone, whatever is in it.
    pub(super) fn close(&self) -> Closed {
        self.lock().close(self)
    }

    /// What forgets its messages in the store.
    pub(super) fn drop_messages(&self) -> Op {
        Op::DropQueue { queue: self.key(), level_max: self.spec.args.level_max() }
    }

    /// Dead letters have arrived elsewhere (or nowhere) and their settlement is submitted.
    pub fn finish_transit(&self, transit: Transit, gone: &[QueueSeq]) {
        self.lock().finish_transit(transit, gone);
    }

    /// Dead letters that reached no queue come back, to be sent on again after a while.
    pub(super) fn keep_dead(
        self: &Arc<Self>,
        kept: Vec<Departing>,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut state = self.lock();
        state.keep_dead(kept, now);
        state.rest(self, effects);
    }

    /// Locks the queue for a change that spans several queues. Take several in key order.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> QueueChange<'_> {
        QueueChange { queue: self, state: self.lock() }
    }

    /// How safe a message must be before its publisher is told.
    fn durability(&self, state: &State) -> Durability {
        state.rules().durability.unwrap_or_else(|| self.store.durability())
    }

    fn submit(&self, batch: Batch) -> Lsn {
        if batch.is_empty() { Lsn::ZERO } else { self.store.submit(batch) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("key", &self.spec.key).field("name", &self.spec.name).finish()
    }
}

/// What a connection has gathered for a queue.
#[derive(Debug)]
pub struct Turn<'t> {
    /// Messages that are done with: acknowledged, or written out to a consumer that does not
    /// acknowledge.
    pub settled: &'t [Settled],
    /// New messages; left empty, with their capacity.
    pub publishes: &'t mut Vec<Message>,
    /// Whether their publisher waits.
    pub publisher: Publisher,
}

/// Whether a publisher waits for its messages to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// It is in confirm mode: the store syncs without delay.
    Waits,
    /// It does not ask: the store syncs when it suits.
    GoesOn,
}

/// How a message comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Its client, which has seen it, gave it back.
    Refused,
    /// It was written to a client whose channel has ended.
    Lost,
    /// It never left the broker.
    Unsent,
}

/// Why a queue is deleted, and what must still be so when it is: between the wish and the deletion
/// someone may have come to use it.
#[derive(Debug, Clone, Copy)]
pub enum DeleteCondition {
    /// A client asked.
    Asked {
        /// Only without consumers.
        if_unused: bool,
        /// Only without waiting messages.
        if_empty: bool,
    },
    /// Its last consumer went and it is auto-delete: only if no other consumer has come.
    Abandoned,
    /// Nobody used it for its time to live: only if that is still so at this moment.
    Expired(Now),
    /// The connection that owns it ends.
    OwnerGone,
}

/// Which condition failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRefusal {
    /// It has consumers, or was used.
    InUse,
    /// It has messages.
    NotEmpty,
}

/// A queue locked for a change that spans several queues (a message that goes to more than one, a
/// transaction, dead letters): the operations of all of them go into one batch, submitted while
/// every lock is held.
pub struct QueueChange<'q> {
    queue: &'q Arc<Queue>,
    state: MutexGuard<'q, State>,
}

impl QueueChange<'_> {
    /// The locked queue's key.
    #[must_use]
    pub fn key(&self) -> QueueKey {
        self.queue.key()
    }

    /// How safe a message must be before its publisher is told.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.queue.durability(&self.state)
    }

    /// See [`Queue::take_turn`]; what must be stored goes to `ops`. True when a publish must be.
    pub fn take_turn(
        &mut self,
        turn: &mut Turn<'_>,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) -> bool {
        let Turn { settled, publishes, .. } = turn;
        let stored = publishes.iter().filter(|message| self.queue.stores(message)).count();
        ops.reserve(stored + settled.iter().filter(|one| one.stored).count());
        self.state.settle(&self.queue.spec, settled, ops);
        self.state.expire(self.queue, now, ops, effects);
        let before = ops.len();
        for message in publishes.drain(..) {
            self.state.enqueue(&self.queue.spec, message, now, ops);
        }
        let stored = ops.len() > before;
        self.state.dispatch_new(self.queue, now, ops, effects);
        stored
    }

    /// Takes one message in and assigns what can be assigned, unless the queue is full and set to
    /// refuse: then false.
    pub fn offer(
        &mut self,
        message: Message,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) -> bool {
        let spec = &self.queue.spec;
        if self.state.is_full_for(&message) {
            if self.state.rules().overflow == Overflow::RejectPublishDlx {
                self.state.refuse_to_dead_letter(self.queue, message, now, effects);
            }
            return false;
        }
        self.state.expire(self.queue, now, ops, effects);
        self.state.enqueue(spec, message, now, ops);
        self.state.dispatch_new(self.queue, now, ops, effects);
        true
    }

    /// Settles messages.
    pub fn settle(&mut self, settled: &[Settled], ops: &mut Vec<Op>) {
        self.state.settle(&self.queue.spec, settled, ops);
    }

    /// A message comes back that its client refused.
    pub fn requeue(
        &mut self,
        consumer: ConsumerId,
        entry: Entry,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        self.state.requeue(self.queue, consumer, entry, Attempt::Refused, ops, effects);
    }

    /// A message is rejected for good.
    pub fn reject(
        &mut self,
        consumer: ConsumerId,
        entry: Entry,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        self.state.reject(self.queue, consumer, entry, ops, effects);
    }

    /// Expires what is due and assigns what can be assigned.
    pub fn dispatch(&mut self, now: Now, ops: &mut Vec<Op>, effects: &mut Effects) {
        self.state.dispatch(self.queue, now, ops, effects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_uses_is_one_small_allocation() {
        // There may be hundreds of thousands. What most queues do without lies in boxes.
        assert!(size_of::<Queue>() <= 624, "{} bytes", size_of::<Queue>());
    }

    #[test]
    fn queues_of_which_nothing_is_asked_share_their_rules() {
        let rules = |args: &QueueArgs| AppliedPolicy::default().rules(args);
        let plain = QueueArgs::default();
        assert!(Arc::ptr_eq(&rules(&plain), &rules(&plain)));
        let quorum = QueueArgs { kind: QueueKind::Quorum, ..QueueArgs::default() };
        assert_eq!(rules(&quorum).delivery_limit, Some(20));
        let asking = Table::new().with("x-message-ttl", 7i32);
        let asking = QueueArgs::parse(&asking).expect("a valid argument");
        assert_eq!(rules(&asking).message_ttl_ms, Some(7));
    }
}
