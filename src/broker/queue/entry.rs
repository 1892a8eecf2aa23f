//! A message at its place in a queue, and what is counted of those that are out.

use super::Acks;
use crate::broker::message::Message;
use crate::broker::outbox::ConsumerId;
use crate::store::{Op, QueueKey, QueueSeq};

/// A message at its place in a queue.
#[derive(Debug)]
pub struct Entry {
    /// Its place.
    pub seq: QueueSeq,
    /// The message.
    pub message: Message,
    /// When it expires, in milliseconds of Unix time; `u64::MAX` is never.
    pub expires_ms: u64,
    /// How often it was handed out and came back, as far as this life of the node knows.
    pub deliveries: u32,
    /// Whether a client may have seen it, in this life of the node or an earlier one.
    pub maybe_delivered: bool,
    /// Its priority level.
    pub priority: u8,
    /// Whether the store keeps it.
    pub stored: bool,
}

impl Entry {
    /// A message that was never handed out, is not stored and does not expire.
    #[must_use]
    pub fn new(seq: QueueSeq, message: Message) -> Self {
        Self {
            seq,
            message,
            expires_ms: u64::MAX,
            deliveries: 0,
            maybe_delivered: false,
            priority: 0,
            stored: false,
        }
    }

    /// Whether the client must be told that it may have seen this message before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.maybe_delivered
    }

    /// What settles it in the store, which keeps it.
    pub(in crate::broker) fn settle(&self, queue: QueueKey) -> Op {
        Op::Settle { queue, seq: self.seq, body_bytes: self.message.body_len() as u64 }
    }

    /// What it counts for while it is out.
    pub(in crate::broker) fn transit(&self) -> Transit {
        Transit::of(self.message.body_len() as u64, self.stored)
    }
}

/// A message that is done with, as its channel remembers it.
#[derive(Debug, Clone, Copy)]
pub struct Settled {
    /// Its place.
    pub seq: QueueSeq,
    /// Who held it.
    pub consumer: ConsumerId,
    /// Its body's length.
    pub body_bytes: u64,
    /// Whether the store keeps it.
    pub stored: bool,
    /// Whether a client acknowledged it (for the counters).
    pub acks: Acks,
}

impl Settled {
    /// What settling `entry`, held by `consumer`, takes.
    #[must_use]
    pub fn of(entry: &Entry, consumer: ConsumerId, acks: Acks) -> Self {
        Self {
            seq: entry.seq,
            consumer,
            body_bytes: entry.message.body_len() as u64,
            stored: entry.stored,
            acks,
        }
    }
}

/// Messages that are out of their queue and not settled: what of them is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transit {
    /// How many.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Those that the store keeps.
    pub stored: u64,
    /// Bytes of these.
    pub stored_bytes: u64,
}

impl Transit {
    /// One message.
    pub(super) fn of(bytes: u64, stored: bool) -> Self {
        let (is_stored, stored_bytes) = if stored { (1, bytes) } else { (0, 0) };
        Self { messages: 1, bytes, stored: is_stored, stored_bytes }
    }

    /// Counts more.
    pub fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.stored += more.stored;
        self.stored_bytes += more.stored_bytes;
    }

    pub(super) fn remove(&mut self, gone: Self) {
        self.messages -= gone.messages;
        self.bytes -= gone.bytes;
        self.stored -= gone.stored;
        self.stored_bytes -= gone.stored_bytes;
    }
}
