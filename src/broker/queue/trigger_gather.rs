//! What a run is given: gathered until it is a whole batch, wherever the messages lie.
//!
//! A run takes what is in memory. Where that is less than a batch and the store has more, it waits:
//! what it has stays leased, what is missing is read back with no lock held (`memory`), and it
//! begins once its batch is full, by count or by bytes, or nothing is left to fill it with. Of a
//! queue's next messages the head is read back, as for consumers; what a selection picks from the
//! midst is read by its place, and whatever lies between stays where it is.
//!
//! Invariants: what is gathered is leased; of what is not whole yet, the next message is one that
//! only the store has.

use std::collections::HashMap;

use super::leases::LeaseHandle;
use super::state::State;
use super::triggers::{Armed, QueueTriggers, Source};
use super::{Acks, Entry};
use crate::broker::trigger::run::Cause;
use crate::store::QueueSeq;

/// Body bytes that are handed over at once, but for a single message.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// A batch that has not begun its run.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) cause: Cause,
    pub(super) leases: Vec<LeaseHandle>,
    bytes: u64,
    /// It waits for no more.
    pub(super) is_whole: bool,
}

/// What is read of the next messages because a trigger waits for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// What is read out of turn, for the trigger with this watch.
#[derive(Debug)]
pub(super) struct OutOfTurn {
    watch: usize,
    pub(super) places: Vec<QueueSeq>,
}

impl Gathered {
    pub(super) fn new(cause: Cause) -> Self {
        Self { cause, leases: Vec::new(), bytes: 0, is_whole: false }
    }

    /// What is missing of a batch of so many.
    fn missing(&self, batch_max: u32) -> Option<Missing> {
        let messages = (batch_max as usize).saturating_sub(self.leases.len());
        let bytes = BATCH_BYTES_MAX.saturating_sub(self.bytes);
        (messages > 0 && bytes > 0).then_some(Missing { messages, bytes })
    }
}

impl Armed {
    /// Whether it waits for a batch to be whole.
    fn gathers(&self) -> bool {
        self.gathered.as_ref().is_some_and(|gathered| !gathered.is_whole)
    }

    /// What it waits for, if for anything.
    fn missing(&self) -> Option<Missing> {
        let gathered = self.gathered.as_ref().filter(|_| self.gathers())?;
        gathered.missing(self.trigger.spec.batch_max)
    }

    /// Where it takes its messages from.
    pub(super) fn source(&self) -> Source {
        self.places[0].source
    }
}

impl State {
    /// Goes on gathering for those triggers that wait.
    pub(super) fn gather_more(&mut self) {
        self.with_triggers(|state, triggers| {
            let waiting = triggers.armed.iter_mut().filter(|armed| armed.gathers());
            waiting.for_each(|armed| state.gather(armed));
        });
    }

    fn with_triggers(&mut self, change: impl FnOnce(&mut Self, &mut QueueTriggers)) {
        if let Some(mut triggers) = self.triggers.take() {
            change(self, &mut triggers);
            self.triggers = Some(triggers);
        }
    }

    /// Takes what is in memory of what a trigger is to hand over next. If in the end there is
    /// nothing, it is as if nothing had been gathered.
    pub(super) fn gather(&mut self, armed: &mut Armed) {
        let Some(mut gathered) = armed.gathered.take() else { return };
        let batch_max = armed.trigger.spec.batch_max;
        while gathered.missing(batch_max).is_some() {
            let next = match armed.source() {
                Source::All => self.ready.pop(),
                Source::From(level) => self.ready.pop_above(level),
                Source::Watch(watch) => {
                    self.first_place(watch).and_then(|place| self.ready.take_at(place))
                }
            };
            let Some(entry) = next else { break };
            self.lease_to(&mut gathered, entry);
        }
        let has_more = match armed.source() {
            Source::All => self.ready.is_cold_above(0),
            Source::From(level) => self.ready.is_cold_above(level),
            Source::Watch(watch) => self.first_place(watch).is_some(),
        };
        gathered.is_whole = !has_more || gathered.missing(batch_max).is_none();
        if !gathered.is_whole || !gathered.leases.is_empty() {
            armed.gathered = Some(gathered);
        }
    }

    fn first_place(&self, watch: usize) -> Option<QueueSeq> {
        self.ready.watched(watch)?.places().next()
    }

    fn lease_to(&mut self, gathered: &mut Gathered, entry: Entry) {
        gathered.bytes += entry.message.body_len() as u64;
        self.hand_out(&entry, Acks::Manual);
        gathered.leases.push(self.leases.add(entry, u64::MAX).handle);
    }

    /// What of the next messages triggers wait for.
    pub(super) fn missing_in_turn(&self) -> Option<Missing> {
        let armed = self.triggers.as_ref()?.armed.iter();
        let in_turn = armed.filter(|armed| !matches!(armed.source(), Source::Watch(_)));
        let missing = in_turn.filter_map(Armed::missing);
        missing.reduce(|a, b| Missing {
            messages: a.messages.max(b.messages),
            bytes: a.bytes.max(b.bytes),
        })
    }

    /// Whether a trigger waits for messages from the midst.
    pub(super) fn wants_out_of_turn(&self) -> bool {
        self.triggers.is_some() && self.next_out_of_turn(1).is_some()
    }

    /// What to read of the messages from the midst that a trigger waits for.
    pub(super) fn next_out_of_turn(&self, messages_max: usize) -> Option<OutOfTurn> {
        let mut armed = self.triggers.as_ref()?.armed.iter();
        armed.find_map(|armed| {
            let (Source::Watch(watch), Some(missing)) = (armed.source(), armed.missing()) else {
                return None;
            };
            let places = self.ready.watched(watch)?.places();
            let places: Vec<_> = places.take(missing.messages.min(messages_max)).collect();
            (!places.is_empty()).then_some(OutOfTurn { watch, places })
        })
    }

    /// Hands a trigger what was read for it, as far as it is still there.
    pub(super) fn take_out_of_turn(&mut self, wanted: &OutOfTurn, read: Vec<Entry>) {
        let source = Source::Watch(wanted.watch);
        self.with_triggers(|state, triggers| {
            let mut armed = triggers.armed.iter_mut();
            let armed = armed.find(|it| it.source() == source && it.missing().is_some());
            if let Some(armed) = armed
                && let Some(gathered) = &mut armed.gathered
            {
                state.take_read(gathered, armed.trigger.spec.batch_max, wanted, read);
            }
        });
    }

    fn take_read(
        &mut self,
        gathered: &mut Gathered,
        batch_max: u32,
        wanted: &OutOfTurn,
        read: Vec<Entry>,
    ) {
        let mut read: HashMap<_, _> = read.into_iter().map(|entry| (entry.seq, entry)).collect();
        let mut is_first = true;
        for place in &wanted.places {
            let found = read.remove(place);
            if gathered.missing(batch_max).is_none() || (found.is_none() && !is_first) {
                break;
            }
            is_first = false;
            let watch = self.ready.watched(wanted.watch);
            if !watch.is_some_and(|watch| watch.knows(*place)) {
                continue;
            }
            let found = found.filter(|entry| self.ready.take_cold(entry));
            if let Some(entry) = found.or_else(|| self.ready.take_at(*place)) {
                self.lease_to(gathered, entry);
            } else {
                // Only a fault of ours could do that; it is not to be looked for for ever.
                debug_assert!(false, "{place:?} is not where it should be");
                self.ready.lost(wanted.watch, *place);
            }
        }
    }
}
