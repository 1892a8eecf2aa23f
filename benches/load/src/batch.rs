//! Messages encoded once and sent many times.
//!
//! A [`Batch`] is a run of whole publishes (method, header and body frames) in one buffer. Before
//! a part of it is written again, each message's [`Stamp`] is put in place; nothing else changes,
//! so that a publish costs the generator two stores and its share of a `write(2)`.

use crate::connection::CHANNEL;
use crate::wire::{method, put_content, put_method};

/// Bytes of a stamp, and therefore of the smallest body.
pub(crate) const STAMP_BYTES: usize = 16;
/// How much is written at once, in bytes, as far as whole messages allow.
const WRITE_BYTES: usize = 64 * 1024;
const SEQ_BITS: u32 = 48;

/// What the first 16 bytes of each body say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which publisher sent it.
    pub(crate) publisher: u16,
    /// The publisher's count, from 0.
    pub(crate) seq: u64,
    /// When it was sent, or was meant to be, in nanoseconds of [`crate::clock`]; 0 is "not said".
    pub(crate) sent_ns: u64,
}

impl Stamp {
    /// Writes it to the start of a body.
    pub(crate) fn write(self, body: &mut [u8; STAMP_BYTES]) {
        let id = u64::from(self.publisher) << SEQ_BITS | self.seq;
        body[..8].copy_from_slice(&id.to_be_bytes());
        body[8..].copy_from_slice(&self.sent_ns.to_be_bytes());
    }

    /// Reads it back; `None` when the body is too short to be one of ours.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (head, rest) = body.split_first_chunk::<8>()?;
        let (sent, _) = rest.split_first_chunk::<8>()?;
        let id = u64::from_be_bytes(*head);
        let publisher = u16::try_from(id >> SEQ_BITS).ok()?;
        let seq = id & ((1 << SEQ_BITS) - 1);
        Some(Self { publisher, seq, sent_ns: u64::from_be_bytes(*sent) })
    }
}

/// What is published, over and over.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// The exchange; empty is the default one.
    pub(crate) exchange: String,
    /// The routing keys, taken in turn.
    pub(crate) keys: Vec<String>,
    /// The body's size in bytes, at least [`STAMP_BYTES`].
    pub(crate) body_bytes: usize,
    /// Asks the broker to keep it over a restart.
    pub(crate) persistent: bool,
    /// Priorities from 0, taken in turn; 0 is none.
    pub(crate) priorities: u8,
    /// The `reply_to` property.
    pub(crate) reply_to: Option<String>,
    /// The largest frame, in bytes.
    pub(crate) frame_bytes_max: usize,
}

/// Property flags (AMQP 0-9-1, 4.2.6.1) of what the generator sets.
pub(crate) const FLAG_DELIVERY_MODE: u16 = 1 << 12;
/// See [`FLAG_DELIVERY_MODE`].
pub(crate) const FLAG_PRIORITY: u16 = 1 << 11;
/// See [`FLAG_DELIVERY_MODE`].
pub(crate) const FLAG_REPLY_TO: u16 = 1 << 9;

/// Encodes property flags and values.
pub(crate) fn properties(
    persistent: bool,
    priority: Option<u8>,
    reply_to: Option<&str>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mode = if persistent { FLAG_DELIVERY_MODE } else { 0 };
    let level = if priority.is_some() { FLAG_PRIORITY } else { 0 };
    let reply = if reply_to.is_some() { FLAG_REPLY_TO } else { 0 };
    out.extend_from_slice(&(mode | level | reply).to_be_bytes());
    if persistent {
        out.push(2);
    }
    out.extend(priority);
    if let Some(name) = reply_to {
        out.push(u8::try_from(name.len()).expect("invariant: a queue name fits"));
        out.extend_from_slice(name.as_bytes());
    }
    out
}

struct Slot {
    start: usize,
    body: usize,
    end: usize,
}

/// Encoded publishes, one after another.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    next: usize,
}

impl Batch {
    /// Encodes enough messages to fill a write, and at least one of each routing key.
    pub(crate) fn new(content: &Content) -> Self {
        let body: Vec<u8> = (b'a'..=b'z').cycle().take(content.body_bytes).collect();
        let mut batch = Self { bytes: Vec::new(), slots: Vec::new(), next: 0 };
        let mut priorities = (0..content.priorities).cycle();
        loop {
            for key in &content.keys {
                let reply_to = content.reply_to.as_deref();
                let properties = properties(content.persistent, priorities.next(), reply_to);
                let start = batch.bytes.len();
                put_method(&mut batch.bytes, CHANNEL, method::BASIC_PUBLISH, |arguments| {
                    arguments.short(0).short_string(&content.exchange).short_string(key).octet(0);
                });
                let frame_bytes_max = content.frame_bytes_max;
                let body =
                    put_content(&mut batch.bytes, CHANNEL, &properties, &body, frame_bytes_max);
                batch.slots.push(Slot { start, body, end: batch.bytes.len() });
            }
            if batch.bytes.len() >= WRITE_BYTES {
                return batch;
            }
        }
    }

    /// The next messages to write: at most `count`, no more than fill a write, at least one.
    /// `stamp` is asked for each one's stamp in turn. Returns their number and their bytes.
    pub(crate) fn take(
        &mut self,
        count: usize,
        mut stamp: impl FnMut(usize) -> Stamp,
    ) -> (usize, &[u8]) {
        let first = self.next;
        let from = self.slots[first].start;
        let mut taken = 0;
        for slot in &self.slots[first..] {
            if taken > 0 && (taken == count || slot.end - from > WRITE_BYTES) {
                break;
            }
            let body = &mut self.bytes[slot.body..slot.body + STAMP_BYTES];
            let body = body.first_chunk_mut().expect("invariant: sized by the range");
            stamp(taken).write(body);
            taken += 1;
        }
        self.next = (first + taken) % self.slots.len();
        (taken, &self.bytes[from..self.slots[first + taken - 1].end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BodyView, FRAME_BODY, Inbound};

    fn content(keys: &[&str], body_bytes: usize) -> Content {
        Content {
            exchange: "x".to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            body_bytes,
            persistent: true,
            priorities: 0,
            reply_to: None,
            frame_bytes_max: 4096,
        }
    }

    fn stamps(mut bytes: &[u8]) -> Vec<u64> {
        let mut inbound = Inbound::with_capacity(bytes.len(), BodyView::Whole);
        inbound.fill(&mut bytes).unwrap();
        let mut seen = Vec::new();
        while let Some(frame) = inbound.next().unwrap() {
            if frame.kind == FRAME_BODY {
                seen.push(Stamp::read(frame.payload).unwrap().seq);
            }
        }
        seen
    }

    #[test]
    fn a_batch_is_taken_in_order_and_starts_again_at_its_end() {
        let mut batch = Batch::new(&content(&["a", "b", "c"], 16));
        let whole = batch.slots.len();
        assert_eq!(whole % 3, 0);
        let (mut seq, mut turns) = (0, 0);
        while turns < 3 * whole {
            let first = seq;
            let stamp = |at| Stamp { publisher: 7, seq: first + at as u64, sent_ns: 0 };
            let (taken, bytes) = batch.take(100, stamp);
            let expected: Vec<u64> = (first..first + taken as u64).collect();
            assert_eq!(stamps(bytes), expected);
            seq += taken as u64;
            turns += taken;
        }
    }

    #[test]
    fn a_message_larger_than_a_write_is_taken_alone() {
        let mut batch = Batch::new(&content(&["a"], 200_000));
        let (taken, bytes) = batch.take(10, |_| Stamp { publisher: 0, seq: 1, sent_ns: 0 });
        assert_eq!(taken, 1);
        assert!(bytes.len() > 200_000);
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { publisher: 65_535, seq: (1 << 48) - 1, sent_ns: u64::MAX };
        let mut body = [0; STAMP_BYTES];
        stamp.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp));
        assert_eq!(Stamp::read(&body[..15]), None);
    }
}
