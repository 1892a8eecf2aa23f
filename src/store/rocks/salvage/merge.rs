//! Every key that several tables and logs hold, with what was last written under it, in order.
//!
//! What is newer has a higher number, whatever file it lies in; range deletions hide what is older.
//! Blocks that cannot be read are passed over and told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::PathBuf;

use super::{Between, FileFlaw};
use crate::store::rocks::files::batch::{Change, WriteBatch};
use crate::store::rocks::files::table::{Entry, Flaw, RangeDeletion, Table};

/// What logs hold: of each key what was written last.
#[derive(Debug, Default)]
pub(super) struct LogEntries {
    entries: BTreeMap<Vec<u8>, Entry>,
    range_deletions: Vec<RangeDeletion>,
}

impl LogEntries {
    /// Takes a write in. They come in any order.
    pub(super) fn add(&mut self, batch: &WriteBatch<'_>) {
        for (change, sequence) in batch.changes.iter().zip(batch.sequence..) {
            let (key, value) = match change {
                Change::Put { key, value } => (key, Some(value.to_vec())),
                Change::Delete { key } => (key, None),
                Change::DeleteRange { from, to } => {
                    let (from, to) = (from.to_vec(), to.to_vec());
                    self.range_deletions.push(RangeDeletion { from, to, sequence });
                    continue;
                }
            };
            if self.entries.get(*key).is_none_or(|known| known.sequence <= sequence) {
                self.entries.insert(key.to_vec(), Entry { key: key.to_vec(), sequence, value });
            }
        }
    }
}

/// Where entries come from, in order.
struct Source {
    path: PathBuf,
    table: Option<Table>,
    /// The next block.
    block: usize,
    entries: std::vec::IntoIter<Entry>,
    last: Vec<u8>,
    /// The block that was looked into last.
    looked: Option<(usize, Vec<Entry>)>,
}

impl Source {
    fn new(path: PathBuf, table: Option<Table>, entries: Vec<Entry>) -> Self {
        let (entries, last) = (entries.into_iter(), Vec::new());
        Self { path, table, block: 0, entries, last, looked: None }
    }

    /// What stands under a key; and a block that might say it, if that cannot be read.
    fn look_up(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, (usize, Flaw)> {
        let Some(table) = &self.table else { return Ok(None) };
        let at = table.blocks.partition_point(|block| &*block.to < key);
        let Some(block) = table.blocks.get(at) else { return Ok(None) };
        if self.looked.as_ref().is_none_or(|(looked, _)| *looked != at) {
            self.looked = Some((at, table.entries(block).map_err(|flaw| (at, flaw))?));
        }
        let entries = self.looked.iter().flat_map(|(_, entries)| entries);
        let found = entries.into_iter().find(|entry| entry.key == key);
        Ok(found.and_then(|entry| entry.value.clone()))
    }
}

/// The next entry of a source, and which it is. The smallest key comes first, and of its versions
/// the newest.
type Head = Reverse<(Vec<u8>, Reverse<u64>, usize, Option<Vec<u8>>)>;

/// All sources.
pub(super) struct Merge {
    sources: Vec<Source>,
    heads: BinaryHeap<Head>,
    /// Those that begin behind the present key, the next one last.
    deletions: Vec<RangeDeletion>,
    /// Those that have begun.
    begun: Vec<RangeDeletion>,
    /// What only [`look_up`](Self::look_up) finds of the logs.
    apart: BTreeMap<Vec<u8>, Entry>,
    /// Blocks that it could not read, by source.
    unread: BTreeSet<(usize, usize)>,
    /// What could not be read on the way.
    pub(super) flaws: Vec<FileFlaw>,
}

impl Merge {
    /// Keys from `apart` on are only looked up.
    pub(super) fn new(tables: Vec<(PathBuf, Table)>, logs: LogEntries, apart: &[u8]) -> Self {
        let LogEntries { mut entries, range_deletions: mut deletions } = logs;
        let apart = entries.split_off(apart);
        let logged = entries.into_values().collect();
        let mut sources = vec![Source::new(PathBuf::new(), None, logged)];
        for (path, mut table) in tables {
            deletions.append(&mut table.range_deletions);
            sources.push(Source::new(path, Some(table), Vec::new()));
        }
        deletions.sort_by(|a, b| b.from.cmp(&a.from));
        let heads = BinaryHeap::with_capacity(sources.len());
        let (begun, unread, flaws) = (Vec::new(), BTreeSet::new(), Vec::new());
        let mut merge = Self { sources, heads, deletions, begun, apart, unread, flaws };
        (0..merge.sources.len()).for_each(|source| merge.advance(source));
        merge
    }

    /// The next key that has a value.
    pub(super) fn next(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        loop {
            let Reverse((key, Reverse(sequence), source, value)) = self.heads.pop()?;
            self.advance(source);
            while let Some(Reverse((other, _, source, _))) = self.heads.peek()
                && *other == key
            {
                let source = *source;
                self.heads.pop();
                self.advance(source);
            }
            if let Some(value) = value
                && !self.is_deleted(&key, sequence)
            {
                return Some((key, value));
            }
        }
    }

    /// What stands under one of the keys that are only looked up. Such a key is put once, and
    /// deleted only when nobody asks for it any more.
    pub(super) fn look_up(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(entry) = self.apart.get(key) {
            return entry.value.clone();
        }
        for (at, source) in self.sources.iter_mut().enumerate() {
            match source.look_up(key) {
                Ok(None) => {}
                Ok(found) => return found,
                Err((block, flaw)) => {
                    if self.unread.insert((at, block)) {
                        let Flaw { offset, reason } = flaw;
                        let (path, offset) = (source.path.clone(), Some(offset));
                        self.flaws.push(FileFlaw { path, offset, reason, between: None });
                    }
                }
            }
        }
        None
    }

    fn is_deleted(&mut self, key: &[u8], sequence: u64) -> bool {
        while let Some(deletion) = self.deletions.pop_if(|deletion| *deletion.from <= *key) {
            self.begun.push(deletion);
        }
        self.begun.retain(|deletion| *deletion.to > *key);
        self.begun.iter().any(|deletion| deletion.sequence > sequence)
    }

    fn advance(&mut self, at: usize) {
        let Some(source) = self.sources.get_mut(at) else { return };
        let mut lost: Vec<FileFlaw> = Vec::new();
        let head = loop {
            if let Some(entry) = source.entries.next() {
                break Some(entry);
            }
            let table = source.table.as_ref();
            let Some((table, block)) =
                table.and_then(|table| Some((table, table.blocks.get(source.block)?)))
            else {
                break None;
            };
            source.block += 1;
            match table.entries(block) {
                Ok(entries) => source.entries = entries.into_iter(),
                Err(flaw) => lost.push(FileFlaw {
                    path: source.path.clone(),
                    offset: Some(flaw.offset),
                    reason: flaw.reason,
                    between: Some(Between { after: source.last.clone(), before: Vec::new() }),
                }),
            }
        };
        for flaw in &mut lost {
            if let Some(between) = &mut flaw.between {
                between.before = head.as_ref().map_or_else(Vec::new, |entry| entry.key.clone());
            }
        }
        self.flaws.append(&mut lost);
        if let Some(Entry { key, sequence, value }) = head {
            source.last.clone_from(&key);
            self.heads.push(Reverse((key, Reverse(sequence), at, value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_write_counts_whatever_order_they_are_found_in() {
        let batch = |sequence, changes: &[Change<'static>]| WriteBatch {
            sequence,
            changes: changes.to_vec(),
        };
        let put = |key, value| Change::Put { key, value };
        let batches = [
            batch(1, &[put(b"a", b"1"), put(b"b", b"1"), put(b"c", b"1"), put(b"d", b"1")]),
            batch(5, &[Change::DeleteRange { from: b"b", to: b"d" }]),
            batch(6, &[put(b"c", b"2"), Change::Delete { key: b"a" }, put(b"e", b"2")]),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut logs = LogEntries::default();
            order.iter().for_each(|at| logs.add(&batches[*at]));
            let mut merge = Merge::new(Vec::new(), logs, b"x");
            let found: Vec<_> = std::iter::from_fn(|| merge.next()).collect();
            let expected = [("c", "2"), ("d", "1"), ("e", "2")];
            let expected = expected.map(|(key, value)| (key.into(), value.into()));
            assert_eq!(found, expected);
        }
    }
}
