//! Who takes a queue's messages, and in which order: priorities, round robin, credit.
//!
//! Owns the rotation. Consumers that may take another message stand in a rotation per priority,
//! highest first; one without credit is *parked* outside it and comes back when it settles
//! messages, when its connection has room again, or when its channel's shared limit frees.
//!
//! With a single active consumer, the others wait. In a quorum queue one of a higher priority takes
//! over, as soon as the active one, which gets nothing more, holds no message of the queue.
//!
//! Invariants: a consumer is in the rotation exactly when it is not parked (and, with a single
//! active consumer, is the active one); `unacked` counts what was assigned and not yet settled or
//! given back, and never exceeds a non-zero prefetch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustc_hash::FxHashMap;
use slab::Slab;

use super::QueueKind;
use crate::broker::outbox::{ConsumerId, Item, Outbox, Wakes};
use crate::broker::views::{Activity, ConsumerView};
use crate::protocol::table::Table;

/// A prefetch limit that all consumers of a channel share (`basic.qos` with global set).
#[derive(Debug, Default)]
pub struct Limiter {
    limit: AtomicU32,
    used: AtomicU32,
}

impl Limiter {
    /// Changes the limit; 0 lifts it.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit; 0 is none.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Gives back what settled or returned messages had taken.
    pub fn release(&self, n: u32) {
        self.used.fetch_sub(n, Ordering::AcqRel);
    }

    /// Takes one, whatever the limit.
    fn take(&self) {
        self.used.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes one, if the limit allows. Two queues that try at once see no more taken than is: else
    /// both could give up while one could have it.
    fn try_take(&self) -> bool {
        let limit = self.limit();
        let take = |used| (limit == 0 || used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }
}

/// What a channel says when it starts to consume.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    /// Chosen by the broker.
    pub id: ConsumerId,
    /// Its tag on its channel.
    pub tag: Arc<str>,
    /// Its channel.
    pub channel: u16,
    /// Where its deliveries go.
    pub outbox: Arc<Outbox>,
    /// Its connection's name, for operators.
    pub connection_name: Arc<str>,
    /// Whether the client acknowledges.
    pub acks: Acks,
    /// Whether it wants the queue to itself.
    pub exclusive: bool,
    /// Higher takes first.
    pub priority: i32,
    /// How many it may hold unacknowledged; 0 is no limit.
    pub prefetch: u16,
    /// The channel's shared limit.
    pub limiter: Arc<Limiter>,
    /// Whether that limit holds it back. If not, what it takes still counts for the others.
    pub obeys_limiter: bool,
    /// As declared.
    pub arguments: Table,
}

/// Who settles a delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// The client, with basic.ack and its kin.
    Manual,
    /// The broker, once the message is written to the connection.
    Automatic,
}

/// A consumer as its queue sees it.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) spec: ConsumerSpec,
    pub(super) unacked: u32,
    parked: bool,
    lane: usize,
}

/// The way to one connection, which its consumers share: what they are assigned arrives in the
/// order in which it was.
#[derive(Debug)]
struct Lane {
    outbox: Arc<Outbox>,
    consumers: usize,
    /// Assigned in the dispatch that is running, not yet in the outbox.
    batch: Vec<Item>,
    batch_bytes: usize,
}

impl Consumer {
    /// How many more messages it may be assigned now, as far as its prefetch limit goes.
    fn credit(&self) -> usize {
        match (self.spec.acks, self.spec.prefetch) {
            (Acks::Manual, prefetch @ 1..) => {
                usize::from(prefetch).saturating_sub(self.unacked as usize)
            }
            _ => usize::MAX,
        }
    }

    /// Takes from the channel's shared limit, which counts only what the client must acknowledge.
    pub(super) fn take_shared_credit(&self) -> bool {
        let spec = &self.spec;
        if spec.acks == Acks::Automatic {
            return true;
        }
        if !spec.obeys_limiter {
            spec.limiter.take();
            return true;
        }
        spec.limiter.try_take()
    }
}

/// The consumers of one queue.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    slots: Slab<Consumer>,
    lanes: Slab<Lane>,
    by_id: FxHashMap<ConsumerId, usize>,
    /// Highest priority first; groups without members are kept out.
    rotation: Vec<(i32, VecDeque<usize>)>,
    /// In order of arrival; only with a single active consumer.
    waiting: Option<VecDeque<usize>>,
    active: Option<usize>,
    /// Whether the active one makes way for a higher priority.
    yields: bool,
    /// Lanes with something assigned in the dispatch that is running.
    touched: Vec<usize>,
}

impl Consumers {
    pub(super) fn new(single_active: bool, kind: QueueKind) -> Self {
        Self {
            waiting: single_active.then(VecDeque::new),
            yields: kind == QueueKind::Quorum,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.slots.iter().map(|(_, consumer)| consumer)
    }

    /// The consumers as operators see them.
    pub(super) fn views(&self) -> impl Iterator<Item = ConsumerView> {
        self.slots.iter().map(|(slot, consumer)| {
            let spec = &consumer.spec;
            ConsumerView {
                tag: spec.tag.to_string(),
                activity: match (&self.waiting, self.active) {
                    (None, _) => Activity::Up,
                    (Some(_), Some(active)) if active == slot => Activity::SingleActive,
                    (Some(_), _) => Activity::Waiting,
                },
                connection: spec.connection_name.to_string(),
                channel: spec.channel,
                ack_required: spec.acks == Acks::Manual,
                exclusive: spec.exclusive,
                prefetch_count: spec.prefetch,
                priority: spec.priority,
                arguments: spec.arguments.clone(),
            }
        })
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec) {
        let id = spec.id;
        let lane = self.enter_lane(&spec.outbox);
        let slot = self.slots.insert(Consumer { spec, unacked: 0, parked: true, lane });
        self.by_id.insert(id, slot);
        if let Some(waiting) = &mut self.waiting {
            waiting.push_back(slot);
            self.elect();
            self.yield_active();
        } else {
            self.unpark(slot);
        }
    }

    /// Takes a consumer out. Its unacknowledged messages stay with its channel.
    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        let slot = self.by_id.remove(&id)?;
        self.park(slot);
        if let Some(waiting) = &mut self.waiting {
            waiting.retain(|other| *other != slot);
            match self.active {
                Some(active) if active != slot => {
                    // It may have been about to make way for the one that goes.
                    self.unpark(active);
                    self.yield_active();
                }
                _ => {
                    self.active = None;
                    self.elect();
                }
            }
        }
        let consumer = self.slots.remove(slot);
        let lane = &mut self.lanes[consumer.lane];
        lane.consumers -= 1;
        if lane.consumers == 0 {
            self.lanes.remove(consumer.lane);
        }
        Some(consumer)
    }

    fn enter_lane(&mut self, outbox: &Arc<Outbox>) -> usize {
        let known = self.lanes.iter().find(|(_, lane)| Arc::ptr_eq(&lane.outbox, outbox));
        let at = known.map(|(at, _)| at).unwrap_or_else(|| {
            let outbox = Arc::clone(outbox);
            self.lanes.insert(Lane { outbox, consumers: 0, batch: Vec::new(), batch_bytes: 0 })
        });
        self.lanes[at].consumers += 1;
        at
    }

    fn capacity(&self, slot: usize) -> usize {
        let consumer = &self.slots[slot];
        let lane = &self.lanes[consumer.lane];
        match consumer.credit() {
            0 => 0,
            credit => credit.min(lane.outbox.room().saturating_sub(lane.batch.len())),
        }
    }

    /// Adds a delivery to the running dispatch.
    pub(super) fn assign(&mut self, slot: usize, item: Item, bytes: usize) {
        let consumer = &mut self.slots[slot];
        consumer.unacked += 1;
        let lane = &mut self.lanes[consumer.lane];
        if lane.batch.is_empty() {
            self.touched.push(consumer.lane);
        }
        lane.batch.push(item);
        lane.batch_bytes += bytes;
    }

    /// Bytes assigned to a consumer's connection in the running dispatch, not yet in its outbox.
    pub(super) fn batch_bytes(&self, slot: usize) -> usize {
        self.lanes[self.slots[slot].lane].batch_bytes
    }

    /// The consumer that is next in turn and has credit, and how many messages it may take in a
    /// row: one when others of its priority wait for theirs.
    pub(super) fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            let (_, group) = self.rotation.first()?;
            let slot = *group.front()?;
            let in_a_row = if group.len() == 1 { usize::MAX } else { 1 };
            match self.capacity(slot) {
                0 => self.park(slot),
                capacity => return Some((slot, capacity.min(in_a_row))),
            }
        }
    }

    pub(super) fn at(&mut self, slot: usize) -> &mut Consumer {
        &mut self.slots[slot]
    }

    /// The consumer has had its turn.
    pub(super) fn rotate(&mut self, slot: usize) {
        if let Some((_, group)) = self.rotation.first_mut()
            && group.len() > 1
            && group.front() == Some(&slot)
        {
            group.rotate_left(1);
        }
    }

    /// Takes a consumer out of the rotation until it has credit again.
    pub(super) fn park(&mut self, slot: usize) {
        let consumer = &mut self.slots[slot];
        if std::mem::replace(&mut consumer.parked, true) {
            return;
        }
        let priority = consumer.spec.priority;
        if let Some(at) = self.rotation.iter().position(|(level, _)| *level == priority) {
            let group = &mut self.rotation[at].1;
            // Whoever runs out of credit does so when it is its turn.
            if group.front() == Some(&slot) {
                group.pop_front();
            } else {
                group.retain(|other| *other != slot);
            }
            if group.is_empty() {
                self.rotation.remove(at);
            }
        }
    }

    /// Hands what was assigned to the outboxes; the connections to wake end up in `wakes`.
    pub(super) fn flush(&mut self, wakes: &mut Wakes) {
        for at in self.touched.drain(..) {
            let lane = &mut self.lanes[at];
            let bytes = std::mem::take(&mut lane.batch_bytes);
            if lane.outbox.push_deliveries(&mut lane.batch, bytes) {
                wakes.add(&lane.outbox);
            }
        }
    }

    /// Credits a consumer with settled or returned messages. Consumers that are gone are ignored.
    pub(super) fn credit(&mut self, id: ConsumerId, n: u32) {
        if let Some(&slot) = self.by_id.get(&id) {
            let consumer = &mut self.slots[slot];
            debug_assert!(consumer.unacked >= n, "a consumer settles only what it holds");
            consumer.unacked = consumer.unacked.saturating_sub(n);
            self.unpark(slot);
            self.yield_active();
        }
    }

    /// Lets consumers try again. Those that are gone are ignored.
    pub(super) fn resume(&mut self, consumers: &[ConsumerId]) {
        for id in consumers {
            if let Some(&slot) = self.by_id.get(id) {
                self.unpark(slot);
            }
        }
        self.yield_active();
    }

    fn unpark(&mut self, slot: usize) {
        let consumer = &mut self.slots[slot];
        if !consumer.parked || (self.waiting.is_some() && self.active != Some(slot)) {
            return;
        }
        consumer.parked = false;
        let priority = consumer.spec.priority;
        let at = self.rotation.partition_point(|(level, _)| *level > priority);
        if self.rotation.get(at).is_none_or(|(level, _)| *level != priority) {
            self.rotation.insert(at, (priority, VecDeque::new()));
        }
        self.rotation[at].1.push_back(slot);
    }

    /// Single active consumer: the highest priority, then the oldest, when none is active.
    fn elect(&mut self) {
        if self.active.is_some() {
            return;
        }
        self.active = self.foremost();
        if let Some(slot) = self.active {
            self.unpark(slot);
        }
    }

    /// The one of the highest priority, and of these the oldest.
    fn foremost(&self) -> Option<usize> {
        let candidates = self.waiting.iter().flatten().enumerate();
        candidates
            .max_by_key(|(at, slot)| (self.slots[**slot].spec.priority, std::cmp::Reverse(*at)))
            .map(|(_, slot)| *slot)
    }

    /// Lets a higher priority take over, once the active consumer is done with what it has.
    fn yield_active(&mut self) {
        let (true, Some(active)) = (self.yields, self.active) else { return };
        let Some(foremost) = self.foremost() else { return };
        let (holder, successor) = (&self.slots[active], &self.slots[foremost]);
        if successor.spec.priority <= holder.spec.priority {
            return;
        }
        let is_done = holder.unacked == 0;
        self.park(active);
        if is_done {
            self.active = Some(foremost);
            self.unpark(foremost);
        }
    }
}
