//! Exchanges as pure matching structures: which destinations a message reaches.
//!
//! Owns nothing but bindings, in the form each exchange type matches fastest. No locks, no names of
//! queues, no IO: the broker chooses the ids, keeps one [`Matcher`] per exchange behind a lock, and
//! remembers what it answered until a binding changes.
//!
//! Invariants: a matcher's answer depends only on its bindings, never on the order in which they
//! came; it names each destination once, in ascending order; `bind` and `unbind` of the same
//! (key, arguments, destination) cancel out exactly, memory included once the last binding is gone.

mod arguments;
pub mod direct;
pub mod fanout;
pub mod headers;
mod targets;
pub mod topic;

use crate::protocol::table::{RawTable, Table};

pub use direct::DirectMatcher;
pub use fanout::FanoutMatcher;
pub use headers::HeadersMatcher;
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

/// The exchange types that match on bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Binding key equals routing key.
    Direct,
    /// Every binding matches.
    Fanout,
    /// Binding keys are patterns of words.
    Topic,
    /// Binding arguments are compared with the message's headers.
    Headers,
}

impl Kind {
    /// The type of that name in `exchange.declare`, if it is one of these.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "direct" => Some(Self::Direct),
            "fanout" => Some(Self::Fanout),
            "topic" => Some(Self::Topic),
            "headers" => Some(Self::Headers),
            _ => None,
        }
    }

    /// The name clients declare it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    /// Whether the answer depends on a message's headers, so that it must not be remembered by
    /// routing key alone.
    #[must_use]
    pub fn uses_headers(self) -> bool {
        self == Self::Headers
    }
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
}

/// The bindings of one exchange, arranged for its type.
#[derive(Debug)]
pub enum Matcher {
    /// Of a direct exchange.
    Direct(DirectMatcher),
    /// Of a fanout exchange.
    Fanout(FanoutMatcher),
    /// Of a topic exchange.
    Topic(TopicMatcher),
    /// Of a headers exchange.
    Headers(HeadersMatcher),
}

impl Matcher {
    /// No bindings yet.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Direct => Self::Direct(DirectMatcher::default()),
            Kind::Fanout => Self::Fanout(FanoutMatcher::default()),
            Kind::Topic => Self::Topic(TopicMatcher::default()),
            Kind::Headers => Self::Headers(HeadersMatcher::default()),
        }
    }

    /// Adds a binding. One that is already there (same key, arguments and destination) stays as it
    /// is; the same key and destination with other arguments is another binding.
    ///
    /// # Errors
    /// When the exchange type does not understand the key or the arguments; nothing is added then.
    pub fn bind(
        &mut self,
        key: &[u8],
        arguments: &Table,
        destination: Destination,
    ) -> Result<(), BindError> {
        match self {
            Self::Direct(matcher) => matcher.bind(key, arguments, destination),
            Self::Fanout(matcher) => matcher.bind(key, arguments, destination),
            Self::Topic(matcher) => return matcher.bind(key, arguments, destination),
            Self::Headers(matcher) => return matcher.bind(key, arguments, destination),
        }
        Ok(())
    }

    /// Takes a binding away; one that is not there is no mistake.
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        match self {
            Self::Direct(matcher) => matcher.unbind(key, arguments, destination),
            Self::Fanout(matcher) => matcher.unbind(key, arguments, destination),
            Self::Topic(matcher) => matcher.unbind(key, arguments, destination),
            Self::Headers(matcher) => matcher.unbind(key, arguments, destination),
        }
    }

    /// Appends the destinations of every binding that matches to `out`: each once, however many of
    /// its bindings do, ascending. What `out` already holds is neither looked at nor moved.
    pub fn matches(&self, key: &[u8], headers: Option<RawTable<'_>>, out: &mut Vec<Destination>) {
        match self {
            Self::Direct(matcher) => matcher.matches(key, out),
            Self::Fanout(matcher) => matcher.matches(out),
            Self::Topic(matcher) => matcher.matches(key, out),
            Self::Headers(matcher) => matcher.matches(headers, out),
        }
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Direct(matcher) => matcher.len(),
            Self::Fanout(matcher) => matcher.len(),
            Self::Topic(matcher) => matcher.len(),
            Self::Headers(matcher) => matcher.len(),
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

    const KINDS: [Kind; 4] = [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers];

    fn routed(matcher: &Matcher, key: &[u8]) -> Vec<Destination> {
        let mut out = Vec::new();
        matcher.matches(key, None, &mut out);
        out
    }

    #[test]
    fn kinds_have_the_names_that_clients_declare() {
        for (kind, name) in KINDS.into_iter().zip(["direct", "fanout", "topic", "headers"]) {
            assert_eq!((kind.name(), Kind::from_name(name)), (name, Some(kind)));
        }
        for unknown in ["", "Direct", "x-random"] {
            assert_eq!(Kind::from_name(unknown), None);
        }
    }

    #[test]
    fn each_kind_keeps_bindings_apart_and_names_a_destination_once() {
        let plain = Table::new();
        let other = Table::new().with("x-other", 1i32);
        let [queue, exchange] = [Destination::Queue(1), Destination::Exchange(1)];
        let bindings = [
            (&b"k"[..], &plain, queue),
            (b"k", &other, queue),
            (b"l", &plain, queue),
            (b"k", &plain, exchange),
        ];
        for kind in KINDS {
            let mut matcher = Matcher::new(kind);
            assert!(matcher.is_empty() && routed(&matcher, b"k").is_empty());
            for (key, arguments, destination) in bindings.into_iter().chain(bindings) {
                matcher.bind(key, arguments, destination).unwrap();
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
        let mut direct = Matcher::new(Kind::Direct);
        let mut fanout = Matcher::new(Kind::Fanout);
        for (id, key) in
            [(1, &b""[..]), (2, b"a"), (3, b"a.b"), (4, b"*"), (5, b"#"), (6, b"a\xff")]
        {
            for matcher in [&mut direct, &mut fanout] {
                matcher.bind(key, &Table::new(), Destination::Queue(id)).unwrap();
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
    fn only_headers_exchanges_look_at_headers() {
        let uses = KINDS.map(Kind::uses_headers);
        assert_eq!(uses, [false, false, false, true]);
    }
}
