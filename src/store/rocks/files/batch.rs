//! One write as a log's record holds it: a number, a count, and so many operations.

use super::Input;

/// What is done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::rocks) enum Change<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        key: &'a [u8],
    },
    /// Every key from one up to another.
    DeleteRange {
        from: &'a [u8],
        to: &'a [u8],
    },
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::rocks) struct WriteBatch<'a> {
    /// Its first operation's number; the others follow.
    pub(in crate::store::rocks) sequence: u64,
    /// One for each operation, in order.
    pub(in crate::store::rocks) changes: Vec<Change<'a>>,
}

const DELETE: u8 = 0x0;
const PUT: u8 = 0x1;
const DELETE_RANGE: u8 = 0xf;

impl<'a> WriteBatch<'a> {
    /// Reads a write. `None` when the bytes are none, or one of kinds that we never write.
    pub(in crate::store::rocks) fn parse(record: &'a [u8]) -> Option<Self> {
        let mut input = Input(record);
        let sequence = input.fixed64()?;
        let count = input.fixed32()?;
        let mut changes = Vec::new();
        while !input.is_empty() {
            changes.push(match input.byte()? {
                DELETE => Change::Delete { key: input.string()? },
                PUT => Change::Put { key: input.string()?, value: input.string()? },
                DELETE_RANGE => Change::DeleteRange { from: input.string()?, to: input.string()? },
                _ => return None,
            });
        }
        (changes.len() as u64 == u64::from(count)).then_some(Self { sequence, changes })
    }

    /// The number that the next write has.
    pub(in crate::store::rocks) fn next_sequence(&self) -> u64 {
        self.sequence.saturating_add(self.changes.len() as u64)
    }

    /// The last value put under a key.
    pub(in crate::store::rocks) fn value_of(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Put { key, value } if *key == wanted => Some(*value),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_rocksdbs_is_read_and_nothing_shorter_or_longer() {
        let mut batch = rocksdb::WriteBatch::default();
        batch.put(b"a", b"1");
        batch.delete(b"b");
        batch.delete_range(b"c".as_slice(), b"d");
        batch.put(b"a", vec![7; 300]);
        let bytes = batch.data().to_vec();
        let read = WriteBatch::parse(&bytes).unwrap();
        assert_eq!((read.sequence, read.next_sequence()), (0, 4));
        assert_eq!(read.changes[0], Change::Put { key: b"a", value: b"1" });
        assert_eq!(read.changes[1], Change::Delete { key: b"b" });
        assert_eq!(read.changes[2], Change::DeleteRange { from: b"c", to: b"d" });
        assert_eq!(read.value_of(b"a"), Some(&[7; 300][..]));
        assert_eq!(read.value_of(b"b"), None);
        for len in 0..bytes.len() {
            assert_eq!(WriteBatch::parse(&bytes[..len]), None, "{len}");
        }
        assert_eq!(WriteBatch::parse(&[&bytes[..], &[0]].concat()), None);
    }
}
