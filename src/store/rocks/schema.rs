//! The layout of the database: which keys exist and what stands under them.
//!
//! | key | value |
//! | --- | --- |
//! | `0x00` shard queue level | the cursor of a queue's level, see `store::cursor` |
//! | `0x01` shard queue level seq | an unsettled message's record, see `broker::message` |
//! | `0x02` | the `Lsn` of the last batch applied, 8 bytes |
//! | `0x03` and a definition's key | the definition |
//!
//! Numbers are big endian, so that keys sort as the numbers do: a shard takes 2 bytes, a queue 8, a
//! level 1 and a number within the level 8. Queues with priorities have a level for each.
//!
//! Everything lies in one column family. Families share the log, and one that is rarely written
//! pins it: 2.8 GB on disk for a backlog of 10 MB were measured.

use crate::store::{LevelKey, QueueKey};

/// The layout's version. A change of any key or record above is a new one.
pub(super) const LAYOUT_VERSION: u32 = 2;

const CURSOR: u8 = 0x00;
const MESSAGE: u8 = 0x01;
const META: u8 = 0x03;

const CURSOR_KEY_BYTES: usize = 12;
const MESSAGE_KEY_BYTES: usize = 20;

/// Where the `Lsn` of the last applied batch stands.
pub(super) const APPLIED_KEY: [u8; 1] = [0x02];

/// The bounds of all cursors.
pub(super) const CURSORS: ([u8; 1], [u8; 1]) = ([CURSOR], [CURSOR + 1]);

/// The bounds of all definitions.
pub(super) const METAS: ([u8; 1], [u8; 1]) = ([META], [META + 1]);

/// Where a level's cursor stands.
pub(super) fn cursor_key(of: LevelKey) -> [u8; CURSOR_KEY_BYTES] {
    let mut key = [CURSOR; CURSOR_KEY_BYTES];
    key[1..3].copy_from_slice(&of.queue.shard.to_be_bytes());
    key[3..11].copy_from_slice(&of.queue.queue.to_be_bytes());
    key[11] = of.level;
    key
}

/// The level whose cursor stands under a key.
pub(super) fn level_of_cursor(key: &[u8]) -> Option<LevelKey> {
    let (&kind, rest) = key.split_first()?;
    let (shard, rest) = rest.split_first_chunk()?;
    let (queue, level) = rest.split_first_chunk()?;
    let &[level] = <&[u8; 1]>::try_from(level).ok().filter(|_| kind == CURSOR)?;
    let queue = QueueKey { shard: u16::from_be_bytes(*shard), queue: u64::from_be_bytes(*queue) };
    Some(LevelKey { queue, level })
}

/// Where a message stands.
pub(super) fn message_key(of: LevelKey, number: u64) -> [u8; MESSAGE_KEY_BYTES] {
    let mut key = [MESSAGE; MESSAGE_KEY_BYTES];
    key[1..3].copy_from_slice(&of.queue.shard.to_be_bytes());
    key[3..11].copy_from_slice(&of.queue.queue.to_be_bytes());
    key[11] = of.level;
    key[12..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A message's number.
pub(super) fn number_of_message(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(12..)?.try_into().ok()?))
}

/// Where a definition stands.
pub(super) fn meta_key(key: &[u8]) -> Vec<u8> {
    [&[META], key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_sort_by_queue_level_and_number() {
        let level = |queue, level| LevelKey { queue: QueueKey { shard: 1, queue }, level };
        let of = level(0x0102, 7);
        assert!(message_key(of, 255) < message_key(of, 256));
        assert!(message_key(of, u64::MAX) < message_key(level(0x0102, 8), 0));
        assert!(message_key(level(0x0102, 255), u64::MAX) < message_key(level(0x0103, 0), 0));
        assert_eq!(number_of_message(&message_key(of, 77)), Some(77));
    }

    #[test]
    fn a_cursors_key_names_its_queue_and_level() {
        let of = LevelKey { queue: QueueKey { shard: 3, queue: u64::MAX }, level: 255 };
        assert_eq!(level_of_cursor(&cursor_key(of)), Some(of));
        assert_eq!(level_of_cursor(&message_key(of, 1)), None);
        assert_eq!(level_of_cursor(&cursor_key(of)[..11]), None);
    }
}
