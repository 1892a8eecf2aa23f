//! What a queue holds in memory, and what it leaves to the store and reads back.
//!
//! At the end of every change a queue looks at itself (`State::rest`): what it holds beyond its
//! window it leaves to the store, if the store has it; what its consumers will want soon it asks to
//! be read. One read is under way at a time. Its answer is what any other change is: what was read
//! takes its place at the head, and is expired, dropped or assigned as if it had always been there.
//!
//! The first message of a queue is in memory whenever possible, wanted or not: its time to live
//! must be known. What triggers want out of turn is read by its place, and goes to them straight
//! away: it takes no room.

use std::sync::Arc;

use super::ready::Wanted;
use super::state::State;
use super::trigger_gather::OutOfTurn;
use super::{Effects, Queue};
use crate::broker::Now;
use crate::broker::message::Message;
use crate::broker::outbox::Outbox;
use crate::store::{Batch, QueueSeq, ReadLimit, StoreError};

/// What is kept ready for consumers, if the window allows.
const AHEAD_BYTES: u64 = 4 << 20;
/// Messages that are read at once for someone.
const READ_MESSAGES_MAX: usize = 1_000;
/// Bytes that are read at once.
const READ_BYTES_MAX: u64 = 1 << 20;
/// Messages that are read where nobody waits for them.
const GLANCE_MESSAGES: usize = 16;

/// What a queue keeps in mind about its memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What the budget knows of.
    accounted: u64,
    /// A read is asked for or under way.
    reading: bool,
    /// What was read last is used up already.
    hungry: bool,
    /// Present while there is anything to keep in mind about reads: most queues never need any.
    reads: Option<Box<Reads>>,
}

/// What a queue keeps in mind about reads.
#[derive(Debug, Default)]
struct Reads {
    /// Reads under way that only count.
    counting: usize,
    /// What was taken from the midst and has left the store since: a read may have found it yet.
    left: Vec<QueueSeq>,
    /// Where the last read began, until it is seen what has remained of it.
    read_from: Option<QueueSeq>,
    /// What was read ahead and did not fit.
    misfit: Option<Misfit>,
    /// Connections that wait for the first message.
    fetchers: Vec<Arc<Outbox>>,
}

impl Memory {
    /// Keeps in mind that a message has left the store, if a read may have found it before.
    pub(super) fn remembers(&mut self, seq: QueueSeq) -> bool {
        let is_read = self.reading || self.is_counting();
        if is_read {
            self.reads.get_or_insert_default().left.push(seq);
        }
        is_read
    }

    /// A read begins that only counts.
    pub(super) fn begin_count(&mut self) {
        self.reads.get_or_insert_default().counting += 1;
    }

    fn is_counting(&self) -> bool {
        self.reads.as_ref().is_some_and(|reads| reads.counting > 0)
    }

    /// Connections that wait for the first message, who are forgotten.
    fn take_fetchers(&mut self) -> Vec<Arc<Outbox>> {
        self.reads.as_mut().map_or_else(Vec::new, |reads| std::mem::take(&mut reads.fetchers))
    }
}

impl Reads {
    fn is_nothing(&self) -> bool {
        self.counting == 0
            && self.left.is_empty()
            && self.read_from.is_none()
            && self.misfit.is_none()
            && self.fetchers.is_empty()
    }
}

/// A message that went straight back to the store: reading it again would not help until there is
/// more room.
#[derive(Debug)]
struct Misfit {
    from: QueueSeq,
    held: u64,
    window: u64,
}

impl State {
    /// The end of every change: keeps within the window, asks for what will be wanted, notes when
    /// something is to be done next.
    pub(super) fn rest(&mut self, queue: &Arc<Queue>, effects: &mut Effects) {
        if self.gone {
            return;
        }
        if self.triggers.is_some() {
            self.gather_more();
            self.look_at_triggers(queue, effects);
        }
        if let Some(at_ms) = self.next_deadline() {
            effects.deadlines.push((at_ms, Arc::clone(queue)));
        }
        let paging = queue.paging();
        if self.ready.held() > paging.window() {
            self.ready.chill(paging.window());
        }
        let held = self.ready.held();
        if held != self.memory.accounted {
            effects.over_budget |= paging.change(self.memory.accounted, held);
            self.memory.accounted = held;
        }
        let read_from = self.memory.reads.as_mut().and_then(|reads| reads.read_from.take());
        if !self.memory.reading && self.wants_read(read_from, paging.window()) {
            self.memory.reading = true;
            effects.reads.push(Arc::clone(queue));
        }
    }

    fn wants_read(&mut self, read_from: Option<QueueSeq>, window: u64) -> bool {
        let wanted = self.wanted(window);
        wanted.is_some_and(|it| it.urgent || self.may_fit(it.from, read_from, window))
            || self.wants_out_of_turn()
    }

    /// A read that only counts is over.
    pub(super) fn end_count(&mut self) {
        if let Some(reads) = &mut self.memory.reads {
            reads.counting -= 1;
        }
        if !self.memory.reading {
            self.forget_left();
        }
    }

    /// No read is under way: what has left the store is not found any more.
    fn forget_left(&mut self) {
        if let Some(reads) = self.memory.reads.as_mut().filter(|reads| reads.counting == 0) {
            reads.left.drain(..).for_each(|seq| self.ready.left_store(seq));
        }
    }

    /// A read is over: keeps in mind only what the next one needs.
    fn forget_reads(&mut self) {
        if let Some(reads) = &mut self.memory.reads {
            if self.ready.cold().messages == 0 {
                reads.misfit = None;
            }
            if reads.is_nothing() {
                self.memory.reads = None;
            }
        }
    }

    /// Whether what may be read ahead would stay: not if it was read just now and is not here.
    fn may_fit(&mut self, from: QueueSeq, read_from: Option<QueueSeq>, window: u64) -> bool {
        let held = self.ready.held();
        if read_from == Some(from) {
            let misfit = Misfit { from, held, window };
            self.memory.reads.get_or_insert_default().misfit = Some(misfit);
        }
        let misfit = self.memory.reads.as_ref().and_then(|reads| reads.misfit.as_ref());
        misfit.is_none_or(|it| it.from != from || held < it.held || window > it.window)
    }

    /// Someone waits for the queue's first message, which is not in memory.
    pub(super) fn await_first(&mut self, outbox: &Arc<Outbox>) {
        self.memory.reads.get_or_insert_default().fetchers.push(Arc::clone(outbox));
    }

    /// Lets those try again who wait for the first message.
    pub(super) fn wake_fetchers(&mut self, effects: &mut Effects) {
        self.memory.take_fetchers().iter().for_each(|outbox| effects.wakes.add(outbox));
    }

    /// The queue is gone: it holds nothing. Returns who waits for it.
    pub(super) fn forget_memory(&mut self, queue: &Queue) -> Vec<Arc<Outbox>> {
        queue.paging().change(self.memory.accounted, 0);
        std::mem::take(&mut self.memory).take_fetchers()
    }

    fn is_wanted(&self) -> bool {
        let is_fetched = || self.memory.reads.as_ref().is_some_and(|it| !it.fetchers.is_empty());
        self.consumers() > 0 || is_fetched() || self.is_too_long()
    }

    fn wanted(&self, window: u64) -> Option<Wanted> {
        let low = if self.is_wanted() { AHEAD_BYTES.min(window / 2) } else { 0 };
        self.ready.wanted(low)
    }

    /// What to read now, if anything still: what is missing at once, what a trigger waits for, or
    /// what will be wanted soon.
    fn next_read(&mut self, window: u64) -> Option<Next> {
        if self.gone {
            self.memory.reading = false;
            return None;
        }
        let wanted = self.wanted(window);
        let apart = || self.next_out_of_turn(READ_MESSAGES_MAX).map(Next::Apart);
        let next = match wanted {
            Some(Wanted { urgent: true, .. }) => None,
            _ => apart(),
        };
        let next = next.or_else(|| wanted.map(|it| Next::Ahead(it.from, self.limit(window))));
        self.memory.reading = next.is_some();
        next
    }

    fn limit(&self, window: u64) -> ReadLimit {
        let (mut messages, mut bytes) = (GLANCE_MESSAGES, 1);
        if self.is_wanted() || self.memory.hungry {
            messages = READ_MESSAGES_MAX;
        }
        // What a trigger takes needs no room.
        if let Some(missing) = self.missing_in_turn() {
            messages = messages.max(missing.messages.min(READ_MESSAGES_MAX));
            bytes = missing.bytes;
        }
        let room = window.saturating_sub(self.ready.held()).max(bytes).min(READ_BYTES_MAX);
        ReadLimit { messages, bytes: usize::try_from(room).unwrap_or(usize::MAX) }
    }
}

/// What to read.
enum Next {
    /// What comes next from a place on.
    Ahead(QueueSeq, ReadLimit),
    /// What a trigger wants out of turn.
    Apart(OutOfTurn),
}

impl Queue {
    /// Reads back what is wanted next and lets it take its place.
    pub(in crate::broker) fn read_back(self: &Arc<Self>, now: Now, effects: &mut Effects) {
        let next = self.lock().next_read(self.paging().window());
        let Some(next) = next else { return };
        let found = match &next {
            Next::Ahead(from, limit) => self.store.read(self.spec.key, *from, *limit),
            Next::Apart(wanted) => self.read_places(&wanted.places, READ_BYTES_MAX),
        };
        // A store that cannot be read has failed, which ends the node.
        let Ok(found) = found else { return };
        let mut state = self.lock();
        state.memory.reading = false;
        if state.gone {
            return;
        }
        let entries = found.into_iter().map(|(seq, message)| {
            let published_ms = message.published_ms();
            state.stored_entry(&self.spec, seq, message, published_ms)
        });
        let entries: Vec<_> = entries.collect();
        match next {
            Next::Apart(wanted) => state.take_out_of_turn(&wanted, entries),
            Next::Ahead(from, _) => {
                state.memory.reads.get_or_insert_default().read_from = Some(from);
                if entries.is_empty() {
                    // Nothing is there, whatever was counted: only a fault of ours could do that.
                    let is_cold = state.ready.is_cold_from(from);
                    debug_assert!(!is_cold, "{:?}: nothing from {from:?} on", self);
                    state.ready.forget_cold(from);
                } else {
                    state.ready.load(from, entries);
                }
            }
        }
        state.forget_left();
        let mut batch = Batch::default();
        state.memory.hungry = true;
        state.dispatch(self, now, &mut batch.ops, effects);
        state.memory.hungry = state.ready.waits_for_store();
        state.wake_fetchers(effects);
        state.forget_reads();
        self.submit(batch);
    }

    /// Reads messages by their places, runs of them at once, until it has so many bytes.
    pub(super) fn read_places(
        &self,
        places: &[QueueSeq],
        bytes_max: u64,
    ) -> Result<Vec<(QueueSeq, Message)>, StoreError> {
        let mut found = Vec::new();
        let mut left = bytes_max;
        for run in places.chunk_by(|a, b| a.0 + 1 == b.0) {
            let Some(first) = run.first().filter(|_| left > 0) else { break };
            let bytes = usize::try_from(left).unwrap_or(usize::MAX);
            let read =
                self.store.read(self.spec.key, *first, ReadLimit { messages: run.len(), bytes })?;
            let size: usize = read.iter().map(|(_, message)| message.memory_bytes()).sum();
            left = left.saturating_sub(size as u64);
            found.extend(read);
        }
        Ok(found)
    }

    /// Bytes of memory that its waiting messages take.
    pub(in crate::broker) fn held_bytes(&self) -> u64 {
        self.lock().ready.held()
    }

    /// Leaves to the store what is held beyond the window.
    pub(in crate::broker) fn keep_within_window(self: &Arc<Self>, effects: &mut Effects) {
        self.lock().rest(self, effects);
    }
}
