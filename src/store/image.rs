//! What a sequence of batches amounts to, held in memory: the reference meaning of every operation.
//!
//! [`MemoryStore`](super::memory::MemoryStore) keeps one of these, the
//! [`FaultyStore`](super::faulty::FaultyStore) two, and the tests compare what RocksDB recovers
//! with a third. Invariant: a queue's messages are exactly the unsettled numbers of its cursor.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::cursor::Cursor;
use super::{Batch, Op, QueueKey, QueueSeq, Recovery, StoreError};
use crate::broker::message::Message;

#[derive(Debug, Clone, Default)]
struct QueueImage {
    cursor: Cursor,
    messages: BTreeMap<u64, Message>,
}

/// Definitions and queues as they stand after some batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    meta: BTreeMap<Vec<u8>, Vec<u8>>,
    queues: BTreeMap<QueueKey, QueueImage>,
}

impl Image {
    /// Applies a batch.
    ///
    /// # Errors
    /// When a queue's numbers do not increase; the batch is then half applied and the image of no
    /// further use.
    pub(crate) fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        batch.ops.into_iter().try_for_each(|op| self.apply_op(op))
    }

    fn apply_op(&mut self, op: Op) -> Result<(), StoreError> {
        match op {
            Op::Enqueue { queue, seq, message } => {
                let image = self.queues.entry(queue).or_default();
                image
                    .cursor
                    .enqueue(seq.0, message_bytes(&message))
                    .map_err(|error| queue_damaged("memory", queue, &error))?;
                image.messages.insert(seq.0, message);
            }
            Op::Settle { queue, seq } => {
                if let Some(image) = self.queues.get_mut(&queue)
                    && image.cursor.settle(seq.0).is_some()
                {
                    image.messages.remove(&seq.0);
                }
            }
            Op::Purge { queue, up_to, except } => {
                if let Some(image) = self.queues.get_mut(&queue) {
                    image.cursor.purge(up_to.0, except.iter().map(|seq| seq.0));
                    let cursor = &image.cursor;
                    image.messages.retain(|seq, _| !cursor.is_settled(*seq));
                }
            }
            Op::DropQueue { queue } => {
                self.queues.remove(&queue);
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
        messages_max: usize,
    ) -> Vec<(QueueSeq, Message)> {
        let Some(image) = self.queues.get(&queue) else { return Vec::new() };
        image
            .messages
            .range(from.0..)
            .take(messages_max)
            .map(|(seq, message)| (QueueSeq(*seq), message.clone()))
            .collect()
    }

    /// See [`Store::recover`](super::Store::recover).
    pub(crate) fn replay(&self, visitor: &mut dyn Recovery) {
        for (key, value) in &self.meta {
            visitor.meta(key, value);
        }
        for (queue, image) in &self.queues {
            for (seq, message) in &image.messages {
                visitor.message(*queue, QueueSeq(*seq), message.clone());
            }
            visitor.tail(*queue, QueueSeq(image.cursor.tail()));
        }
    }
}

/// The bytes of a message's record.
pub(crate) fn message_bytes(message: &Message) -> u64 {
    let (head, body) = message.record_parts();
    (head.len() + body.len()) as u64
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
