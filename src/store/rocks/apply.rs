//! From a group of batches to one write: cursors moved, records put, what is dead removed.
//!
//! Owns the queues' cursors in memory. They move when a group is encoded, before it is written; a
//! write that then fails ends the store, so nobody acts upon the difference. Everything that a
//! group does lies in one RocksDB batch with the number of its last batch: all of it is found after
//! a crash, or none.
//!
//! A message in several queues is put once, and so apart from them (`apart`).
//!
//! Dead records go by the range: one range deletion per queue once [`DEAD_MESSAGES_MAX`] messages
//! or [`DEAD_BYTES_MAX`] bytes are settled, or the queue has run empty. A deletion per message
//! would make every read of the queue's start wade through them, and range deletions by the
//! thousand slow every read, so those of queues that run empty are rationed by the bytes written.

use std::ops::Range;

use rocksdb::WriteBatch;
use rustc_hash::{FxHashMap, FxHashSet};

use super::apart::{self, Apart, Place, Run};
use super::schema::{self, APPLIED_KEY, ApartId, LINK_BYTES};
use crate::broker::message::Message;
use crate::store::cursor::{Cursor, OutOfOrder, Size, Surplus};
use crate::store::image::{message_size, queue_damaged};
use crate::store::{Batch, LevelKey, Lsn, Op, QueueKey, QueueSeq, StoreError, purged_numbers};

/// Settled messages of a queue that may lie on disk before they are deleted.
const DEAD_MESSAGES_MAX: u64 = 10_000;
/// The same in bytes.
const DEAD_BYTES_MAX: u64 = 4 << 20;
/// A queue that runs empty is worth a range deletion from so many dead messages on.
const EMPTIED_MESSAGES_MIN: u64 = 100;
/// The same in bytes.
const EMPTIED_BYTES_MIN: u64 = 256 << 10;
/// Bytes to write between two range deletions of queues that ran empty.
const EMPTIED_RATION_BYTES: u64 = 64 << 10;
/// Rations that may be saved up.
const EMPTIED_RATIONS_MAX: u64 = 16;
/// Spans of settled messages that a cursor's record may list.
const SPANS_MAX: usize = 128;
/// Records that are deleted one by one rather than by a range.
const POINT_DELETES_MAX: u64 = 32;
/// A span behind a stuck head is deleted as a range from so many numbers on.
const LONG_SPAN: u64 = 1_000;
/// Queues whose put-off range deletion goes into one batch of an idle store.
const PUT_OFF_MAX: usize = 50;
/// Deleted bytes after which files that hold nothing else are looked for.
const TRIMMED_BYTES_MAX: u64 = 64 << 20;
/// The same where there is nothing else to do.
const TRIMMED_IDLE_BYTES_MAX: u64 = 4 << 20;
/// Tables smaller than this are left alone...
const TABLES_BYTES_MIN: u64 = 8 << 20;
/// ...and where there is nothing else to do.
const TABLES_IDLE_BYTES_MIN: u64 = 1 << 20;

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) lsn: Lsn,
    /// What it occupies.
    pub(super) cost_bytes: u64,
    /// The part of that which is settled by a batch that came before this one was taken.
    pub(super) settled_bytes: u64,
    pub(super) batch: Batch,
}

impl Pending {
    /// About how many bytes of it have to be written.
    pub(super) fn written_bytes(&self) -> u64 {
        self.cost_bytes - self.settled_bytes
    }
}

/// What can be done about files once a group is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reclaim {
    /// Files that hold only this level's messages below a number are not needed.
    Files { level: LevelKey, below: u64 },
    /// Files that hold only these records, which lie apart, are not needed.
    Apart(Run),
    /// See which of the records that lie apart are dead.
    Sweep,
    /// Much was deleted since the last time: see whether tables should be rewritten, unless they
    /// are smaller than this.
    Tables { bytes_min: u64 },
}

/// A group, encoded.
pub(super) struct Encoded {
    pub(super) batch: WriteBatch,
    pub(super) ops: u64,
    pub(super) annihilated: u64,
    pub(super) reclaims: Vec<Reclaim>,
}

/// Range deletions that were put off, encoded.
pub(super) struct PutOff {
    pub(super) batch: WriteBatch,
    pub(super) reclaims: Vec<Reclaim>,
    /// Whether more of them wait.
    pub(super) more: bool,
}

/// The cursor of a queue's level, and what of its past lies on disk.
#[derive(Debug, Default)]
pub(super) struct LevelState {
    pub(super) cursor: Cursor,
    /// Whether a record of the cursor has ever been written.
    pub(super) recorded: bool,
    /// No record lies below.
    trimmed: u64,
    dead: Dead,
    /// Bytes deleted since files were looked for.
    trimmed_bytes: u64,
    touched: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Dead {
    messages: u64,
    bytes: u64,
}

/// All queues.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) states: FxHashMap<LevelKey, LevelState>,
    pub(super) apart: Apart,
    /// Ran empty while rations were used up.
    emptied: FxHashSet<LevelKey>,
    rations_bytes: u64,
    trimmed_bytes: u64,
    record: Vec<u8>,
}

impl Queues {
    /// No queues, with what lies apart.
    pub(super) fn new(apart: Apart) -> Self {
        Self {
            states: FxHashMap::default(),
            apart,
            emptied: FxHashSet::default(),
            rations_bytes: 0,
            trimmed_bytes: 0,
            record: Vec::new(),
        }
    }

    /// Encodes a group and moves the cursors.
    ///
    /// # Errors
    /// When a queue's numbers do not increase, or more is purged than there is. Nothing may be
    /// written after that.
    pub(super) fn encode(&mut self, group: &[Pending], path: &str) -> Result<Encoded, StoreError> {
        let cost: u64 = group.iter().map(Pending::written_bytes).sum();
        let mut encoder = Encoder {
            fates: Fates::foresee(group, &self.states),
            queues: self,
            shared: FxHashMap::default(),
            next_apart: ApartId { lsn: Lsn::ZERO, index: 0 },
            touched: Vec::new(),
            reclaims: Vec::new(),
            annihilated: 0,
            settled_bytes: 0,
            batch: WriteBatch::with_capacity_bytes(usize::try_from(cost).unwrap_or_default()),
        };
        let mut ops = 0;
        for pending in group {
            encoder.begin(ops, pending);
            for op in &pending.batch.ops {
                let applied = encoder.apply(ops, op);
                applied.map_err(|(queue, error)| queue_damaged(path, queue, &error))?;
                ops += 1;
            }
        }
        encoder.finish_queues();
        if let Some(last) = group.last() {
            encoder.batch.put(APPLIED_KEY, last.lsn.0.to_be_bytes());
        }
        let Encoder { mut batch, annihilated, mut reclaims, settled_bytes, .. } = encoder;
        self.apart.settled(settled_bytes);
        self.trimmed_bytes += self.apart.finish_group(&self.states, &mut batch, &mut reclaims);
        let rations_max = EMPTIED_RATIONS_MAX * EMPTIED_RATION_BYTES;
        self.rations_bytes = (self.rations_bytes + cost).min(rations_max);
        self.reclaim_tables(TRIMMED_BYTES_MAX, TABLES_BYTES_MIN, &mut reclaims);
        Ok(Encoded { batch, ops: ops as u64, annihilated, reclaims })
    }

    /// Some of the deletions that were put off, now that nothing else is to be done. `None` when
    /// there are none.
    pub(super) fn encode_put_off(&mut self) -> Option<PutOff> {
        let mut batch = WriteBatch::default();
        let mut reclaims = Vec::new();
        self.trimmed_bytes += self.apart.finish_idle(&self.states, &mut batch, &mut reclaims);
        let some: Vec<LevelKey> = self.emptied.iter().take(PUT_OFF_MAX).copied().collect();
        for level in some {
            self.emptied.remove(&level);
            if let Some(state) = self.states.get_mut(&level)
                && state.cursor.is_empty()
            {
                self.trimmed_bytes += state.trim(level, &mut batch);
                reclaims.extend(state.reclaim_files(level));
            }
        }
        self.reclaim_tables(TRIMMED_IDLE_BYTES_MAX, TABLES_IDLE_BYTES_MIN, &mut reclaims);
        let is_nothing = batch.is_empty() && reclaims.is_empty() && self.emptied.is_empty();
        (!is_nothing).then(|| PutOff { batch, reclaims, more: !self.emptied.is_empty() })
    }

    /// Asks for a look at the tables when much was deleted.
    fn reclaim_tables(&mut self, trimmed_max: u64, bytes_min: u64, reclaims: &mut Vec<Reclaim>) {
        if self.trimmed_bytes >= trimmed_max {
            self.trimmed_bytes = 0;
            reclaims.push(Reclaim::Tables { bytes_min });
        }
    }

    /// Bytes of all unsettled messages' records, and of what lies apart.
    pub(super) fn live_bytes(&self) -> u64 {
        let queues: u64 = self.states.values().map(|state| state.cursor.ready_bytes()).sum();
        queues + self.apart.bytes()
    }
}

impl LevelState {
    /// What a recovery starts from.
    pub(super) fn recovered(cursor: Cursor) -> Self {
        Self { cursor, recorded: true, ..Self::default() }
    }

    fn bury(&mut self, messages: u64, bytes: u64) {
        self.dead.messages += messages;
        self.dead.bytes += bytes;
    }

    fn is_due(&self) -> bool {
        self.dead.messages >= DEAD_MESSAGES_MAX || self.dead.bytes >= DEAD_BYTES_MAX
    }

    fn has_emptied(&self) -> bool {
        self.cursor.is_empty()
            && (self.dead.messages >= EMPTIED_MESSAGES_MIN || self.dead.bytes >= EMPTIED_BYTES_MIN)
    }

    /// Deletes everything below the head, and long spans behind it when the head is stuck. Answers
    /// with about how many bytes that was.
    fn trim(&mut self, level: LevelKey, batch: &mut WriteBatch) -> u64 {
        let head = self.cursor.head();
        delete(batch, level, self.trimmed..head);
        self.trimmed = self.trimmed.max(head);
        let worthwhile = (DEAD_BYTES_MAX / self.cursor.average_bytes()).clamp(1, LONG_SPAN);
        for span in self.cursor.spill_long(worthwhile) {
            delete(batch, level, span);
        }
        let bytes = std::mem::take(&mut self.dead).bytes;
        self.trimmed_bytes += bytes;
        bytes
    }

    /// Asks for the files of what was trimmed when that is much.
    fn reclaim_files(&mut self, level: LevelKey) -> Option<Reclaim> {
        (self.trimmed_bytes >= TRIMMED_BYTES_MAX).then(|| {
            self.trimmed_bytes = 0;
            Reclaim::Files { level, below: self.trimmed }
        })
    }
}

/// Deletes the records in a range of numbers, some of which may not exist.
fn delete(batch: &mut WriteBatch, level: LevelKey, range: Range<u64>) {
    if range.end.saturating_sub(range.start) > POINT_DELETES_MAX {
        let from = schema::message_key(level, range.start);
        batch.delete_range(from, schema::message_key(level, range.end));
    } else {
        range.for_each(|seq| batch.delete(schema::message_key(level, seq)));
    }
}

/// A purge at a place in the group.
struct Purge {
    at: usize,
    numbers: Range<u64>,
}

/// Which of a group's messages will be settled later in the same group.
#[derive(Default)]
struct Fates {
    settles: FxHashMap<(QueueKey, QueueSeq), usize>,
    purges: FxHashMap<LevelKey, Vec<Purge>>,
    drops: FxHashMap<QueueKey, usize>,
}

/// What becomes of a message within its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It is as if it had never come.
    Settled,
    /// It counts until the purge, which counts it too; only its record need not be written.
    Purged,
}

impl Fates {
    /// Looks for settles of numbers that no earlier group has brought. Everything is kept with its
    /// place in the group: only what comes after an enqueue can undo it.
    fn foresee(group: &[Pending], states: &FxHashMap<LevelKey, LevelState>) -> Self {
        let mut fates = Self::default();
        let is_new = |level: LevelKey, number| {
            states.get(&level).is_none_or(|state| number >= state.cursor.tail())
        };
        for (at, op) in group.iter().flat_map(|pending| &pending.batch.ops).enumerate() {
            match op {
                Op::Settle { queue, seq, .. }
                    if is_new(LevelKey::of(*queue, *seq), seq.number()) =>
                {
                    fates.settles.insert((*queue, *seq), at);
                }
                Op::Purge { queue, from, to, except, .. } => {
                    let level = LevelKey::of(*queue, *from);
                    if is_new(level, to.number().saturating_sub(1)) {
                        let runs = purged_numbers(*from, *to, except);
                        let known = fates.purges.entry(level).or_default();
                        known.extend(runs.map(|numbers| Purge { at, numbers }));
                    }
                }
                Op::DropQueue { queue, .. } => {
                    fates.drops.insert(*queue, at);
                }
                _ => {}
            }
        }
        fates
    }

    fn of(&self, at: usize, queue: QueueKey, seq: QueueSeq) -> Fate {
        let settle = match self.settles.is_empty() {
            true => None,
            false => self.settles.get(&(queue, seq)).filter(|settle| **settle > at),
        };
        // Of what comes first the message's counts are taken.
        let purges = |purge: &Purge| {
            purge.at > at
                && settle.is_none_or(|settle| *settle > purge.at)
                && purge.numbers.contains(&seq.number())
        };
        if !self.purges.is_empty()
            && let Some(known) = self.purges.get(&LevelKey::of(queue, seq))
            && known.iter().any(purges)
        {
            return Fate::Purged;
        }
        if settle.is_some() {
            return Fate::Settled;
        }
        Fate::Stays
    }

    fn is_dropped(&self, at: usize, queue: QueueKey) -> bool {
        !self.drops.is_empty() && self.drops.get(&queue).is_some_and(|drop| *drop > at)
    }
}

/// Why an operation cannot be applied.
#[derive(Debug, thiserror::Error)]
enum Contradiction {
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    #[error(transparent)]
    Surplus(#[from] Surplus),
}

/// A message of the batch being applied whose record lies apart.
enum Shared {
    /// Still to be put, with its size and all of its places.
    Due(usize, Vec<Place>),
    Put(ApartId),
}

struct Encoder<'a> {
    queues: &'a mut Queues,
    fates: Fates,
    batch: WriteBatch,
    /// By the message's identity.
    shared: FxHashMap<*const u8, Shared>,
    next_apart: ApartId,
    touched: Vec<LevelKey>,
    reclaims: Vec<Reclaim>,
    annihilated: u64,
    /// Bytes of bodies.
    settled_bytes: u64,
}

impl Encoder<'_> {
    /// Looks for what will lie apart, before a batch is applied whose first operation is the
    /// group's `at`-th.
    fn begin(&mut self, at: usize, pending: &Pending) {
        self.shared.clear();
        self.next_apart = ApartId { lsn: pending.lsn, index: 0 };
        let enqueues = || {
            pending.batch.ops.iter().enumerate().filter_map(|(offset, op)| match op {
                Op::Enqueue { queue, seq, message } => Some((offset, *queue, *seq, message)),
                _ => None,
            })
        };
        let first = enqueues().next().map(|(_, queue, ..)| queue);
        let in_several = enqueues().any(|(_, queue, ..)| Some(queue) != first);
        for (offset, queue, seq, message) in enqueues() {
            let bytes = message.memory_bytes();
            if self.queues.apart.may_lie_apart(bytes, in_several)
                && self.fates.of(at + offset, queue, seq) == Fate::Stays
                && !self.fates.is_dropped(at + offset, queue)
            {
                let place = (LevelKey::of(queue, seq), seq.number());
                let shared = self.shared.entry(message.identity());
                if let Shared::Due(_, places) = shared.or_insert(Shared::Due(bytes, Vec::new())) {
                    places.push(place);
                }
            }
        }
        let apart = &self.queues.apart;
        self.shared.retain(|_, shared| match shared {
            Shared::Due(bytes, places) => apart.lies_apart(*bytes, places.len()),
            Shared::Put(_) => true,
        });
    }

    /// Puts a message's record apart, if that is where it is to lie and is not yet, and answers
    /// with its name.
    fn put_apart(&mut self, message: &Message) -> Option<ApartId> {
        let shared = self.shared.get_mut(&message.identity())?;
        let places = match shared {
            Shared::Put(id) => return Some(*id),
            Shared::Due(_, places) => std::mem::take(places),
        };
        let id = self.next_apart;
        self.next_apart = id.after();
        *shared = Shared::Put(id);
        let Queues { apart, record, .. } = &mut *self.queues;
        apart.put(id, message, places, record, &mut self.batch);
        Some(id)
    }

    fn apply(&mut self, at: usize, op: &Op) -> Result<(), (QueueKey, Contradiction)> {
        match op {
            Op::Enqueue { queue, .. } | Op::Settle { queue, .. } | Op::Purge { queue, .. }
                if self.fates.is_dropped(at, *queue) =>
            {
                self.annihilated += u64::from(matches!(op, Op::Enqueue { .. }));
            }
            Op::Enqueue { queue, seq, message } => {
                self.enqueue(at, *queue, *seq, message).map_err(|error| (*queue, error.into()))?;
            }
            Op::Settle { queue, seq, body_bytes } => {
                let level = LevelKey::of(*queue, *seq);
                if let Some(state) = self.queues.states.get_mut(&level)
                    && let Some(bytes) = state.cursor.settle(seq.number(), *body_bytes)
                {
                    self.settled_bytes += *body_bytes;
                    state.bury(1, bytes);
                    mark_touched(state, &mut self.touched, level);
                }
            }
            Op::Purge { queue, from, to, except, messages, body_bytes } => {
                let level = LevelKey::of(*queue, *from);
                if let Some(state) = self.queues.states.get_mut(&level) {
                    let numbers = purged_numbers(*from, *to, except);
                    let purged = state.cursor.purge(numbers, *messages, *body_bytes);
                    let bytes = purged.map_err(|error| (*queue, error.into()))?;
                    self.settled_bytes += *body_bytes;
                    state.bury(*messages, bytes);
                    mark_touched(state, &mut self.touched, level);
                }
            }
            Op::DropQueue { queue, level_max } => {
                for level in 0..=*level_max {
                    self.drop_level(LevelKey { queue: *queue, level });
                }
            }
            Op::PutMeta { key, value } => self.batch.put(schema::meta_key(key), value),
            Op::DelMeta { key } => self.batch.delete(schema::meta_key(key)),
        }
        Ok(())
    }

    fn enqueue(
        &mut self,
        at: usize,
        queue: QueueKey,
        seq: QueueSeq,
        message: &Message,
    ) -> Result<(), OutOfOrder> {
        let fate = self.fates.of(at, queue, seq);
        let level = LevelKey::of(queue, seq);
        let state = touch(&mut self.queues.states, &mut self.touched, level);
        if fate != Fate::Stays {
            self.annihilated += 1;
        }
        if fate == Fate::Settled {
            return state.cursor.skip(seq.number());
        }
        if fate == Fate::Purged {
            return state.cursor.enqueue(seq.number(), message_size(message));
        }
        let key = schema::message_key(level, seq.number());
        let apart = match self.shared.is_empty() {
            true => None,
            false => self.put_apart(message),
        };
        let state = self.queues.states.entry(level).or_default();
        let size = message_size(message);
        if let Some(id) = apart {
            state.cursor.enqueue(seq.number(), Size { record: LINK_BYTES as u64, ..size })?;
            self.batch.put(key, schema::link(id));
        } else {
            state.cursor.enqueue(seq.number(), size)?;
            apart::put_record(&mut self.batch, key, message, &mut self.queues.record);
        }
        Ok(())
    }

    fn drop_level(&mut self, level: LevelKey) {
        let Some(state) = self.queues.states.remove(&level) else { return };
        if !state.recorded {
            return;
        }
        self.batch.delete(schema::cursor_key(level));
        let tail = state.cursor.tail();
        delete(&mut self.batch, level, state.trimmed..tail);
        let bytes = state.dead.bytes + state.cursor.ready_bytes();
        self.settled_bytes += state.cursor.body_bytes();
        self.queues.trimmed_bytes += bytes;
        if state.trimmed_bytes + bytes >= TRIMMED_BYTES_MAX {
            self.reclaims.push(Reclaim::Files { level, below: tail });
        }
    }

    /// Deletes what is dead in the queues that were touched and puts their cursors.
    fn finish_queues(&mut self) {
        let queues = &mut *self.queues;
        for level in &self.touched {
            // A queue may have been dropped since it was touched.
            let Some(state) = queues.states.get_mut(level) else { continue };
            state.touched = false;
            let rationed = !state.is_due() && state.has_emptied();
            if rationed && queues.rations_bytes < EMPTIED_RATION_BYTES {
                queues.emptied.insert(*level);
            } else if rationed || state.is_due() {
                queues.rations_bytes = queues.rations_bytes.saturating_sub(EMPTIED_RATION_BYTES);
                queues.trimmed_bytes += state.trim(*level, &mut self.batch);
            }
            for span in state.cursor.spill(SPANS_MAX) {
                delete(&mut self.batch, *level, span);
            }
            self.reclaims.extend(state.reclaim_files(*level));
            state.cursor.encode(&mut queues.record);
            self.batch.put(schema::cursor_key(*level), &queues.record);
            state.recorded = true;
        }
        // One huge body must not keep its memory for good.
        if queues.record.capacity() > RECORD_BYTES_KEPT {
            queues.record = Vec::new();
        }
    }
}

/// The scratch buffer's size that is kept from group to group.
const RECORD_BYTES_KEPT: usize = 1 << 20;

fn touch<'a>(
    states: &'a mut FxHashMap<LevelKey, LevelState>,
    touched: &mut Vec<LevelKey>,
    level: LevelKey,
) -> &'a mut LevelState {
    let state = states.entry(level).or_default();
    mark_touched(state, touched, level);
    state
}

fn mark_touched(state: &mut LevelState, touched: &mut Vec<LevelKey>, level: LevelKey) {
    if !state.touched {
        state.touched = true;
        touched.push(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::Envelope;

    fn pending(lsn: u64, ops: Vec<Op>) -> Pending {
        // No cost: nothing is earned for the range deletions of queues that run empty.
        Pending {
            lsn: Lsn(lsn),
            cost_bytes: 0,
            settled_bytes: 0,
            batch: Batch { ops, awaited: true },
        }
    }

    fn key(queue: u64) -> QueueKey {
        QueueKey { shard: 0, queue }
    }

    fn level(queue: u64) -> LevelKey {
        LevelKey { queue: key(queue), level: 0 }
    }

    /// Fills queues and empties them again, in two groups.
    fn emptied(queues: &mut Queues, keys: Range<u64>, messages: u64, body: &[u8]) {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"",
            properties: b"",
            persistent: true,
            hides_bcc: false,
            published_ms: 0,
        };
        let message = Message::new(&envelope, body);
        let all = || keys.clone().flat_map(|of| (0..messages).map(move |seq| (key(of), seq)));
        let enqueues = all().map(|(queue, seq)| {
            let message = message.clone();
            Op::Enqueue { queue, seq: QueueSeq(seq), message }
        });
        queues.encode(&[pending(1, enqueues.collect())], "test").unwrap();
        let body_bytes = body.len() as u64;
        let settle = |(queue, seq)| Op::Settle { queue, seq: QueueSeq(seq), body_bytes };
        let settles = all().map(settle);
        let encoded = queues.encode(&[pending(2, settles.collect())], "test").unwrap();
        assert!(encoded.reclaims.is_empty());
    }

    #[test]
    fn range_deletions_that_were_put_off_come_a_few_at_a_time() {
        let mut queues = Queues::new(Apart::new(usize::MAX, 0));
        emptied(&mut queues, 0..120, 100, b"x");
        let counts: Vec<_> = std::iter::from_fn(|| queues.encode_put_off())
            .map(|put_off| (put_off.batch.len(), put_off.more))
            .collect();
        assert_eq!(counts, [(50, true), (50, true), (20, false)]);
    }

    #[test]
    fn files_and_tables_are_looked_for_after_what_was_put_off_too() {
        let mut queues = Queues::new(Apart::new(usize::MAX, 0));
        emptied(&mut queues, 0..1, 3, &[0; 1 << 20]);
        // As if much had been trimmed before.
        queues.states.get_mut(&level(0)).unwrap().trimmed_bytes = TRIMMED_BYTES_MAX - 1;
        queues.trimmed_bytes = TRIMMED_BYTES_MAX - 1;
        let put_off = queues.encode_put_off().unwrap();
        let files = Reclaim::Files { level: level(0), below: 3 };
        let tables = Reclaim::Tables { bytes_min: TABLES_IDLE_BYTES_MIN };
        assert_eq!(put_off.reclaims, [files, tables]);
    }

    #[test]
    fn purges_of_many_queues_in_one_group_are_not_searched_through() {
        let group = [pending(
            1,
            (0..1_000)
                .flat_map(|of| {
                    let queue = key(of);
                    let purge = |to| Op::Purge {
                        queue,
                        from: QueueSeq(0),
                        to: QueueSeq(to),
                        except: Vec::new(),
                        messages: 0,
                        body_bytes: 0,
                    };
                    [purge(6), purge(10)]
                })
                .collect(),
        )];
        let fates = Fates::foresee(&group, &FxHashMap::default());
        let fate = |at, seq| fates.of(at, key(7), QueueSeq(seq));
        assert_eq!((fate(0, 9), fate(0, 10)), (Fate::Purged, Fate::Stays));
        assert_eq!(fate(15, 9), Fate::Stays, "a purge does not reach what comes after it");
        assert!(fates.purges.values().all(|purges| purges.len() == 2));
    }
}
