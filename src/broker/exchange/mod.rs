//! Exchanges as pure matching structures: which destinations a message reaches.
//!
//! Owns nothing but bindings, in the form each exchange type matches fastest. No locks, no names of
//! queues, no IO: the broker chooses the ids, keeps one [`Matcher`] per exchange behind a lock, and
//! remembers what it answered until a binding changes.
//!
//! Invariants: a matcher's answer depends only on its bindings (and chance, where that is its
//! purpose), never on the order in which they came; it names each destination once, in ascending
//! order; `bind` and `unbind` of the same (key, arguments, destination) cancel out exactly, memory
//! included once the last binding is gone.

mod arguments;
pub mod besides;
pub mod consistent_hash;
pub mod direct;
mod erlang_hash;
pub mod fanout;
pub mod headers;
pub mod history;
pub mod one_of;
mod targets;
pub mod topic;

use crate::broker::message::Message;
use crate::protocol::properties::Properties;
use crate::protocol::table::Table;

pub use besides::{Besides, Verdict};
pub use consistent_hash::ConsistentHashMatcher;
pub use direct::DirectMatcher;
pub use fanout::FanoutMatcher;
pub use headers::HeadersMatcher;
pub use one_of::OneOfMatcher;
pub use topic::TopicMatcher;

pub(super) use arguments::{erlang_term, push_header};

/// What a binding leads to: a queue's or an exchange's id, chosen by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A queue.
    Queue(u64),
    /// Another exchange, to be asked in turn.
    Exchange(u64),
}

/// The end of a binding. Its name outlives restarts, which the id of an exchange does not.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// What the binding leads to.
    pub destination: Destination,
    /// Its name.
    pub name: &'a str,
}

/// What exchanges look at in a message.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    /// Its routing key, then those of CC and BCC.
    pub keys: &'a [&'a [u8]],
    /// Its properties.
    pub properties: &'a Properties<'a>,
    /// The message itself, once it is built.
    pub message: Option<&'a Message>,
}

/// The exchange types that match on bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One of the bindings matches, by a hash and the bindings' weights.
    ConsistentHash,
    /// Every binding matches, but a message that has come before goes nowhere.
    Deduplication,
    /// Matches like the type that it is declared with, once a message's delay is over.
    Delayed,
    /// Binding key equals routing key.
    Direct,
    /// Every binding matches.
    Fanout,
    /// Binding arguments are compared with the message's headers.
    Headers,
    /// One of the bindings matches, by chance; they lead to classic queues on this node.
    LocalRandom,
    /// One of the bindings matches, by the hash of the routing keys.
    ModulusHash,
    /// One of the bindings matches, by chance.
    Random,
    /// Every binding matches, and a new one gets the latest messages.
    RecentHistory,
    /// Binding keys are patterns of words.
    Topic,
}

impl Kind {
    /// All of them, by name.
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::Fanout,
        Self::Headers,
        Self::Topic,
        Self::ConsistentHash,
        Self::Deduplication,
        Self::Delayed,
        Self::LocalRandom,
        Self::ModulusHash,
        Self::Random,
        Self::RecentHistory,
    ];

    /// The type of that name in `exchange.declare`, if it is one of these.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name clients declare it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsistentHash => "x-consistent-hash",
            Self::Deduplication => "x-message-deduplication",
            Self::Delayed => "x-delayed-message",
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
            Self::LocalRandom => "x-local-random",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::RecentHistory => "x-recent-history",
            Self::Topic => "topic",
        }
    }

    /// What RabbitMQ tells operators about it.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::ConsistentHash => "Consistent Hashing Exchange",
            Self::Deduplication => "Message Deduplication Exchange.",
            Self::Delayed => "Delayed Message Exchange.",
            Self::Direct => "AMQP direct exchange, as per the AMQP specification",
            Self::Fanout => "AMQP fanout exchange, as per the AMQP specification",
            Self::Headers => "AMQP headers exchange, as per the AMQP specification",
            Self::LocalRandom => "Picks one random local binding (queue) to route via (to).",
            Self::ModulusHash => "Modulus Hashing Exchange",
            Self::Random => "Randomly picks a binding (queue) to route via (to).",
            Self::RecentHistory => "Recent History Exchange.",
            Self::Topic => "AMQP topic exchange, as per the AMQP specification",
        }
    }
}

impl Kind {
    /// The type whose matching an exchange of this type and these arguments has: its own, but for
    /// delayed ones.
    ///
    /// # Errors
    /// When a delayed exchange does not say, or names a type that there is not.
    pub fn matching(self, arguments: &Table) -> Result<Self, CreateError> {
        if self != Self::Delayed {
            return Ok(self);
        }
        let named = arguments.get("x-delayed-type").and_then(|value| value.as_str());
        let named = named.ok_or(CreateError::NoDelayedType)?;
        match Self::from_name(named) {
            Some(Self::Delayed) => Err(CreateError::DelayedTwice),
            Some(kind) => Ok(kind),
            None => Err(CreateError::UnknownDelayedType { name: named.to_owned() }),
        }
    }
}

/// Why an exchange cannot be made of its arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A delayed exchange of delayed exchanges.
    #[error("x-delayed-message cannot be the x-delayed-type")]
    DelayedTwice,
    /// An `x-cache-size` that is missing or no positive integer.
    #[error("x-cache-size must be a positive integer")]
    InvalidCacheSize,
    /// An `x-cache-ttl` that is no positive integer.
    #[error("x-cache-ttl must be a positive integer")]
    InvalidCacheTtl,
    /// A delayed exchange that does not say how it matches.
    #[error("x-delayed-type is missing")]
    NoDelayedType,
    /// A delayed exchange that names a type which there is not.
    #[error("unknown exchange type '{name}'")]
    UnknownDelayedType {
        /// As given.
        name: String,
    },
    /// An `x-recent-history-length` that is no positive integer.
    #[error("invalid argument {value} for x-recent-history-length")]
    InvalidHistoryLength {
        /// The value, as an Erlang term.
        value: String,
    },
    /// An argument that must be a string.
    #[error("invalid type '{type_name}' for arg '{argument}'")]
    NotAString {
        /// The argument.
        argument: &'static str,
        /// RabbitMQ's name of the type that was given.
        type_name: &'static str,
    },
    /// Both `hash-header` and `hash-property`.
    #[error("hash-header and hash-property are mutually exclusive")]
    TwoHashSources,
    /// A `hash-property` that cannot be hashed.
    #[error("unsupported property: {property}")]
    UnsupportedHashProperty {
        /// As given.
        property: String,
    },
}

/// Why a binding is refused. Values are printed as RabbitMQ prints them in its reply texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// More than two `#` words in a topic binding key (RabbitMQ's bound since 4.3.5).
    #[error("topic binding key '{key}' uses {count} '#' wildcards")]
    TooManyWildcards {
        /// The binding key.
        key: String,
        /// How many of its words are `#`.
        count: usize,
    },
    /// An `x-match` argument that is none of the four modes.
    #[error("invalid x-match field value {value}")]
    InvalidXMatch {
        /// The value, as an Erlang term: `<<"some">>`.
        value: String,
    },
    /// An `x-match` argument that is no string.
    #[error("invalid x-match field type {type_name} (value {value})")]
    InvalidXMatchType {
        /// RabbitMQ's name of the type, such as `signedint`.
        type_name: &'static str,
        /// The value, as an Erlang term.
        value: String,
    },
    /// A weight that is no integer.
    #[error("the binding key must be an integer: {key}")]
    WeightNotInteger {
        /// The binding key, as an Erlang term.
        key: String,
    },
    /// A weight below one.
    #[error("the binding key must be greater than 0")]
    WeightTooSmall,
    /// A weight above [`consistent_hash::WEIGHT_MAX`].
    #[error("the binding key must not exceed {}", consistent_hash::WEIGHT_MAX)]
    WeightTooLarge,
}

/// The bindings of one exchange, arranged for its type.
#[derive(Debug)]
pub enum Matcher {
    /// Of a consistent-hash exchange.
    ConsistentHash(ConsistentHashMatcher),
    /// Of a direct exchange.
    Direct(DirectMatcher),
    /// Of a fanout exchange.
    Fanout(FanoutMatcher),
    /// Of a headers exchange.
    Headers(HeadersMatcher),
    /// Of an exchange that picks one of its bindings.
    OneOf(OneOfMatcher),
    /// Of a topic exchange.
    Topic(TopicMatcher),
}

impl Matcher {
    /// No bindings yet. What is left to chance follows from the seed.
    ///
    /// # Errors
    /// When the exchange's arguments make no sense for its type.
    pub fn new(kind: Kind, arguments: &Table, seed: u64) -> Result<Self, CreateError> {
        Ok(match kind.matching(arguments)? {
            Kind::ConsistentHash => Self::ConsistentHash(ConsistentHashMatcher::new(arguments)?),
            Kind::Direct => Self::Direct(DirectMatcher::default()),
            Kind::Deduplication | Kind::Fanout | Kind::RecentHistory => {
                Self::Fanout(FanoutMatcher::default())
            }
            Kind::Headers => Self::Headers(HeadersMatcher::default()),
            Kind::LocalRandom | Kind::Random => Self::OneOf(OneOfMatcher::by_chance(seed)),
            Kind::ModulusHash => Self::OneOf(OneOfMatcher::by_keys()),
            Kind::Delayed => return Err(CreateError::DelayedTwice),
            Kind::Topic => Self::Topic(TopicMatcher::default()),
        })
    }

    /// Whether the exchange type understands a binding's key and arguments.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub fn check(&self, key: &[u8], arguments: &Table) -> Result<(), BindError> {
        match self {
            Self::ConsistentHash(_) => ConsistentHashMatcher::check(key),
            Self::Direct(_) | Self::Fanout(_) | Self::OneOf(_) => Ok(()),
            Self::Headers(_) => HeadersMatcher::check(arguments),
            Self::Topic(_) => TopicMatcher::check(key),
        }
    }

    /// Adds a binding. One that is already there (same key, arguments and destination) stays as it
    /// is; the same key and destination with other arguments is another binding.
    ///
    /// # Errors
    /// When the exchange type does not understand the key or the arguments; nothing is added then.
    pub fn bind(&mut self, key: &[u8], arguments: &Table, end: End<'_>) -> Result<(), BindError> {
        match self {
            Self::ConsistentHash(matcher) => return matcher.bind(key, arguments, end),
            Self::Direct(matcher) => matcher.bind(key, arguments, end.destination),
            Self::Fanout(matcher) => matcher.bind(key, arguments, end.destination),
            Self::Headers(matcher) => return matcher.bind(key, arguments, end.destination),
            Self::OneOf(matcher) => matcher.bind(key, arguments, end),
            Self::Topic(matcher) => return matcher.bind(key, arguments, end.destination),
        }
        Ok(())
    }

    /// Takes a binding away; one that is not there is no mistake.
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        match self {
            Self::ConsistentHash(matcher) => matcher.unbind(key, arguments, destination),
            Self::Direct(matcher) => matcher.unbind(key, arguments, destination),
            Self::Fanout(matcher) => matcher.unbind(key, arguments, destination),
            Self::Headers(matcher) => matcher.unbind(key, arguments, destination),
            Self::OneOf(matcher) => matcher.unbind(key, arguments, destination),
            Self::Topic(matcher) => matcher.unbind(key, arguments, destination),
        }
    }

    /// Appends the destinations of every binding that matches to `out`: each once for a routing
    /// key, however many of its bindings do, ascending. What `out` already holds is neither looked
    /// at nor moved.
    pub fn matches(&self, message: Traits<'_>, out: &mut Vec<Destination>) {
        match self {
            Self::ConsistentHash(matcher) => matcher.matches(message, out),
            Self::Direct(matcher) => message.keys.iter().for_each(|key| matcher.matches(key, out)),
            Self::Fanout(matcher) => matcher.matches(out),
            Self::Headers(matcher) => matcher.matches(message.properties.headers, out),
            Self::OneOf(matcher) => matcher.matches(message.keys, out),
            Self::Topic(matcher) => message.keys.iter().for_each(|key| matcher.matches(key, out)),
        }
    }

    /// Whether the same routing keys lead to the same destinations until a binding changes, so that
    /// the answer can be remembered by them.
    #[must_use]
    pub fn goes_by_keys(&self) -> bool {
        match self {
            Self::ConsistentHash(matcher) => matcher.goes_by_keys(),
            Self::Direct(_) | Self::Fanout(_) | Self::Topic(_) => true,
            Self::Headers(_) => false,
            Self::OneOf(matcher) => matcher.goes_by_keys(),
        }
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::ConsistentHash(matcher) => matcher.len(),
            Self::Direct(matcher) => matcher.len(),
            Self::Fanout(matcher) => matcher.len(),
            Self::Headers(matcher) => matcher.len(),
            Self::OneOf(matcher) => matcher.len(),
            Self::Topic(matcher) => matcher.len(),
        }
    }

    /// Whether there is no binding: where an auto-delete exchange goes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(matcher: &Matcher, key: &[u8]) -> Vec<Destination> {
        let mut out = Vec::new();
        let properties = Properties::default();
        let message = Traits { keys: &[key], properties: &properties, message: None };
        matcher.matches(message, &mut out);
        out
    }

    fn empty(kind: Kind) -> Matcher {
        Matcher::new(kind, &Table::new().with("x-delayed-type", "topic"), 0).unwrap()
    }

    fn end(destination: Destination) -> End<'static> {
        End { destination, name: "some" }
    }

    #[test]
    fn kinds_have_the_names_that_clients_declare() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        for unknown in ["", "Direct", "x-jms-topic"] {
            assert_eq!(Kind::from_name(unknown), None);
        }
    }

    #[test]
    fn each_kind_that_matches_all_it_can_keeps_bindings_apart_and_names_a_destination_once() {
        let plain = Table::new();
        let other = Table::new().with("x-other", 1i32);
        let [queue, exchange] = [Destination::Queue(1), Destination::Exchange(1)];
        let bindings = [
            (&b"k"[..], &plain, queue),
            (b"k", &other, queue),
            (b"l", &plain, queue),
            (b"k", &plain, exchange),
        ];
        for kind in [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers] {
            let mut matcher = empty(kind);
            assert!(matcher.is_empty() && routed(&matcher, b"k").is_empty());
            for (key, arguments, destination) in bindings.into_iter().chain(bindings) {
                matcher.bind(key, arguments, end(destination)).unwrap();
            }
            assert_eq!((matcher.len(), routed(&matcher, b"k")), (4, vec![queue, exchange]));
            for (left, (key, arguments, destination)) in (0..4).rev().zip(bindings) {
                let expected = routed(&matcher, b"k");
                assert!(expected.contains(&exchange), "{kind:?}");
                for _ in 0..2 {
                    matcher.unbind(key, arguments, destination);
                }
                assert_eq!(matcher.len(), left, "{kind:?}");
            }
            assert!(matcher.is_empty() && routed(&matcher, b"k").is_empty());
        }
    }

    #[test]
    fn direct_compares_keys_byte_for_byte_and_fanout_not_at_all() {
        let mut direct = empty(Kind::Direct);
        let mut fanout = empty(Kind::Fanout);
        for (id, key) in
            [(1, &b""[..]), (2, b"a"), (3, b"a.b"), (4, b"*"), (5, b"#"), (6, b"a\xff")]
        {
            for matcher in [&mut direct, &mut fanout] {
                matcher.bind(key, &Table::new(), end(Destination::Queue(id))).unwrap();
            }
        }
        let all: Vec<_> = (1..=6).map(Destination::Queue).collect();
        for (key, found) in [
            (&b""[..], Some(1)),
            (b"a", Some(2)),
            (b"A", None),
            (b"a.b", Some(3)),
            (b"*", Some(4)),
            (b"a\xff", Some(6)),
            (b"b", None),
        ] {
            assert_eq!(routed(&direct, key), Vec::from_iter(found.map(Destination::Queue)));
            assert_eq!(routed(&fanout, key), all);
        }
    }

    #[test]
    fn every_kind_forgets_what_is_unbound() {
        let (plain, other) = (Table::new(), Table::new().with("x-other", 1i32));
        for kind in Kind::ALL {
            let mut matcher = empty(kind);
            let destinations = [Destination::Queue(1), Destination::Exchange(1)];
            for destination in destinations {
                for arguments in [&plain, &other, &plain] {
                    matcher.bind(b"1", arguments, end(destination)).unwrap();
                }
            }
            assert_eq!(matcher.len(), 4, "{kind:?}");
            for destination in destinations {
                assert!(!routed(&matcher, b"1").is_empty(), "{kind:?}");
                for arguments in [&plain, &other, &plain] {
                    matcher.unbind(b"1", arguments, destination);
                }
            }
            assert!(matcher.is_empty() && routed(&matcher, b"1").is_empty(), "{kind:?}");
        }
    }

    const KEYED: [&str; 8] = [
        "direct",
        "fanout",
        "topic",
        "x-consistent-hash",
        "x-message-deduplication",
        "x-delayed-message",
        "x-modulus-hash",
        "x-recent-history",
    ];

    #[test]
    fn answers_are_remembered_where_keys_decide() {
        let remembered = Kind::ALL.into_iter().filter(|kind| empty(*kind).goes_by_keys());
        let names: Vec<_> = remembered.map(Kind::name).collect();
        assert_eq!(names, KEYED);
    }
}
