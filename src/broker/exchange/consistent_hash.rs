//! Consistent-hash exchanges: each message goes to one destination, chosen by the hash of its
//! routing key, of a header or of a property; destinations get shares as their weights say.
//!
//! RabbitMQ numbers buckets and jumps to one of them (jump consistent hashing); when a destination
//! goes, the numbers behind its own change, and with them the ways of messages that had nothing to
//! do with it. Here every destination draws a number for the message's hash, and the best one gets
//! it (rendezvous hashing, after Thaler and Ravishankar). The share of a destination that goes is
//! spread over the others, one that comes takes its share from all of them, and nothing else moves.
//! The draw depends on the destination's name and on nothing that happened before: keys keep their
//! queues over restarts, and a queue that is declared again gets its own messages.
//!
//! Of equal weights the highest draw wins, so one logarithm per different weight is enough; a
//! message costs about a nanosecond per destination. A ring of points would need thousands of them
//! per destination to be as even.
//!
//! Invariants: `shares` holds each bound destination once, with the weight of its oldest binding;
//! no weight is kept without a destination.

use std::collections::{BTreeMap, HashMap};

use super::arguments::{Label, label, push_header};
use super::one_of::mix;
use super::{BindError, CreateError, Destination, End, Traits};
use crate::protocol::table::{Table, ValueRef};

/// RabbitMQ's highest weight since 4.3.5.
pub const WEIGHT_MAX: u32 = 10_000;

/// The bindings of a consistent-hash exchange.
#[derive(Debug)]
pub struct ConsistentHashMatcher {
    hashed: Hashed,
    /// The bindings of each destination, oldest first; the others wait for it to go.
    bound: HashMap<Destination, Vec<Binding>>,
    shares: BTreeMap<u32, Vec<Share>>,
    bindings: usize,
}

/// What of a message is hashed.
#[derive(Debug)]
enum Hashed {
    RoutingKey,
    Header(Box<[u8]>),
    CorrelationId,
    MessageId,
    Timestamp,
}

#[derive(Debug)]
struct Binding {
    label: Label,
    weight: u32,
    seed: u64,
}

/// A destination among those of its weight.
#[derive(Debug)]
struct Share {
    seed: u64,
    destination: Destination,
}

impl ConsistentHashMatcher {
    /// No bindings yet. The exchange's arguments say what is hashed.
    ///
    /// # Errors
    /// When they name something that cannot be, or both a header and a property.
    pub fn new(arguments: &Table) -> Result<Self, CreateError> {
        let hashed = Hashed::of(arguments)?;
        Ok(Self { hashed, bound: HashMap::new(), shares: BTreeMap::new(), bindings: 0 })
    }

    /// See [`Matcher::bind`](super::Matcher::bind); the key is the weight, in decimal. A second
    /// binding of a destination changes nothing while the first one is there.
    ///
    /// # Errors
    /// The `Weight...` variants of [`BindError`].
    pub fn bind(&mut self, key: &[u8], arguments: &Table, end: End<'_>) -> Result<(), BindError> {
        let weight = weight(key)?;
        let label = label(key, arguments);
        let bound = self.bound.entry(end.destination).or_default();
        if bound.iter().all(|binding| binding.label != label) {
            let seed = seed(end);
            if bound.is_empty() {
                let share = Share { seed, destination: end.destination };
                self.shares.entry(weight).or_default().push(share);
            }
            bound.push(Binding { label, weight, seed });
            self.bindings += 1;
        }
        Ok(())
    }

    /// See [`Matcher::check`](super::Matcher::check).
    ///
    /// # Errors
    /// The `Weight...` variants of [`BindError`].
    pub fn check(key: &[u8]) -> Result<(), BindError> {
        weight(key).map(drop)
    }

    /// See [`Matcher::unbind`](super::Matcher::unbind).
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        let label = label(key, arguments);
        let Some(bound) = self.bound.get_mut(&destination) else { return };
        let Some(at) = bound.iter().position(|binding| binding.label == label) else { return };
        let removed = bound.remove(at);
        self.bindings -= 1;
        if at == 0 {
            if let Some(shares) = self.shares.get_mut(&removed.weight) {
                shares.retain(|share| share.destination != destination);
                if shares.is_empty() {
                    self.shares.remove(&removed.weight);
                }
            }
            if let Some(next) = bound.first() {
                let share = Share { seed: next.seed, destination };
                self.shares.entry(next.weight).or_default().push(share);
            }
        }
        if bound.is_empty() {
            self.bound.remove(&destination);
        }
        if self.bindings == 0 {
            self.bound = HashMap::new();
        }
    }

    /// See [`Matcher::matches`](super::Matcher::matches).
    pub fn matches(&self, message: Traits<'_>, out: &mut Vec<Destination>) {
        if self.bindings == 0 {
            return;
        }
        let hash = self.hashed.hash(message);
        let best_of = |(weight, shares): (&u32, &Vec<Share>)| {
            let drawn = shares.iter().map(|share| (mix(hash ^ share.seed), share));
            let (draw, share) = drawn.max_by_key(|(draw, share)| (*draw, share.seed))?;
            Some((*weight, draw, share.destination))
        };
        let mut bests = self.shares.iter().filter_map(best_of);
        let Some(mut best) = bests.next() else { return };
        for other in bests {
            if lateness(other.0, other.1) < lateness(best.0, best.1) {
                best = other;
            }
        }
        out.push(best.2);
    }

    /// Whether the same routing key always leads to the same destination.
    #[must_use]
    pub fn goes_by_keys(&self) -> bool {
        matches!(self.hashed, Hashed::RoutingKey)
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings == 0
    }
}

impl Hashed {
    fn of(arguments: &Table) -> Result<Self, CreateError> {
        let text = |argument: &'static str| match arguments.get(argument) {
            None => Ok(None),
            Some(value) => match value.as_long_str() {
                Some(text) => Ok(Some(text)),
                None => Err(CreateError::NotAString { argument, type_name: value.type_name() }),
            },
        };
        match (text("hash-header")?, text("hash-property")?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(header.into())),
            (None, Some(b"correlation_id")) => Ok(Self::CorrelationId),
            (None, Some(b"message_id")) => Ok(Self::MessageId),
            (None, Some(b"timestamp")) => Ok(Self::Timestamp),
            (None, Some(other)) => {
                let property = String::from_utf8_lossy(other).into_owned();
                Err(CreateError::UnsupportedHashProperty { property })
            }
            (Some(_), Some(_)) => Err(CreateError::TwoHashSources),
        }
    }

    /// Messages that lack what is hashed go one way, all of them. CC and BCC have no say.
    fn hash(&self, message: Traits<'_>) -> u64 {
        let properties = message.properties;
        let found = match self {
            Self::RoutingKey => message.keys.first().copied(),
            Self::Header(name) => {
                let headers = properties.headers.iter().flat_map(|headers| headers.iter());
                // Of several with one name the last one counts, as in headers exchanges.
                let value = headers.filter(|(other, _)| *other == &**name).last();
                return value.map_or(0, |(_, value)| hash_of_value(value));
            }
            Self::CorrelationId => properties.correlation_id,
            Self::MessageId => properties.message_id,
            Self::Timestamp => {
                return properties.timestamp.map_or(0, |seconds| hash(&seconds.to_be_bytes()));
            }
        };
        found.map_or(0, hash)
    }
}

/// Integers of all widths are one kind, and of an array the first element counts.
fn hash_of_value(mut value: ValueRef<'_>) -> u64 {
    while let Some(first) = value.as_array().and_then(|array| array.iter().next()) {
        value = first;
    }
    let mut bytes = Vec::new();
    push_header(value, &mut bytes);
    hash(&bytes)
}

/// FNV-1a, with its bits mixed: it must be the same for ever, and clients that choose keys which
/// collide harm their own balance only.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A destination's own number.
fn seed(end: End<'_>) -> u64 {
    let kind = match end.destination {
        Destination::Queue(_) => 1,
        Destination::Exchange(_) => 2,
    };
    mix(hash(end.name.as_bytes()).wrapping_add(kind))
}

/// When a clock of this rate that drew this number rings: the first one wins, and the chance of
/// being first is a clock's part of all rates. Exponentially distributed, from even 64 bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits of chance are plenty")]
fn lateness(weight: u32, draw: u64) -> f64 {
    let share_missed = (u64::MAX - draw) as f64 / u64::MAX as f64;
    -(-share_missed).ln_1p() / f64::from(weight)
}

/// A weight, as Erlang reads an integer: digits, perhaps with a sign in front.
fn weight(key: &[u8]) -> Result<u32, BindError> {
    let (negative, digits) = match key {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BindError::WeightNotInteger { key: super::arguments::erlang_binary(key) });
    }
    let size = digits.iter().fold(0, |size: u32, digit| {
        size.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
    });
    match size {
        0 => Err(BindError::WeightTooSmall),
        _ if negative => Err(BindError::WeightTooSmall),
        size if size > WEIGHT_MAX => Err(BindError::WeightTooLarge),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::properties::Properties;

    fn end(id: u64, name: &str) -> End<'_> {
        End { destination: Destination::Queue(id), name }
    }

    fn bound(weights: &[u32]) -> ConsistentHashMatcher {
        let mut matcher = ConsistentHashMatcher::new(&Table::default()).unwrap();
        for (id, weight) in (0..).zip(weights) {
            let key = weight.to_string();
            matcher
                .bind(key.as_bytes(), &Table::default(), end(id, &format!("queue-{id}")))
                .unwrap();
        }
        matcher
    }

    fn routed(matcher: &ConsistentHashMatcher, key: &str) -> u64 {
        let mut out = Vec::new();
        let properties = Properties::default();
        let keys = [key.as_bytes()];
        let message = Traits { keys: &keys, properties: &properties, message: None };
        matcher.matches(message, &mut out);
        match out[..] {
            [Destination::Queue(id)] => id,
            _ => panic!("{out:?}"),
        }
    }

    fn all(matcher: &ConsistentHashMatcher) -> Vec<u64> {
        (0..20_000).map(|n| routed(matcher, &format!("order {n}"))).collect()
    }

    /// How far counts are from their shares, squared and weighed.
    fn chi_square(routed: &[u64], weights: &[u32]) -> f64 {
        let sum = f64::from(weights.iter().sum::<u32>());
        let shares = (0..).zip(weights).map(|(id, weight)| {
            let count = routed.iter().filter(|routed| **routed == id).count();
            let expected = routed.len() as f64 * f64::from(*weight) / sum;
            (count as f64 - expected).powi(2) / expected
        });
        shares.sum()
    }

    #[test]
    fn shares_are_as_the_weights_say() {
        // Bounds that chance passes once in ten thousand times.
        for (weights, bound_at) in [
            (vec![1; 10], 33.7),
            (vec![7; 10], 33.7),
            (vec![1; 100], 161.3),
            (vec![1, 2, 3, 4], 21.1),
            (vec![1, 1, 1, 10, 10, 100], 25.7),
            (vec![10_000, 5_000], 15.1),
        ] {
            let chi_square = chi_square(&all(&bound(&weights)), &weights);
            assert!(chi_square < bound_at, "{weights:?}: {chi_square}");
        }
    }

    #[test]
    fn only_the_share_of_a_destination_that_comes_or_goes_moves() {
        for (mut weights, moving) in [(vec![1; 8], 3), (vec![2, 1, 5, 9, 1], 2)] {
            let mut matcher = bound(&weights);
            let with = all(&matcher);
            let key = weights[moving].to_string();
            let name = format!("queue-{moving}");
            let moving_end = end(moving as u64, &name);
            matcher.unbind(key.as_bytes(), &Table::default(), moving_end.destination);
            let without = all(&matcher);
            let mut moved = Vec::new();
            for (before, after) in with.iter().zip(&without) {
                if *before == moving as u64 {
                    moved.push(*after);
                } else {
                    assert_eq!(before, after);
                }
            }
            assert!(moved.len() > 1_500, "{}", moved.len());
            matcher.bind(key.as_bytes(), &Table::default(), moving_end).unwrap();
            assert_eq!(all(&matcher), with, "who comes back gets what was its own");
            // The share that moved is spread as the weights of the others say.
            weights[moving] = 0;
            let others = |id: &u64| *id - u64::from(*id > moving as u64);
            let moved: Vec<u64> = moved.iter().map(others).collect();
            weights.remove(moving);
            assert!(chi_square(&moved, &weights) < 27.9, "{moved:?}");
        }
    }

    #[test]
    fn the_order_of_bindings_does_not_matter() {
        let weights = [3, 1, 1, 2];
        let mut turned = ConsistentHashMatcher::new(&Table::default()).unwrap();
        for (id, weight) in [(3, 2), (2, 1), (1, 1), (0, 3)] {
            let (key, name) = (weight.to_string(), format!("queue-{id}"));
            turned.bind(key.as_bytes(), &Table::default(), end(id, &name)).unwrap();
        }
        assert_eq!(all(&turned), all(&bound(&weights)));
    }

    #[test]
    fn the_oldest_binding_of_a_destination_counts() {
        let mut matcher = bound(&[1, 1]);
        let once = all(&matcher);
        matcher.bind(b"1000", &Table::default(), end(0, "queue-0")).unwrap();
        matcher.bind(b"1000", &Table::default(), end(0, "queue-0")).unwrap();
        assert_eq!((matcher.len(), all(&matcher)), (3, once));
        matcher.unbind(b"1", &Table::default(), Destination::Queue(0));
        assert!(chi_square(&all(&matcher), &[1000, 1]) < 15.1);
    }

    #[test]
    fn weights_are_integers_as_erlang_reads_them() {
        for (key, expected) in [("1", 1), ("+7", 7), ("0010", 10), ("10000", 10_000)] {
            assert_eq!(weight(key.as_bytes()), Ok(expected), "{key}");
        }
        for key in ["", "-", "one", "1.0", " 1", "1 "] {
            let refused = weight(key.as_bytes()).unwrap_err();
            assert!(matches!(refused, BindError::WeightNotInteger { .. }), "{key}");
        }
        for key in ["0", "-0", "-1", "-99999999999999999999"] {
            assert_eq!(weight(key.as_bytes()), Err(BindError::WeightTooSmall), "{key}");
        }
        for key in ["10001", "99999999999999999999"] {
            assert_eq!(weight(key.as_bytes()), Err(BindError::WeightTooLarge), "{key}");
        }
    }
}
