//! The layout of the database: which keys exist and what stands under them.
//!
//! | key | value |
//! | --- | --- |
//! | `0x00` lsn index | a record that lies apart from its queues, see `apart` |
//! | `0x01` shard queue level seq | an unsettled message's record (`broker::message`), or a link |
//! | `0x02` lsn index | the places of a message whose record lies apart |
//! | `0x03` shard queue level | the cursor of a queue's level, see `store::cursor` |
//! | `0x04` | the `Lsn` of the last batch applied, 8 bytes |
//! | `0x05` and a definition's key | the definition |
//!
//! Numbers are big endian, so that keys sort as the numbers do: a shard takes 2 bytes, a queue 8, a
//! level 1 and a number within the level 8. Queues with priorities have a level for each. A link
//! names a record that lies apart. What lies apart is named by the batch that brought it (8 bytes)
//! and an index within it (4).
//!
//! What grows comes first, and last what is put again and again: every table reaches from its first
//! key to a cursor, so what a merge of tables has to read and write again are the tables behind
//! that first key. Of a queue's messages those are none.
//!
//! Everything lies in one column family. Families share the log, and one that is rarely written
//! pins it: 2.8 GB on disk for a backlog of 10 MB were measured.

use crate::store::{LevelKey, Lsn, QueueKey};

/// The layout's version. A change of any key or record above is a new one.
pub(super) const LAYOUT_VERSION: u32 = 4;

const APART: u8 = 0x00;
const MESSAGE: u8 = 0x01;
const PLACES: u8 = 0x02;
const CURSOR: u8 = 0x03;
const META: u8 = 0x05;

/// What a message's value begins with when its record lies apart; a record begins with its version.
const LIES_APART: u8 = 0xff;
/// Bytes that say so.
pub(super) const LINK_BYTES: usize = 1 + ApartId::BYTES;
const APART_KEY_BYTES: usize = 1 + ApartId::BYTES;

/// The length of a level's cursor's key, and of what the keys of a level's messages have in common.
pub(super) const CURSOR_KEY_BYTES: usize = 12;
const MESSAGE_KEY_BYTES: usize = 20;

/// Where the `Lsn` of the last applied batch stands.
pub(super) const APPLIED_KEY: [u8; 1] = [0x04];

/// The bounds of all cursors.
pub(super) const CURSORS: ([u8; 1], [u8; 1]) = ([CURSOR], [CURSOR + 1]);

/// The bounds of all definitions.
pub(super) const METAS: ([u8; 1], [u8; 1]) = ([META], [META + 1]);

/// The bounds of all messages.
pub(super) const MESSAGES: ([u8; 1], [u8; 1]) = ([MESSAGE], [MESSAGE + 1]);

/// The bounds of what a start reads: cursors, and what is known of the whole store.
pub(super) const READ_AT_START: ([u8; 1], [u8; 1]) = ([CURSOR], [META + 1]);

/// The bounds of all places of what lies apart.
pub(super) const ALL_PLACES: ([u8; 1], [u8; 1]) = ([PLACES], [PLACES + 1]);

/// The bounds of all that lies apart.
pub(super) const ALL_APART: ([u8; 1], [u8; 1]) = ([APART], [APART + 1]);

/// The name of a record that lies apart. They ascend as the store is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApartId {
    /// The batch that brought it.
    pub(super) lsn: Lsn,
    /// Its number within the batch.
    pub(super) index: u32,
}

impl ApartId {
    const BYTES: usize = 12;

    /// The next name that any record can have.
    pub(super) fn after(self) -> Self {
        match self.index.checked_add(1) {
            Some(index) => Self { index, ..self },
            None => Self { lsn: Lsn(self.lsn.0 + 1), index: 0 },
        }
    }

    fn write(self, bytes: &mut [u8; Self::BYTES]) {
        bytes[..8].copy_from_slice(&self.lsn.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (lsn, index) = bytes.split_first_chunk()?;
        let lsn = Lsn(u64::from_be_bytes(*lsn));
        Some(Self { lsn, index: u32::from_be_bytes(index.try_into().ok()?) })
    }

    fn behind(self, first: u8) -> [u8; APART_KEY_BYTES] {
        let mut bytes = [first; APART_KEY_BYTES];
        if let Some(rest) = bytes.last_chunk_mut() {
            self.write(rest);
        }
        bytes
    }
}

/// Where the places of a message stand whose record lies apart.
pub(super) fn places_key(id: ApartId) -> [u8; APART_KEY_BYTES] {
    id.behind(PLACES)
}

/// Where a record stands that lies apart.
pub(super) fn apart_key(id: ApartId) -> [u8; APART_KEY_BYTES] {
    id.behind(APART)
}

/// The record whose places, or which itself, stand under a key.
pub(super) fn apart_of_key(key: &[u8]) -> Option<ApartId> {
    ApartId::read(key.get(1..)?)
}

/// What stands for a message whose record lies apart.
pub(super) fn link(id: ApartId) -> [u8; LINK_BYTES] {
    id.behind(LIES_APART)
}

/// Where the record of a message lies apart, if it does. The inner `None` is a damaged link.
pub(super) fn linked(value: &[u8]) -> Option<Option<ApartId>> {
    let (&first, id) = value.split_first()?;
    (first == LIES_APART).then(|| ApartId::read(id))
}

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

/// Whether a start reads anything of what lies below a key and behind none of ours: cursors, or
/// what is known of the whole store.
pub(super) fn is_read_at_start(to: &[u8]) -> bool {
    to >= &READ_AT_START.0[..]
}

/// What a key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Cursor(LevelKey),
    Message(LevelKey, u64),
    Applied,
    Meta(&'a [u8]),
    /// Where a record that lies apart is linked to.
    Places(ApartId),
    /// That record.
    Apart(ApartId),
}

impl<'a> Key<'a> {
    /// Reads a key; `None` when it is none of ours.
    pub(super) fn of(key: &'a [u8]) -> Option<Self> {
        if key == APPLIED_KEY {
            return Some(Self::Applied);
        }
        match key.split_first()? {
            (&CURSOR, _) => level_of_cursor(key).map(Self::Cursor),
            (&META, meta) => Some(Self::Meta(meta)),
            (&PLACES, _) => apart_of_key(key).map(Self::Places),
            (&APART, _) => apart_of_key(key).map(Self::Apart),
            (&MESSAGE, rest) if key.len() == MESSAGE_KEY_BYTES => {
                let (level, _) = rest.split_at_checked(CURSOR_KEY_BYTES - 1)?;
                let of = level_of_cursor(&[&[CURSOR], level].concat())?;
                Some(Self::Message(of, number_of_message(key)?))
            }
            _ => None,
        }
    }
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
    fn what_lies_apart_is_found_by_what_stands_in_its_place() {
        let id = ApartId { lsn: Lsn(0x0102_0304), index: 5 };
        assert_eq!(linked(&link(id)), Some(Some(id)));
        assert_eq!(linked(&link(id)[..7]), Some(None));
        assert_eq!(linked(b"\x01 a record"), None);
        assert_eq!(apart_of_key(&places_key(id)), Some(id));
        assert_eq!(apart_of_key(&apart_key(id)), Some(id));
        let last = ApartId { index: u32::MAX, ..id };
        assert!(id < id.after() && apart_key(last) < apart_key(last.after()));
    }

    #[test]
    fn a_key_says_what_stands_under_it() {
        let of = LevelKey { queue: QueueKey { shard: 3, queue: 9 }, level: 2 };
        assert_eq!(Key::of(&cursor_key(of)), Some(Key::Cursor(of)));
        assert_eq!(Key::of(&message_key(of, 7)), Some(Key::Message(of, 7)));
        assert_eq!(Key::of(&APPLIED_KEY), Some(Key::Applied));
        assert_eq!(Key::of(&meta_key(b"user")), Some(Key::Meta(b"user")));
        let id = ApartId { lsn: Lsn(9), index: 1 };
        assert_eq!(Key::of(&places_key(id)), Some(Key::Places(id)));
        assert_eq!(Key::of(&apart_key(id)), Some(Key::Apart(id)));
        for other in [&b""[..], &[CURSOR, 1], &message_key(of, 7)[..19], &[PLACES]] {
            assert_eq!(Key::of(other), None);
        }
    }

    #[test]
    fn a_cursors_key_names_its_queue_and_level() {
        let of = LevelKey { queue: QueueKey { shard: 3, queue: u64::MAX }, level: 255 };
        assert_eq!(level_of_cursor(&cursor_key(of)), Some(of));
        assert_eq!(level_of_cursor(&message_key(of, 1)), None);
        assert_eq!(level_of_cursor(&cursor_key(of)[..11]), None);
    }
}
