//! The messages of a queue that wait for a consumer, in the order in which they will leave.
//!
//! Owns the order: by priority level, then by arrival within a level. New messages go to the end of
//! their level in O(1). Where a message goes that comes back is up to the kind of queue, as in
//! RabbitMQ: in classic ones to the place it had, in O(log n) of those that came back; in quorum
//! ones behind the others that came back, and all of these before the new ones.
//!
//! Invariants: within a level of a classic queue the fifo's numbers ascend; `len` and `bytes` equal
//! what is held; a level is marked as occupied if and only if it holds something.

use std::collections::{BTreeMap, VecDeque};

use super::groups::Groups;
use super::{Entry, QueueArgs, QueueKind};
use crate::store::QueueSeq;

/// A fifo keeps this capacity when it runs empty; what a burst added beyond it is given back.
const IDLE_CAPACITY: usize = 1024;

/// Messages that came back.
#[derive(Debug)]
enum Returned {
    /// Each leaves from the place it had.
    InPlace(BTreeMap<u64, Entry>),
    /// They leave first, in the order in which they came back.
    First(VecDeque<Entry>),
}

impl Returned {
    fn new(kind: QueueKind) -> Self {
        match kind {
            QueueKind::Classic => Self::InPlace(BTreeMap::new()),
            QueueKind::Quorum => Self::First(VecDeque::new()),
        }
    }

    /// The one that leaves before `fifo_front`.
    fn front_before(&self, fifo_front: Option<&Entry>) -> Option<&Entry> {
        match self {
            Self::InPlace(entries) => {
                let (seq, entry) = entries.first_key_value()?;
                fifo_front.is_none_or(|front| *seq < front.seq.0).then_some(entry)
            }
            Self::First(entries) => entries.front(),
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        match self {
            Self::InPlace(entries) => entries.pop_first().map(|(_, entry)| entry),
            Self::First(entries) => entries.pop_front(),
        }
    }

    fn put_back(&mut self, entry: Entry) {
        match self {
            Self::InPlace(entries) => drop(entries.insert(entry.seq.0, entry)),
            Self::First(entries) => entries.push_back(entry),
        }
    }
}

#[derive(Debug)]
struct Level {
    fifo: VecDeque<Entry>,
    returned: Returned,
}

impl Level {
    fn front(&self) -> Option<&Entry> {
        let fifo_front = self.fifo.front();
        self.returned.front_before(fifo_front).or(fifo_front)
    }

    fn pop(&mut self) -> Option<Entry> {
        if self.returned.front_before(self.fifo.front()).is_some() {
            return self.returned.pop();
        }
        let entry = self.fifo.pop_front();
        if self.fifo.is_empty() && self.fifo.capacity() > IDLE_CAPACITY {
            self.fifo.shrink_to(IDLE_CAPACITY);
        }
        entry
    }
}

/// A set of levels.
#[derive(Debug, Clone, Copy, Default)]
struct Occupied([u64; 4]);

impl Occupied {
    fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    fn set(&mut self, level: usize) {
        self.0[level / 64] |= 1 << (level % 64);
    }

    fn clear(&mut self, level: usize) {
        self.0[level / 64] &= !(1 << (level % 64));
    }

    fn highest(self) -> Option<usize> {
        let word = (0..4).rev().find(|word| self.0[*word] != 0)?;
        Some(word * 64 + 63 - self.0[word].leading_zeros() as usize)
    }

    fn descending(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let level = self.highest()?;
            self.clear(level);
            Some(level)
        })
    }
}

/// The waiting messages of one queue.
#[derive(Debug)]
pub(super) struct Ready {
    kind: QueueKind,
    levels: Vec<Level>,
    /// Which levels hold something.
    occupied: Occupied,
    groups: Option<Groups>,
    len: usize,
    bytes: u64,
    stored: u64,
}

impl Ready {
    /// An empty list, arranged as a queue's arguments ask for it.
    pub(super) fn new(args: &QueueArgs) -> Self {
        let groups = args.message_groups.then(Groups::default);
        // A group's next message comes to the place it has in the queue, before no other group's.
        let kind = if groups.is_some() { QueueKind::Classic } else { args.kind };
        let level = |_| Level { fifo: VecDeque::new(), returned: Returned::new(kind) };
        let levels = (0..=args.priority_max.unwrap_or(0)).map(level).collect();
        let occupied = Occupied::default();
        Self { kind, levels, occupied, groups, len: 0, bytes: 0, stored: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a message may leave: those that stand back in their group may not.
    pub(super) fn has_next(&self) -> bool {
        if self.groups.is_none() { self.len > 0 } else { !self.occupied.is_empty() }
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
        debug_assert!(
            matches!(level.returned, Returned::First(_))
                || level.fifo.back().is_none_or(|last| last.seq < entry.seq)
        );
        level.fifo.push_back(entry);
    }

    /// Takes a message back.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.count(&entry);
        self.level_of(&entry).returned.put_back(entry);
    }

    /// Takes a message back behind all others; one of a group keeps its place in the group.
    pub(super) fn append_again(&mut self, entry: Entry) {
        if self.groups.is_some() {
            return self.put_back(entry);
        }
        self.count(&entry);
        self.level_of(&entry).fifo.push_back(entry);
    }

    /// A message's stay has ended: the next of its group may leave.
    pub(super) fn settled(&mut self, seq: QueueSeq) {
        if let Some(next) = self.groups.as_mut().and_then(|groups| groups.settled(seq.0)) {
            self.level_of(&next).returned.put_back(next);
        }
    }

    /// Takes the next message.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let level = self.occupied.highest()?;
        self.pop_from(level)
    }

    /// Takes the head of every level for which `due` holds, until none is.
    pub(super) fn pop_where(&mut self, due: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let is_due = |level: &usize| self.levels[*level].front().is_some_and(&due);
        let level = self.occupied.descending().find(is_due)?;
        self.pop_from(level)
    }

    fn pop_from(&mut self, at: usize) -> Option<Entry> {
        let level = &mut self.levels[at];
        let entry = level.pop()?;
        if level.front().is_none() {
            self.occupied.clear(at);
        }
        self.discount(&entry);
        Some(entry)
    }

    /// The heads of the levels.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Entry> {
        self.occupied.descending().filter_map(|level| self.levels[level].front())
    }

    /// Takes everything, those that stand back in their groups included.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        let waiting = self.groups.as_mut().map_or_else(Vec::new, Groups::take_waiting);
        let kind = self.kind;
        let empty = || Level { fifo: VecDeque::new(), returned: Returned::new(kind) };
        let levels: Vec<Level> =
            self.levels.iter_mut().map(|level| std::mem::replace(level, empty())).collect();
        (self.len, self.bytes, self.stored) = (0, 0, 0);
        self.occupied = Occupied::default();
        let of_level = |mut level: Level| std::iter::from_fn(move || level.pop());
        waiting.into_iter().chain(levels.into_iter().flat_map(of_level))
    }

    /// The level that a message is put into next.
    fn level_of(&mut self, entry: &Entry) -> &mut Level {
        let at = usize::from(entry.priority).min(self.levels.len() - 1);
        self.occupied.set(at);
        &mut self.levels[at]
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
        let mut ready = Ready::new(&QueueArgs::default());
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
    fn in_a_quorum_queue_returned_messages_leave_first_as_they_came_back() {
        let quorum = QueueArgs { kind: QueueKind::Quorum, ..QueueArgs::default() };
        let mut ready = Ready::new(&quorum);
        for seq in 1..=6 {
            ready.push(entry(seq, 0));
        }
        let mut taken: Vec<Entry> = (0..4).filter_map(|_| ready.pop()).collect();
        taken.swap(1, 3);
        taken.into_iter().filter(|entry| entry.seq.0 != 1).for_each(|entry| ready.put_back(entry));
        assert_eq!(ready.heads().map(|head| head.seq.0).collect::<Vec<_>>(), [4]);
        assert_eq!(drain(&mut ready), [4, 3, 2, 5, 6]);
        assert_eq!((ready.len(), ready.bytes()), (0, 0));
    }

    #[test]
    fn of_256_levels_the_highest_that_holds_something_is_next() {
        let all = QueueArgs { priority_max: Some(255), ..QueueArgs::default() };
        let mut ready = Ready::new(&all);
        for (seq, priority) in (0..).zip([0, 63, 64, 127, 128, 191, 192, 255]) {
            ready.push(entry(seq, priority));
        }
        let heads: Vec<u64> = ready.heads().map(|head| head.seq.0).collect();
        assert_eq!(heads, [7, 6, 5, 4, 3, 2, 1, 0]);
        let due = ready.pop_where(|entry| entry.priority == 128).unwrap();
        ready.put_back(due);
        assert_eq!(drain(&mut ready), heads);
        assert!(!ready.has_next() && ready.heads().next().is_none());
    }

    #[test]
    fn higher_priorities_leave_first_and_too_high_ones_count_as_the_highest() {
        let five = QueueArgs { priority_max: Some(5), ..QueueArgs::default() };
        let mut ready = Ready::new(&five);
        for (seq, priority) in [(1, 0), (2, 9), (3, 5), (4, 1)] {
            ready.push(entry(seq, priority));
        }
        assert_eq!(drain(&mut ready), [2, 3, 4, 1]);
    }
}
