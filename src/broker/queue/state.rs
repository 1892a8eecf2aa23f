//! The state of a queue and its transitions: pure apart from the operations and effects that it
//! appends for its caller.
//!
//! Only this file, `memory.rs` and `lease_calls.rs` change a queue's state, always under the
//! queue's lock. Times are Unix milliseconds and come in as arguments.
//!
//! Invariants: `unacked` counts exactly the messages that are
//! assigned or in transit; a stored message's `Settle` is emitted once, by the transition that ends
//! its stay; nothing is dispatched once `gone` is set.

use std::sync::Arc;

use super::args::Overflow;
use super::consumers::{Consumer, Consumers};
use super::dedup::{Admission, Dedup};
use super::delays::{Delays, Due, delay_ms};
use super::leases::Leases;
use super::memory::Memory;
use super::ready::{Ready, Tally};
use super::triggers::QueueTriggers;
use super::{
    Acks, Attempt, Closed, ConsumeRefusal, ConsumerSpec, DeathReason, Departing, Departure,
    Effects, Entry, Fetched, Queue, QueueKind, QueueSpec, Rules, Settled, Transit,
};
use crate::broker::Now;
use crate::broker::header_key::headers;
use crate::broker::message::Message;
use crate::broker::outbox::{ConsumerId, Delivery, Item};
use crate::broker::policy::AppliedPolicy;
use crate::broker::views::QueueCounters;
use crate::protocol::properties::Hints;
use crate::store::{Backlog, Lsn, Op, QueueKey, QueueSeq};

/// Bytes assigned to one consumer before its outbox is filled and its room looked at again.
const RUN_BYTES_MAX: usize = 256 * 1024;

/// How long a dead letter that reached no queue waits before it is sent on again. RabbitMQ takes
/// three minutes.
const DEAD_AGAIN_MS: u64 = 5_000;

/// Messages that leave at once when their delay is over: their targets stay locked meanwhile.
const DUE_AT_ONCE_MAX: usize = 256;

/// The outcome of a purge.
#[derive(Debug, Clone, Copy)]
pub struct Purged {
    /// Messages dropped.
    pub messages: u32,
    /// When it is durable.
    pub lsn: Lsn,
}

#[derive(Debug)]
pub(super) struct State {
    rules: Arc<Rules>,
    pub(super) policy: AppliedPolicy,
    dedup: Option<Box<Dedup>>,
    delays: Option<Box<Delays>>,
    pub(super) leases: Leases,
    kept_dead: Option<Box<KeptDead>>,
    pub(super) ready: Ready,
    pub(super) memory: Memory,
    pub(super) triggers: Option<Box<QueueTriggers>>,
    /// Present while there are consumers.
    pub(super) consumers: Option<Box<Consumers>>,
    unacked: Transit,
    pub(super) counters: QueueCounters,
    exclusive: bool,
    pub(super) gone: bool,
    used_ms: u64,
    deadline_ms: Option<u64>,
}

/// Dead letters that reached no queue.
#[derive(Debug)]
struct KeptDead {
    letters: Vec<Departing>,
    /// When they are sent on again.
    until_ms: u64,
}

impl State {
    pub(super) fn new(spec: &QueueSpec, policy: AppliedPolicy, now: Now) -> Self {
        Self {
            rules: policy.rules(&spec.args),
            policy,
            dedup: spec.args.deduplication.as_deref().map(|args| Dedup::new(spec.key, args).into()),
            delays: spec.delays_for.is_some().then(Box::default),
            leases: Leases::default(),
            kept_dead: None,
            ready: Ready::new(&spec.args),
            consumers: None,
            memory: Memory::default(),
            triggers: None,
            unacked: Transit::default(),
            counters: QueueCounters::default(),
            exclusive: false,
            gone: false,
            used_ms: now.unix_ms,
            deadline_ms: None,
        }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn policy(&self) -> &AppliedPolicy {
        &self.policy
    }

    pub(super) fn apply_policy(&mut self, spec: &QueueSpec, policy: AppliedPolicy) {
        self.rules = policy.rules(&spec.args);
        self.policy = policy;
    }

    // ---- messages in -------------------------------------------------------------------------

    /// Takes a level in as it was found in the store. `None` when there is no such level; true when
    /// its messages must be known one by one, by their time, their group or what tells a duplicate.
    pub(super) fn recover_backlog(&mut self, found: &Backlog) -> Option<bool> {
        let stored = Tally { messages: found.messages, bytes: found.body_bytes };
        let is_cold = self.delays.is_none() && self.ready.may_be_cold();
        let known = self.ready.recover(found.from, found.next, stored, is_cold);
        known.then_some(!is_cold || self.dedup.is_some())
    }

    pub(super) fn recover(&mut self, spec: &QueueSpec, seq: QueueSeq, message: Message) {
        if let Some(dedup) = &mut self.dedup {
            dedup.recover(&message, seq.0);
        }
        if self.delays.is_none() && self.ready.may_be_cold() {
            return;
        }
        let published_ms = message.published_ms();
        let entry = self.stored_entry(spec, seq, message, published_ms);
        self.keep(entry, published_ms, published_ms);
    }

    /// A message that was found in the store, as it was before it was left to it.
    pub(super) fn stored_entry(
        &self,
        spec: &QueueSpec,
        seq: QueueSeq,
        message: Message,
        from_ms: u64,
    ) -> Entry {
        let maybe_delivered = self.ready.is_recovered(seq);
        Entry { stored: true, maybe_delivered, ..self.entry(spec, seq, message, from_ms) }
    }

    /// Puts a message in its place: among those that wait for consumers, or for their time.
    fn keep(&mut self, entry: Entry, from_ms: u64, now_ms: u64) {
        let Some(delays) = &mut self.delays else { return self.ready.push(entry) };
        let delay_ms = delay_ms(headers(&entry.message)).unwrap_or(0);
        delays.add(entry, from_ms.saturating_add(delay_ms), now_ms);
    }

    pub(super) fn recover_publisher(&mut self, name: Box<[u8]>, sequence: i64) {
        if let Some(dedup) = &mut self.dedup {
            dedup.recover_publisher(name, sequence);
        }
    }

    pub(super) fn forget_publishers(&self, ops: &mut Vec<Op>) {
        if let Some(dedup) = &self.dedup {
            dedup.forget_publishers(ops);
        }
    }

    pub(super) fn enqueue(
        &mut self,
        spec: &QueueSpec,
        message: Message,
        now: Now,
        ops: &mut Vec<Op>,
    ) {
        if self.gone {
            return;
        }
        let seq = self.take_seq(spec, &message);
        if let Some(dedup) = &mut self.dedup {
            let admission = dedup.admit(&message, seq.0, now);
            let stored = spec.stores(&message);
            match admission {
                Admission::New(mark) => ops.extend(mark.filter(|_| stored)),
                Admission::Duplicate => {
                    self.counters.deduplicated += 1;
                    if stored {
                        // Settles what was never there, so it changes nothing; but whoever waits
                        // for the duplicate waits for the original with it, for a queue's changes
                        // become durable in their order.
                        ops.push(Op::Settle { queue: spec.key, seq, body_bytes: 0 });
                    }
                    return;
                }
            }
        }
        self.counters.published += 1;
        let entry = self.entry(spec, seq, message, now.unix_ms);
        if entry.stored {
            ops.push(Op::Enqueue { queue: spec.key, seq, message: entry.message.clone() });
        }
        self.keep(entry, now.unix_ms, now.unix_ms);
    }

    /// The place of a new message: the next one of its priority.
    fn take_seq(&mut self, spec: &QueueSpec, message: &Message) -> QueueSeq {
        let mut priority = 0;
        if spec.args.priority_max.is_some() && has_expiration_or_priority(message.properties()) {
            priority = Hints::of(message.properties()).priority.unwrap_or(0);
        }
        self.ready.take_seq(priority)
    }

    fn entry(&self, spec: &QueueSpec, seq: QueueSeq, message: Message, from_ms: u64) -> Entry {
        let stored = spec.stores(&message);
        let mut entry = Entry { stored, priority: seq.level(), ..Entry::new(seq, message) };
        let mut own_ttl_ms = None;
        if has_expiration_or_priority(entry.message.properties()) {
            let hints = Hints::of(entry.message.properties());
            own_ttl_ms = hints.expiration.and_then(parse_decimal);
        }
        let ttl_ms = match (self.rules.message_ttl_ms, own_ttl_ms) {
            (Some(queue), Some(own)) => Some(queue.min(own)),
            (queue, own) => queue.or(own),
        };
        if let Some(ttl_ms) = ttl_ms {
            entry.expires_ms = from_ms.saturating_add(ttl_ms);
        }
        entry
    }

    /// Whether the queue refuses another message because it is full.
    pub(super) fn is_full_for(&self, message: &Message) -> bool {
        let rules = &self.rules;
        rules.may_reject()
            && (rules.length_max.is_some_and(|max| self.ready.len() as u64 >= max)
                || rules
                    .length_bytes_max
                    .is_some_and(|max| self.ready.bytes() + message.body_len() as u64 > max))
    }

    /// Dead-letters a message that was refused on arrival: it never had a place here.
    pub(super) fn refuse_to_dead_letter(
        &mut self,
        queue: &Arc<Queue>,
        message: Message,
        now: Now,
        effects: &mut Effects,
    ) {
        let seq = self.take_seq(queue.spec(), &message);
        let mut entry = self.entry(queue.spec(), seq, message, now.unix_ms);
        entry.stored = false;
        self.begin_transit(&entry);
        self.die(queue, entry, DeathReason::MaxLen, &mut Vec::new(), effects);
    }

    /// Whether the queue has more than it may and drops what it has had longest.
    pub(super) fn is_too_long(&self) -> bool {
        let Rules { overflow, length_max, length_bytes_max, .. } = &*self.rules;
        *overflow == Overflow::DropHead
            && (length_max.is_some_and(|max| self.ready.len() as u64 > max)
                || length_bytes_max.is_some_and(|max| self.ready.bytes() > max))
    }

    /// Drops or dead-letters what exceeds the queue's length limits. What a consumer could take was
    /// assigned before and does not count. What is not in memory is dropped once it has been read.
    fn trim(&mut self, queue: &Arc<Queue>, ops: &mut Vec<Op>, effects: &mut Effects) {
        while self.is_too_long() {
            // From the head, so of the highest priority: RabbitMQ's order.
            let Some(entry) = self.ready.pop() else { break };
            self.begin_transit(&entry);
            self.die(queue, entry, DeathReason::MaxLen, ops, effects);
        }
    }

    // ---- messages out ------------------------------------------------------------------------

    /// Expires what is due, then assigns, trims and expires again.
    pub(super) fn dispatch(
        &mut self,
        queue: &Arc<Queue>,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        self.expire(queue, now, ops, effects);
        self.dispatch_new(queue, now, ops, effects);
    }

    /// Assigns before it expires: a message that has just come and lives no time at all still goes
    /// to a consumer that is ready for it, as in RabbitMQ. What was there before must have been
    /// expired already.
    pub(super) fn dispatch_new(
        &mut self,
        queue: &Arc<Queue>,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        if self.gone {
            return;
        }
        self.assign_ready(queue.key(), effects);
        self.trim(queue, ops, effects);
        self.expire(queue, now, ops, effects);
        self.rest(queue, effects);
    }

    /// Assigns waiting messages to consumers, in turn, as far as credit reaches.
    fn assign_ready(&mut self, key: QueueKey, effects: &mut Effects) {
        let Some(mut consumers) = self.consumers.take() else { return };
        while self.ready.has_next() {
            let Some((slot, in_a_row)) = consumers.next() else { break };
            for _ in 0..in_a_row {
                if !self.ready.has_next() {
                    break;
                }
                if !consumers.at(slot).take_shared_credit() {
                    consumers.park(slot);
                    break;
                }
                let Some(entry) = self.ready.pop() else { break };
                self.assign(&mut consumers, key, slot, entry);
                if consumers.batch_bytes(slot) > RUN_BYTES_MAX {
                    break;
                }
            }
            consumers.rotate(slot);
            if consumers.batch_bytes(slot) > RUN_BYTES_MAX {
                consumers.flush(&mut effects.wakes);
            }
        }
        consumers.flush(&mut effects.wakes);
        self.consumers = Some(consumers);
    }

    fn assign(&mut self, consumers: &mut Consumers, key: QueueKey, slot: usize, entry: Entry) {
        self.begin_transit(&entry);
        let consumer: &mut Consumer = consumers.at(slot);
        match consumer.spec.acks {
            Acks::Manual => self.counters.delivered_manual_ack += 1,
            Acks::Automatic => self.counters.delivered_auto_ack += 1,
        }
        self.counters.redelivered += u64::from(entry.redelivered());
        let bytes = entry.message.memory_bytes();
        let delivery = Delivery {
            channel: consumer.spec.channel,
            queue: key,
            consumer: consumer.spec.id,
            entry,
        };
        consumers.assign(slot, Item::Deliver(delivery), bytes);
    }

    /// A consumer holds fewer messages.
    fn credit(&mut self, consumer: ConsumerId, n: u32) {
        if let Some(consumers) = &mut self.consumers {
            consumers.credit(consumer, n);
        }
    }

    pub(super) fn get(&mut self, acks: Acks, now: Now) -> Fetched {
        self.used_ms = now.unix_ms;
        let Some(entry) = self.ready.pop() else {
            if self.ready.waits_for_store() {
                return Fetched::NotYet;
            }
            self.counters.get_empty += 1;
            return Fetched::Nothing;
        };
        self.hand_out(&entry, acks);
        Fetched::Message(entry, clamp(self.ready.len()))
    }

    /// A message goes to someone who is no consumer.
    pub(super) fn hand_out(&mut self, entry: &Entry, acks: Acks) {
        self.begin_transit(entry);
        match acks {
            Acks::Manual => self.counters.get_manual_ack += 1,
            Acks::Automatic => self.counters.get_auto_ack += 1,
        }
        self.counters.redelivered += u64::from(entry.redelivered());
    }

    // ---- settling ----------------------------------------------------------------------------

    pub(super) fn settle(&mut self, spec: &QueueSpec, settled: &[Settled], ops: &mut Vec<Op>) {
        let mut run: Option<(ConsumerId, u32)> = None;
        for one in settled {
            self.release(one.seq);
            self.left_store(one.seq);
            self.unacked.remove(Transit::of(one.body_bytes, one.stored));
            if one.stored && !self.gone {
                let Settled { seq, body_bytes, .. } = *one;
                ops.push(Op::Settle { queue: spec.key, seq, body_bytes });
            }
            self.counters.acknowledged += u64::from(one.acks == Acks::Manual);
            match &mut run {
                Some((consumer, n)) if *consumer == one.consumer => *n += 1,
                _ => {
                    if let Some((consumer, n)) = run.replace((one.consumer, 1)) {
                        self.credit(consumer, n);
                    }
                }
            }
        }
        if let Some((consumer, n)) = run {
            self.credit(consumer, n);
        }
    }

    pub(super) fn requeue(
        &mut self,
        queue: &Arc<Queue>,
        consumer: ConsumerId,
        mut entry: Entry,
        attempt: Attempt,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        self.credit(consumer, 1);
        if self.gone {
            return;
        }
        if attempt != Attempt::Unsent {
            entry.maybe_delivered = true;
            entry.deliveries = entry.deliveries.saturating_add(1);
            if self.rules.delivery_limit.is_some_and(|max| entry.deliveries > max) {
                self.die(queue, entry, DeathReason::DeliveryLimit, ops, effects);
                return;
            }
        }
        self.end_transit(&entry);
        let is_quorum = queue.spec().args.kind == QueueKind::Quorum;
        if is_quorum && self.rules.delivery_limit.is_none() && attempt == Attempt::Refused {
            // It may come back for ever and holds nobody up: RabbitMQ appends it again.
            self.append_again(queue.spec(), entry, ops);
        } else {
            self.ready.put_back(entry);
        }
    }

    /// Gives a message that came back a new place, behind all others; one of a group keeps its own.
    fn append_again(&mut self, spec: &QueueSpec, entry: Entry, ops: &mut Vec<Op>) {
        if !self.ready.may_be_cold() {
            return self.ready.put_back(entry);
        }
        let seq = self.ready.take_seq(entry.priority);
        self.left_store(entry.seq);
        if entry.stored {
            let (queue, message) = (spec.key, entry.message.clone());
            let body_bytes = message.body_len() as u64;
            ops.push(Op::Settle { queue, seq: entry.seq, body_bytes });
            ops.push(Op::Enqueue { queue, seq, message });
        }
        if let Some(dedup) = &mut self.dedup {
            dedup.renumbered(entry.seq, seq);
        }
        self.ready.push(Entry { seq, ..entry });
    }

    pub(super) fn reject(
        &mut self,
        queue: &Arc<Queue>,
        consumer: ConsumerId,
        entry: Entry,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        self.credit(consumer, 1);
        if !self.gone {
            self.die(queue, entry, DeathReason::Rejected, ops, effects);
        }
    }

    /// Ends the stay of a message that is in transit: dropped here and now, or handed over for
    /// dead-lettering, which settles it together with its arrival elsewhere.
    pub(super) fn die(
        &mut self,
        queue: &Arc<Queue>,
        entry: Entry,
        reason: DeathReason,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        self.release(entry.seq);
        if self.rules.dead_letter_exchange.is_some() {
            self.send_on(queue, entry, Departure::Died(reason), effects);
            return;
        }
        if entry.stored {
            ops.push(entry.settle(queue.key()));
        }
        self.left_store(entry.seq);
        self.end_transit(&entry);
    }

    /// A message leaves for other queues; it counts as unacknowledged until it has arrived.
    pub(super) fn depart(
        &mut self,
        queue: &Arc<Queue>,
        entry: Entry,
        departure: Departure,
        effects: &mut Effects,
    ) {
        self.begin_transit(&entry);
        self.send_on(queue, entry, departure, effects);
    }

    fn send_on(
        &self,
        queue: &Arc<Queue>,
        entry: Entry,
        departure: Departure,
        effects: &mut Effects,
    ) {
        let (queue, rules) = (Arc::clone(queue), Arc::clone(&self.rules));
        effects.departing.push(Departing { queue, entry, departure, rules });
    }

    /// A message's stay ends: its group's next one may leave, and its like may come again.
    fn release(&mut self, seq: QueueSeq) {
        self.ready.settled(seq);
        if let Some(dedup) = &mut self.dedup {
            dedup.settled(seq.0);
        }
    }

    /// The store is told, or never had to be, that a message is done with.
    fn left_store(&mut self, seq: QueueSeq) {
        if self.ready.is_elsewhere(seq) && !self.memory.remembers(seq) {
            self.ready.left_store(seq);
        }
    }

    fn begin_transit(&mut self, entry: &Entry) {
        self.unacked.add(entry.transit());
    }

    fn end_transit(&mut self, entry: &Entry) {
        self.unacked.remove(entry.transit());
    }

    pub(super) fn finish_transit(&mut self, transit: Transit, gone: &[QueueSeq]) {
        self.unacked.remove(transit);
        gone.iter().for_each(|seq| self.left_store(*seq));
    }

    /// Drops everything that waits, however much it is, with few operations.
    pub(super) fn purge(
        &mut self,
        queue: &Arc<Queue>,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) -> u32 {
        let messages = clamp(self.ready.len());
        let queue_key = queue.key();
        let purge = self.ready.purge(self.unacked.stored == 0);
        ops.extend(purge.ranges.into_iter().map(
            |(from, to, except, Tally { messages, bytes })| Op::Purge {
                queue: queue_key,
                from,
                to,
                except,
                messages,
                body_bytes: bytes,
            },
        ));
        ops.extend(purge.others.into_iter().map(|(seq, body_bytes)| Op::Settle {
            queue: queue_key,
            seq,
            body_bytes,
        }));
        if let Some(dedup) = &mut self.dedup
            && self.ready.cold().messages > 0
        {
            let ready = &self.ready;
            dedup.purged(|seq| !ready.is_new(seq));
        }
        for entry in self.ready.take_all() {
            self.release(entry.seq);
            self.left_store(entry.seq);
        }
        self.wake_fetchers(effects);
        self.rest(queue, effects);
        messages
    }

    // ---- time --------------------------------------------------------------------------------

    /// Takes out what has expired at the head (RabbitMQ expires only there).
    pub(super) fn expire(
        &mut self,
        queue: &Arc<Queue>,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        while let Some(entry) = self.ready.pop_where(|entry| entry.expires_ms <= now.unix_ms) {
            self.begin_transit(&entry);
            self.die(queue, entry, DeathReason::Expired, ops, effects);
        }
    }

    pub(super) fn keep_dead(&mut self, mut letters: Vec<Departing>, now: Now) {
        if self.gone || letters.is_empty() {
            return;
        }
        let until_ms = now.unix_ms + DEAD_AGAIN_MS;
        match &mut self.kept_dead {
            Some(kept) => {
                kept.letters.append(&mut letters);
                kept.until_ms = kept.until_ms.min(until_ms);
            }
            None => self.kept_dead = Some(Box::new(KeptDead { letters, until_ms })),
        }
    }

    /// Sends dead letters on that were kept for a while; they count as unacknowledged meanwhile.
    pub(super) fn send_kept_dead(&mut self, now: Now, effects: &mut Effects) {
        if let Some(kept) = self.kept_dead.take_if(|kept| kept.until_ms <= now.unix_ms) {
            for letter in kept.letters {
                // What the queue obeys may have changed.
                effects.departing.push(Departing { rules: Arc::clone(&self.rules), ..letter });
            }
        }
    }

    /// Takes messages whose time has come, a few at once: the rest is due at once again.
    pub(super) fn take_due(&mut self, now: Now) -> Vec<Due> {
        let delays = self.delays.as_mut().filter(|_| !self.gone);
        delays.map_or_else(Vec::new, |delays| delays.take_due(now.unix_ms, DUE_AT_ONCE_MAX))
    }

    pub(super) fn put_back_due(&mut self, due: Due, now: Now) {
        if let Some(delays) = &mut self.delays {
            delays.put_back(due, now.unix_ms);
        }
    }

    pub(super) fn messages_delayed(&self) -> u64 {
        self.delays.as_ref().map_or(0, |delays| delays.len() as u64)
    }

    /// The next moment at which something expires, if it is earlier than the one already noted.
    pub(super) fn next_deadline(&mut self) -> Option<u64> {
        if self.gone {
            return None;
        }
        let message = self.ready.heads().map(|entry| entry.expires_ms).min();
        let own = self
            .rules
            .expires_ms
            .filter(|_| self.consumers.is_none())
            .map(|idle_ms| self.used_ms.saturating_add(idle_ms));
        let due = self.delays.as_ref().and_then(|delays| delays.next_ms());
        let lease = self.leases.next_ms();
        let trigger = self.trigger_due_ms();
        let kept = self.kept_dead.as_ref().map(|kept| kept.until_ms);
        let all = message.into_iter().chain(own).chain(due).chain(lease).chain(trigger).chain(kept);
        let at_ms = all.min().filter(|at_ms| *at_ms != u64::MAX)?;
        if self.deadline_ms.is_some_and(|noted| noted <= at_ms) {
            return None;
        }
        self.deadline_ms = Some(at_ms);
        Some(at_ms)
    }

    pub(super) fn forget_deadline(&mut self) {
        self.deadline_ms = None;
    }

    pub(super) fn is_expired(&self, now: Now) -> bool {
        !self.gone
            && self.consumers.is_none()
            && self
                .rules
                .expires_ms
                .is_some_and(|idle_ms| self.used_ms.saturating_add(idle_ms) <= now.unix_ms)
    }

    pub(super) fn touch(&mut self, now: Now) {
        self.used_ms = now.unix_ms;
    }

    pub(super) fn used_ms(&self) -> u64 {
        self.used_ms
    }

    pub(super) fn unacked(&self) -> Transit {
        self.unacked
    }

    // ---- consumers ---------------------------------------------------------------------------

    pub(super) fn add_consumer(
        &mut self,
        queue: &QueueSpec,
        spec: ConsumerSpec,
        now: Now,
    ) -> Result<(), ConsumeRefusal> {
        if self.gone {
            return Err(ConsumeRefusal::Gone);
        }
        let shared = self.consumers.is_some() || queue.args.single_active_consumer;
        // Quorum queues take no notice of the wish.
        let exclusive = spec.exclusive && queue.args.kind == QueueKind::Classic;
        if self.exclusive || (exclusive && shared) {
            return Err(ConsumeRefusal::Exclusive);
        }
        self.exclusive = exclusive;
        self.used_ms = now.unix_ms;
        let args = &queue.args;
        let none = || Box::new(Consumers::new(args.single_active_consumer, args.kind));
        self.consumers.get_or_insert_with(none).add(spec);
        Ok(())
    }

    pub(super) fn remove_consumer(&mut self, id: ConsumerId, now: Now) -> bool {
        let Some(consumers) = &mut self.consumers else { return false };
        let removed = consumers.remove(id).is_some();
        if consumers.is_empty() {
            self.consumers = None;
        }
        if removed {
            self.exclusive = false;
            self.used_ms = now.unix_ms;
        }
        removed
    }

    pub(super) fn consumers(&self) -> usize {
        self.consumers.as_ref().map_or(0, |consumers| consumers.len())
    }

    pub(super) fn resume(&mut self, resumed: &[ConsumerId]) {
        if let Some(consumers) = &mut self.consumers {
            consumers.resume(resumed);
        }
    }

    pub(super) fn close(&mut self, queue: &Queue) -> Closed {
        let messages = clamp(self.ready.len());
        self.gone = true;
        drop(self.ready.take_all());
        let fetchers = self.forget_memory(queue);
        self.delays = None;
        self.triggers = None;
        self.kept_dead = None;
        let consumers = self.consumers.take();
        let consumers = consumers.iter().flat_map(|consumers| consumers.iter());
        let consumers = consumers.map(|consumer| consumer.spec.clone()).collect();
        Closed { consumers, messages, fetchers }
    }

    // ---- views -------------------------------------------------------------------------------

    pub(super) fn counts(&self) -> (u32, u32) {
        (clamp(self.ready.len()), clamp(self.consumers()))
    }
}

/// Property flag bits of priority and expiration (0-9-1 section 4.2.6.1: bit 15 is content-type).
const PRIORITY_OR_EXPIRATION: u8 = 0b0000_1001;

fn has_expiration_or_priority(properties: &[u8]) -> bool {
    properties.first().is_some_and(|flags| flags & PRIORITY_OR_EXPIRATION != 0)
}

/// A decimal number as the publisher wrote it (0 may have a minus); checked when it was published.
fn parse_decimal(digits: &[u8]) -> Option<u64> {
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u64::try_from(number).ok()
}

fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
