//! A queue's deduplication: which messages it takes for the second time, and drops.
//!
//! Two ways, both switched on by `x-message-deduplication`. By a header: with a cache size or time,
//! values are remembered as in `broker/dedup.rs`; without, a value is taken as long as a message
//! with it waits or is unacknowledged here (RabbitMQ's third-party plugin does that). By publisher:
//! a message that names its publisher and its own number in that publisher's sequence is dropped
//! unless the number is higher than every earlier one. The highest number is stored in the batch
//! that stores its message, so it survives whatever the message survives.
//!
//! Invariants: `taken` and `held` hold the same values; a duplicate changes nothing here.

use std::collections::{HashMap, HashSet};

use crate::broker::Now;
use crate::broker::dedup::{Cache, HEADER};
use crate::broker::definitions::{DefinitionKey, Record};
use crate::broker::header_key::{HeaderKey, header_key, headers};
use crate::broker::message::Message;
use crate::protocol::table::{RawTable, Value, ValueRef};
use crate::store::{Op, QueueKey, QueueSeq};

/// The header that names a publisher, the same in every life of it.
pub const PUBLISHER_NAME: &str = "x-publisher-name";
/// The header with a message's number in its publisher's sequence.
pub const PUBLISHER_SEQUENCE: &str = "x-publisher-sequence";
/// Publishers that a queue remembers; of more, the one that was heard least lately is forgotten.
const PUBLISHERS_MAX: usize = 100_000;

/// How a queue is asked to deduplicate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DedupArgs {
    /// `x-cache-size`, values.
    pub cache_size: Option<u64>,
    /// `x-cache-ttl`, milliseconds.
    pub cache_ttl_ms: Option<u64>,
    /// `x-deduplication-header`.
    pub header: Option<String>,
}

/// Whether a message is new here.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is, and this must be stored with it, if it is stored.
    New(Option<Op>),
    /// It is not.
    Duplicate,
}

#[derive(Debug)]
pub(super) struct Dedup {
    queue: QueueKey,
    seen: Seen,
    publishers: HashMap<Box<[u8]>, Publisher>,
    heard: u64,
}

#[derive(Debug)]
enum Seen {
    /// The values of the messages that are here.
    Here {
        header: String,
        taken: HashSet<HeaderKey>,
        held: HashMap<u64, HeaderKey>,
    },
    Lately(Cache),
}

#[derive(Debug, Clone, Copy)]
struct Publisher {
    /// The highest number so far.
    sequence: i64,
    /// Rises with every publisher that is heard.
    heard: u64,
}

impl Dedup {
    pub(super) fn new(queue: QueueKey, args: &DedupArgs) -> Self {
        let header = args.header.as_deref();
        let seen = if args.cache_size.is_some() || args.cache_ttl_ms.is_some() {
            Seen::Lately(Cache::new(header, args.cache_size, args.cache_ttl_ms))
        } else {
            let header = header.unwrap_or(HEADER).to_owned();
            Seen::Here { header, taken: HashSet::new(), held: HashMap::new() }
        };
        Self { queue, seen, publishers: HashMap::new(), heard: 0 }
    }

    /// Judges a message that gets the number `seq` if it is new.
    pub(super) fn admit(&mut self, message: &Message, seq: u64, now: Now) -> Admission {
        let published = headers(message).and_then(publisher);
        if let Some((name, sequence)) = &published
            && self.publishers.get(name).is_some_and(|known| *sequence <= known.sequence)
        {
            return Admission::Duplicate;
        }
        if !self.note(message, seq, now.unix_ms) {
            return Admission::Duplicate;
        }
        Admission::New(published.map(|(name, sequence)| {
            let mark = self.mark(&name).put(record(sequence));
            self.hear(name, sequence);
            mark
        }))
    }

    /// A message was found in the store at start.
    pub(super) fn recover(&mut self, message: &Message, seq: u64) {
        self.note(message, seq, message.published_ms());
    }

    /// A publisher's highest number was found in the store at start.
    pub(super) fn recover_publisher(&mut self, name: Box<[u8]>, sequence: i64) {
        self.hear(name, sequence);
    }

    /// The stay of a message has ended.
    pub(super) fn settled(&mut self, seq: u64) {
        if let Seen::Here { taken, held, .. } = &mut self.seen
            && let Some(value) = held.remove(&seq)
        {
            taken.remove(&value);
        }
    }

    /// The stay of every message has ended that is not out.
    pub(super) fn purged(&mut self, is_out: impl Fn(QueueSeq) -> bool) {
        if let Seen::Here { taken, held, .. } = &mut self.seen {
            held.retain(|seq, value| {
                let stays = is_out(QueueSeq(*seq));
                if !stays {
                    taken.remove(value);
                }
                stays
            });
        }
    }

    /// A message has another number from now on.
    pub(super) fn renumbered(&mut self, seq: QueueSeq, to: QueueSeq) {
        if let Seen::Here { held, .. } = &mut self.seen
            && let Some(value) = held.remove(&seq.0)
        {
            held.insert(to.0, value);
        }
    }

    /// What forgets the publishers' numbers, for a queue that goes.
    pub(super) fn forget_publishers(&self, ops: &mut Vec<Op>) {
        ops.extend(self.publishers.keys().map(|name| self.mark(name).delete()));
    }

    fn note(&mut self, message: &Message, seq: u64, now_ms: u64) -> bool {
        match &mut self.seen {
            Seen::Lately(cache) => cache.note(message, now_ms),
            Seen::Here { header, taken, held } => {
                let Some(value) = header_key(message, header) else { return true };
                let new = taken.insert(value.clone());
                if new {
                    held.insert(seq, value);
                }
                new
            }
        }
    }

    fn mark(&self, name: &[u8]) -> DefinitionKey {
        DefinitionKey::Publisher { queue: self.queue.queue, name: name.to_vec() }
    }

    fn hear(&mut self, name: Box<[u8]>, sequence: i64) {
        self.heard += 1;
        self.publishers.insert(name, Publisher { sequence, heard: self.heard });
        if self.publishers.len() > PUBLISHERS_MAX {
            // A tenth at once, so that the walk is paid for by many publishers.
            let oldest = self.heard - (PUBLISHERS_MAX as u64 * 9 / 10);
            self.publishers.retain(|_, publisher| publisher.heard > oldest);
        }
    }
}

/// The publisher that headers name, and the number they give the message.
fn publisher(headers: RawTable<'_>) -> Option<(Box<[u8]>, i64)> {
    let Some(ValueRef::LongStr(name)) = headers.get(PUBLISHER_NAME) else { return None };
    let sequence = headers.get(PUBLISHER_SEQUENCE)?.to_value().as_integer()?;
    Some((name.into(), sequence))
}

fn record(sequence: i64) -> Record {
    Record::default().with("sequence", Value::I64(sequence))
}
