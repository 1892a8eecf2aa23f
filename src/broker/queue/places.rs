//! Places of waiting messages that a trigger may take out of turn, as runs of numbers.
//!
//! Messages that lie side by side are one run, so what is known of a queue all of whose messages
//! qualify is a few words, however long it is; at worst, when every other one does, it is two words
//! for each of them.
//!
//! Invariant: runs neither overlap nor touch, and none is empty.

use std::collections::BTreeMap;

use crate::store::QueueSeq;

/// Places, those of higher levels first and of one level in their order.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Where each run begins, and behind its last.
    runs: BTreeMap<u64, u64>,
}

/// What places are ordered by.
fn key(seq: QueueSeq) -> u64 {
    QueueSeq::new(u8::MAX - seq.level(), seq.number()).0
}

fn seq(key: u64) -> QueueSeq {
    QueueSeq(self::key(QueueSeq(key)))
}

impl Places {
    pub(super) fn add(&mut self, place: QueueSeq) {
        let at = key(place);
        let mut from = at;
        if let Some((&start, &end)) = self.runs.range(..=at).next_back()
            && end >= at
        {
            if end > at {
                return;
            }
            from = start;
        }
        let to = self.runs.remove(&(at + 1)).unwrap_or(at + 1);
        self.runs.insert(from, to);
    }

    pub(super) fn remove(&mut self, place: QueueSeq) {
        let at = key(place);
        let Some((&start, end)) = self.runs.range_mut(..=at).next_back() else { return };
        let behind = *end;
        if at >= behind {
            return;
        }
        *end = at;
        if start == at {
            self.runs.remove(&start);
        }
        if at + 1 < behind {
            self.runs.insert(at + 1, behind);
        }
    }

    pub(super) fn has(&self, place: QueueSeq) -> bool {
        let at = key(place);
        self.runs.range(..=at).next_back().is_some_and(|(_, end)| at < *end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// All of them, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = QueueSeq> {
        self.runs.iter().flat_map(|(start, end)| (*start..*end).map(seq))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_what_a_set_would_be(
            steps in prop::collection::vec((any::<bool>(), 0..3_u8, 0..12_u64), 0..80)
        ) {
            let (mut places, mut set) = (Places::default(), BTreeSet::new());
            for (adds, level, number) in steps {
                let place = QueueSeq::new(level, number);
                if adds {
                    places.add(place);
                    set.insert((u8::MAX - level, number));
                } else {
                    places.remove(place);
                    set.remove(&(u8::MAX - level, number));
                }
                let found: Vec<_> =
                    places.iter().map(|it| (u8::MAX - it.level(), it.number())).collect();
                prop_assert_eq!(&found, &set.iter().copied().collect::<Vec<_>>());
                let runs: Vec<_> = places.runs.iter().collect();
                prop_assert!(runs.windows(2).all(|two| two[0].1 < two[1].0), "{runs:?}");
            }
        }
    }

    #[test]
    fn what_lies_side_by_side_is_one_run() {
        let mut places = Places::default();
        (0..1_000_000).for_each(|number| places.add(QueueSeq::new(0, number)));
        assert_eq!(places.runs.len(), 1);
    }
}
