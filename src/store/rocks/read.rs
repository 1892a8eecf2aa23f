//! Reading: ranges with bounds on both sides, and what is submitted but not yet written laid over
//! what is found.
//!
//! A read never starts at a queue's beginning but at its cursor's head: below lie deleted records,
//! and walking through those took up to two seconds where a bounded read takes 20 to 80 µs. It does
//! not fill the block cache, for a message is read once.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use rocksdb::{DB, DBRawIterator, ReadOptions};

use super::commit::Shared;
use super::schema;
use super::tuning::store_error;
use crate::broker::message::Message;
use crate::store::cursor::Listed;
use crate::store::image::queue_damaged;
use crate::store::{Batch, Op, QueueKey, QueueSeq, StoreError};

/// A run of settled records up to this long is stepped over; a longer one is jumped.
const STEPS_MAX: u64 = 16;

/// See [`Store::read`](crate::store::Store::read).
pub(super) fn read(
    shared: &Shared,
    queue: QueueKey,
    from: QueueSeq,
    messages_max: usize,
) -> Result<Vec<(QueueSeq, Message)>, StoreError> {
    if messages_max == 0 {
        return Ok(Vec::new());
    }
    // What is written is looked at last, so nothing falls between the two. It may be written in the
    // meantime and be found there as well, by when it came before or after a settle nobody knows:
    // so what was unwritten is taken from here alone.
    let mut unwritten = Unwritten::default();
    shared.each_unwritten(|batch| unwritten.apply(batch, queue));
    let newer = unwritten.enqueued.range(from.0..).take(messages_max);
    let mut messages: Vec<_> =
        newer.map(|(seq, message)| (QueueSeq(*seq), message.clone())).collect();
    let listed = shared.queues().states.get(&queue).map(|state| state.cursor.listed());
    if let Some(listed) = listed
        && !unwritten.dropped
    {
        let mut room = messages_max;
        each_message(&shared.db, &shared.path(), queue, &listed, from.0, |seq, message| {
            if !unwritten.touches(seq.0) && is_kept(shared, queue, seq) {
                messages.push((seq, message));
                room -= 1;
            }
            Ok(if room == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        messages.sort_unstable_by_key(|(seq, _)| *seq);
        messages.truncate(messages_max);
    }
    Ok(messages)
}

/// Whether a message that was found is unsettled. What is listed does not tell: a group that has
/// been encoded takes spans off the list, and their records lie there until it is written.
fn is_kept(shared: &Shared, queue: QueueKey, seq: QueueSeq) -> bool {
    shared.queues().states.get(&queue).is_some_and(|state| !state.cursor.is_settled(seq.0))
}

/// What unwritten batches do to one queue.
#[derive(Default)]
struct Unwritten {
    enqueued: BTreeMap<u64, Message>,
    settled: HashSet<u64>,
    purges: Vec<(u64, Vec<QueueSeq>)>,
    dropped: bool,
}

impl Unwritten {
    fn apply(&mut self, batch: &Batch, of: QueueKey) {
        for op in &batch.ops {
            match op {
                Op::Enqueue { queue, seq, message } if *queue == of => {
                    self.enqueued.insert(seq.0, message.clone());
                }
                Op::Settle { queue, seq } if *queue == of => {
                    self.enqueued.remove(&seq.0);
                    self.settled.insert(seq.0);
                }
                Op::Purge { queue, up_to, except } if *queue == of => {
                    self.enqueued.retain(|seq, _| !is_purged(*seq, up_to.0, except));
                    self.purges.push((up_to.0, except.clone()));
                }
                Op::DropQueue { queue } if *queue == of => {
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
            || self.purges.iter().any(|(up_to, except)| is_purged(seq, *up_to, except))
    }
}

fn is_purged(seq: u64, up_to: u64, except: &[QueueSeq]) -> bool {
    seq <= up_to && except.binary_search(&QueueSeq(seq)).is_err()
}

/// Shows the unsettled messages of a queue from a number on, ascending, until told to stop.
pub(super) fn each_message(
    db: &DB,
    path: &str,
    queue: QueueKey,
    listed: &Listed,
    from: u64,
    mut visit: impl FnMut(QueueSeq, Message) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let start = from.max(listed.head);
    let start_key = schema::message_key(queue, start);
    let mut records = bounded(db, &start_key, &schema::messages_end(queue));
    records.seek(start_key);
    let mut spans = listed.spans.iter().skip_while(|span| span.end <= start).peekable();
    while let Some((key, value)) = records.item() {
        let seq = schema::seq_of_message(key)
            .ok_or_else(|| queue_damaged(path, queue, &"a message under a key that is none"))?;
        while spans.next_if(|span| span.end <= seq.0).is_some() {}
        match spans.peek() {
            Some(span) if span.contains(&seq.0) => {
                if span.end - seq.0 > STEPS_MAX {
                    records.seek(schema::message_key(queue, span.end));
                } else {
                    records.next();
                }
                continue;
            }
            _ => {}
        }
        let message = Message::from_record(value).map_err(|error| {
            queue_damaged(path, queue, &format_args!("message {}: {error}", seq.0))
        })?;
        if visit(seq, message)?.is_break() {
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
    let mut records = bounded(db, &from, &to);
    records.seek(from);
    while let Some((key, value)) = records.item() {
        visit(key, value)?;
        records.next();
    }
    records.status().map_err(|error| store_error(path, &error))
}

fn bounded<'db>(db: &'db DB, from: &[u8], to: &[u8]) -> DBRawIterator<'db> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options.fill_cache(false);
    db.raw_iterator_opt(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::Envelope;
    use crate::store::rocks::apply::Pending;
    use crate::store::rocks::{Options, RocksStore};
    use crate::store::{Lsn, Store};

    const QUEUE: QueueKey = QueueKey { shard: 0, queue: 1 };

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
        Op::Settle { queue: QUEUE, seq: QueueSeq(seq) }
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
        let purge = Op::Purge { queue: QUEUE, up_to: QueueSeq(3), except: Vec::new() };
        for round in 0..400 {
            let dir = tempfile::tempdir().unwrap();
            let store = RocksStore::open(dir.path(), Options::default()).unwrap();
            let first = vec![settle(0), purge.clone(), enqueue(0), enqueue(2), enqueue(4)];
            store.submit(Batch { ops: first, awaited: round % 2 == 0 });
            for _ in 0..20 {
                let found = store.read(QUEUE, QueueSeq(0), 9).unwrap();
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
        let group = [Pending { lsn: Lsn(3), cost_bytes: 0, batch }];
        let encoded = store.shared.queues().encode(&group, "test").unwrap();
        assert!(encoded.batch.len() > 60, "{} operations", encoded.batch.len());
        let found = store.read(QUEUE, QueueSeq(0), 200).unwrap();
        let expected = (0..1_000).filter(|seq| seq % 2 == 0 || (*seq > 255 && *seq != 501));
        let found: Vec<u64> = found.into_iter().map(|(seq, _)| seq.0).collect();
        assert_eq!(found, expected.take(200).collect::<Vec<_>>());
    }
}
