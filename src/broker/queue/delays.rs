//! What a delayed-message exchange keeps: messages that are not due yet.
//!
//! Owns the order in which they become due: by time, then by number. What the store keeps is held
//! in memory only when it is due soon and little is held, so that a message that waits costs its
//! place in a heap, 16 bytes; it is read back when it is due.
//!
//! Invariants: `held` holds every message that the store does not keep; `held_bytes` counts what is
//! held besides.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::Entry;
use crate::broker::message::Message;
use crate::protocol::table::{RawTable, Value};

/// The header that delays a message, in milliseconds; negative once the delay is over.
pub const DELAY_HEADER: &str = "x-delay";
/// The longest delay, as the plugin for RabbitMQ has it: about 50 days.
const DELAY_MS_MAX: u64 = u32::MAX as u64;
/// A stored message that is due within this time may be held in memory.
const HELD_AHEAD_MS: u64 = 10_000;
/// Bytes of stored messages that are held in memory.
const HELD_BYTES_MAX: usize = 4 << 20;

/// For how long a message's headers delay it; `None` is not at all. Numbers of other types, and
/// text, are converted; what is no number, zero, negative or too long does not delay.
#[must_use]
pub fn delay_ms(headers: Option<RawTable<'_>>) -> Option<u64> {
    delay(&headers?.get(DELAY_HEADER)?.to_value())
}

fn delay(value: &Value) -> Option<u64> {
    let ms = match value {
        Value::F32(ms) => whole(f64::from(*ms))?,
        Value::F64(ms) => whole(*ms)?,
        Value::LongStr(_) => value.as_str()?.parse().ok()?,
        _ => value.as_integer()?,
    };
    u64::try_from(ms).ok().filter(|ms| (1..=DELAY_MS_MAX).contains(ms))
}

/// A number without its fraction; `None` if it is none, or beyond what 64 bits hold.
fn whole(number: f64) -> Option<i64> {
    format!("{:.0}", number.trunc()).parse().ok()
}

/// A message that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) seq: u64,
    /// To be read from the store if it is not held.
    pub(super) message: Option<Message>,
}

/// A message in memory, and what of its bytes counts.
#[derive(Debug)]
struct Held {
    message: Message,
    counted_bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Delays {
    /// When each message is due, in milliseconds of Unix time, and its number.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    held: HashMap<u64, Held>,
    held_bytes: usize,
}

impl Delays {
    /// Keeps a message until it is due.
    pub(super) fn add(&mut self, entry: Entry, due_ms: u64, now_ms: u64) {
        self.due.push(Reverse((due_ms, entry.seq.0)));
        let bytes = entry.message.memory_bytes();
        let soon = due_ms.saturating_sub(now_ms) <= HELD_AHEAD_MS;
        let counted_bytes = if entry.stored { bytes } else { 0 };
        if !entry.stored || (soon && self.held_bytes + bytes <= HELD_BYTES_MAX) {
            self.held_bytes += counted_bytes;
            self.held.insert(entry.seq.0, Held { message: entry.message, counted_bytes });
        }
    }

    /// Takes up to `max` messages that are due, in their order.
    pub(super) fn take_due(&mut self, now_ms: u64, max: usize) -> Vec<Due> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(Reverse((due_ms, seq))) = self.due.peek().copied()
            && due_ms <= now_ms
        {
            self.due.pop();
            let held = self.held.remove(&seq);
            self.held_bytes -= held.as_ref().map_or(0, |held| held.counted_bytes);
            taken.push(Due { seq, message: held.map(|held| held.message) });
        }
        taken
    }

    /// Takes back what could not be read.
    pub(super) fn put_back(&mut self, due: Due, due_ms: u64) {
        self.due.push(Reverse((due_ms, due.seq)));
        if let Some(message) = due.message {
            self.held.insert(due.seq, Held { message, counted_bytes: 0 });
        }
    }

    /// When the next one is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_numbers_of_any_kind_between_nothing_and_fifty_days() {
        for (value, ms) in [
            (Value::I32(5_000), Some(5_000)),
            (Value::I64(4_294_967_295), Some(4_294_967_295)),
            (Value::I64(4_294_967_296), None),
            (Value::U8(1), Some(1)),
            (Value::I32(0), None),
            (Value::I32(-5_000), None),
            (Value::from("1500"), Some(1_500)),
            (Value::from("soon"), None),
            (Value::F64(12.9), Some(12)),
            (Value::F64(f64::NAN), None),
            (Value::F64(f64::INFINITY), None),
            (Value::Bool(true), None),
        ] {
            assert_eq!(delay(&value), ms, "{value:?}");
        }
        assert_eq!(delay_ms(None), None);
    }
}
