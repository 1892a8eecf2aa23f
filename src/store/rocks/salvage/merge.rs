//! Every key that several tables and logs hold, with what was last written under it: in order, from
//! one key to another, or looked up.
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
    fn new(path: PathBuf, table: Option<Table>) -> Self {
        let (entries, last) = (Vec::new().into_iter(), Vec::new());
        Self { path, table, block: 0, entries, last, looked: None }
    }

    /// Goes to where a key stands, or would.
    fn seek(&mut self, from: &[u8]) {
        let Some(table) = &self.table else { return };
        self.block = table.blocks.partition_point(|block| &*block.to < from);
        let before = self.block.checked_sub(1).and_then(|at| table.blocks.get(at));
        self.last = before.map_or_else(Vec::new, |block| block.to.clone());
        self.entries = Vec::new().into_iter();
    }

    /// The next block, unless all before a key have been read.
    fn next_block(&mut self, to: &[u8]) -> Option<(usize, Result<Vec<Entry>, Flaw>)> {
        let (table, at) = (self.table.as_ref()?, self.block);
        let before = at.checked_sub(1).and_then(|at| table.blocks.get(at));
        if before.is_some_and(|block| &*block.to >= to) {
            return None;
        }
        let block = table.blocks.get(at)?;
        self.block += 1;
        Some((at, table.entries(block)))
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
    /// The logs, and the tables.
    sources: Vec<Source>,
    heads: BinaryHeap<Head>,
    /// Where the walk ends.
    to: Vec<u8>,
    /// In the order in which they begin.
    deletions: Vec<RangeDeletion>,
    /// How many have begun before the present key, and which of them have not ended.
    passed: usize,
    begun: Vec<usize>,
    /// What the logs hold, but for what was walked through.
    logged: BTreeMap<Vec<u8>, Entry>,
    /// Blocks that could not be read, by source.
    unread: BTreeSet<(usize, usize)>,
    /// What could not be read on the way.
    pub(super) flaws: Vec<FileFlaw>,
}

impl Merge {
    pub(super) fn new(tables: Vec<(PathBuf, Table)>, logs: LogEntries) -> Self {
        let LogEntries { entries: logged, range_deletions: mut deletions } = logs;
        let mut sources = vec![Source::new(PathBuf::new(), None)];
        for (path, mut table) in tables {
            deletions.append(&mut table.range_deletions);
            sources.push(Source::new(path, Some(table)));
        }
        deletions.sort_by(|a, b| a.from.cmp(&b.from));
        let heads = BinaryHeap::with_capacity(sources.len());
        let (to, begun, unread, flaws) = (Vec::new(), Vec::new(), BTreeSet::new(), Vec::new());
        Self { sources, heads, to, deletions, passed: 0, begun, logged, unread, flaws }
    }

    /// Has [`next`](Self::next) go from one key to another, which is left out. What the logs hold
    /// between them is had once.
    pub(super) fn walk(&mut self, (from, to): (impl AsRef<[u8]>, impl AsRef<[u8]>)) {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.to = to.to_vec();
        (self.passed, self.begun) = (0, Vec::new());
        self.heads.clear();
        let mut walked = self.logged.split_off(from);
        self.logged.append(&mut walked.split_off(to));
        for source in &mut self.sources {
            source.seek(from);
        }
        if let Some(logs) = self.sources.first_mut() {
            logs.entries = walked.into_values().collect::<Vec<_>>().into_iter();
        }
        for source in 0..self.sources.len() {
            self.advance(source);
            while self.heads.peek().is_some_and(|Reverse((key, ..))| &**key < from) {
                let Some(Reverse((.., source, _))) = self.heads.pop() else { break };
                self.advance(source);
            }
        }
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

    /// What stands under a key that is put once, and deleted only when nobody asks for it any more.
    pub(super) fn look_up(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(entry) = self.logged.get(key) {
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
        let Self { deletions, passed, begun, .. } = self;
        while deletions.get(*passed).is_some_and(|deletion| *deletion.from <= *key) {
            begun.push(*passed);
            *passed += 1;
        }
        begun.retain(|at| *deletions[*at].to > *key);
        begun.iter().any(|at| deletions[*at].sequence > sequence)
    }

    fn advance(&mut self, at: usize) {
        let Some(source) = self.sources.get_mut(at) else { return };
        let mut lost: Vec<FileFlaw> = Vec::new();
        let head = loop {
            if let Some(entry) = source.entries.next() {
                break Some(entry);
            }
            let Some((block, entries)) = source.next_block(&self.to) else { break None };
            match entries {
                Ok(entries) => source.entries = entries.into_iter(),
                // Another walk, or a look, may have come by.
                Err(_) if !self.unread.insert((at, block)) => {}
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
        // Behind the walk's end lies nothing more.
        if let Some(Entry { key, sequence, value }) = head.filter(|entry| *entry.key < *self.to) {
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
            let mut merge = Merge::new(Vec::new(), logs);
            merge.walk((b"a", b"x"));
            let found: Vec<_> = std::iter::from_fn(|| merge.next()).collect();
            let expected = [("c", "2"), ("d", "1"), ("e", "2")];
            let expected = expected.map(|(key, value)| (key.into(), value.into()));
            assert_eq!(found, expected);
        }
    }
}
