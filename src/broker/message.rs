//! A published message, as it lies in memory and on disk.
//!
//! Owns the record layout. A `Message` is immutable and cheap to clone: a small one is a single
//! shared allocation that holds the routing information, the properties exactly as the publisher
//! sent them and the body; a large body is kept beside it so that it is never copied again. The
//! bytes of the record are the bytes the store writes, so nothing is re-encoded on the way to disk.
//!
//! Invariants: the lengths in the head always add up to the record's length (checked when a record
//! is read back, true by construction when one is built); a changed header means a new record.

use std::ops::Range;
use std::sync::Arc;

/// Bodies up to this size live in the record itself; larger ones in an allocation of their own.
pub const INLINE_BODY_BYTES_MAX: usize = 16 * 1024;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 24;
/// Where in the head it says when the message arrived.
const PUBLISHED_AT: Range<usize> = 16..24;
const FLAG_PERSISTENT: u8 = 1;
const FLAG_HIDES_BCC: u8 = 2;

/// Why bytes are not a message record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a layout that this build does not know.
    #[error("message record of unknown version {0}")]
    Version(u8),
    /// The lengths in the head do not add up.
    #[error("message record of {found} bytes where its head announces {announced}")]
    Length {
        /// The record's length.
        found: usize,
        /// What its head says.
        announced: u64,
    },
}

/// What a publisher sent, before it has become a [`Message`].
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The exchange it was published to; at most 255 bytes.
    pub exchange: &'a [u8],
    /// The routing key; at most 255 bytes.
    pub routing_key: &'a [u8],
    /// Property flags and values as they stood in the content header.
    pub properties: &'a [u8],
    /// Whether it asks to survive a restart (`delivery_mode` 2).
    pub persistent: bool,
    /// Whether its headers name blind copies, which no consumer may see.
    pub hides_bcc: bool,
    /// When it arrived, in milliseconds of Unix time.
    pub published_ms: u64,
}

/// An immutable message. Clones share the bytes.
#[derive(Clone)]
pub struct Message {
    record: Arc<[u8]>,
    large_body: Option<Arc<Vec<u8>>>,
}

impl Message {
    /// Builds a message whose body is at hand, copying it once.
    ///
    /// # Panics
    /// When `exchange` or `routing_key` is longer than a short string can be, which the codec rules
    /// out, or the properties exceed 4 GiB, which a frame cannot hold.
    #[must_use]
    pub fn new(envelope: &Envelope<'_>, body: &[u8]) -> Self {
        if body.len() > INLINE_BODY_BYTES_MAX {
            return Self::with_large_body(envelope, body.to_vec());
        }
        Self { record: build_record(envelope, body, body.len()), large_body: None }
    }

    /// Builds a message around a body that was assembled from several frames, without copying it
    /// when it is large.
    #[must_use]
    pub fn with_large_body(envelope: &Envelope<'_>, body: Vec<u8>) -> Self {
        if body.len() <= INLINE_BODY_BYTES_MAX {
            return Self::new(envelope, &body);
        }
        let record = build_record(envelope, &[], body.len());
        Self { record, large_body: Some(Arc::new(body)) }
    }

    /// The same body under another envelope. A large body is shared, not copied.
    #[must_use]
    pub fn readdressed(&self, envelope: &Envelope<'_>) -> Self {
        match &self.large_body {
            Some(body) => Self {
                record: build_record(envelope, &[], body.len()),
                large_body: Some(Arc::clone(body)),
            },
            None => Self::new(envelope, self.body()),
        }
    }

    /// Takes it for one that arrives at another moment. Clones that are there already stay as they
    /// are.
    pub fn arrive_at(&mut self, unix_ms: u64) {
        if self.published_ms() != unix_ms {
            Arc::make_mut(&mut self.record)[PUBLISHED_AT].copy_from_slice(&unix_ms.to_le_bytes());
        }
    }

    /// Reads a message back from the bytes of [`record_parts`](Self::record_parts), joined.
    ///
    /// # Errors
    /// When the bytes are not a whole record of a known version.
    pub fn from_record(record: &[u8]) -> Result<Self, RecordError> {
        let version = record.first().copied().unwrap_or_default();
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        if record.len() < HEAD_BYTES {
            let announced = HEAD_BYTES as u64;
            return Err(RecordError::Length { found: record.len(), announced });
        }
        let head = Head::read(record);
        let announced = (head.body_at() as u64).saturating_add(head.body_len);
        if announced != record.len() as u64 {
            return Err(RecordError::Length { found: record.len(), announced });
        }
        let body_at = head.body_at();
        if record.len() - body_at > INLINE_BODY_BYTES_MAX {
            let (head, body) = record.split_at(body_at);
            return Ok(Self { record: head.into(), large_body: Some(Arc::new(body.to_vec())) });
        }
        Ok(Self { record: record.into(), large_body: None })
    }

    /// The record as the store writes it: the head with everything small, then a large body (empty
    /// when the body is inline).
    #[must_use]
    pub fn record_parts(&self) -> (&[u8], &[u8]) {
        (&self.record, self.large_body.as_ref().map_or(&[], |body| body.as_slice()))
    }

    /// The exchange it was published to.
    #[must_use]
    pub fn exchange(&self) -> &[u8] {
        &self.record[HEAD_BYTES..HEAD_BYTES + usize::from(self.record[2])]
    }

    /// The routing key it was published with.
    #[must_use]
    pub fn routing_key(&self) -> &[u8] {
        let at = HEAD_BYTES + usize::from(self.record[2]);
        &self.record[at..at + usize::from(self.record[3])]
    }

    /// Property flags and values, exactly as they arrived.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        let head = Head::read(&self.record);
        &self.record[head.properties_at()..head.body_at()]
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match &self.large_body {
            Some(body) => body,
            None => &self.record[Head::read(&self.record).body_at()..],
        }
    }

    /// The body's allocation when it has one of its own: a writer can chain it instead of copying.
    #[must_use]
    pub fn large_body(&self) -> Option<&Arc<Vec<u8>>> {
        self.large_body.as_ref()
    }

    /// The body's length in bytes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.large_body.as_ref().map_or_else(
            || self.record.len() - Head::read(&self.record).body_at(),
            |body| body.len(),
        )
    }

    /// Whether it asks to survive a restart.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.record[1] & FLAG_PERSISTENT != 0
    }

    /// Whether the BCC header must be taken out before anyone sees the properties. It is kept
    /// because its keys count when the message is dead-lettered.
    #[must_use]
    pub fn hides_bcc(&self) -> bool {
        self.record[1] & FLAG_HIDES_BCC != 0
    }

    /// When it was published, in milliseconds of Unix time.
    #[must_use]
    pub fn published_ms(&self) -> u64 {
        Head::read(&self.record).published_ms
    }

    /// What clones of this message have in common, and no other that lives at the same time.
    #[must_use]
    pub fn identity(&self) -> *const u8 {
        self.record.as_ptr()
    }

    /// Bytes held in memory by the message itself; as many as its record has.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.record.len() + self.large_body.as_ref().map_or(0, |body| body.len())
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &String::from_utf8_lossy(self.exchange()))
            .field("routing_key", &String::from_utf8_lossy(self.routing_key()))
            .field("body_len", &self.body_len())
            .finish_non_exhaustive()
    }
}

/// The fixed part of a record: version, flags, two short lengths, then little-endian numbers.
struct Head {
    exchange_len: usize,
    key_len: usize,
    properties_len: usize,
    body_len: u64,
    published_ms: u64,
}

impl Head {
    fn read(record: &[u8]) -> Self {
        let word = |at: usize| {
            u64::from_le_bytes(record[at..at + 8].try_into().expect("invariant: eight bytes"))
        };
        let properties_len =
            u32::from_le_bytes(record[4..8].try_into().expect("invariant: four bytes"));
        Self {
            exchange_len: usize::from(record[2]),
            key_len: usize::from(record[3]),
            properties_len: properties_len as usize,
            body_len: word(8),
            published_ms: word(PUBLISHED_AT.start),
        }
    }

    fn properties_at(&self) -> usize {
        HEAD_BYTES + self.exchange_len + self.key_len
    }

    fn body_at(&self) -> usize {
        self.properties_at() + self.properties_len
    }
}

fn build_record(envelope: &Envelope<'_>, inline_body: &[u8], body_len: usize) -> Arc<[u8]> {
    let short = |bytes: &[u8]| u8::try_from(bytes.len()).expect("invariant: a short string");
    let properties_len =
        u32::try_from(envelope.properties.len()).expect("invariant: properties fit a frame");
    let mut head = [0u8; HEAD_BYTES];
    head[0] = VERSION;
    head[1] = if envelope.persistent { FLAG_PERSISTENT } else { 0 }
        | if envelope.hides_bcc { FLAG_HIDES_BCC } else { 0 };
    head[2] = short(envelope.exchange);
    head[3] = short(envelope.routing_key);
    head[4..8].copy_from_slice(&properties_len.to_le_bytes());
    head[8..16].copy_from_slice(&(body_len as u64).to_le_bytes());
    head[PUBLISHED_AT].copy_from_slice(&envelope.published_ms.to_le_bytes());
    let parts =
        [&head[..], envelope.exchange, envelope.routing_key, envelope.properties, inline_body];
    let total: usize = parts.iter().map(|part| part.len()).sum();
    // One allocation, filled in place: collecting zeroes into an `Arc<[u8]>` sizes it exactly.
    let mut record: Arc<[u8]> = std::iter::repeat_n(0u8, total).collect();
    let bytes = Arc::get_mut(&mut record).expect("invariant: just made, not shared");
    let mut at = 0;
    for part in parts {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope<'static> {
        Envelope {
            exchange: b"logs",
            routing_key: b"kern.crit",
            properties: &[0x10, 0x00, 2],
            persistent: true,
            hides_bcc: false,
            published_ms: 1_795_000_000_123,
        }
    }

    fn joined(message: &Message) -> Vec<u8> {
        let (head, body) = message.record_parts();
        [head, body].concat()
    }

    #[test]
    fn a_record_read_back_is_the_message_that_was_built() {
        for size in [0, 1, 100, INLINE_BODY_BYTES_MAX, INLINE_BODY_BYTES_MAX + 1, 100_000] {
            let body: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
            let built = Message::new(&envelope(), &body);
            let read = Message::from_record(&joined(&built)).unwrap();
            for message in [&built, &read] {
                assert_eq!(message.exchange(), b"logs");
                assert_eq!(message.routing_key(), b"kern.crit");
                assert_eq!(message.properties(), &[0x10, 0x00, 2]);
                assert_eq!(message.body(), body);
                assert_eq!(message.body_len(), size);
                assert!(message.is_persistent());
                assert_eq!(message.published_ms(), 1_795_000_000_123);
            }
        }
    }

    #[test]
    fn a_readdressed_message_has_the_same_body_and_shares_a_large_one() {
        for size in [0, 100, INLINE_BODY_BYTES_MAX + 1] {
            let message = Message::new(&envelope(), &vec![7; size]);
            let moved = message.readdressed(&Envelope { routing_key: b"dead", ..envelope() });
            assert_eq!((moved.routing_key(), moved.exchange()), (&b"dead"[..], &b"logs"[..]));
            assert_eq!(moved.body(), message.body());
            let shared = message.large_body().zip(moved.large_body());
            assert_eq!(shared.is_some(), size > INLINE_BODY_BYTES_MAX);
            assert!(shared.is_none_or(|(a, b)| Arc::ptr_eq(a, b)));
        }
    }

    #[test]
    fn a_message_that_arrives_later_is_otherwise_the_same_and_its_clones_do_not_change() {
        let mut message = Message::new(&envelope(), b"hello");
        let before = message.clone();
        message.arrive_at(1_795_000_009_999);
        assert_eq!(message.published_ms(), 1_795_000_009_999);
        assert_eq!(before.published_ms(), 1_795_000_000_123);
        let published_ms = 1_795_000_009_999;
        let late = Message::new(&Envelope { published_ms, ..envelope() }, b"hello");
        assert_eq!(joined(&message), joined(&late));
    }

    #[test]
    fn a_cut_or_foreign_record_is_refused() {
        let record = joined(&Message::new(&envelope(), b"hello"));
        for cut in 0..record.len() {
            assert!(Message::from_record(&record[..cut]).is_err(), "cut at {cut}");
        }
        let mut foreign = record;
        foreign[0] = 9;
        assert_eq!(Message::from_record(&foreign).unwrap_err(), RecordError::Version(9));
    }

    #[test]
    fn a_record_whose_lengths_add_up_only_beyond_the_largest_number_is_refused() {
        let mut record = joined(&Message::new(&envelope(), b"hello"));
        let beyond = 1_000u32;
        record[4..8].copy_from_slice(&(3 + 5 + beyond).to_le_bytes());
        record[8..16].copy_from_slice(&0u64.wrapping_sub(beyond.into()).to_le_bytes());
        let refused = Message::from_record(&record).unwrap_err();
        assert_eq!(refused, RecordError::Length { found: record.len(), announced: u64::MAX });
    }
}
