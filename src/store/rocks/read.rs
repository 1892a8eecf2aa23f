//! Reading: ranges with bounds on both sides, and what is submitted but not yet written laid over
//! what is found.
//!
//! A read never starts at a queue's beginning but at its cursor's head: below lie deleted records,
//! and walking through those took up to two seconds where a bounded read takes 20 to 80 µs. It does
//! not fill the block cache, for a message is read once.
//!
//! What is unwritten is looked at only by a read that comes to the end of what is written: a
//! backlog's messages are read far from there, and looking through the intake keeps publishers
//! waiting.

use std::collections::{BTreeMap, HashSet};
use std::ops::{ControlFlow, Range};

use rocksdb::{DB, ReadOptions};

use super::apart::Reader;
use super::commit::Shared;
use super::schema;
use super::tuning::store_error;
use crate::broker::message::Message;
use crate::store::cursor::Listed;
use crate::store::image::queue_damaged;
use crate::store::{
    Batch, LevelKey, Op, QueueKey, QueueSeq, ReadLimit, StoreError, purged_numbers,
};

/// A run of settled records up to this long is stepped over; a longer one is jumped.
const STEPS_MAX: u64 = 16;
/// Messages that a read makes room for at once.
const FOUND_MAX: usize = 1_024;
/// Bytes that RocksDB reads ahead.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// See [`Store::read`](crate::store::Store::read).
pub(super) fn read(
    shared: &Shared,
    queue: QueueKey,
    from: QueueSeq,
    limit: ReadLimit,
) -> Result<Vec<(QueueSeq, Message)>, StoreError> {
    if limit.messages == 0 {
        return Ok(Vec::new());
    }
    let of = LevelKey::of(queue, from);
    loop {
        let before = shared.written();
        let Written { mut messages, whole } = read_written(shared, of, from, limit)?;
        if !whole {
            return Ok(messages);
        }
        let mut unwritten = Unwritten::default();
        shared.each_unwritten(|batch| unwritten.apply(batch, of));
        if shared.written() != before {
            continue; // something may have been neither here nor there
        }
        messages.retain(|(seq, _)| !unwritten.touches(seq.number()));
        if unwritten.dropped {
            messages.clear();
        }
        let newer = unwritten.enqueued.range(from.number()..);
        messages
            .extend(newer.map(|(seq, message)| (QueueSeq::new(of.level, *seq), message.clone())));
        messages.sort_unstable_by_key(|(seq, _)| *seq);
        let mut room = Room::of(limit);
        let fitting = messages.iter().take_while(|(_, message)| room.takes(message)).count();
        messages.truncate(fitting);
        return Ok(messages);
    }
}

/// Counts what a read may still return.
#[derive(Debug, Clone)]
struct Room {
    messages: usize,
    bytes: usize,
}

impl Room {
    fn of(limit: ReadLimit) -> Self {
        Self { messages: limit.messages, bytes: limit.bytes.max(1) }
    }

    fn is_left(&self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    /// Whether another one still fits.
    fn takes(&mut self, message: &Message) -> bool {
        let fits = self.is_left();
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.memory_bytes());
        fits
    }
}

/// What was found on disk.
struct Written {
    messages: Vec<(QueueSeq, Message)>,
    /// Nothing lies behind it.
    whole: bool,
}

fn read_written(
    shared: &Shared,
    of: LevelKey,
    from: QueueSeq,
    limit: ReadLimit,
) -> Result<Written, StoreError> {
    let listed = shared.queues().states.get(&of).map(|state| state.cursor.listed());
    let Some(listed) = listed else {
        return Ok(Written { messages: Vec::new(), whole: true });
    };
    let path = shared.path();
    let mut from = from.number().max(listed.head);
    let mut room = Room::of(limit);
    let mut messages = Vec::new();
    loop {
        let mut found = Vec::with_capacity(room.messages.min(FOUND_MAX));
        let mut left = room.clone();
        each_message(&shared.db, &path, of, &listed, from, |seq, message| {
            let _ = left.takes(&message);
            found.push((seq, message));
            Ok(if left.is_left() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let whole = left.is_left();
        let next = found.last().map(|(seq, _)| seq.number() + 1);
        // What is listed does not tell what is settled: a group that has been encoded takes spans
        // off the list, and their records lie there until it is written.
        let mut queues = shared.queues();
        let Some(state) = queues.states.get_mut(&of) else {
            return Ok(Written { messages: Vec::new(), whole: true });
        };
        let numbers = found.iter().map(|(seq, _)| seq.number());
        let learned = state.cursor.learn(from, numbers, whole);
        learned.map_err(|error| queue_damaged(&path, of.queue, &error))?;
        found.retain(|(seq, _)| !state.cursor.is_settled(seq.number()));
        drop(queues);
        for (_, message) in &found {
            let _ = room.takes(message);
        }
        messages.append(&mut found);
        if whole || !room.is_left() {
            return Ok(Written { messages, whole });
        }
        from = next.unwrap_or(from);
    }
}

/// What unwritten batches do to one level of a queue.
#[derive(Default)]
struct Unwritten {
    enqueued: BTreeMap<u64, Message>,
    settled: HashSet<u64>,
    purges: Vec<Range<u64>>,
    dropped: bool,
}

impl Unwritten {
    fn apply(&mut self, batch: &Batch, of: LevelKey) {
        let is_ours = |queue: &QueueKey, seq: &QueueSeq| LevelKey::of(*queue, *seq) == of;
        for op in &batch.ops {
            match op {
                Op::Enqueue { queue, seq, message } if is_ours(queue, seq) => {
                    self.enqueued.insert(seq.number(), message.clone());
                }
                Op::Settle { queue, seq, .. } if is_ours(queue, seq) => {
                    self.enqueued.remove(&seq.number());
                    self.settled.insert(seq.number());
                }
                Op::Purge { queue, from, to, except, .. } if is_ours(queue, from) => {
                    for purged in purged_numbers(*from, *to, except) {
                        self.enqueued.retain(|seq, _| !purged.contains(seq));
                        self.purges.push(purged);
                    }
                }
                Op::DropQueue { queue, .. } if *queue == of.queue => {
                    self.enqueued.clear();
                    self.dropped = true;
                }
                _ => {}
            }
        }
    }

    /// Whether what is found on disk under this number says nothing any more.
    fn touches(&self, seq: u64) -> bool {
        self.enqueued.contains_key(&seq)
            || self.settled.contains(&seq)
            || self.purges.iter().any(|purged| purged.contains(&seq))
    }
}

/// Shows the unsettled messages of a level from a number on, ascending, until told to stop.
pub(super) fn each_message(
    db: &DB,
    path: &str,
    of: LevelKey,
    listed: &Listed,
    from: u64,
    mut visit: impl FnMut(QueueSeq, Message) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let queue = of.queue;
    let start = from.max(listed.head);
    let start_key = schema::message_key(of, start);
    let end_key = schema::message_key(of, QueueSeq::NUMBERS_END);
    // Links and what they name are seen as they were at one moment.
    let snapshot = db.snapshot();
    let mut records = snapshot.raw_iterator_opt(bounds(&start_key, &end_key));
    let mut apart = None;
    records.seek(start_key);
    let mut spans = listed.spans.iter().skip_while(|span| span.end <= start).peekable();
    while let Some((key, value)) = records.item() {
        let number = schema::number_of_message(key)
            .ok_or_else(|| queue_damaged(path, queue, &"a message under a key that is none"))?;
        while spans.next_if(|span| span.end <= number).is_some() {}
        match spans.peek() {
            Some(span) if span.contains(&number) => {
                if span.end - number > STEPS_MAX {
                    records.seek(schema::message_key(of, span.end));
                } else {
                    records.next();
                }
                continue;
            }
            _ => {}
        }
        let damaged = |what: &dyn std::fmt::Display| {
            queue_damaged(path, queue, &format_args!("message {number}: {what}"))
        };
        let record = match schema::linked(value) {
            None => value,
            Some(None) => return Err(damaged(&"a link of a wrong length")),
            Some(Some(id)) => {
                let apart = apart.get_or_insert_with(|| Reader::new(&snapshot));
                apart.read(id, path)?.ok_or_else(|| damaged(&"its record is missing"))?
            }
        };
        let message = Message::from_record(record).map_err(|error| damaged(&error))?;
        if visit(QueueSeq::new(of.level, number), message)?.is_break() {
            return Ok(());
        }
        records.next();
    }
    records.status().map_err(|error| store_error(path, &error))
}

/// Shows every record between two keys.
pub(super) fn each_record(
    db: &DB,
    path: &str,
    (from, to): ([u8; 1], [u8; 1]),
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut records = db.raw_iterator_opt(bounds(&from, &to));
    records.seek(from);
    while let Some((key, value)) = records.item() {
        visit(key, value)?;
        records.next();
    }
    records.status().map_err(|error| store_error(path, &error))
}

/// Reads between two keys, each record once.
pub(super) fn bounds(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD_BYTES);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::Envelope;
    use crate::store::rocks::apply::Pending;
    use crate::store::rocks::{Options, RocksStore};
    use crate::store::{Lsn, Store};

    const QUEUE: QueueKey = QueueKey { shard: 0, queue: 1 };

    fn up_to(messages: usize) -> ReadLimit {
        ReadLimit { messages, bytes: usize::MAX }
    }

    fn enqueue(seq: u64) -> Op {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"",
            properties: b"",
            persistent: true,
            hides_bcc: false,
            published_ms: 0,
        };
        Op::Enqueue { queue: QUEUE, seq: QueueSeq(seq), message: Message::new(&envelope, b"x") }
    }

    fn settle(seq: u64) -> Op {
        Op::Settle { queue: QUEUE, seq: QueueSeq(seq), body_bytes: 1 }
    }

    fn commit(store: &RocksStore, ops: Vec<Op>) {
        let lsn = store.submit(Batch { ops, awaited: true });
        while store.durable() < lsn {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_comes_after_a_settle_of_its_number_is_found_wherever_it_lies() {
        // The reader looks at what is unwritten, then at the disk: meanwhile it may be written.
        let (from, to) = (QueueSeq(0), QueueSeq(4));
        let purge =
            Op::Purge { queue: QUEUE, from, to, except: Vec::new(), messages: 0, body_bytes: 0 };
        for round in 0..400 {
            let dir = tempfile::tempdir().unwrap();
            let store = RocksStore::open(dir.path(), Options::default()).unwrap();
            let first = vec![settle(0), purge.clone(), enqueue(0), enqueue(2), enqueue(4)];
            store.submit(Batch { ops: first, awaited: round % 2 == 0 });
            for _ in 0..20 {
                let found = store.read(QUEUE, QueueSeq(0), up_to(9)).unwrap();
                let found: Vec<u64> = found.into_iter().map(|(seq, _)| seq.0).collect();
                assert_eq!(found, [0, 2, 4]);
            }
        }
    }

    #[test]
    fn what_is_settled_stays_away_while_its_deletion_is_not_yet_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::open(dir.path(), Options::default()).unwrap();
        commit(&store, (0..1_000).map(enqueue).collect());
        // As many spans as a cursor's record may list.
        commit(&store, (0..128).map(|span| settle(2 * span + 1)).collect());
        // One more: half of them leave the list. Here is the moment before that is written.
        let batch = Batch { ops: vec![settle(501)], awaited: true };
        let group = [Pending { lsn: Lsn(3), cost_bytes: 0, settled_bytes: 0, batch }];
        let encoded = store.shared.queues().encode(&group, "test").unwrap();
        assert!(encoded.batch.len() > 60, "{} operations", encoded.batch.len());
        let found = store.read(QUEUE, QueueSeq(0), up_to(200)).unwrap();
        let expected = (0..1_000).filter(|seq| seq % 2 == 0 || (*seq > 255 && *seq != 501));
        let found: Vec<u64> = found.into_iter().map(|(seq, _)| seq.0).collect();
        assert_eq!(found, expected.take(200).collect::<Vec<_>>());
    }
}
