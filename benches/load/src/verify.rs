//! What consumers saw, compared with what publishers sent.
//!
//! Each consumer keeps one [`Seen`] per queue; [`judge`] puts them together when the load is over.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::batch::Stamp;

/// A seq above this is not one of ours: 2^32 messages would not fit a run.
const SEQ_MAX: u64 = 1 << 32;

#[derive(Debug, Default, Clone)]
struct Publisher {
    seen: Vec<u64>,
    highest: Option<u64>,
}

/// One consumer's view of one queue.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    publishers: Vec<Publisher>,
    duplicated: u64,
    disordered: u64,
    unexpected: u64,
}

impl Seen {
    /// Expects messages of the publishers `0..publishers`.
    pub(crate) fn new(publishers: usize) -> Self {
        Self { publishers: vec![Publisher::default(); publishers], ..Self::default() }
    }

    /// Notes a delivery. `None` is a body without a stamp.
    pub(crate) fn delivered(&mut self, stamp: Option<Stamp>, redelivered: bool) {
        let Some(stamp) = stamp.filter(|stamp| stamp.seq < SEQ_MAX) else {
            self.unexpected += 1;
            return;
        };
        let Some(publisher) = self.publishers.get_mut(usize::from(stamp.publisher)) else {
            self.unexpected += 1;
            return;
        };
        let (word, bit) = place(stamp.seq);
        if word >= publisher.seen.len() {
            publisher.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if publisher.seen[word] & bit != 0 {
            self.duplicated += 1;
        } else if !redelivered {
            if publisher.highest.is_some_and(|highest| stamp.seq < highest) {
                self.disordered += 1;
            }
            publisher.highest = publisher.highest.max(Some(stamp.seq));
        }
        publisher.seen[word] |= bit;
    }
}

/// Whether each queue gets every message or each message goes to one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Every queue holds every message.
    ToAll,
    /// Every message is in one queue.
    ToOne,
}

/// What was wrong; all zero is right.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Published and not delivered.
    pub(crate) lost: u64,
    /// Delivered again, flagged as redelivered or not: these loads requeue nothing.
    pub(crate) duplicated: u64,
    /// Never published by this load.
    pub(crate) unexpected: u64,
    /// Delivered after a later message of the same publisher.
    pub(crate) disordered: u64,
}

impl Verdict {
    /// Whether nothing was wrong.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// Puts all views together. `published` is each publisher's count.
pub(crate) fn judge(views: Vec<(usize, Seen)>, published: &[u64], spread: Spread) -> Verdict {
    let mut groups: BTreeMap<usize, Vec<Seen>> = BTreeMap::new();
    for (queue, seen) in views {
        groups.entry(if spread == Spread::ToAll { queue } else { 0 }).or_default().push(seen);
    }
    let mut verdict = Verdict::default();
    for seen in groups.values() {
        for (publisher, &count) in published.iter().enumerate() {
            let mut union: Vec<u64> = Vec::new();
            for words in seen.iter().filter_map(|seen| seen.publishers.get(publisher)) {
                union.resize(union.len().max(words.seen.len()), 0);
                for (all, one) in union.iter_mut().zip(&words.seen) {
                    verdict.duplicated += u64::from((*all & one).count_ones());
                    *all |= one;
                }
            }
            let ours = clear_from(&mut union, count);
            let delivered: u64 = union.iter().map(|word| u64::from(word.count_ones())).sum();
            verdict.lost += count - delivered;
            verdict.unexpected += ours;
        }
        for seen in seen {
            verdict.duplicated += seen.duplicated;
            verdict.disordered += seen.disordered;
            verdict.unexpected += seen.unexpected;
        }
    }
    verdict
}

/// Clears the bits from `seq` on and returns how many were set.
fn clear_from(words: &mut [u64], seq: u64) -> u64 {
    let (first, bit) = place(seq);
    let mut cleared = 0;
    for (at, word) in words.iter_mut().enumerate().skip(first) {
        let keep = if at == first { bit - 1 } else { 0 };
        cleared += u64::from((*word & !keep).count_ones());
        *word &= keep;
    }
    cleared
}

fn place(seq: u64) -> (usize, u64) {
    (usize::try_from(seq / 64).unwrap_or(usize::MAX), 1 << (seq % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(deliveries: &[(u16, u64)]) -> Seen {
        let mut seen = Seen::new(2);
        for &(publisher, seq) in deliveries {
            seen.delivered(Some(Stamp { publisher, seq, sent_ns: 0 }), false);
        }
        seen
    }

    fn verdict(lost: u64, duplicated: u64, unexpected: u64, disordered: u64) -> Verdict {
        Verdict { lost, duplicated, unexpected, disordered }
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let views = vec![(0, seen(&[(0, 0), (1, 0), (0, 2)])), (1, seen(&[(0, 1), (1, 1)]))];
        assert!(judge(views, &[3, 2], Spread::ToOne).is_clean());
    }

    #[test]
    fn every_kind_of_fault_is_counted() {
        let views =
            vec![(0, seen(&[(0, 0), (0, 2), (0, 1), (0, 2)])), (1, seen(&[(0, 0), (1, 9)]))];
        assert_eq!(judge(views, &[4, 0], Spread::ToOne), verdict(1, 2, 1, 1));
    }

    #[test]
    fn with_fanout_each_queue_is_judged_by_itself() {
        let views = vec![(0, seen(&[(0, 0), (0, 1)])), (1, seen(&[(0, 1)]))];
        assert_eq!(judge(views, &[2, 0], Spread::ToAll), verdict(1, 0, 0, 0));
    }

    #[test]
    fn a_message_of_another_publisher_or_without_a_stamp_is_unexpected() {
        let mut view = seen(&[(7, 0)]);
        view.delivered(None, false);
        assert_eq!(judge(vec![(0, view)], &[0, 0], Spread::ToOne), verdict(0, 0, 2, 0));
    }
}
