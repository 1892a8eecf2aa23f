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
//! them; a gap shows by itself when the messages are read. So a record stays short however many
//! gaps there are, and [`Cursor::spill`] keeps the number of written spans below a limit by naming
//! ranges to delete for good.
//!
//! After a restart nothing is read: the record has the counts, and `unread` is where gaps are not
//! known yet. Whoever reads messages there tells ([`Cursor::learn`]), and a message is read before
//! it is settled, so the spans around it can join as ever.
//!
//! Invariants: `head <= tail`; spans lie strictly inside `head..tail`, never touch one another and
//! never start at `head`; `ready` and `body_bytes` are exact; with nothing unread, `ready` is the
//! count of numbers in no span; an empty queue has `head == tail`, no spans and nothing unread.
//! Pure: no clock, no IO.

mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub(crate) use record::CursorError;
#[cfg(feature = "rocksdb")]
pub(crate) use record::Listed;

/// A number that was used before: the proposer broke the order of the queue's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message number {seq} where {tail} or above was due")]
pub(crate) struct OutOfOrder {
    seq: u64,
    tail: u64,
}

/// A purge of more messages than there are, which its proposer must have counted wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{purged} messages purged where there are {ready}")]
pub(crate) struct Surplus {
    purged: u64,
    ready: u64,
}

/// How large a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    /// Its record on disk.
    pub(crate) record: u64,
    /// Its body alone.
    pub(crate) body: u64,
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
    /// Where a number in no span may be a gap.
    unread: Range<u64>,
    ready: u64,
    ready_bytes: u64,
    body_bytes: u64,
}

impl Cursor {
    /// Takes a message in.
    ///
    /// # Errors
    /// When the number was used before.
    pub(crate) fn enqueue(&mut self, seq: u64, size: Size) -> Result<(), OutOfOrder> {
        let next = self.check_order(seq)?;
        if self.ready == 0 {
            self.head = seq;
        } else if seq > self.tail {
            self.insert(self.tail, seq, false);
        }
        self.tail = next;
        self.ready += 1;
        self.ready_bytes += size.record;
        self.body_bytes += size.body;
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

    /// Settles one number, whose message's body has so many bytes. Answers with the bytes of its
    /// record, or `None` when the number is unknown or settled already.
    pub(crate) fn settle(&mut self, seq: u64, body_bytes: u64) -> Option<u64> {
        if self.is_settled(seq) {
            return None;
        }
        let bytes = self.forget(1, body_bytes);
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

    /// Settles every number in some ranges. Who asks knows how many messages that is and how many
    /// bytes their bodies have. Answers with the bytes of their records.
    ///
    /// # Errors
    /// When that is more than there is.
    pub(crate) fn purge(
        &mut self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        messages: u64,
        body_bytes: u64,
    ) -> Result<u64, Surplus> {
        if messages > self.ready {
            return Err(Surplus { purged: messages, ready: self.ready });
        }
        if messages == 0 {
            return Ok(0);
        }
        let bytes = self.forget(messages, body_bytes);
        if self.ready == 0 {
            self.clear();
            return Ok(bytes);
        }
        for numbers in ranges {
            let (start, end) = (numbers.start.max(self.head), numbers.end.min(self.tail));
            if start < end {
                self.insert(start, end, true);
                self.advance_head();
            }
        }
        Ok(bytes)
    }

    /// A reader that began at `from` has found the records of these numbers, which ascend, and
    /// nothing between them; nor behind them, if it came `to_the_end`.
    ///
    /// # Errors
    /// When records are missing, or there are too many.
    pub(crate) fn learn(
        &mut self,
        from: u64,
        found: impl IntoIterator<Item = u64>,
        to_the_end: bool,
    ) -> Result<(), CursorError> {
        // Below the head everything is settled, read or not.
        self.unread.start = self.unread.start.max(self.head).min(self.unread.end);
        if self.unread.is_empty() || from > self.unread.start {
            return Ok(());
        }
        let tail = self.tail;
        for seq in found {
            if seq >= tail {
                return Err(CursorError::Beyond { seq, tail });
            }
            self.learn_gap(seq);
            self.unread.start = self.unread.start.max(seq + 1);
        }
        if to_the_end {
            self.learn_gap(self.unread.end);
            self.unread.start = self.unread.end;
        }
        self.advance_head();
        if self.unread.is_empty() {
            let settled: u64 = self.spans.iter().map(|(start, span)| span.end - start).sum();
            let (counted, found) = (self.ready, self.tail - self.head - settled);
            if counted != found {
                return Err(CursorError::Count { counted, found });
            }
        }
        Ok(())
    }

    /// What is unread below `end` is a gap.
    fn learn_gap(&mut self, end: u64) {
        let (start, end) = (self.unread.start.max(self.head), end.min(self.unread.end));
        if start < end {
            self.insert(start, end, false);
        }
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

    /// Unsettled messages.
    pub(crate) fn ready(&self) -> u64 {
        self.ready
    }

    /// Bytes of the unsettled messages' bodies.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Bytes of the unsettled messages' records. A settle does not say how large its record was, so
    /// each one takes the average away: exact for messages of one size and when the queue is empty,
    /// an estimate otherwise.
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

    /// Takes `messages` off the counts; answers with the bytes of their records.
    fn forget(&mut self, messages: u64, body_bytes: u64) -> u64 {
        debug_assert!(messages <= self.ready);
        let bytes = if messages == self.ready {
            self.ready_bytes
        } else {
            (self.ready_bytes / self.ready).saturating_mul(messages)
        };
        self.ready -= messages;
        self.ready_bytes -= bytes;
        self.body_bytes = self.body_bytes.saturating_sub(body_bytes);
        bytes
    }

    fn clear(&mut self) {
        self.head = self.tail;
        self.spans.clear();
        self.stored.clear();
        self.unread = 0..0;
        self.body_bytes = 0;
    }

    fn span_at(&self, seq: u64) -> Option<Span> {
        let (_, span) = self.spans.range(..=seq).next_back()?;
        (seq < span.end).then_some(*span)
    }

    fn advance_head(&mut self) {
        if let Some((&start, &span)) = self.spans.first_key_value()
            && start == self.head
        {
            self.head = span.end;
            self.take_span(start);
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
    use std::iter::once;

    use proptest::prelude::*;

    use super::*;

    /// A cursor said plainly: what is unsettled, which records lie on disk, and how far a reader
    /// has come since the last restart.
    #[derive(Debug, Default)]
    struct Model {
        unsettled: BTreeMap<u64, u64>,
        on_disk: BTreeMap<u64, u64>,
        tail: u64,
        read_to: u64,
        restarted_at: u64,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enqueue { gap: u64, bytes: u64 },
        Skip { gap: u64 },
        Settle { at: usize },
        SettleNumber { seq: u64 },
        Purge { from: usize, to: usize },
        Spill { spans_max: usize },
        SpillLong { numbers_min: u64 },
        Trim,
        Read { messages_max: usize },
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
            1 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Step::Purge { from, to }),
            1 => (0..6usize).prop_map(|spans_max| Step::Spill { spans_max }),
            1 => (1..6u64).prop_map(|numbers_min| Step::SpillLong { numbers_min }),
            1 => Just(Step::Trim),
            3 => (0..20usize).prop_map(|messages_max| Step::Read { messages_max }),
            1 => Just(Step::Restart),
        ]
    }

    impl Model {
        fn nth(&self, at: usize) -> Option<u64> {
            let count = self.unsettled.len();
            (count > 0).then(|| *self.unsettled.keys().nth(at % count).unwrap())
        }

        fn delete(&mut self, spans: &[Range<u64>]) {
            self.on_disk.retain(|seq, _| !spans.iter().any(|span| span.contains(seq)));
        }

        /// Whether the reader has seen this message, or it came in this life.
        fn is_read(&self, seq: u64) -> bool {
            seq < self.read_to || seq >= self.restarted_at
        }

        fn play(&mut self, cursor: &mut Cursor, step: &Step) {
            match step {
                Step::Enqueue { gap, bytes } => {
                    let seq = self.tail + gap;
                    cursor.enqueue(seq, Size { record: 30 + bytes, body: *bytes }).unwrap();
                    self.unsettled.insert(seq, *bytes);
                    self.on_disk.insert(seq, *bytes);
                    self.tail = seq + 1;
                }
                Step::Skip { gap } => {
                    cursor.skip(self.tail + gap).unwrap();
                    self.tail += gap + 1;
                }
                Step::Settle { at } => {
                    if let Some(seq) = self.nth(*at).filter(|seq| self.is_read(*seq)) {
                        let bytes = self.unsettled.remove(&seq).unwrap();
                        assert!(cursor.settle(seq, bytes).is_some());
                        assert!(cursor.settle(seq, bytes).is_none(), "settled twice");
                    }
                }
                Step::SettleNumber { seq } if !self.is_read(*seq) => {}
                Step::SettleNumber { seq } => {
                    let known = self.unsettled.remove(seq);
                    assert_eq!(cursor.settle(*seq, known.unwrap_or(7)).is_some(), known.is_some());
                }
                Step::Purge { from, to } => {
                    let (Some(from), Some(to)) = (self.nth(*from), self.nth(*to)) else { return };
                    let purged: Vec<u64> =
                        self.unsettled.range(from..to.max(from)).map(|(_, bytes)| *bytes).collect();
                    self.unsettled.retain(|seq, _| !(from..to).contains(seq));
                    let bytes = purged.iter().sum();
                    cursor.purge(once(from..to), purged.len() as u64, bytes).unwrap();
                    assert!(
                        cursor
                            .purge(once(0..u64::MAX), self.unsettled.len() as u64 + 1, 0)
                            .is_err()
                    );
                }
                Step::Spill { spans_max } => {
                    self.delete(&cursor.spill(*spans_max));
                    assert!(cursor.listed().spans.len() <= *spans_max);
                }
                Step::SpillLong { numbers_min } => self.delete(&cursor.spill_long(*numbers_min)),
                Step::Trim => self.on_disk.retain(|seq, _| *seq >= cursor.head()),
                Step::Read { messages_max } => {
                    let from = self.read_to;
                    let listed = cursor.listed();
                    let is_seen = |seq: &u64| {
                        *seq >= listed.head && !listed.spans.iter().any(|span| span.contains(seq))
                    };
                    let records = self.on_disk.range(from..).map(|(seq, _)| *seq);
                    let found: Vec<u64> = records.filter(is_seen).take(*messages_max).collect();
                    let to_the_end = found.len() < *messages_max;
                    self.read_to = match found.last() {
                        _ if to_the_end => self.tail,
                        Some(last) => last + 1,
                        None => from,
                    };
                    cursor.learn(from, found, to_the_end).unwrap();
                }
                Step::Restart => {
                    let mut record = Vec::new();
                    cursor.encode(&mut record);
                    *cursor = Cursor::decode(&record).unwrap();
                    (self.read_to, self.restarted_at) = (0, self.tail);
                }
            }
        }

        fn check(&self, cursor: &Cursor) {
            assert_eq!(cursor.ready, self.unsettled.len() as u64);
            assert_eq!(cursor.body_bytes, self.unsettled.values().sum::<u64>());
            assert_eq!(cursor.tail, self.tail);
            assert_eq!(cursor.is_empty(), self.unsettled.is_empty());
            let first = self.unsettled.keys().next().copied().unwrap_or(self.tail);
            assert!(cursor.head <= first);
            for seq in self.on_disk.keys().chain(self.unsettled.keys()) {
                assert_eq!(cursor.is_settled(*seq), !self.unsettled.contains_key(seq), "{seq}");
            }
            let numbers: u64 = cursor.spans.iter().map(|(start, span)| span.end - start).sum();
            if cursor.unread.is_empty() {
                assert_eq!(cursor.head, first);
                assert_eq!(numbers + cursor.ready, cursor.tail - cursor.head);
            }
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

    const SIZE: Size = Size { record: 100, body: 60 };

    fn filled(messages: u64) -> Cursor {
        let mut cursor = Cursor::default();
        (0..messages).for_each(|seq| cursor.enqueue(seq, SIZE).unwrap());
        cursor
    }

    #[test]
    fn acknowledging_in_order_keeps_no_spans() {
        let mut cursor = filled(1_000);
        for seq in 0..999 {
            assert_eq!(cursor.settle(seq, 60), Some(100));
            assert_eq!((cursor.head, cursor.spans.len()), (seq + 1, 0));
        }
        cursor.settle(999, 60);
        assert_eq!((cursor.head, cursor.ready_bytes, cursor.body_bytes), (1_000, 0, 0));
    }

    #[test]
    fn neighbours_settled_out_of_order_become_one_span() {
        let mut cursor = filled(10);
        for seq in [5, 3, 4] {
            cursor.settle(seq, 60);
        }
        assert_eq!(cursor.listed().spans.first(), Some(&(3..6)));
        for seq in [0, 2, 1] {
            cursor.settle(seq, 60);
        }
        assert_eq!(cursor.head, 6);
        assert_eq!(cursor.listed().spans, []);
    }

    #[test]
    fn gaps_are_settled_and_take_no_room_in_the_record() {
        let mut cursor = Cursor::default();
        let size = Size { record: 1, body: 1 };
        (0..1_000).for_each(|seq| cursor.enqueue(2 * seq, size).unwrap());
        assert_eq!(cursor.settle(1, 1), None);
        let mut record = Vec::new();
        cursor.encode(&mut record);
        assert!(record.len() < 16, "{} bytes", record.len());
        assert_eq!(cursor.settle(0, 1), Some(1));
        assert_eq!(cursor.head, 2);
    }

    #[test]
    fn a_number_used_before_is_refused() {
        let mut cursor = filled(10);
        assert_eq!(cursor.enqueue(9, SIZE), Err(OutOfOrder { seq: 9, tail: 10 }));
        assert_eq!(cursor.skip(0), Err(OutOfOrder { seq: 0, tail: 10 }));
        assert!(cursor.enqueue(u64::MAX, SIZE).is_err());
    }

    #[test]
    fn a_purge_settles_a_range_however_long_at_once() {
        let mut cursor = filled(100);
        assert_eq!(cursor.purge(once(8..u64::MAX), 92, 92 * 60), Ok(9_200));
        assert_eq!((cursor.head, cursor.ready, cursor.body_bytes), (0, 8, 480));
        assert_eq!(cursor.listed().spans.first(), Some(&(8..100)));
        assert_eq!(cursor.purge(once(0..100), 9, 0), Err(Surplus { purged: 9, ready: 8 }));
        assert_eq!(cursor.purge(once(0..4), 4, 240), Ok(400));
        assert_eq!((cursor.head, cursor.ready), (4, 4));
    }

    #[test]
    fn acknowledging_in_order_keeps_no_spans_after_a_restart_either() {
        let mut cursor = Cursor::default();
        (0..1_000).for_each(|seq| cursor.enqueue(3 * seq, SIZE).unwrap());
        let mut record = Vec::new();
        cursor.encode(&mut record);
        let mut cursor = Cursor::decode(&record).unwrap();
        let mut from = 0;
        for first in (0..1_000).step_by(10) {
            let found: Vec<u64> = (first..first + 10).map(|seq| 3 * seq).collect();
            cursor.learn(from, found.iter().copied(), first == 990).unwrap();
            from = 3 * (first + 9) + 1;
            for seq in found {
                cursor.settle(seq, 60);
                assert!(cursor.spans.len() <= 10, "{} spans", cursor.spans.len());
            }
        }
        assert_eq!((cursor.head, cursor.ready, cursor.spans.len()), (2_998, 0, 0));
    }

    #[test]
    fn a_missing_or_a_surplus_message_is_noticed() {
        let read = |found: &[u64]| {
            let mut record = Vec::new();
            filled(3).encode(&mut record);
            Cursor::decode(&record).unwrap().learn(0, found.iter().copied(), true)
        };
        assert_eq!(read(&[0, 2]), Err(CursorError::Count { counted: 3, found: 2 }));
        assert_eq!(read(&[0, 1, 2, 3]), Err(CursorError::Beyond { seq: 3, tail: 3 }));
        assert_eq!(read(&[0, 1, 2]), Ok(()));
    }
}
