//! What a sequence of batches amounts to, held in memory: the reference meaning of every operation.
//!
//! [`MemoryStore`](super::memory::MemoryStore) keeps one of these, the
//! [`FaultyStore`](super::faulty::FaultyStore) two, and the tests compare what RocksDB recovers
//! with a third. Invariant: a queue's messages are exactly the unsettled numbers of its cursor.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::cursor::{Cursor, Size};
use super::{
    Backlog, Batch, LevelKey, Op, QueueKey, QueueSeq, ReadLimit, Recovery, StoreError,
    purged_numbers,
};
use crate::broker::message::Message;

#[derive(Debug, Clone, Default)]
struct LevelImage {
    cursor: Cursor,
    messages: BTreeMap<u64, Message>,
}

/// Definitions and queues as they stand after some batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    meta: BTreeMap<Vec<u8>, Vec<u8>>,
    levels: BTreeMap<LevelKey, LevelImage>,
}

impl Image {
    /// Applies a batch.
    ///
    /// # Errors
    /// When a queue's numbers do not increase, or an operation counts wrongly what it takes away;
    /// the batch is then half applied and the image of no further use.
    pub(crate) fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        batch.ops.into_iter().try_for_each(|op| self.apply_op(op))
    }

    fn apply_op(&mut self, op: Op) -> Result<(), StoreError> {
        match op {
            Op::Enqueue { queue, seq, message } => {
                let image = self.levels.entry(LevelKey::of(queue, seq)).or_default();
                image
                    .cursor
                    .enqueue(seq.number(), message_size(&message))
                    .map_err(|error| queue_damaged("memory", queue, &error))?;
                image.messages.insert(seq.number(), message);
            }
            Op::Settle { queue, seq, body_bytes } => {
                if let Some(image) = self.levels.get_mut(&LevelKey::of(queue, seq))
                    && let Some(message) = image.messages.remove(&seq.number())
                {
                    check(queue, (1, message.body_len() as u64), (1, body_bytes))?;
                    image.cursor.settle(seq.number(), body_bytes);
                }
            }
            Op::Purge { queue, from, to, except, messages, body_bytes } => {
                if let Some(image) = self.levels.get_mut(&LevelKey::of(queue, from)) {
                    let numbers = || purged_numbers(from, to, &except);
                    let runs = numbers().flat_map(|run| image.messages.range(run));
                    let purged: Vec<u64> = runs.map(|(seq, _)| *seq).collect();
                    let purged: Vec<Message> =
                        purged.iter().filter_map(|seq| image.messages.remove(seq)).collect();
                    let bytes = purged.iter().map(|message| message.body_len() as u64).sum();
                    check(queue, (purged.len() as u64, bytes), (messages, body_bytes))?;
                    image
                        .cursor
                        .purge(numbers(), messages, body_bytes)
                        .map_err(|error| queue_damaged("memory", queue, &error))?;
                }
            }
            Op::DropQueue { queue, level_max } => {
                for level in 0..=level_max {
                    self.levels.remove(&LevelKey { queue, level });
                }
            }
            Op::PutMeta { key, value } => {
                self.meta.insert(key, value);
            }
            Op::DelMeta { key } => {
                if let Entry::Occupied(entry) = self.meta.entry(key) {
                    entry.remove();
                }
            }
        }
        Ok(())
    }

    /// See [`Store::read`](super::Store::read).
    pub(crate) fn read(
        &self,
        queue: QueueKey,
        from: QueueSeq,
        limit: ReadLimit,
    ) -> Vec<(QueueSeq, Message)> {
        let Some(image) = self.levels.get(&LevelKey::of(queue, from)) else { return Vec::new() };
        let mut bytes = 0;
        let unsettled = image.messages.range(from.number()..).take(limit.messages);
        let within = unsettled.take_while(|(_, message)| {
            let room = bytes < limit.bytes;
            bytes += message.memory_bytes();
            room || bytes == message.memory_bytes()
        });
        let level = from.level();
        within.map(|(seq, message)| (QueueSeq::new(level, *seq), message.clone())).collect()
    }

    /// See [`Store::recover`](super::Store::recover).
    pub(crate) fn replay(&self, visitor: &mut dyn Recovery) {
        for (key, value) in &self.meta {
            visitor.meta(key, value);
        }
        for (of, image) in &self.levels {
            if visitor.backlog(&backlog(*of, &image.cursor)) {
                for (seq, message) in &image.messages {
                    visitor.message(of.queue, QueueSeq::new(of.level, *seq), message.clone());
                }
            }
        }
    }
}

/// What a cursor tells of its level.
pub(crate) fn backlog(of: LevelKey, cursor: &Cursor) -> Backlog {
    Backlog {
        queue: of.queue,
        from: QueueSeq::new(of.level, cursor.head()),
        next: cursor.tail(),
        messages: cursor.ready(),
        body_bytes: cursor.body_bytes(),
    }
}

/// How large a message is.
pub(crate) fn message_size(message: &Message) -> Size {
    let (head, body) = message.record_parts();
    Size { record: (head.len() + body.len()) as u64, body: message.body_len() as u64 }
}

/// The proposer's messages and bytes must be what is there.
fn check(queue: QueueKey, found: (u64, u64), counted: (u64, u64)) -> Result<(), StoreError> {
    if found == counted {
        return Ok(());
    }
    let reason = format!("{found:?} messages and bytes settled, counted as {counted:?}");
    Err(queue_damaged("memory", queue, &reason))
}

/// The error for a queue's operation or record that cannot be.
pub(crate) fn queue_damaged(
    path: &str,
    queue: QueueKey,
    reason: &dyn std::fmt::Display,
) -> StoreError {
    let QueueKey { shard, queue } = queue;
    let reason = format!("queue {queue} of shard {shard}: {reason}");
    StoreError::Damaged { path: path.to_owned(), reason }
}
