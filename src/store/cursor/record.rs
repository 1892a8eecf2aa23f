//! A cursor on disk: its record, and what the record lists.

use std::ops::Range;

use super::{Cursor, Span};
use crate::store::varint::{put_varint, take_varint};

const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 4;

/// Why bytes, or what was found beside them, are not a queue's cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    /// Written by a layout that this build does not know.
    #[error("cursor record of unknown version {0}")]
    Version(u8),
    /// The checksum does not fit the bytes.
    #[error("cursor record with a wrong checksum")]
    Checksum,
    /// The checksum fits and the numbers do not.
    #[error("cursor record that contradicts itself")]
    Malformed,
    /// A stored message lies where the cursor says none was written.
    #[error("message number {seq} beyond the queue's end at {tail}")]
    Beyond { seq: u64, tail: u64 },
    /// Messages are missing, or there are too many.
    #[error("{found} messages where the cursor counts {counted}")]
    Count { counted: u64, found: u64 },
}

/// Where settled messages may still lie on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Everything below is settled.
    pub(crate) head: u64,
    /// Settled numbers above, ascending.
    pub(crate) spans: Vec<Range<u64>>,
}

impl Cursor {
    /// Takes at least half of the spans that a record would list off that list once there are more
    /// than `spans_max`, shortest first, and names them: the caller deletes their records.
    pub(crate) fn spill(&mut self, spans_max: usize) -> Vec<Range<u64>> {
        if self.stored.len() <= spans_max {
            return Vec::new();
        }
        let mut spans: Vec<Range<u64>> = self.stored_spans().collect();
        spans.sort_unstable_by_key(|span| span.end - span.start);
        spans.truncate(spans.len().div_ceil(2).max(spans.len() - spans_max));
        self.unlist(&spans);
        spans
    }

    /// Takes the spans of at least `numbers_min` numbers off the list and names them, as
    /// [`spill`](Self::spill) does: they are worth a range deletion although `head` is stuck.
    pub(crate) fn spill_long(&mut self, numbers_min: u64) -> Vec<Range<u64>> {
        let spans: Vec<Range<u64>> =
            self.stored_spans().filter(|span| span.end - span.start >= numbers_min).collect();
        self.unlist(&spans);
        spans
    }

    /// What a reader of the disk has to know.
    pub(crate) fn listed(&self) -> Listed {
        Listed { head: self.head, spans: self.stored_spans().collect() }
    }

    /// The record: version, then varints (head, distance to tail, ready, bytes of records and of
    /// bodies, the count of spans and for each its distance from the previous one and its length),
    /// then a CRC-32.
    pub(crate) fn encode(&self, record: &mut Vec<u8>) {
        record.clear();
        record.push(VERSION);
        put_varint(record, self.head);
        put_varint(record, self.tail - self.head);
        put_varint(record, self.ready);
        put_varint(record, self.ready_bytes);
        put_varint(record, self.body_bytes);
        put_varint(record, self.stored.len() as u64);
        let mut at = self.head;
        for span in self.stored_spans() {
            put_varint(record, span.start - at);
            put_varint(record, span.end - span.start);
            at = span.end;
        }
        record.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
    }

    /// Reads a record back. The cursor knows no gaps until it [learns](Self::learn) of them.
    ///
    /// # Errors
    /// When the bytes are not a whole record of a known version.
    pub(crate) fn decode(record: &[u8]) -> Result<Self, CursorError> {
        let body_len = record.len().checked_sub(CHECKSUM_BYTES).ok_or(CursorError::Checksum)?;
        let (body, checksum) = record.split_at(body_len);
        if checksum != crc32fast::hash(body).to_le_bytes() {
            return Err(CursorError::Checksum);
        }
        match body.first() {
            Some(&VERSION) => {}
            other => return Err(CursorError::Version(other.copied().unwrap_or_default())),
        }
        Self::decode_body(&body[1..]).ok_or(CursorError::Malformed)
    }

    fn decode_body(mut body: &[u8]) -> Option<Self> {
        let head = take_varint(&mut body)?;
        let tail = head.checked_add(take_varint(&mut body)?)?;
        let ready = take_varint(&mut body)?;
        let ready_bytes = take_varint(&mut body)?;
        let body_bytes = take_varint(&mut body)?;
        let count = take_varint(&mut body)?;
        let counts = Self { ready, ready_bytes, body_bytes, ..Self::default() };
        let mut cursor = Self { head, tail, unread: head..tail, ..counts };
        let mut at = head;
        let mut listed: u64 = 0;
        for _ in 0..count {
            // A distance or a length of zero would be two spans that touch, or none.
            let start = at.checked_add(take_varint(&mut body)?).filter(|start| *start > at)?;
            let end = start.checked_add(take_varint(&mut body)?).filter(|end| *end > start)?;
            cursor.put_span(start, Span { end, stored: true });
            listed += end - start;
            at = end;
        }
        let sound = body.is_empty()
            && at <= tail
            && ready <= (tail - head).checked_sub(listed)?
            && (ready > 0 || head == tail);
        sound.then_some(cursor)
    }

    fn stored_spans(&self) -> impl Iterator<Item = Range<u64>> {
        self.stored.iter().filter_map(|start| Some(*start..self.spans.get(start)?.end))
    }

    fn unlist(&mut self, spans: &[Range<u64>]) {
        for span in spans {
            self.stored.remove(&span.start);
            if let Some(known) = self.spans.get_mut(&span.start) {
                known.stored = false;
            }
        }
    }
}
