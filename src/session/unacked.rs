//! A channel's unacknowledged deliveries, by delivery tag.
//!
//! Tags ascend, so the ledger is a queue: acknowledging in order is O(1), out of order O(log n).
//! Invariant: `tags` ascend; a settled slot in the middle stays as a gap until it reaches an end.

use std::collections::VecDeque;

use crate::broker::outbox::ConsumerId;
use crate::broker::queue::Entry;
use crate::store::QueueKey;

/// A delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Outstanding {
    /// Its delivery tag.
    pub(super) tag: u64,
    /// The queue it came from; its channel holds that.
    pub(super) queue: QueueKey,
    /// Its consumer; `ConsumerId::NONE` for basic.get.
    pub(super) consumer: ConsumerId,
    /// When it was delivered, in monotonic milliseconds.
    pub(super) delivered_ms: u64,
    /// The message.
    pub(super) entry: Entry,
}

#[derive(Debug)]
struct Slot {
    tag: u64,
    held: Option<Outstanding>,
}

/// The ledger.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    slots: VecDeque<Slot>,
    len: usize,
}

impl Unacked {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The oldest delivery that waits.
    pub(super) fn oldest(&self) -> Option<&Outstanding> {
        self.slots.front()?.held.as_ref()
    }

    pub(super) fn push(&mut self, outstanding: Outstanding) {
        debug_assert!(self.slots.back().is_none_or(|last| last.tag < outstanding.tag));
        self.len += 1;
        self.slots.push_back(Slot { tag: outstanding.tag, held: Some(outstanding) });
    }

    /// Takes one delivery out. `None` when the tag is not outstanding.
    pub(super) fn take(&mut self, tag: u64) -> Option<Outstanding> {
        let taken = if self.slots.front().is_some_and(|front| front.tag == tag) {
            // No gap stands at an end.
            self.slots.pop_front()?.held?
        } else {
            let at = self.slots.binary_search_by_key(&tag, |slot| slot.tag).ok()?;
            self.slots.get_mut(at)?.held.take()?
        };
        self.len -= 1;
        self.trim();
        Some(taken)
    }

    /// Takes every delivery up to `tag` out, in order; 0 takes all. `None`, and no change, when
    /// `tag` is not outstanding.
    pub(super) fn take_up_to(&mut self, tag: u64) -> Option<impl Iterator<Item = Outstanding>> {
        let end = if tag == 0 {
            self.slots.len()
        } else {
            let at = self.slots.binary_search_by_key(&tag, |slot| slot.tag).ok()?;
            self.slots.get(at)?.held.as_ref()?;
            at + 1
        };
        let taken: Vec<Outstanding> =
            self.slots.drain(..end).filter_map(|slot| slot.held).collect();
        self.len -= taken.len();
        self.trim();
        Some(taken.into_iter())
    }

    /// Puts deliveries back that a transaction had taken (tx.rollback).
    pub(super) fn restore(&mut self, taken: Vec<Outstanding>) {
        self.len += taken.len();
        let returned = taken.into_iter().map(|held| Slot { tag: held.tag, held: Some(held) });
        let mut slots: Vec<Slot> = returned.chain(self.slots.drain(..)).collect();
        slots.retain(|slot| slot.held.is_some());
        slots.sort_by_key(|slot| slot.tag);
        self.slots = slots.into();
    }

    fn trim(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.held.is_none()) {
            self.slots.pop_front();
        }
        while self.slots.back().is_some_and(|slot| slot.held.is_none()) {
            self.slots.pop_back();
        }
        // Gaps in the middle are swept once they are most of the ledger.
        if self.slots.len() > 64 && self.slots.len() > 4 * self.len {
            self.slots.retain(|slot| slot.held.is_some());
        }
        if self.slots.is_empty() && self.slots.capacity() > 1024 {
            self.slots.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::{Envelope, Message};
    use crate::store::QueueSeq;

    fn ledger(tags: impl IntoIterator<Item = u64>) -> Unacked {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            persistent: false,
            hides_bcc: false,
            published_ms: 0,
        };
        let mut unacked = Unacked::default();
        for tag in tags {
            let entry = Entry::new(QueueSeq(tag), Message::new(&envelope, b""));
            unacked.push(Outstanding {
                tag,
                queue: QueueKey { shard: 0, queue: 1 },
                consumer: ConsumerId(1),
                delivered_ms: tag,
                entry,
            });
        }
        unacked
    }

    fn tags(taken: Option<impl Iterator<Item = Outstanding>>) -> Option<Vec<u64>> {
        taken.map(|taken| taken.map(|outstanding| outstanding.tag).collect())
    }

    #[test]
    fn single_tags_settle_once_in_any_order() {
        let mut unacked = ledger([1, 2, 4, 7]);
        assert!(unacked.take(3).is_none(), "never delivered with acknowledgement");
        assert_eq!(unacked.take(4).map(|taken| taken.tag), Some(4));
        assert!(unacked.take(4).is_none(), "already settled");
        assert_eq!(unacked.take(1).map(|taken| taken.tag), Some(1));
        assert_eq!(unacked.len(), 2);
    }

    #[test]
    fn multiple_takes_everything_up_to_an_outstanding_tag_and_nothing_otherwise() {
        let mut unacked = ledger([1, 2, 4, 7]);
        unacked.take(2);
        assert_eq!(tags(unacked.take_up_to(2)), None);
        assert_eq!(tags(unacked.take_up_to(5)), None);
        assert_eq!(unacked.len(), 3);
        assert_eq!(tags(unacked.take_up_to(4)), Some(vec![1, 4]));
        assert_eq!(tags(unacked.take_up_to(0)), Some(vec![7]));
        assert_eq!(tags(unacked.take_up_to(0)), Some(vec![]), "tag 0 is fine with none left");
    }

    #[test]
    fn a_rolled_back_transaction_leaves_the_ledger_as_it_was() {
        let mut unacked = ledger(1..=5);
        let taken: Vec<Outstanding> = [4, 2].into_iter().filter_map(|t| unacked.take(t)).collect();
        unacked.restore(taken);
        assert_eq!(tags(unacked.take_up_to(0)), Some(vec![1, 2, 3, 4, 5]));
    }
}
