//! Which of a queue's messages are settled, without a record per message.
//!
//! Owns the cursor: `head` (every number below it is settled), `tail` (every number from it on is
//! still unused), and the spans of settled numbers between them. A consumer that acknowledges in
//! order only moves `head`; out of order, neighbouring spans merge as they meet. Numbers that were
//! never stored (transient messages take numbers too) count as settled: such gaps are spans as
//! well.
//!
//! A span remembers whether records of settled messages may still lie on disk inside it. Only those
//! spans are written into the cursor's record, for a reader after a restart must be told to skip
//! them; a gap shows by itself when the messages are read ([`Cursor::rebuild`]). So a record stays
//! short however many gaps there are, and [`Cursor::spill`] keeps the number of written spans below
//! a limit by naming ranges to delete for good.
//!
//! Invariants: `head <= tail`; spans lie strictly inside `head..tail`, never touch one another and
//! never start at `head`; `ready` is exactly the count of numbers in no span; an empty queue has
//! `head == tail` and no spans. Pure: no clock, no IO.

mod record;

use std::collections::{BTreeMap, BTreeSet};

#[cfg(feature = "rocksdb")]
pub(crate) use record::{CursorError, Listed};

/// A number that was used before: the proposer broke the order of the queue's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message number {seq} where {tail} or above was due")]
pub(crate) struct OutOfOrder {
    seq: u64,
    tail: u64,
}

/// What a purge or a drop settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Settled {
    /// Messages.
    pub(crate) messages: u64,
    /// Their bytes; see [`Cursor::ready_bytes`] for how exact that is.
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    end: u64,
    /// Whether settled records may still lie on disk inside the span.
    stored: bool,
}

/// A queue's settled and unsettled message numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    head: u64,
    tail: u64,
    spans: BTreeMap<u64, Span>,
    /// Starts of the spans with `stored` set: what a record lists, found without a search.
    stored: BTreeSet<u64>,
    ready: u64,
    ready_bytes: u64,
}

impl Cursor {
    /// Takes a message in.
    ///
    /// # Errors
    /// When the number was used before.
    pub(crate) fn enqueue(&mut self, seq: u64, bytes: u64) -> Result<(), OutOfOrder> {
        let next = self.check_order(seq)?;
        if self.ready == 0 {
            self.head = seq;
        } else if seq > self.tail {
            self.insert(self.tail, seq, false);
        }
        self.tail = next;
        self.ready += 1;
        self.ready_bytes += bytes;
        Ok(())
    }

    /// Uses up a number without a message: one that was settled before it was written.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub(crate) fn skip(&mut self, seq: u64) -> Result<(), OutOfOrder> {
        let next = self.check_order(seq)?;
        if self.ready == 0 {
            self.head = next;
        } else {
            self.insert(self.tail, next, false);
        }
        self.tail = next;
        Ok(())
    }

    /// Settles one number. Answers with the message's bytes, or `None` when the number is unknown
    /// or settled already.
    pub(crate) fn settle(&mut self, seq: u64) -> Option<u64> {
        if self.is_settled(seq) {
            return None;
        }
        let bytes = self.forget(1);
        if self.ready == 0 {
            self.clear();
        } else if seq == self.head {
            self.head += 1;
            self.advance_head();
        } else {
            self.insert(seq, seq + 1, true);
        }
        Some(bytes)
    }

    /// Settles every number up to and including `up_to`, apart from `except`.
    pub(crate) fn purge(&mut self, up_to: u64, except: impl IntoIterator<Item = u64>) -> Settled {
        let limit = up_to.saturating_add(1).min(self.tail);
        if limit <= self.head {
            return Settled::default();
        }
        let kept: BTreeSet<u64> =
            except.into_iter().filter(|seq| *seq < limit && !self.is_settled(*seq)).collect();
        let messages = self.unsettled_below(limit) - kept.len() as u64;
        if messages == 0 {
            return Settled::default();
        }
        let bytes = self.forget(messages);
        if self.ready == 0 {
            self.clear();
            return Settled { messages, bytes };
        }
        let mut from = self.head;
        for seq in kept {
            self.insert_unless_empty(from, seq);
            from = seq + 1;
        }
        self.insert_unless_empty(from, limit);
        self.advance_head();
        Settled { messages, bytes }
    }

    /// True when the number is settled, was never stored, or is not yet used.
    pub(crate) fn is_settled(&self, seq: u64) -> bool {
        seq < self.head || seq >= self.tail || self.span_at(seq).is_some()
    }

    /// Every number below it is settled.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Every number from it on is unused.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Bytes of the unsettled messages. A settle does not say how large its message was, so each
    /// one takes the average away: exact for messages of one size, after a restart and when the
    /// queue is empty, an estimate otherwise.
    pub(crate) fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    /// True when every message is settled.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready == 0
    }

    /// The average size of an unsettled message, at least 1.
    pub(crate) fn average_bytes(&self) -> u64 {
        self.ready_bytes.checked_div(self.ready).unwrap_or(0).max(1)
    }

    fn check_order(&self, seq: u64) -> Result<u64, OutOfOrder> {
        let out_of_order = OutOfOrder { seq, tail: self.tail };
        if seq < self.tail { Err(out_of_order) } else { seq.checked_add(1).ok_or(out_of_order) }
    }

    /// Takes `messages` off the counts; answers with their bytes.
    fn forget(&mut self, messages: u64) -> u64 {
        debug_assert!(messages <= self.ready);
        let bytes = if messages == self.ready {
            self.ready_bytes
        } else {
            (self.ready_bytes / self.ready).saturating_mul(messages)
        };
        self.ready -= messages;
        self.ready_bytes -= bytes;
        bytes
    }

    fn clear(&mut self) {
        self.head = self.tail;
        self.spans.clear();
        self.stored.clear();
    }

    fn span_at(&self, seq: u64) -> Option<Span> {
        let (_, span) = self.spans.range(..=seq).next_back()?;
        (seq < span.end).then_some(*span)
    }

    fn unsettled_below(&self, limit: u64) -> u64 {
        let settled: u64 =
            self.spans.range(..limit).map(|(start, span)| span.end.min(limit) - start).sum();
        limit - self.head - settled
    }

    fn advance_head(&mut self) {
        if let Some((&start, &span)) = self.spans.first_key_value()
            && start == self.head
        {
            self.head = span.end;
            self.take_span(start);
        }
    }

    fn insert_unless_empty(&mut self, start: u64, end: u64) {
        if start < end {
            self.insert(start, end, true);
        }
    }

    /// Adds a span, joined with every span that it overlaps or touches.
    fn insert(&mut self, start: u64, end: u64, stored: bool) {
        let mut joined = start;
        let mut span = Span { end, stored };
        if let Some((&before, touching)) = self.spans.range(..=start).next_back()
            && touching.end >= start
        {
            joined = before;
        }
        while let Some((&next, &touching)) = self.spans.range(joined..=span.end).next() {
            span.end = span.end.max(touching.end);
            span.stored |= touching.stored;
            self.take_span(next);
        }
        self.put_span(joined, span);
    }

    fn put_span(&mut self, start: u64, span: Span) {
        if span.stored {
            self.stored.insert(start);
        }
        self.spans.insert(start, span);
    }

    fn take_span(&mut self, start: u64) {
        self.spans.remove(&start);
        self.stored.remove(&start);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::record::CursorError;
    use super::*;

    /// A cursor said plainly: what is unsettled, and which records lie on disk.
    #[derive(Debug, Default)]
    struct Model {
        unsettled: BTreeMap<u64, u64>,
        on_disk: BTreeMap<u64, u64>,
        tail: u64,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enqueue { gap: u64, bytes: u64 },
        Skip { gap: u64 },
        Settle { at: usize },
        SettleNumber { seq: u64 },
        Purge { at: usize, keep: Vec<usize> },
        Spill { spans_max: usize },
        SpillLong { numbers_min: u64 },
        Trim,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let gap = prop_oneof![4 => Just(0u64), 1 => 1..5u64, 1 => 1_000..100_000u64];
        prop_oneof![
            8 => (gap.clone(), 1..10_000u64).prop_map(|(gap, bytes)| Step::Enqueue { gap, bytes }),
            1 => gap.prop_map(|gap| Step::Skip { gap }),
            8 => any::<usize>().prop_map(|at| Step::Settle { at }),
            2 => Just(Step::Settle { at: 0 }),
            1 => (0..300u64).prop_map(|seq| Step::SettleNumber { seq }),
            1 => (any::<usize>(), prop::collection::vec(any::<usize>(), 0..4))
                .prop_map(|(at, keep)| Step::Purge { at, keep }),
            1 => (0..6usize).prop_map(|spans_max| Step::Spill { spans_max }),
            1 => (1..6u64).prop_map(|numbers_min| Step::SpillLong { numbers_min }),
            1 => Just(Step::Trim),
            1 => Just(Step::Restart),
        ]
    }

    impl Model {
        fn nth(&self, at: usize) -> Option<u64> {
            let count = self.unsettled.len();
            (count > 0).then(|| *self.unsettled.keys().nth(at % count).unwrap())
        }

        fn delete(&mut self, spans: &[std::ops::Range<u64>]) {
            self.on_disk.retain(|seq, _| !spans.iter().any(|span| span.contains(seq)));
        }

        fn play(&mut self, cursor: &mut Cursor, step: &Step) {
            match step {
                Step::Enqueue { gap, bytes } => {
                    let seq = self.tail + gap;
                    cursor.enqueue(seq, *bytes).unwrap();
                    self.unsettled.insert(seq, *bytes);
                    self.on_disk.insert(seq, *bytes);
                    self.tail = seq + 1;
                }
                Step::Skip { gap } => {
                    cursor.skip(self.tail + gap).unwrap();
                    self.tail += gap + 1;
                }
                Step::Settle { at } => {
                    if let Some(seq) = self.nth(*at) {
                        assert!(cursor.settle(seq).is_some());
                        assert!(cursor.settle(seq).is_none(), "settled twice");
                        self.unsettled.remove(&seq);
                    }
                }
                Step::SettleNumber { seq } => {
                    let known = self.unsettled.remove(seq).is_some();
                    assert_eq!(cursor.settle(*seq).is_some(), known);
                }
                Step::Purge { at, keep } => {
                    let Some(up_to) = self.nth(*at) else { return };
                    let keep: BTreeSet<u64> = keep.iter().filter_map(|at| self.nth(*at)).collect();
                    let before = self.unsettled.len();
                    self.unsettled.retain(|seq, _| *seq > up_to || keep.contains(seq));
                    let settled = cursor.purge(up_to, keep);
                    assert_eq!(settled.messages, (before - self.unsettled.len()) as u64);
                }
                Step::Spill { spans_max } => {
                    self.delete(&cursor.spill(*spans_max));
                    assert!(cursor.listed().spans.len() <= *spans_max);
                }
                Step::SpillLong { numbers_min } => self.delete(&cursor.spill_long(*numbers_min)),
                Step::Trim => self.on_disk.retain(|seq, _| *seq >= cursor.head()),
                Step::Restart => {
                    let mut record = Vec::new();
                    cursor.encode(&mut record);
                    let read = Cursor::decode(&record).unwrap();
                    let listed = read.listed();
                    let mut rebuild = read.rebuild();
                    for (seq, bytes) in self.on_disk.range(listed.head..) {
                        if !listed.spans.iter().any(|span| span.contains(seq)) {
                            rebuild.found(*seq, *bytes).unwrap();
                        }
                    }
                    *cursor = rebuild.finish().unwrap();
                    assert_eq!(cursor.ready_bytes, self.unsettled.values().sum::<u64>());
                }
            }
        }

        fn check(&self, cursor: &Cursor) {
            assert_eq!(cursor.ready, self.unsettled.len() as u64);
            assert_eq!(cursor.tail, self.tail);
            assert_eq!(cursor.is_empty(), self.unsettled.is_empty());
            assert_eq!(cursor.head, self.unsettled.keys().next().copied().unwrap_or(self.tail));
            for seq in self.on_disk.keys().chain(self.unsettled.keys()) {
                assert_eq!(cursor.is_settled(*seq), !self.unsettled.contains_key(seq), "{seq}");
            }
            let numbers: u64 = cursor.spans.iter().map(|(start, span)| span.end - start).sum();
            assert_eq!(numbers + cursor.ready, cursor.tail - cursor.head);
            let mut last = cursor.head;
            for (start, span) in &cursor.spans {
                assert!(last < *start && *start < span.end && span.end <= cursor.tail);
                assert_eq!(span.stored, cursor.stored.contains(start));
                last = span.end;
            }
            assert!(cursor.stored.iter().all(|start| cursor.spans.contains_key(start)));
        }
    }

    proptest! {
        #[test]
        fn a_cursor_agrees_with_a_plain_set_whatever_happens(
            steps in prop::collection::vec(step(), 0..120)
        ) {
            let (mut model, mut cursor) = (Model::default(), Cursor::default());
            for step in &steps {
                model.play(&mut cursor, step);
                model.check(&cursor);
            }
        }

        #[test]
        fn a_record_with_a_flipped_bit_is_refused(
            steps in prop::collection::vec(step(), 0..60),
            bit in any::<prop::sample::Index>(),
        ) {
            let (mut model, mut cursor) = (Model::default(), Cursor::default());
            steps.iter().for_each(|step| model.play(&mut cursor, step));
            let mut record = Vec::new();
            cursor.encode(&mut record);
            let bit = bit.index(8 * record.len());
            record[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Cursor::decode(&record).is_err());
        }
    }

    fn filled(messages: u64) -> Cursor {
        let mut cursor = Cursor::default();
        (0..messages).for_each(|seq| cursor.enqueue(seq, 100).unwrap());
        cursor
    }

    #[test]
    fn acknowledging_in_order_keeps_no_spans() {
        let mut cursor = filled(1_000);
        for seq in 0..999 {
            assert_eq!(cursor.settle(seq), Some(100));
            assert_eq!((cursor.head, cursor.spans.len()), (seq + 1, 0));
        }
        cursor.settle(999);
        assert_eq!((cursor.head, cursor.ready_bytes), (1_000, 0));
    }

    #[test]
    fn neighbours_settled_out_of_order_become_one_span() {
        let mut cursor = filled(10);
        for seq in [5, 3, 4] {
            cursor.settle(seq);
        }
        assert_eq!(cursor.listed().spans.first(), Some(&(3..6)));
        for seq in [0, 2, 1] {
            cursor.settle(seq);
        }
        assert_eq!(cursor.head, 6);
        assert_eq!(cursor.listed().spans, []);
    }

    #[test]
    fn gaps_are_settled_and_take_no_room_in_the_record() {
        let mut cursor = Cursor::default();
        (0..1_000).for_each(|seq| cursor.enqueue(2 * seq, 1).unwrap());
        assert_eq!(cursor.settle(1), None);
        let mut record = Vec::new();
        cursor.encode(&mut record);
        assert!(record.len() < 16, "{} bytes", record.len());
        assert_eq!(cursor.settle(0), Some(1));
        assert_eq!(cursor.head, 2);
    }

    #[test]
    fn a_number_used_before_is_refused() {
        let mut cursor = filled(10);
        assert_eq!(cursor.enqueue(9, 1), Err(OutOfOrder { seq: 9, tail: 10 }));
        assert_eq!(cursor.skip(0), Err(OutOfOrder { seq: 0, tail: 10 }));
        assert!(cursor.enqueue(u64::MAX, 1).is_err());
    }

    #[test]
    fn a_purge_of_everything_keeps_what_clients_hold() {
        let mut cursor = filled(100);
        let settled = cursor.purge(u64::MAX, [7, 50]);
        assert_eq!(settled, Settled { messages: 98, bytes: 9_800 });
        assert_eq!((cursor.head, cursor.ready), (7, 2));
        assert_eq!(cursor.listed().spans, [8..50, 51..100]);
    }

    #[test]
    fn a_missing_or_a_surplus_message_is_noticed() {
        let cursor = filled(3);
        let missing = |found: &[u64]| {
            let mut rebuild = cursor.rebuild();
            found.iter().try_for_each(|seq| rebuild.found(*seq, 1))?;
            rebuild.finish()
        };
        assert_eq!(missing(&[0, 2]), Err(CursorError::Count { counted: 3, found: 2 }));
        assert_eq!(missing(&[0, 1, 2, 3]), Err(CursorError::Beyond { seq: 3, tail: 3 }));
        assert!(missing(&[0, 1, 2]).is_ok());
    }
}
