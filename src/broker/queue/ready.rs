//! The messages of a queue that wait for a consumer, in the order in which they will leave.
//!
//! Owns the order: by priority level, then by arrival within a level. New messages go to the end of
//! their level in O(1). Where a message goes that comes back is up to the kind of queue, as in
//! RabbitMQ: in classic ones to the place it had, in O(log n) of those that came back; in quorum
//! ones behind the others that came back, and all of these before the new ones.
//!
//! What a level holds beyond its head may be left to the store (`level`). Groups know each of their
//! messages, so in a queue that has them all messages stay in memory.
//!
//! Triggers take messages from the midst of the others, in memory or not, by their numbers.
//!
//! Invariants: `len`, `bytes` and the stored ones among them equal what is there, `held` what of it
//! is in memory; a level is marked as occupied if and only if it has messages, in memory or not;
//! `elsewhere` has every message that was taken from the midst and has not left the store.

use std::collections::BTreeSet;

use super::groups::Groups;
use super::level::{Cold, Level};
use super::watches::Watches;
use super::{Entry, QueueArgs, QueueKind};
use crate::broker::message::Message;
use crate::store::QueueSeq;

/// What a message in memory takes beside its bytes: its entry, and what allocating it costs.
const ENTRY_BYTES: u64 = size_of::<Entry>() as u64 + 32;

/// The memory that a waiting message takes.
fn weight(message: &Message) -> u64 {
    ENTRY_BYTES + message.memory_bytes() as u64
}

/// A set of levels.
#[derive(Debug, Clone, Copy, Default)]
struct Occupied([u64; 4]);

impl Occupied {
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

/// Messages and bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        self.messages += 1;
        self.bytes += entry.message.body_len() as u64;
    }

    fn remove(&mut self, entry: &Entry) {
        self.messages -= 1;
        self.bytes -= entry.message.body_len() as u64;
    }
}

/// What is settled all at once.
#[derive(Debug)]
pub(super) struct Purge {
    /// A level's numbers, all of whose unsettled messages in the store go but for some: so many.
    pub(super) ranges: Vec<(QueueSeq, QueueSeq, Vec<u64>, Tally)>,
    /// What was in memory and not in these ranges, which goes too.
    pub(super) others: Vec<(QueueSeq, u64)>,
}

/// What is to be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) from: QueueSeq,
    /// Nothing of the level is in memory.
    pub(super) urgent: bool,
}

/// The waiting messages of one queue.
#[derive(Debug)]
pub(super) struct Ready {
    kind: QueueKind,
    levels: Box<[Level]>,
    /// Which levels hold something.
    occupied: Occupied,
    groups: Option<Box<Groups>>,
    len: usize,
    bytes: u64,
    stored: Tally,
    cold: Tally,
    /// Bytes of memory.
    held: u64,
    /// Messages that were taken from the midst, or came back after that.
    elsewhere: BTreeSet<QueueSeq>,
    /// What triggers want to be counted.
    pub(super) watches: Option<Box<Watches>>,
}

impl Ready {
    /// An empty list, arranged as a queue's arguments ask for it.
    pub(super) fn new(args: &QueueArgs) -> Self {
        let groups = args.message_groups.then(Box::<Groups>::default);
        // A group's next message comes to the place it has in the queue, before no other group's.
        let kind = if groups.is_some() { QueueKind::Classic } else { args.kind };
        let levels = (0..=args.level_max()).map(|_| Level::new(kind)).collect();
        Self {
            kind,
            levels,
            occupied: Occupied::default(),
            groups,
            len: 0,
            bytes: 0,
            stored: Tally::default(),
            cold: Tally::default(),
            held: 0,
            elsewhere: BTreeSet::new(),
            watches: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a message may leave: those that stand back in their group may not, nor any while the
    /// first one is not in memory.
    pub(super) fn has_next(&self) -> bool {
        if self.groups.is_none() && self.cold.messages == 0 {
            return self.len > 0;
        }
        self.occupied.highest().is_some_and(|level| self.levels[level].front().is_some())
    }

    /// Whether a message would leave if it were in memory.
    pub(super) fn waits_for_store(&self) -> bool {
        self.cold.messages > 0 && !self.has_next()
    }

    /// Body bytes waiting.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What of the waiting messages the store keeps.
    pub(super) fn stored(&self) -> Tally {
        self.stored
    }

    /// What of the waiting messages only the store has.
    pub(super) fn cold(&self) -> Tally {
        self.cold
    }

    /// Bytes of memory that the waiting messages take.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Whether what only the store has can be waited for, or every message must be known.
    pub(super) fn may_be_cold(&self) -> bool {
        self.groups.is_none()
    }

    /// The number for a new message of a priority.
    pub(super) fn take_seq(&mut self, priority: u8) -> QueueSeq {
        let (at, level) = self.level_at(priority);
        let number = level.next;
        level.next += 1;
        QueueSeq::new(at, number)
    }

    /// Whether a message has not come back, and is not out, if its stay has not ended.
    pub(super) fn is_new(&self, seq: QueueSeq) -> bool {
        let level = self.levels.get(usize::from(seq.level()));
        level.is_some_and(|level| seq.number() >= level.first_new())
            && !self.elsewhere.contains(&seq)
    }

    /// A level as it was found in the store, with its messages left there unless they will come one
    /// by one. False when there is no such level.
    pub(super) fn recover(&mut self, from: QueueSeq, next: u64, stored: Tally, cold: bool) -> bool {
        let at = usize::from(from.level());
        let Some(level) = self.levels.get_mut(at) else { return false };
        level.next = level.next.max(next);
        level.recovered = level.next;
        if cold && stored.messages > 0 {
            let Tally { messages, bytes } = stored;
            level.cold = Cold { from: from.number(), messages, bytes };
            self.occupied.set(at);
            self.len += usize::try_from(messages).unwrap_or(usize::MAX);
            self.bytes += bytes;
            self.stored.messages += messages;
            self.stored.bytes += bytes;
            self.cold.messages += messages;
            self.cold.bytes += bytes;
            if let Some(watches) = &mut self.watches {
                watches.left_uncounted(from, QueueSeq::new(from.level(), next));
            }
        }
        true
    }

    /// Whether a message was there when the node started.
    pub(super) fn is_recovered(&self, seq: QueueSeq) -> bool {
        let level = self.levels.get(usize::from(seq.level()));
        level.is_some_and(|level| seq.number() < level.recovered)
    }

    /// Appends a message with a new number, above every earlier one of its level.
    pub(super) fn push(&mut self, entry: Entry) {
        self.count(&entry);
        let passed = match &mut self.groups {
            Some(groups) => groups.admit(entry),
            None => Some(entry),
        };
        let Some(entry) = passed else { return };
        if let Some(watches) = &mut self.watches {
            watches.reachable(&entry);
        }
        let (memory, bytes) = (weight(&entry.message), entry.message.body_len() as u64);
        let (at, level) = self.level_at(entry.priority);
        if !level.push(entry) {
            self.held -= memory;
            self.cold.messages += 1;
            self.cold.bytes += bytes;
        }
        self.occupied.set(usize::from(at));
    }

    /// Takes a message back.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.count(&entry);
        self.put_back_counted(entry);
    }

    fn put_back_counted(&mut self, entry: Entry) {
        if let Some(watches) = &mut self.watches {
            watches.reachable(&entry);
        }
        let (at, level) = self.level_at(entry.priority);
        level.put_back(entry);
        self.occupied.set(usize::from(at));
    }

    /// A message's stay has ended: the next of its group may leave.
    pub(super) fn settled(&mut self, seq: QueueSeq) {
        if let Some(next) = self.groups.as_mut().and_then(|groups| groups.settled(seq.0)) {
            self.put_back_counted(next);
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
        if level.is_empty() {
            self.occupied.clear(at);
        }
        self.discount(&entry);
        Some(entry)
    }

    /// Takes the next message of a level or a higher one, unless it is not in memory.
    pub(super) fn pop_above(&mut self, level: u8) -> Option<Entry> {
        let highest = self.occupied.highest().filter(|at| *at >= usize::from(level))?;
        self.pop_from(highest)
    }

    // ---- from the midst ----------------------------------------------------------------------

    /// Takes a message out of turn, if it is in memory.
    pub(super) fn take_at(&mut self, seq: QueueSeq) -> Option<Entry> {
        let at = usize::from(seq.level());
        let level = self.levels.get_mut(at)?;
        let (entry, is_apart) = level.take_at(seq)?;
        if level.is_empty() {
            self.occupied.clear(at);
        }
        if is_apart {
            self.elsewhere.insert(seq);
        }
        self.discount(&entry);
        Some(entry)
    }

    /// Takes a message out of turn that only the store has, and that was read there. False when
    /// nothing of the kind waits there.
    pub(super) fn take_cold(&mut self, entry: &Entry) -> bool {
        let at = usize::from(entry.seq.level());
        if !self.is_cold(entry.seq) {
            return false;
        }
        let level = &mut self.levels[at];
        level.take_cold(entry);
        if level.is_empty() {
            self.occupied.clear(at);
        }
        self.elsewhere.insert(entry.seq);
        self.held += weight(&entry.message);
        self.cold.remove(entry);
        self.discount(entry);
        true
    }

    /// Whether a message waits that only the store has, if the store has it.
    pub(super) fn is_cold(&self, seq: QueueSeq) -> bool {
        let level = self.levels.get(usize::from(seq.level()));
        level.is_some_and(|level| level.may_be_cold(seq)) && !self.is_elsewhere(seq)
    }

    /// Whether a message was taken from the midst, and the store may have it still.
    pub(super) fn is_elsewhere(&self, seq: QueueSeq) -> bool {
        !self.elsewhere.is_empty() && self.elsewhere.contains(&seq)
    }

    /// Such a message has left the store.
    pub(super) fn left_store(&mut self, seq: QueueSeq) {
        self.elsewhere.remove(&seq);
    }

    /// Whether a priority is a level's, all of whose messages have it or a higher one.
    pub(super) fn knows_priority(&self, priority: u8) -> bool {
        usize::from(priority) < self.levels.len()
    }

    /// How many wait in a level or a higher one.
    pub(super) fn len_from(&self, level: u8) -> u64 {
        let levels = self.levels.iter().skip(usize::from(level));
        levels.map(|level| level.len() as u64).sum()
    }

    /// Since when the oldest of the messages waits that are next in their levels, from one on
    /// upwards; `None` when there is none, or one of them must be read first.
    pub(super) fn oldest_ms(&self, from: u8) -> Option<u64> {
        let is_high = |level: &usize| *level >= usize::from(from);
        let fronts = self.occupied.descending().take_while(is_high);
        let mut oldest_ms = None;
        for at in fronts {
            let ms = self.levels[at].front()?.message.published_ms();
            oldest_ms = Some(oldest_ms.map_or(ms, |oldest: u64| oldest.min(ms)));
        }
        oldest_ms
    }

    /// Whether the next message of a level or a higher one may leave, once it is in memory.
    pub(super) fn has_any_from(&self, level: u8) -> bool {
        self.occupied.highest().is_some_and(|at| at >= usize::from(level))
    }

    /// Whether of the messages of a level and the higher ones only the store has some.
    pub(super) fn is_cold_above(&self, level: u8) -> bool {
        self.cold.messages > 0
            && self.levels.iter().skip(usize::from(level)).any(|level| level.cold.messages > 0)
    }

    /// Everything that is in memory.
    pub(super) fn in_memory(&self) -> impl Iterator<Item = &Entry> {
        self.groups.iter().flat_map(|groups| groups.waiting()).chain(self.in_levels())
    }

    /// The same, but for what stands back in its group.
    pub(super) fn in_levels(&self) -> impl Iterator<Item = &Entry> {
        self.levels.iter().flat_map(|level| level.returned().chain(level.new_entries()))
    }

    /// The numbers within which everything lies that only the store has.
    pub(super) fn cold_ranges(&self) -> impl Iterator<Item = (QueueSeq, QueueSeq)> {
        (0..)
            .zip(&self.levels)
            .filter(|(_, level)| level.cold.messages > 0)
            .map(|(at, level)| (QueueSeq::new(at, level.cold.from), QueueSeq::new(at, level.next)))
    }

    /// The heads of the levels, as far as they are in memory.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Entry> {
        self.occupied.descending().filter_map(|level| self.levels[level].front())
    }

    // ---- what only the store has -------------------------------------------------------------

    /// Leaves messages to the store, those that would leave last first, until the rest takes no
    /// more than `window` bytes or no more than the first message of each level is left.
    pub(super) fn chill(&mut self, window: u64) {
        if self.groups.is_some() {
            return;
        }
        let (held, cold) = (&mut self.held, &mut self.cold);
        for level in &mut self.levels {
            if *held <= window {
                return;
            }
            level.chill(|entry| {
                *held -= weight(&entry.message);
                cold.add(entry);
                *held > window
            });
        }
    }

    /// What is to be read back first, when up to `low` bytes of memory are too few: a level whose
    /// first message is not in memory, or what follows upon the highest level's head.
    pub(super) fn wanted(&self, low: u64) -> Option<Wanted> {
        if self.cold.messages == 0 {
            return None;
        }
        let mut first = None;
        for at in self.occupied.descending() {
            let level = &self.levels[at];
            if level.cold.messages == 0 {
                continue;
            }
            let from = QueueSeq::new(u8::try_from(at).unwrap_or(u8::MAX), level.cold.from);
            if level.front().is_none() {
                return Some(Wanted { from, urgent: true });
            }
            first = first.or(Some(Wanted { from, urgent: false }));
        }
        first.filter(|_| self.held < low)
    }

    /// Takes in what was read from a place on. False when it is no longer what comes next there.
    pub(super) fn load(&mut self, from: QueueSeq, read: Vec<Entry>) -> bool {
        let at = usize::from(from.level());
        let Some(level) = self.levels.get_mut(at) else { return false };
        let (held, cold, watches) = (&mut self.held, &mut self.cold, &mut self.watches);
        let elsewhere = &self.elsewhere;
        let is_elsewhere = |entry: &Entry| elsewhere.contains(&entry.seq);
        level.load(from.number(), read, is_elsewhere, |entry| {
            *held += weight(&entry.message);
            cold.remove(entry);
            if let Some(watches) = watches {
                watches.loaded(entry);
            }
        })
    }

    /// Whether what only the store has begins at a place, in its level.
    pub(super) fn is_cold_from(&self, from: QueueSeq) -> bool {
        let level = self.levels.get(usize::from(from.level()));
        level.is_some_and(|it| it.cold.messages > 0 && it.cold.from == from.number())
    }

    /// Gives up what was to be found from a place on.
    pub(super) fn forget_cold(&mut self, from: QueueSeq) {
        if !self.is_cold_from(from) {
            return;
        }
        let at = usize::from(from.level());
        let Cold { messages, bytes, .. } = self.levels[at].forget_cold();
        self.len -= usize::try_from(messages).unwrap_or(usize::MAX);
        self.bytes -= bytes;
        for tally in [&mut self.stored, &mut self.cold] {
            tally.messages -= messages;
            tally.bytes -= bytes;
        }
        if self.levels[at].is_empty() {
            self.occupied.clear(at);
        }
    }

    // ---- everything --------------------------------------------------------------------------

    /// What settles everything that waits in the store, and nothing that is out; `none_out` says
    /// that nothing is. To be asked before [`take_all`](Self::take_all).
    pub(super) fn purge(&self, none_out: bool) -> Purge {
        let mut purge = Purge { ranges: Vec::new(), others: Vec::new() };
        let mut keep = |entry: &Entry| {
            if entry.stored {
                purge.others.push((entry.seq, entry.message.body_len() as u64));
            }
        };
        if let Some(groups) = &self.groups {
            // What stands back lies between what is out.
            groups.waiting().for_each(&mut keep);
        }
        for (at, level) in (0..).zip(&self.levels) {
            let mut whole = Tally { messages: level.cold.messages, bytes: level.cold.bytes };
            if self.groups.is_some() {
                level.new_entries().chain(level.returned()).for_each(&mut keep);
                continue;
            }
            let mut from = level.first_new();
            let new = level.new_entries().filter(|entry| entry.stored);
            new.for_each(|entry| whole.add(entry));
            if none_out {
                from = 0;
                level.returned().filter(|entry| entry.stored).for_each(|entry| whole.add(entry));
            } else {
                level.returned().for_each(&mut keep);
            }
            if whole.messages > 0 {
                let places = QueueSeq::new(at, from)..QueueSeq::new(at, level.next);
                let stay = self.elsewhere.range(places.clone()).map(|seq| seq.number());
                let except = if none_out { Vec::new() } else { stay.collect() };
                purge.ranges.push((places.start, places.end, except, whole));
            }
        }
        purge
    }

    /// Takes everything that is in memory, those that stand back in their groups included; what is
    /// not is forgotten.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        let waiting = self.groups.as_mut().map_or_else(Vec::new, |groups| groups.take_waiting());
        let kind = self.kind;
        let levels: Vec<_> = self.levels.iter_mut().map(|level| level.take(kind)).collect();
        (self.len, self.bytes, self.held) = (0, 0, 0);
        (self.stored, self.cold) = (Tally::default(), Tally::default());
        self.occupied = Occupied::default();
        if let Some(watches) = &mut self.watches {
            watches.forget_all();
        }
        waiting.into_iter().chain(levels.into_iter().flatten())
    }

    /// The level for messages of a priority; too high ones count as the highest.
    fn level_at(&mut self, priority: u8) -> (u8, &mut Level) {
        let at = usize::from(priority).min(self.levels.len() - 1);
        (u8::try_from(at).unwrap_or(u8::MAX), &mut self.levels[at])
    }

    fn count(&mut self, entry: &Entry) {
        self.len += 1;
        self.bytes += entry.message.body_len() as u64;
        self.held += weight(&entry.message);
        if entry.stored {
            self.stored.add(entry);
        }
        if let Some(watches) = &mut self.watches {
            watches.add(&entry.message);
        }
    }

    fn discount(&mut self, entry: &Entry) {
        self.len -= 1;
        self.bytes -= entry.message.body_len() as u64;
        self.held -= weight(&entry.message);
        if entry.stored {
            self.stored.remove(entry);
        }
        if let Some(watches) = &mut self.watches {
            watches.remove(entry);
        }
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
