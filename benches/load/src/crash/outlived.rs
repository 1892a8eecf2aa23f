//! What outlived the ends of the broker, and what else must have, then.
//!
//! A broker's changes have one order, and a crash leaves a beginning of it. So a message that is
//! there after an end proves that all those are that came before it: the earlier ones of the same
//! channel to the same queue, and whatever had been confirmed before it was sent.

use std::collections::HashMap;

/// Where a message stands in an order: the publisher, its channel, the queue.
type Line = (usize, usize, usize);

/// What outlived the ends of a run.
#[derive(Debug, Default)]
pub(super) struct Outlived {
    /// By end: when the last of what outlived it was sent, at the earliest.
    sent_ms: HashMap<usize, u64>,
    /// The highest seq that outlived the end of its life.
    highest: HashMap<Line, usize>,
}

impl Outlived {
    /// Takes note of a message that was there after the end of the life it was sent to.
    pub(super) fn note(&mut self, end: usize, sent_ms: u64, line: Line, seq: usize) {
        let last_ms = self.sent_ms.entry(end).or_default();
        *last_ms = sent_ms.max(*last_ms);
        let highest = self.highest.entry(line).or_default();
        *highest = seq.max(*highest);
    }

    /// Whether a later message of the same line outlived the end that this one did not.
    pub(super) fn has_passed(&self, line: Line, seq: usize) -> bool {
        self.highest.get(&line).is_some_and(|&highest| highest > seq)
    }

    /// Whether a message outlived an end that was sent after a time of the life before it.
    pub(super) fn has_later(&self, end: usize, ms: u64) -> bool {
        self.sent_ms.get(&end).is_some_and(|&sent_ms| sent_ms > ms)
    }
}
