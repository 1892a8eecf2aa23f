//! Deduplication by a header: which values were seen of late.
//!
//! Owns the cache that exchanges and queues share: the oldest value leaves when it is full, and a
//! value may expire. It is memory only: after a restart it is empty, except for what a queue finds
//! in itself.
//!
//! Invariant: `order` holds every value of `seen` at its last place, and of a value that left
//! nothing but places that are passed over.

use std::collections::{HashMap, VecDeque};

use super::header_key::{HeaderKey, headers, key_in};
use super::message::Message;
use crate::protocol::table::Table;

/// The argument that turns it on.
pub(super) const DEDUPLICATION: &str = "x-message-deduplication";
/// The argument, and by default the header, of the value to compare.
pub(super) const HEADER: &str = "x-deduplication-header";
/// The argument of how many values are remembered.
pub(super) const CACHE_SIZE: &str = "x-cache-size";
/// The argument, and the header, of how long a value is remembered, in milliseconds.
pub(super) const CACHE_TTL: &str = "x-cache-ttl";
/// How many values are remembered when nobody says.
pub(super) const CACHE_SIZE_DEFAULT: u64 = 128;
/// How many values may be remembered at most: each takes up to 200 bytes.
pub(super) const CACHE_SIZE_MAX: u64 = 10_000_000;

/// Values that were seen.
#[derive(Debug)]
pub(super) struct Cache {
    header: String,
    size_max: usize,
    ttl_ms: Option<u64>,
    /// When each value expires, in milliseconds of Unix time, and its place in `order`.
    seen: HashMap<HeaderKey, (u64, u64)>,
    order: VecDeque<(u64, HeaderKey)>,
    next_place: u64,
}

impl Cache {
    pub(super) fn new(header: Option<&str>, size_max: Option<u64>, ttl_ms: Option<u64>) -> Self {
        let size_max = size_max.unwrap_or(CACHE_SIZE_DEFAULT).clamp(1, CACHE_SIZE_MAX);
        Self {
            header: header.unwrap_or(HEADER).to_owned(),
            size_max: usize::try_from(size_max).unwrap_or(usize::MAX),
            ttl_ms,
            seen: HashMap::new(),
            order: VecDeque::new(),
            next_place: 0,
        }
    }

    /// As an exchange's arguments ask for it.
    pub(super) fn of_exchange(arguments: &Table) -> Self {
        let number = |name: &str| cache_number(arguments, name);
        let header = arguments.get(HEADER).and_then(|value| value.as_str());
        Self::new(header, number(CACHE_SIZE), number(CACHE_TTL))
    }

    /// Notes a message's value. False when it was seen: the message is a duplicate. Messages
    /// without a value are none.
    pub(super) fn note(&mut self, message: &Message, now_ms: u64) -> bool {
        let Some(headers) = headers(message) else { return true };
        let Some(value) = key_in(headers, &self.header) else { return true };
        let own_ttl = headers.get(CACHE_TTL).and_then(|ttl| ttl.to_value().as_integer());
        let ttl_ms = own_ttl.and_then(|ttl| u64::try_from(ttl).ok()).or(self.ttl_ms);
        if self.seen.get(&value).is_some_and(|(expires_ms, _)| *expires_ms > now_ms) {
            return false;
        }
        let expires_ms = ttl_ms.map_or(u64::MAX, |ttl_ms| now_ms.saturating_add(ttl_ms));
        self.seen.insert(value.clone(), (expires_ms, self.next_place));
        self.order.push_back((self.next_place, value));
        self.next_place += 1;
        while self.seen.len() > self.size_max || self.order.len() > 2 * self.size_max {
            let Some((place, value)) = self.order.pop_front() else { break };
            if self.seen.get(&value).is_some_and(|(_, last)| *last == place) {
                self.seen.remove(&value);
            }
        }
        true
    }

    /// Forgets a message's value: it was noted, but nobody took the message.
    pub(super) fn forget(&mut self, message: &Message) {
        if let Some(value) = headers(message).and_then(|headers| key_in(headers, &self.header)) {
            self.seen.remove(&value);
        }
    }
}

/// A positive number among an exchange's arguments; some clients write it as text.
pub(super) fn cache_number(arguments: &Table, name: &str) -> Option<u64> {
    let value = arguments.get(name)?;
    let number = value.as_integer().or_else(|| value.as_str()?.parse().ok())?;
    u64::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::Envelope;
    use crate::protocol::properties::Properties;
    use crate::protocol::table::RawTable;

    fn message(headers: &Table) -> Message {
        let (mut encoded, mut properties) = (Vec::new(), Vec::new());
        headers.encode_body(&mut encoded);
        let headers = Some(RawTable::parse(&encoded).unwrap());
        Properties { headers, ..Properties::default() }.encode(&mut properties);
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"q",
            properties: &properties,
            persistent: false,
            hides_bcc: false,
            published_ms: 0,
        };
        Message::new(&envelope, b"x")
    }

    fn with_id(id: i64) -> Message {
        message(&Table::new().with(HEADER, id))
    }

    #[test]
    fn a_value_is_new_once_and_again_when_the_cache_has_forgotten_it() {
        let mut cache = Cache::new(None, Some(2), None);
        assert!(cache.note(&with_id(1), 0));
        assert!(!cache.note(&with_id(1), 0));
        assert!(cache.note(&with_id(2), 0));
        assert!(cache.note(&with_id(3), 0), "the oldest leaves");
        assert!(!cache.note(&with_id(2), 0));
        assert!(cache.note(&with_id(1), 0));
        cache.forget(&with_id(1));
        assert!(cache.note(&with_id(1), 0));
        for id in 0..1_000 {
            cache.note(&with_id(id), 0);
        }
        assert_eq!((cache.seen.len(), cache.order.len() <= 4), (2, true));
    }

    #[test]
    fn values_expire_after_the_caches_time_or_the_messages_own() {
        let mut cache = Cache::new(Some("id"), None, Some(100));
        let plain = message(&Table::new().with("id", "a"));
        let longer = message(&Table::new().with("id", "b").with(CACHE_TTL, 300));
        assert!(cache.note(&plain, 0) && cache.note(&longer, 0));
        assert!(!cache.note(&plain, 99));
        assert!(cache.note(&plain, 100));
        assert!(!cache.note(&longer, 299));
        assert!(cache.note(&longer, 300));
    }

    #[test]
    fn values_compare_as_headers_do_and_messages_without_one_are_never_duplicates() {
        let mut cache = Cache::new(None, None, None);
        assert!(cache.note(&message(&Table::new().with(HEADER, 5_i32)), 0));
        assert!(!cache.note(&message(&Table::new().with(HEADER, 5_i64)), 0));
        assert!(cache.note(&message(&Table::new().with(HEADER, "5")), 0));
        let long = "x".repeat(10_000);
        assert!(cache.note(&message(&Table::new().with(HEADER, long.as_str())), 0));
        assert!(!cache.note(&message(&Table::new().with(HEADER, long.as_str())), 0));
        let other = Table::new().with("x", 1);
        assert!(cache.note(&message(&other), 0) && cache.note(&message(&other), 0));
    }
}
