//! The messages of a queue that wait for a consumer, in the order in which they will leave.
//!
//! Owns the order: by priority level, then by sequence number within a level. New messages go to
//! the end of their level in O(1); a message that comes back goes to the place it had (RabbitMQ's
//! classic queues do the same), in O(log n) of those that came back.
//!
//! Invariants: within a level the fifo's numbers ascend; `len` and `bytes` equal what is held.

use std::collections::{BTreeMap, VecDeque};

use super::Entry;
use super::groups::Groups;
use crate::store::QueueSeq;

/// A fifo keeps this capacity when it runs empty; what a burst added beyond it is given back.
const IDLE_CAPACITY: usize = 1024;

#[derive(Debug, Default)]
struct Level {
    fifo: VecDeque<Entry>,
    returned: BTreeMap<u64, Entry>,
}

impl Level {
    fn front(&self) -> Option<&Entry> {
        match (self.returned.first_key_value(), self.fifo.front()) {
            (Some((seq, _)), Some(front)) if *seq > front.seq.0 => Some(front),
            (Some((_, entry)), _) => Some(entry),
            (None, front) => front,
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let take_returned = match (self.returned.first_key_value(), self.fifo.front()) {
            (Some((seq, _)), Some(front)) => *seq < front.seq.0,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if take_returned {
            return self.returned.pop_first().map(|(_, entry)| entry);
        }
        let entry = self.fifo.pop_front();
        if self.fifo.is_empty() && self.fifo.capacity() > IDLE_CAPACITY {
            self.fifo.shrink_to(IDLE_CAPACITY);
        }
        entry
    }
}

/// The waiting messages of one queue.
#[derive(Debug)]
pub(super) struct Ready {
    levels: Vec<Level>,
    groups: Option<Groups>,
    len: usize,
    bytes: u64,
    stored: u64,
}

impl Ready {
    /// An empty list with priority levels `0..=priority_max`, with ordered groups or without.
    pub(super) fn new(priority_max: u8, grouped: bool) -> Self {
        let levels = (0..=priority_max).map(|_| Level::default()).collect();
        let groups = grouped.then(Groups::default);
        Self { levels, groups, len: 0, bytes: 0, stored: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a message may leave: those that stand back in their group may not.
    pub(super) fn has_next(&self) -> bool {
        if self.groups.is_none() { self.len > 0 } else { self.heads().next().is_some() }
    }

    /// Body bytes waiting.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of the waiting messages the store keeps.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Appends a new message, whose number is above every earlier one.
    pub(super) fn push(&mut self, entry: Entry) {
        self.count(&entry);
        let passed = match &mut self.groups {
            Some(groups) => groups.admit(entry),
            None => Some(entry),
        };
        let Some(entry) = passed else { return };
        let level = self.level_of(&entry);
        debug_assert!(level.fifo.back().is_none_or(|last| last.seq < entry.seq));
        level.fifo.push_back(entry);
    }

    /// Puts a message back where it was.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.count(&entry);
        self.level_of(&entry).returned.insert(entry.seq.0, entry);
    }

    /// A message's stay has ended: the next of its group may leave.
    pub(super) fn settled(&mut self, seq: QueueSeq) {
        if let Some(next) = self.groups.as_mut().and_then(|groups| groups.settled(seq.0)) {
            self.level_of(&next).returned.insert(next.seq.0, next);
        }
    }

    /// Takes the next message.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.levels.iter_mut().rev().find_map(Level::pop)?;
        self.discount(&entry);
        Some(entry)
    }

    /// Takes the head of every level for which `due` holds, until none is.
    pub(super) fn pop_where(&mut self, due: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let entry = self
            .levels
            .iter_mut()
            .rev()
            .find(|level| level.front().is_some_and(&due))
            .and_then(Level::pop)?;
        self.discount(&entry);
        Some(entry)
    }

    /// The heads of the levels.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Entry> {
        self.levels.iter().filter_map(Level::front)
    }

    /// Takes everything, those that stand back in their groups included.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        let waiting = self.groups.as_mut().map_or_else(Vec::new, Groups::take_waiting);
        let levels: Vec<Level> = self.levels.iter_mut().map(std::mem::take).collect();
        (self.len, self.bytes, self.stored) = (0, 0, 0);
        let of_level = |level: Level| level.fifo.into_iter().chain(level.returned.into_values());
        waiting.into_iter().chain(levels.into_iter().flat_map(of_level))
    }

    fn level_of(&mut self, entry: &Entry) -> &mut Level {
        let top = self.levels.len() - 1;
        &mut self.levels[usize::from(entry.priority).min(top)]
    }

    fn count(&mut self, entry: &Entry) {
        self.len += 1;
        self.bytes += entry.message.body_len() as u64;
        self.stored += u64::from(entry.stored);
    }

    fn discount(&mut self, entry: &Entry) {
        self.len -= 1;
        self.bytes -= entry.message.body_len() as u64;
        self.stored -= u64::from(entry.stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::{Envelope, Message};

    fn entry(seq: u64, priority: u8) -> Entry {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            persistent: false,
            hides_bcc: false,
            published_ms: 0,
        };
        let message = Message::new(&envelope, b"x");
        Entry { priority, ..Entry::new(QueueSeq(seq), message) }
    }

    fn drain(ready: &mut Ready) -> Vec<u64> {
        std::iter::from_fn(|| ready.pop()).map(|entry| entry.seq.0).collect()
    }

    #[test]
    fn returned_messages_leave_from_the_place_they_had() {
        let mut ready = Ready::new(0, false);
        for seq in 1..=6 {
            ready.push(entry(seq, 0));
        }
        let taken: Vec<Entry> = (0..4).filter_map(|_| ready.pop()).collect();
        for entry in taken.into_iter().filter(|entry| entry.seq.0 != 2) {
            ready.put_back(entry);
        }
        assert_eq!(ready.len(), 5);
        assert_eq!(drain(&mut ready), [1, 3, 4, 5, 6]);
        assert_eq!((ready.len(), ready.bytes()), (0, 0));
    }

    #[test]
    fn higher_priorities_leave_first_and_too_high_ones_count_as_the_highest() {
        let mut ready = Ready::new(5, false);
        for (seq, priority) in [(1, 0), (2, 9), (3, 5), (4, 1)] {
            ready.push(entry(seq, priority));
        }
        assert_eq!(drain(&mut ready), [2, 3, 4, 1]);
    }
}
