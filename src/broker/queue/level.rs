//! One level of a queue's waiting messages: those that leave in the order of their numbers.
//!
//! The level has a *head* in memory, and behind it perhaps a *cold* part that only the store holds,
//! of which nothing is known but where it begins, how many messages it has and how many bytes. New
//! messages go to the end: to the head while nothing is cold, else into the cold part. What the
//! store does not hold, or what is known of a message that the store does not know, stays in memory
//! even there (`kept`). Messages that came back lie apart.
//!
//! Invariants: numbers ascend within `head` and within `kept`; the cold part is every unsettled
//! message of the store from `cold.from` on, apart from those in `kept` and those that were taken
//! from the midst, which [`Ready`](super::ready::Ready) knows; every number in `head` is below
//! `cold.from`, and so is every other one that was ever handed out; while nothing is cold, `kept`
//! is empty.

use std::collections::{BTreeMap, VecDeque};

use super::{Entry, QueueKind};
use crate::store::QueueSeq;

/// A head keeps this capacity when it runs empty; what a burst added beyond it is given back.
const IDLE_CAPACITY: usize = 1024;

/// Messages that came back.
#[derive(Debug)]
pub(super) enum Returned {
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

    /// The one that leaves before what has this number and those behind it.
    fn front_before(&self, number: u64) -> Option<&Entry> {
        match self {
            Self::InPlace(entries) => {
                let (_, entry) = entries.first_key_value()?;
                (entry.seq.number() < number).then_some(entry)
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

    /// Takes the one with this number.
    fn take(&mut self, seq: u64) -> Option<Entry> {
        match self {
            Self::InPlace(entries) => entries.remove(&seq),
            Self::First(entries) => {
                let at = entries.iter().position(|entry| entry.seq.0 == seq)?;
                entries.remove(at)
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::InPlace(entries) => entries.len(),
            Self::First(entries) => entries.len(),
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match self {
            Self::InPlace(entries) => Box::new(entries.values()),
            Self::First(entries) => Box::new(entries.iter()),
        }
    }
}

/// What only the store holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cold {
    /// No message of it has a lower number.
    pub(super) from: u64,
    pub(super) messages: u64,
    /// Bytes of their bodies.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Level {
    head: VecDeque<Entry>,
    /// How many of the head's messages could be cold.
    plain: usize,
    pub(super) cold: Cold,
    kept: VecDeque<Entry>,
    returned: Returned,
    /// The next message's number.
    pub(super) next: u64,
    /// Numbers below are from an earlier life of the node.
    pub(super) recovered: u64,
}

impl Level {
    pub(super) fn new(kind: QueueKind) -> Self {
        Self {
            head: VecDeque::new(),
            plain: 0,
            cold: Cold::default(),
            kept: VecDeque::new(),
            returned: Returned::new(kind),
            next: 1,
            recovered: 0,
        }
    }

    /// The next message, if it is in memory.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.returned_front().or_else(|| self.head.front())
    }

    /// The one that came back and is next.
    fn returned_front(&self) -> Option<&Entry> {
        let cold = if self.cold.messages > 0 { self.cold.from } else { u64::MAX };
        let first = self.head.front().map_or(cold, |front| front.seq.number());
        self.returned.front_before(first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cold.messages == 0 && self.front().is_none()
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        if self.returned_front().is_some() {
            return self.returned.pop();
        }
        self.pop_head()
    }

    fn pop_head(&mut self) -> Option<Entry> {
        let entry = self.head.pop_front();
        self.plain -= entry.as_ref().map_or(0, |entry| usize::from(self.is_plain(entry)));
        if self.head.is_empty() && self.head.capacity() > IDLE_CAPACITY {
            self.head.shrink_to(IDLE_CAPACITY);
        }
        entry
    }

    /// Takes a message with a new number in. True if it is in memory.
    pub(super) fn push(&mut self, entry: Entry) -> bool {
        let plain = self.is_plain(&entry);
        match (self.cold.messages, plain) {
            (0, _) => {
                debug_assert!(self.head.back().is_none_or(|last| last.seq < entry.seq));
                self.plain += usize::from(plain);
                self.head.push_back(entry);
            }
            (_, false) => self.kept.push_back(entry),
            (_, true) => {
                self.cold.messages += 1;
                self.cold.bytes += entry.message.body_len() as u64;
            }
        }
        self.cold.messages == 0 || !plain
    }

    pub(super) fn put_back(&mut self, entry: Entry) {
        self.returned.put_back(entry);
    }

    /// Whether the store holds all there is to know of a waiting message.
    fn is_plain(&self, entry: &Entry) -> bool {
        entry.stored
            && entry.deliveries == 0
            && entry.maybe_delivered == (entry.seq.number() < self.recovered)
    }

    /// Drops messages that the store holds from the end of the head, but for the foremost one, for
    /// as long as `freed`, which sees them, wants more of them.
    pub(super) fn chill(&mut self, mut freed: impl FnMut(&Entry) -> bool) {
        let first = usize::from(self.head.front().is_some_and(|entry| self.is_plain(entry)));
        let mut goes_on = true;
        while goes_on && self.plain > first {
            let Some(entry) = self.head.pop_back() else { break };
            if !self.is_plain(&entry) {
                self.kept.push_front(entry);
                continue;
            }
            self.plain -= 1;
            self.cold.from = entry.seq.number();
            self.cold.messages += 1;
            self.cold.bytes += entry.message.body_len() as u64;
            goes_on = freed(&entry);
        }
        debug_assert!(self.cold.messages > 0 || self.kept.is_empty());
    }

    /// Takes messages of the cold part in that were read from `from` on: all that there are up to
    /// the last of them, but for those that are `elsewhere`. They are shown to `taken`. False when
    /// the cold part begins elsewhere by now: then nothing is taken.
    pub(super) fn load(
        &mut self,
        from: u64,
        read: impl IntoIterator<Item = Entry>,
        elsewhere: impl Fn(&Entry) -> bool,
        mut taken: impl FnMut(&Entry),
    ) -> bool {
        if self.cold.messages == 0 || self.cold.from != from {
            return false;
        }
        for entry in read {
            if self.cold.messages == 0 {
                break;
            }
            let number = entry.seq.number();
            self.take_kept_below(number);
            self.cold.from = number + 1;
            if self.kept.front().is_some_and(|kept| kept.seq == entry.seq) {
                self.take_kept_below(number + 1);
                continue;
            }
            if elsewhere(&entry) {
                continue;
            }
            self.is_cold_no_more(&entry);
            self.plain += usize::from(self.is_plain(&entry));
            taken(&entry);
            self.head.push_back(entry);
        }
        self.end_cold();
        true
    }

    fn is_cold_no_more(&mut self, entry: &Entry) {
        self.cold.messages -= 1;
        self.cold.bytes = self.cold.bytes.saturating_sub(entry.message.body_len() as u64);
    }

    /// What lay behind the cold part joins the head once there is none.
    fn end_cold(&mut self) {
        if self.cold.messages == 0 {
            self.cold = Cold::default();
            self.take_kept_below(u64::MAX);
        }
    }

    /// Takes a message of the cold part away that was read.
    pub(super) fn take_cold(&mut self, entry: &Entry) {
        self.is_cold_no_more(entry);
        self.end_cold();
    }

    /// Whether a message of the store that was not taken lies in the cold part.
    pub(super) fn may_be_cold(&self, seq: QueueSeq) -> bool {
        self.cold.messages > 0
            && seq.number() >= self.cold.from
            && self.kept.binary_search_by_key(&seq, |entry| entry.seq).is_err()
    }

    /// Gives the cold part up; returns what it was.
    pub(super) fn forget_cold(&mut self) -> Cold {
        let cold = std::mem::take(&mut self.cold);
        self.take_kept_below(u64::MAX);
        cold
    }

    fn take_kept_below(&mut self, number: u64) {
        while self.kept.front().is_some_and(|entry| entry.seq.number() < number)
            && let Some(entry) = self.kept.pop_front()
        {
            self.plain += usize::from(self.is_plain(&entry));
            self.head.push_back(entry);
        }
    }

    /// Whoever holds a message with this number or a higher one, or to whom it came back, was given
    /// it from the midst.
    pub(super) fn first_new(&self) -> u64 {
        let number = |entry: Option<&Entry>| entry.map(|entry| entry.seq.number());
        let cold = (self.cold.messages > 0).then_some(self.cold.from);
        let known = [number(self.head.front()), number(self.kept.front()), cold];
        known.into_iter().flatten().min().unwrap_or(self.next)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let cold = usize::try_from(self.cold.messages).unwrap_or(usize::MAX);
        self.head.len() + self.kept.len() + self.returned.len() + cold
    }

    /// Takes the message with this number, if it is in memory; and says whether it was taken from
    /// the midst of those that have not come back.
    pub(super) fn take_at(&mut self, seq: QueueSeq) -> Option<(Entry, bool)> {
        if let Some(entry) = self.returned.take(seq.0) {
            return Some((entry, false));
        }
        if self.head.front().is_some_and(|front| front.seq == seq) {
            return self.pop_head().map(|entry| (entry, false));
        }
        let taken = if let Ok(at) = self.head.binary_search_by_key(&seq, |entry| entry.seq) {
            let taken = self.head.remove(at);
            self.plain -= taken.as_ref().map_or(0, |entry| usize::from(self.is_plain(entry)));
            taken
        } else {
            let at = self.kept.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
            self.kept.remove(at)
        };
        taken.map(|entry| (entry, true))
    }

    /// Messages in memory that have not come back.
    pub(super) fn new_entries(&self) -> impl Iterator<Item = &Entry> {
        self.head.iter().chain(&self.kept)
    }

    /// Messages that came back.
    pub(super) fn returned(&self) -> impl Iterator<Item = &Entry> {
        self.returned.iter()
    }

    /// Takes everything; what is cold is forgotten.
    pub(super) fn take(&mut self, kind: QueueKind) -> impl Iterator<Item = Entry> + use<> {
        let Self { next, recovered, .. } = *self;
        let new = Self { next, recovered, ..Self::new(kind) };
        let Self { head, kept, mut returned, .. } = std::mem::replace(self, new);
        std::iter::from_fn(move || returned.pop()).chain(head).chain(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::broker::message::{Envelope, Message};

    fn entry(number: u64, stored: bool) -> Entry {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            persistent: stored,
            hides_bcc: false,
            published_ms: 0,
        };
        let message = Message::new(&envelope, number.to_string().as_bytes());
        Entry { stored, ..Entry::new(QueueSeq::new(0, number), message) }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { stored: bool },
        Chill { messages: usize },
        Load { messages: usize },
        Pop,
        GiveBack { at: usize },
        AppendAgain { at: usize },
        Settle { at: usize },
        Take { at: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => prop::bool::weighted(0.8).prop_map(|stored| Step::Push { stored }),
            2 => (1..5usize).prop_map(|messages| Step::Chill { messages }),
            3 => (1..5usize).prop_map(|messages| Step::Load { messages }),
            5 => Just(Step::Pop),
            1 => any::<usize>().prop_map(|at| Step::GiveBack { at }),
            1 => any::<usize>().prop_map(|at| Step::AppendAgain { at }),
            2 => any::<usize>().prop_map(|at| Step::Settle { at }),
            2 => any::<usize>().prop_map(|at| Step::Take { at }),
        ]
    }

    /// A level, the store behind it and what was handed out, with the order said plainly.
    struct Run {
        level: Level,
        store: BTreeMap<u64, Entry>,
        waiting: BTreeMap<u64, bool>,
        out: Vec<Entry>,
        /// What was taken from the midst and is not settled.
        elsewhere: BTreeSet<u64>,
    }

    impl Run {
        fn push(&mut self, stored: bool, deliveries: u32) {
            let number = self.level.next;
            self.level.next += 1;
            if stored {
                self.store.insert(number, entry(number, true));
            }
            self.waiting.insert(number, stored);
            self.level.push(Entry { deliveries, ..entry(number, stored) });
        }

        fn take_out(&mut self, at: usize) -> Option<Entry> {
            let at = at.checked_rem(self.out.len())?;
            Some(self.out.remove(at))
        }

        fn play(&mut self, step: &Step) {
            match *step {
                Step::Push { stored } => self.push(stored, 0),
                Step::Chill { messages } => {
                    let mut left = messages;
                    self.level.chill(|_| {
                        left -= 1;
                        left > 0
                    });
                }
                Step::Load { messages } => {
                    let from = self.level.cold.from;
                    let numbers = self.store.range(from..).take(messages);
                    let read: Vec<Entry> =
                        numbers.map(|(number, _)| entry(*number, true)).collect();
                    let elsewhere = &self.elsewhere;
                    self.level.load(from, read, |it| elsewhere.contains(&it.seq.0), |_| ());
                }
                Step::Pop => {
                    let popped = self.level.pop();
                    let first = self.waiting.first_key_value().map(|(number, _)| *number);
                    match popped {
                        Some(entry) => {
                            assert_eq!(Some(entry.seq.0), first, "the oldest first");
                            self.waiting.remove(&entry.seq.0);
                            self.out.push(entry);
                        }
                        None => assert!(first.is_none_or(|first| first >= self.level.cold.from)),
                    }
                }
                Step::GiveBack { at } => {
                    let Some(entry) = self.take_out(at) else { return };
                    self.waiting.insert(entry.seq.0, entry.stored);
                    self.level.put_back(Entry { deliveries: entry.deliveries + 1, ..entry });
                }
                Step::AppendAgain { at } => {
                    let Some(entry) = self.take_out(at) else { return };
                    self.elsewhere.remove(&entry.seq.0);
                    self.store.remove(&entry.seq.0);
                    self.push(entry.stored, 1);
                }
                Step::Settle { at } => {
                    let Some(entry) = self.take_out(at) else { return };
                    self.elsewhere.remove(&entry.seq.0);
                    self.store.remove(&entry.seq.0);
                }
                Step::Take { at } => {
                    let Some(at) = at.checked_rem(self.waiting.len()) else { return };
                    let number = self.waiting.keys().nth(at).copied().unwrap_or_default();
                    let taken = self.level.take_at(QueueSeq(number)).or_else(|| {
                        let read = entry(number, true);
                        self.level.may_be_cold(read.seq).then(|| self.level.take_cold(&read))?;
                        Some((read, true))
                    });
                    let Some((entry, is_apart)) = taken else { panic!("{number} is nowhere") };
                    if is_apart {
                        self.elsewhere.insert(number);
                    }
                    self.waiting.remove(&number);
                    self.out.push(entry);
                }
            }
            self.check();
        }

        fn check(&self) {
            let level = &self.level;
            let held = level.new_entries().chain(level.returned()).count() as u64;
            assert_eq!(held + level.cold.messages, self.waiting.len() as u64);
            assert_eq!(level.is_empty(), self.waiting.is_empty());
            let first_new = level.first_new();
            let is_known = |seq| seq < first_new || self.elsewhere.contains(&seq);
            assert!(self.out.iter().all(|entry| is_known(entry.seq.0)), "out, and counted as new");
            let memory: BTreeMap<u64, &Entry> = level
                .new_entries()
                .chain(level.returned())
                .map(|entry| (entry.seq.0, entry))
                .collect();
            let cold: Vec<u64> = self
                .waiting
                .keys()
                .filter(|number| !memory.contains_key(number))
                .copied()
                .collect();
            assert!(cold.iter().all(|number| self.store.contains_key(number)), "lost");
            let bytes: u64 = cold.iter().map(|number| number.to_string().len() as u64).sum();
            assert_eq!(level.cold.bytes, bytes);
        }
    }

    proptest! {
        #[test]
        fn messages_leave_in_their_order_wherever_they_lie(
            steps in prop::collection::vec(step(), 0..120)
        ) {
            let level = Level::new(QueueKind::Classic);
            let (store, waiting) = (BTreeMap::new(), BTreeMap::new());
            let (out, elsewhere) = (Vec::new(), BTreeSet::new());
            let mut run = Run { level, store, waiting, out, elsewhere };
            steps.iter().for_each(|step| run.play(step));
            while !run.waiting.is_empty() {
                let before = run.waiting.len();
                run.play(&Step::Pop);
                if run.waiting.len() < before {
                    continue;
                }
                // All that a read finds may be elsewhere: then the next one begins behind it.
                while run.level.front().is_none() {
                    let from = run.level.cold.from;
                    run.play(&Step::Load { messages: 3 });
                    let is_on = run.level.front().is_some() || run.level.cold.from > from;
                    prop_assert!(is_on, "a read brings the first one, or gets on");
                }
            }
        }
    }

    #[test]
    fn a_long_run_of_transient_messages_is_not_walked_through_again_and_again() {
        let mut level = Level::new(QueueKind::Classic);
        level.push(entry(1, true));
        for number in 2..1_000 {
            assert!(level.push(entry(number, false)), "it stays in memory");
        }
        level.chill(|_| panic!("there is nothing to drop but the first message"));
        assert!(level.kept.is_empty());
    }
}
