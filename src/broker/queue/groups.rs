//! Ordered message groups: of the messages with one `x-group-id` a queue lets only the first go,
//! and the next once that one is settled. Groups do not wait for each other.
//!
//! Owns what stands back. A group's *head* is the one message of it that may leave, or has left and
//! is not settled yet; it is known by its number wherever it is. Everything behind it lies here, in
//! order, out of reach of consumers. Messages without a group stand in no line.
//!
//! Invariants: a group that is known has exactly one head; what stands back in it has higher
//! numbers than the head.

use std::collections::{BTreeMap, HashMap};

use super::Entry;
use crate::broker::header_key::{HeaderKey, header_key};

/// The header that names a message's group.
const GROUP_HEADER: &str = "x-group-id";

/// The groups of one queue.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// What stands back, by group; present for every group that has a head.
    waiting: HashMap<HeaderKey, BTreeMap<u64, Entry>>,
    /// The groups' heads by their numbers.
    heads: HashMap<u64, HeaderKey>,
}

impl Groups {
    /// Lets a new message pass unless its group has a head; then it stands back.
    pub(super) fn admit(&mut self, entry: Entry) -> Option<Entry> {
        let Some(group) = header_key(&entry.message, GROUP_HEADER) else { return Some(entry) };
        if let Some(waiting) = self.waiting.get_mut(&group) {
            waiting.insert(entry.seq.0, entry);
            return None;
        }
        self.heads.insert(entry.seq.0, group.clone());
        self.waiting.insert(group, BTreeMap::new());
        Some(entry)
    }

    /// A message's stay has ended. If it was its group's head, this is the next one.
    pub(super) fn settled(&mut self, seq: u64) -> Option<Entry> {
        let group = self.heads.remove(&seq)?;
        let next = self.waiting.get_mut(&group).and_then(BTreeMap::pop_first);
        match next {
            Some((seq, entry)) => {
                self.heads.insert(seq, group);
                Some(entry)
            }
            None => {
                self.waiting.remove(&group);
                None
            }
        }
    }

    /// What stands back.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.waiting.values().flat_map(BTreeMap::values)
    }

    /// Takes what stands back; heads stay heads until they are settled.
    pub(super) fn take_waiting(&mut self) -> Vec<Entry> {
        self.waiting.values_mut().flat_map(std::mem::take).map(|(_, entry)| entry).collect()
    }
}
