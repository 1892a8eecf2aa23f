//! The layout of the database: which keys exist and what stands under them.
//!
//! | key | value |
//! | --- | --- |
//! | `0x00` shard queue | the queue's cursor, see `store::cursor` |
//! | `0x01` shard queue level seq | an unsettled message's record, see `broker::message` |
//! | `0x02` | the `Lsn` of the last batch applied, 8 bytes |
//! | `0x03` and a definition's key | the definition |
//!
//! Numbers are big endian, so that keys sort as the numbers do: a shard takes 2 bytes, a queue 8, a
//! level 1 and a seq 8. The level is 0 for now; it keeps a place for queues with priorities.
//!
//! Everything lies in one column family. Families share the log, and one that is rarely written
//! pins it: 2.8 GB on disk for a backlog of 10 MB were measured.

use crate::store::{QueueKey, QueueSeq};

/// The layout's version. A change of any key or record above is a new one.
pub(super) const LAYOUT_VERSION: u32 = 1;

const CURSOR: u8 = 0x00;
const MESSAGE: u8 = 0x01;
const META: u8 = 0x03;
const LEVEL: u8 = 0;

const CURSOR_KEY_BYTES: usize = 11;
const MESSAGE_KEY_BYTES: usize = 20;

/// Where the `Lsn` of the last applied batch stands.
pub(super) const APPLIED_KEY: [u8; 1] = [0x02];

/// The bounds of all cursors.
pub(super) const CURSORS: ([u8; 1], [u8; 1]) = ([CURSOR], [CURSOR + 1]);

/// The bounds of all definitions.
pub(super) const METAS: ([u8; 1], [u8; 1]) = ([META], [META + 1]);

/// Where a queue's cursor stands.
pub(super) fn cursor_key(queue: QueueKey) -> [u8; CURSOR_KEY_BYTES] {
    let mut key = [CURSOR; CURSOR_KEY_BYTES];
    key[1..3].copy_from_slice(&queue.shard.to_be_bytes());
    key[3..].copy_from_slice(&queue.queue.to_be_bytes());
    key
}

/// The queue whose cursor stands under a key.
pub(super) fn queue_of_cursor(key: &[u8]) -> Option<QueueKey> {
    let (&kind, rest) = key.split_first()?;
    let (shard, queue) = rest.split_first_chunk()?;
    let queue = queue.try_into().ok().filter(|_| kind == CURSOR)?;
    Some(QueueKey { shard: u16::from_be_bytes(*shard), queue: u64::from_be_bytes(queue) })
}

/// Where a message stands.
pub(super) fn message_key(queue: QueueKey, seq: u64) -> [u8; MESSAGE_KEY_BYTES] {
    let mut key = [MESSAGE; MESSAGE_KEY_BYTES];
    key[1..3].copy_from_slice(&queue.shard.to_be_bytes());
    key[3..11].copy_from_slice(&queue.queue.to_be_bytes());
    key[11] = LEVEL;
    key[12..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Behind the last message a queue can have.
pub(super) fn messages_end(queue: QueueKey) -> [u8; MESSAGE_KEY_BYTES] {
    let mut key = message_key(queue, 0);
    key[11] = LEVEL + 1;
    key
}

/// A message's number.
pub(super) fn seq_of_message(key: &[u8]) -> Option<QueueSeq> {
    let seq = key.get(12..)?.try_into().ok()?;
    Some(QueueSeq(u64::from_be_bytes(seq)))
}

/// Where a definition stands.
pub(super) fn meta_key(key: &[u8]) -> Vec<u8> {
    [&[META], key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_sort_by_queue_and_number_between_their_queues_bounds() {
        let queue = QueueKey { shard: 1, queue: 0x0102 };
        let next = QueueKey { shard: 1, queue: 0x0103 };
        assert!(message_key(queue, 255) < message_key(queue, 256));
        assert!(message_key(queue, u64::MAX) < messages_end(queue));
        assert!(messages_end(queue) < message_key(next, 0));
        assert_eq!(seq_of_message(&message_key(queue, 77)), Some(QueueSeq(77)));
    }

    #[test]
    fn a_cursors_key_names_its_queue() {
        let queue = QueueKey { shard: 3, queue: u64::MAX };
        assert_eq!(queue_of_cursor(&cursor_key(queue)), Some(queue));
        assert_eq!(queue_of_cursor(&message_key(queue, 1)), None);
    }
}
