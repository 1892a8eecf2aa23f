//! Exchanges that send a message along one of their bindings, whatever its key: `x-random` and
//! `x-local-random` leave it to chance, `x-modulus-hash` to the message's routing keys.
//!
//! A queue that is bound twice counts twice. Hashed messages go where RabbitMQ sends them: bindings
//! stand in its order (exchanges, then queues, each by name) and the hash is its hash, so that keys
//! keep their queues over restarts, and when a broker is replaced.
//!
//! Chance is SplitMix64: a shared counter, so that connections draw without waiting for each other,
//! from a seed of the broker's that nobody outside knows. It need not be unpredictable, only even.
//!
//! Invariant: bindings are ascending and distinct. Binding costs O(n) moves of memory and unbinding
//! a search through n, of which a fraction of a millisecond is spent at 100,000 bindings.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arguments::{Label, label};
use super::erlang_hash::phash2;
use super::{Destination, End};
use crate::protocol::table::Table;

/// The bindings of an exchange that picks one.
#[derive(Debug)]
pub struct OneOfMatcher {
    members: Vec<Member>,
    choice: Choice,
}

#[derive(Debug)]
enum Choice {
    Chance(AtomicU64),
    Keys,
}

/// A binding. The order of its fields is the order of bindings.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    is_queue: bool,
    name: Box<str>,
    destination: Destination,
    label: Label,
}

impl OneOfMatcher {
    /// Picks by chance.
    #[must_use]
    pub fn by_chance(seed: u64) -> Self {
        Self { members: Vec::new(), choice: Choice::Chance(AtomicU64::new(seed)) }
    }

    /// Picks by the hash of all routing keys.
    #[must_use]
    pub fn by_keys() -> Self {
        Self { members: Vec::new(), choice: Choice::Keys }
    }

    /// See [`Matcher::bind`](super::Matcher::bind); any key and arguments will do.
    pub fn bind(&mut self, key: &[u8], arguments: &Table, end: End<'_>) {
        let member = Member {
            is_queue: matches!(end.destination, Destination::Queue(_)),
            name: end.name.into(),
            destination: end.destination,
            label: label(key, arguments),
        };
        if let Err(at) = self.members.binary_search(&member) {
            self.members.insert(at, member);
        }
    }

    /// See [`Matcher::unbind`](super::Matcher::unbind).
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        let label = label(key, arguments);
        let is_it = |member: &Member| member.destination == destination && member.label == label;
        if let Some(at) = self.members.iter().position(is_it) {
            self.members.remove(at);
        }
        if self.members.is_empty() {
            self.members = Vec::new();
        }
    }

    /// See [`Matcher::matches`](super::Matcher::matches).
    pub fn matches(&self, keys: &[&[u8]], out: &mut Vec<Destination>) {
        let picked = match (&self.choice, self.members.len()) {
            (_, 0) => return,
            (_, 1) => 0,
            (Choice::Chance(state), len) => below(len, draw(state)),
            (Choice::Keys, len) => phash2(keys) as usize % len,
        };
        out.push(self.members[picked].destination);
    }

    /// Whether the same keys always lead to the same destination.
    #[must_use]
    pub fn goes_by_keys(&self) -> bool {
        matches!(self.choice, Choice::Keys)
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// The next number of SplitMix64.
fn draw(state: &AtomicU64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    mix(state.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN))
}

/// A bijection of 64 bits that leaves no trace of patterns in its input.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number below `len` from 64 even bits, by multiplication: cheaper than a remainder.
fn below(len: usize, bits: u64) -> usize {
    let picked = (u128::from(bits) * len as u128) >> 64;
    usize::try_from(picked).expect("invariant: below a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(mut matcher: OneOfMatcher, names: &[&str]) -> OneOfMatcher {
        for (id, name) in (0..).zip(names) {
            let end = End { destination: Destination::Queue(id), name };
            matcher.bind(b"", &Table::default(), end);
        }
        matcher
    }

    fn picked(matcher: &OneOfMatcher, key: &str) -> Destination {
        let mut out = Vec::new();
        matcher.matches(&[key.as_bytes()], &mut out);
        assert_eq!(out.len(), 1);
        out[0]
    }

    #[test]
    fn chance_is_even() {
        for seed in 0..20 {
            let matcher = bound(OneOfMatcher::by_chance(seed), &["a", "b", "c", "d", "e"]);
            let mut counts = [0_i32; 5];
            for _ in 0..10_000 {
                if let Destination::Queue(id) = picked(&matcher, "k") {
                    counts[usize::try_from(id).unwrap()] += 1;
                }
            }
            let chi_square: i32 = counts.iter().map(|n| (n - 2_000).pow(2)).sum::<i32>() / 2_000;
            assert!(chi_square <= 23, "seed {seed}: {counts:?}"); // 4 degrees, one in 10,000
        }
    }

    #[test]
    fn a_second_binding_of_a_queue_is_a_second_chance() {
        let mut matcher = bound(OneOfMatcher::by_chance(1), &["a", "b"]);
        let end = End { destination: Destination::Queue(0), name: "a" };
        matcher.bind(b"other", &Table::default(), end);
        matcher.bind(b"other", &Table::default(), end);
        assert_eq!(matcher.len(), 3);
        let hits = (0..3_000).filter(|_| picked(&matcher, "") == end.destination).count();
        assert!((1_850..2_150).contains(&hits), "{hits} of 3000");
    }

    /// `lists:nth(erlang:phash2([Key], 1 bsl 27) rem 3 + 1, lists:sort(Destinations))`.
    #[test]
    fn keys_pick_as_rabbitmq_does() {
        let matcher = bound(OneOfMatcher::by_keys(), &["c", "a", "b"]);
        // 53691870, 15239953 and 48858968, modulo 3: the first, the second and the third by name.
        let [a, b, c] = [1, 2, 0].map(Destination::Queue);
        let keys = ["a", "abcdefghijklmnopqrstuvwxyz", "key"];
        assert_eq!(keys.map(|key| picked(&matcher, key)), [a, b, c]);
        let mut out = Vec::new();
        matcher.matches(&[b"", b"a", b""], &mut out); // 36496655
        assert_eq!(out, [c]);
    }

    #[test]
    fn exchanges_stand_before_queues() {
        let mut matcher = bound(OneOfMatcher::by_keys(), &["a", "b"]);
        let end = End { destination: Destination::Exchange(7), name: "z" };
        matcher.bind(b"", &Table::default(), end);
        assert_eq!(picked(&matcher, "a"), end.destination);
    }
}
