//! What waits to be written, in order, and how much of it will be.
//!
//! A group ends at [`GROUP_BYTES_MAX`], so large messages would be written one at a time, each
//! before its settlement, which waits behind all of the others, is ever looked at. Therefore large
//! messages that are settled while they wait do not count any more: a group then reaches as far as
//! these settlements, and a message that lies in it with its own is never written.
//!
//! Invariants: the places of what waits are consecutive; `bytes`, `settled_bytes` and `ops` are the
//! sums over what waits; every message in `large` is in a batch that waits.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::apply::Pending;
use crate::store::{Batch, Lsn, Op, QueueKey, QueueSeq};

/// Bytes taken for one write, and one batch more.
const GROUP_BYTES_MAX: u64 = 1 << 20;
/// Operations taken for one write.
const GROUP_OPS_MAX: usize = 4_096;
/// Bytes of memory that are worth a write although most of them will not be written.
const HELD_BYTES_MAX: u64 = 16 << 20;
/// A message is large from so many bytes on: small ones are settled in groups with others, and
/// looking for each would cost more than it saves.
const LARGE_BYTES_MIN: u64 = 16 << 10;

/// Batches that no group has taken yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    batches: VecDeque<Pending>,
    bytes: u64,
    settled_bytes: u64,
    ops: usize,
    /// Large messages that nothing has settled yet: the places of their batches, and their bytes.
    large: FxHashMap<(QueueKey, QueueSeq), (Lsn, u64)>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether there is enough for a write even if nobody awaits it.
    pub(super) fn is_full(&self) -> bool {
        self.bytes - self.settled_bytes >= GROUP_BYTES_MAX
            || self.ops >= GROUP_OPS_MAX
            || self.bytes >= HELD_BYTES_MAX
    }

    /// In order.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().map(|pending| &pending.batch)
    }

    /// Adds a batch whose place is the one behind the last that came.
    pub(super) fn push(&mut self, lsn: Lsn, cost_bytes: u64, batch: Batch) {
        if !self.large.is_empty() {
            batch.ops.iter().for_each(|op| self.settle_large(op));
        }
        if cost_bytes >= LARGE_BYTES_MIN {
            let large = batch.ops.iter().filter_map(large_message);
            self.large.extend(large.map(|(place, bytes)| (place, (lsn, bytes))));
        }
        self.bytes += cost_bytes;
        self.ops += batch.ops.len();
        self.batches.push_back(Pending { lsn, cost_bytes, settled_bytes: 0, batch });
    }

    /// What an operation settles of the large messages that wait.
    fn settle_large(&mut self, op: &Op) {
        let Op::Settle { queue, seq, .. } = op else { return };
        let Some((lsn, bytes)) = self.large.remove(&(*queue, *seq)) else { return };
        let first = self.batches.front().map_or(lsn, |pending| pending.lsn);
        let at = usize::try_from(lsn.0 - first.0).unwrap_or(usize::MAX);
        if let Some(pending) = self.batches.get_mut(at) {
            pending.settled_bytes += bytes;
            self.settled_bytes += bytes;
        }
    }

    /// Takes what will be written next.
    pub(super) fn take_group(&mut self) -> Vec<Pending> {
        let mut group = Vec::with_capacity(self.batches.len().min(GROUP_OPS_MAX));
        let (mut bytes, mut ops) = (0, 0);
        while let Some(next) = self.batches.front() {
            bytes += next.written_bytes();
            ops += next.batch.ops.len();
            if !group.is_empty() && (bytes > GROUP_BYTES_MAX || ops > GROUP_OPS_MAX) {
                break;
            }
            self.bytes -= next.cost_bytes;
            self.settled_bytes -= next.settled_bytes;
            self.ops -= next.batch.ops.len();
            if !self.large.is_empty() && next.cost_bytes >= LARGE_BYTES_MIN {
                for (place, _) in next.batch.ops.iter().filter_map(large_message) {
                    self.large.remove(&place);
                }
            }
            group.extend(self.batches.pop_front());
        }
        group
    }
}

/// The place and the size of a large message that an operation brings.
fn large_message(op: &Op) -> Option<((QueueKey, QueueSeq), u64)> {
    match op {
        Op::Enqueue { queue, seq, .. } => {
            let bytes = op.cost_bytes();
            (bytes >= LARGE_BYTES_MIN).then_some(((*queue, *seq), bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::{Envelope, Message};

    const QUEUE: QueueKey = QueueKey { shard: 0, queue: 7 };

    fn enqueue(number: u64, body_bytes: usize) -> Op {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"q",
            properties: b"",
            persistent: true,
            hides_bcc: false,
            published_ms: 0,
        };
        let message = Message::new(&envelope, &vec![0; body_bytes]);
        Op::Enqueue { queue: QUEUE, seq: QueueSeq(number), message }
    }

    fn settle(number: u64) -> Op {
        Op::Settle { queue: QUEUE, seq: QueueSeq(number), body_bytes: 0 }
    }

    fn push(waiting: &mut Waiting, lsn: u64, op: Op) {
        let batch = Batch { ops: vec![op], awaited: true };
        waiting.push(Lsn(lsn), batch.cost_bytes(), batch);
    }

    fn lsns(group: &[Pending]) -> Vec<u64> {
        group.iter().map(|pending| pending.lsn.0).collect()
    }

    #[test]
    fn large_messages_settled_while_they_wait_do_not_end_a_group() {
        let mut waiting = Waiting::default();
        for number in 1..=5 {
            push(&mut waiting, number, enqueue(number, 900_000));
        }
        assert!(waiting.is_full());
        for number in 2..=4 {
            push(&mut waiting, number + 4, settle(number));
        }
        assert_eq!(lsns(&waiting.take_group()), [1, 2, 3, 4], "the fifth would be too much");
        assert_eq!(lsns(&waiting.take_group()), [5, 6, 7, 8]);
        assert!(waiting.is_empty() && waiting.large.is_empty());
        assert_eq!((waiting.bytes, waiting.settled_bytes, waiting.ops), (0, 0, 0));
    }

    #[test]
    fn what_a_group_has_taken_is_not_settled_here_any_more() {
        let mut waiting = Waiting::default();
        push(&mut waiting, 1, enqueue(1, 900_000));
        push(&mut waiting, 2, enqueue(2, 900_000));
        assert_eq!(lsns(&waiting.take_group()), [1]);
        push(&mut waiting, 3, settle(1));
        assert_eq!(waiting.settled_bytes, 0);
        push(&mut waiting, 4, settle(2));
        assert!(waiting.settled_bytes > 900_000);
        assert_eq!(lsns(&waiting.take_group()), [2, 3, 4]);
    }

    #[test]
    fn memory_is_worth_a_write_even_if_all_of_it_is_settled() {
        let mut waiting = Waiting::default();
        for number in 1..=17 {
            push(&mut waiting, 2 * number - 1, enqueue(number, 1 << 20));
            push(&mut waiting, 2 * number, settle(number));
            assert_eq!(waiting.is_full(), number >= 16, "{number}");
        }
    }
}
