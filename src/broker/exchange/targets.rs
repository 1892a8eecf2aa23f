//! The bindings that match together: those of one key, one trie node, one fanout exchange.
//!
//! Invariants: ordered by destination, then label, so that the bindings of one destination are
//! neighbours; `One` and `Many` are never empty. Adding and removing cost O(log n) at worst: a
//! million queues may be bound with the same key.

use std::collections::BTreeSet;

use super::Destination;
use super::arguments::Label;

/// A binding's end, told apart from others to the same destination by its label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) destination: Destination,
    pub(super) label: Label,
}

/// A set of [`Target`]s that costs nothing beyond itself while it holds at most one: 24 bytes.
#[derive(Debug, Default)]
pub(super) enum Targets {
    #[default]
    Empty,
    One(Target),
    #[expect(clippy::box_collection, reason = "unboxed, it would make all three larger")]
    Many(Box<BTreeSet<Target>>),
}

impl Targets {
    /// Adds a target; false when it was there.
    pub(super) fn insert(&mut self, target: Target) -> bool {
        match self {
            Self::Empty => *self = Self::One(target),
            Self::One(present) if *present == target => return false,
            Self::One(_) => {
                let Self::One(present) = std::mem::take(self) else {
                    unreachable!("invariant: matched just above")
                };
                *self = Self::Many(Box::new(BTreeSet::from([present, target])));
            }
            Self::Many(set) => return set.insert(target),
        }
        true
    }

    /// Takes a target away; false when it was not there.
    pub(super) fn remove(&mut self, target: &Target) -> bool {
        match self {
            Self::Empty => return false,
            Self::One(present) => {
                if present != target {
                    return false;
                }
                *self = Self::Empty;
            }
            Self::Many(set) => {
                if !set.remove(target) {
                    return false;
                }
                if set.len() == 1 {
                    *self = set.pop_first().map_or(Self::Empty, Self::One);
                }
            }
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Appends the destinations, ascending, each once.
    pub(super) fn collect(&self, out: &mut Vec<Destination>) {
        match self {
            Self::Empty => {}
            Self::One(target) => out.push(target.destination),
            Self::Many(set) => {
                let start = out.len();
                for target in set.iter() {
                    if out.len() == start || out.last() != Some(&target.destination) {
                        out.push(target.destination);
                    }
                }
            }
        }
    }
}

/// Sorts what was appended to `out` from `start` on, and leaves each destination once.
pub(super) fn settle(out: &mut Vec<Destination>, start: usize) {
    let Some(appended) = out.get_mut(start..) else { return };
    if appended.len() < 2 {
        return;
    }
    appended.sort_unstable();
    let mut kept = start + 1;
    for at in start + 1..out.len() {
        if out[at] != out[kept - 1] {
            out[kept] = out[at];
            kept += 1;
        }
    }
    out.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: u64, label: &[u8]) -> Target {
        Target { destination: Destination::Queue(id), label: label.into() }
    }

    fn collected(targets: &Targets) -> Vec<u64> {
        let mut out = Vec::new();
        targets.collect(&mut out);
        out.iter()
            .map(|destination| match destination {
                Destination::Queue(id) => *id,
                Destination::Exchange(id) => 1000 + id,
            })
            .collect()
    }

    #[test]
    fn a_destination_stays_until_its_last_binding_goes() {
        let mut targets = Targets::default();
        assert!(targets.insert(target(2, b"")));
        assert!(!targets.insert(target(2, b"")));
        assert!(targets.insert(target(2, b"other")));
        assert!(targets.insert(target(1, b"")));
        assert!(!targets.insert(target(1, b"")));
        assert_eq!(collected(&targets), [1, 2]);
        assert!(targets.remove(&target(2, b"")));
        assert!(!targets.remove(&target(2, b"")));
        assert_eq!(collected(&targets), [1, 2]);
        assert!(targets.remove(&target(2, b"other")));
        assert_eq!(collected(&targets), [1]);
        assert!(matches!(targets, Targets::One(_)));
        assert!(!targets.remove(&target(3, b"")));
        assert!(targets.remove(&target(1, b"")));
        assert!(targets.is_empty());
    }

    #[test]
    fn a_single_target_takes_three_words() {
        assert_eq!(size_of::<Targets>(), 24);
    }

    #[test]
    fn settling_touches_only_what_was_appended() {
        let all = [5, 1, 3, 2, 3, 1, 1].map(Destination::Queue);
        for (start, expected) in [
            (0, &[1, 2, 3, 5][..]),
            (2, &[5, 1, 1, 2, 3]),
            (6, &[5, 1, 3, 2, 3, 1, 1]),
            (7, &[5, 1, 3, 2, 3, 1, 1]),
        ] {
            let mut out = all.to_vec();
            settle(&mut out, start);
            assert_eq!(out, expected.iter().copied().map(Destination::Queue).collect::<Vec<_>>());
        }
    }
}
