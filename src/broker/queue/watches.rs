//! What is counted of a queue's waiting messages because a trigger asks.
//!
//! A watch counts the messages of a selection, in O(1) for each that comes or goes; if it is asked
//! how old they are, it also counts them by the time at which they came, and if they are to be
//! taken, it knows where each of them is. Who needs neither has no watch: the queue knows its
//! length, and that of each priority's level, anyway.
//!
//! A message that is left to the store stays counted. What lay there before the watch was set is
//! counted when it is read: by [`Queue::count_cold`], or because it has become the queue's head.
//!
//! Invariant: `count` is the number of waiting messages of the selection, but for those in the
//! store whose number is within `uncounted`; `places` has those of them that stand back in no
//! group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::places::Places;
use super::ready::Ready;
use super::{Entry, Queue};
use crate::broker::message::Message;
use crate::broker::trigger::condition::Selection;
use crate::store::{QueueSeq, ReadLimit};

/// Times are counted by this many milliseconds together.
const TOGETHER_MS: u64 = 16;
/// Parts of a window in which arrivals are counted.
const PARTS: usize = 20;
/// Messages that are counted at once.
const READ_MESSAGES: usize = 1_000;
/// Bytes that are read at once to count.
const READ_BYTES: usize = 4 << 20;

/// What a watch is to know.
#[derive(Debug)]
pub(super) struct Watched {
    /// Of which messages.
    pub(super) selection: Arc<Selection>,
    /// Since when they wait.
    pub(super) ages: bool,
    /// How many come within so long.
    pub(super) window_ms: Option<u64>,
    /// Where they are.
    pub(super) places: bool,
}

/// One watch.
#[derive(Debug)]
pub(super) struct Watch {
    selection: Arc<Selection>,
    count: u64,
    /// How many were ever counted: those found at first, and what came or came back since.
    came: u64,
    by_time: Option<BTreeMap<u64, u64>>,
    arrivals: Option<Box<Arrivals>>,
    places: Option<Places>,
    uncounted: Vec<(QueueSeq, QueueSeq)>,
}

impl Watch {
    pub(super) fn new(watched: Watched) -> Self {
        Self {
            selection: watched.selection,
            count: 0,
            came: 0,
            by_time: watched.ages.then(BTreeMap::new),
            arrivals: watched.window_ms.map(|ms| Box::new(Arrivals::new(ms))),
            places: watched.places.then(Places::default),
            uncounted: Vec::new(),
        }
    }

    /// Messages of the selection that wait.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many were ever counted.
    pub(super) fn came(&self) -> u64 {
        self.came
    }

    /// How many came within the window that ends now.
    pub(super) fn came_within(&self, now_ms: u64) -> u64 {
        self.arrivals.as_ref().map_or(0, |arrivals| arrivals.count(now_ms))
    }

    /// Since when the oldest waits, to a few milliseconds, never too early.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        let (slot, _) = self.by_time.as_ref()?.first_key_value()?;
        Some(slot.saturating_add(1) * TOGETHER_MS)
    }

    /// Whether one of them may be taken, in memory or not.
    pub(super) fn has_some(&self) -> bool {
        self.places.as_ref().is_some_and(|places| !places.is_empty())
    }

    /// Whether a message is one of them, and may be taken.
    pub(super) fn knows(&self, place: QueueSeq) -> bool {
        self.places.as_ref().is_some_and(|places| places.has(place))
    }

    /// Where they are, in the order in which they are to be taken.
    pub(super) fn places(&self) -> impl Iterator<Item = QueueSeq> {
        self.places.iter().flat_map(Places::iter)
    }

    /// Counts a message that has come or come back.
    fn add(&mut self, message: &Message) {
        if !self.selection.has(message) {
            return;
        }
        self.include(message);
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.add(message.published_ms());
        }
    }

    fn include(&mut self, message: &Message) {
        self.count += 1;
        self.came += 1;
        if let Some(by_time) = &mut self.by_time {
            *by_time.entry(message.published_ms() / TOGETHER_MS).or_default() += 1;
        }
    }

    /// A message that has come or come back stands in its level.
    fn reachable(&mut self, entry: &Entry) {
        if let Some(places) = &mut self.places
            && self.selection.has(&entry.message)
        {
            places.add(entry.seq);
        }
    }

    fn remove(&mut self, entry: &Entry) {
        let message = &entry.message;
        if !self.selection.has(message) {
            return;
        }
        if let Some(places) = &mut self.places {
            places.remove(entry.seq);
        }
        self.count = self.count.saturating_sub(1);
        let Some(by_time) = &mut self.by_time else { return };
        let slot = message.published_ms() / TOGETHER_MS;
        if let Some(count) = by_time.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                by_time.remove(&slot);
            }
        }
    }

    /// A message of the store has become known.
    fn loaded(&mut self, entry: &Entry) {
        let is_within = |(from, to): &(QueueSeq, QueueSeq)| (*from..*to).contains(&entry.seq);
        let Some(at) = self.uncounted.iter().position(is_within) else { return };
        self.counted_to(at, entry.seq);
        self.found(entry.seq, &entry.message);
    }

    /// A message that waits, and was not counted yet, has been seen.
    fn found(&mut self, seq: QueueSeq, message: &Message) {
        if self.selection.has(message) {
            self.include(message);
            if let Some(places) = &mut self.places {
                places.add(seq);
            }
        }
    }

    fn counted_to(&mut self, at: usize, seq: QueueSeq) {
        let (from, to) = &mut self.uncounted[at];
        *from = QueueSeq(seq.0 + 1);
        if *from >= *to {
            self.uncounted.swap_remove(at);
        }
    }

    fn forget_all(&mut self) {
        self.count = 0;
        self.uncounted.clear();
        if let Some(places) = &mut self.places {
            places.clear();
        }
        if let Some(by_time) = &mut self.by_time {
            by_time.clear();
        }
    }
}

/// Messages that came within a window, counted by its parts.
#[derive(Debug)]
struct Arrivals {
    part_ms: u64,
    /// The part that `counts` ends with.
    last: u64,
    counts: [u64; PARTS],
}

impl Arrivals {
    fn new(window_ms: u64) -> Self {
        let part_ms = window_ms.div_ceil(PARTS as u64).max(1);
        Self { part_ms, last: 0, counts: [0; PARTS] }
    }

    fn add(&mut self, at_ms: u64) {
        let part = at_ms / self.part_ms;
        if part > self.last {
            let passed = usize::try_from(part - self.last).unwrap_or(PARTS).min(PARTS);
            self.counts.rotate_left(passed);
            self.counts[PARTS - passed..].fill(0);
            self.last = part;
        }
        if let Some(back) = self.back(part) {
            self.counts[PARTS - 1 - back] += 1;
        }
    }

    /// How many parts one lies back, if it is still within.
    fn back(&self, part: u64) -> Option<usize> {
        let back = usize::try_from(self.last.saturating_sub(part)).ok()?;
        (back < PARTS).then_some(back)
    }

    fn count(&self, now_ms: u64) -> u64 {
        let passed = (now_ms / self.part_ms).saturating_sub(self.last);
        let passed = usize::try_from(passed).unwrap_or(PARTS).min(PARTS);
        self.counts[passed..].iter().sum()
    }
}

/// The watches of a queue.
#[derive(Debug, Default)]
pub(super) struct Watches(slab::Slab<Watch>);

impl Watches {
    pub(super) fn add(&mut self, message: &Message) {
        self.0.iter_mut().for_each(|(_, watch)| watch.add(message));
    }

    /// One that is counted stands in its level.
    pub(super) fn reachable(&mut self, entry: &Entry) {
        self.0.iter_mut().for_each(|(_, watch)| watch.reachable(entry));
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.0.iter_mut().for_each(|(_, watch)| watch.remove(entry));
    }

    pub(super) fn loaded(&mut self, entry: &Entry) {
        self.0.iter_mut().for_each(|(_, watch)| watch.loaded(entry));
    }

    pub(super) fn forget_all(&mut self) {
        self.0.iter_mut().for_each(|(_, watch)| watch.forget_all());
    }

    /// Messages were left to the store that nobody has seen.
    pub(super) fn left_uncounted(&mut self, from: QueueSeq, to: QueueSeq) {
        self.0.iter_mut().for_each(|(_, watch)| watch.uncounted.push((from, to)));
    }
}

impl Ready {
    /// Sets a watch. It knows what is in memory at once.
    pub(super) fn watch(&mut self, watched: Watched) -> usize {
        let mut watch = Watch::new(watched);
        for entry in self.in_memory() {
            if watch.selection.has(&entry.message) {
                watch.include(&entry.message);
            }
        }
        self.in_levels().for_each(|entry| watch.reachable(entry));
        watch.uncounted.extend(self.cold_ranges());
        self.watches.get_or_insert_default().0.insert(watch)
    }

    pub(super) fn unwatch(&mut self, watch: usize) {
        let Some(watches) = &mut self.watches else { return };
        drop(watches.0.try_remove(watch));
        if watches.0.is_empty() {
            self.watches = None;
        }
    }

    pub(super) fn watched(&self, watch: usize) -> Option<&Watch> {
        self.watches.as_ref()?.0.get(watch)
    }

    /// A message that a watch knows is not where it should be.
    pub(super) fn lost(&mut self, watch: usize, place: QueueSeq) {
        if let Some(watch) = self.watches.as_mut().and_then(|it| it.0.get_mut(watch))
            && let Some(places) = &mut watch.places
        {
            places.remove(place);
        }
    }

    /// What is to be counted next that only the store has.
    fn next_uncounted(&self) -> Option<(usize, QueueSeq, QueueSeq)> {
        let mut watches = self.watches.as_ref()?.0.iter();
        watches.find_map(|(at, watch)| watch.uncounted.first().map(|(from, to)| (at, *from, *to)))
    }

    /// Counts what was read from a place on, unless it is counted from elsewhere by now.
    fn count_read(
        &mut self,
        (watch, from, to): (usize, QueueSeq, QueueSeq),
        read: &[(QueueSeq, Message)],
    ) {
        let Some(mut watches) = self.watches.take() else { return };
        if let Some(watch) = watches.0.get_mut(watch)
            && watch.uncounted.first() == Some(&(from, to))
        {
            let found = read.iter().take_while(|(seq, _)| *seq < to);
            let waiting = found.clone().filter(|(seq, _)| self.is_cold(*seq));
            waiting.for_each(|(seq, message)| watch.found(*seq, message));
            let last = found.last().map_or(to, |(seq, _)| *seq);
            watch.counted_to(0, last);
        }
        self.watches = Some(watches);
    }
}

impl Queue {
    /// Counts for its watches what only the store has. It may take as long as reading all of it.
    pub(in crate::broker) fn count_cold(&self) {
        loop {
            let mut state = self.lock();
            let Some(next) = state.ready.next_uncounted() else { return };
            state.memory.begin_count();
            drop(state);
            let limit = ReadLimit { messages: READ_MESSAGES, bytes: READ_BYTES };
            // A store that cannot be read has failed, which ends the node.
            let Ok(read) = self.store.read(self.spec.key, next.1, limit) else { return };
            let mut state = self.lock();
            state.ready.count_read(next, &read);
            state.end_count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_count_for_as_long_as_the_window_lasts() {
        let mut arrivals = Arrivals::new(1_000);
        for at_ms in [10_000, 10_100, 10_500] {
            arrivals.add(at_ms);
        }
        assert_eq!(arrivals.count(10_500), 3);
        assert_eq!(arrivals.count(10_999), 3);
        assert_eq!(arrivals.count(11_020), 2);
        assert_eq!(arrivals.count(11_520), 0);
        arrivals.add(9_000);
        assert_eq!(arrivals.count(10_500), 3, "long ago");
        arrivals.add(60_000);
        assert_eq!(arrivals.count(60_000), 1);
    }
}
