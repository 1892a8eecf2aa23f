//! A channel's publisher confirms: which publishes are answered, and when.
//!
//! Publishes are numbered from 1. A turn's publishes become one *run* with what is due from the
//! store; once its watermarks reach that, everything up to the run's end is
//! answered, as one `multiple` acknowledgement where more than one publish is due. Only this file
//! decides what a publisher is told.
//!
//! Invariant: runs ascend and cover `answered+1 ..= published` without gaps, apart from publishes
//! of the turn that is under way.

use std::collections::VecDeque;

use crate::store::Progress;

/// An answer to one or more publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// basic.ack.
    Ack {
        /// The delivery tag.
        tag: u64,
        /// Whether it stands for every earlier one, too.
        multiple: bool,
    },
    /// basic.nack of a single publish.
    Nack {
        /// The delivery tag.
        tag: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum Run {
    Durable { last: u64, due: Progress },
    Refused { tag: u64 },
}

/// The ledger of one channel in confirm mode.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    published: u64,
    assigned: u64,
    answered: u64,
    runs: VecDeque<Run>,
}

impl Ledger {
    /// Numbers a publish. Its answer is due after the next [`assign`](Self::assign).
    pub(super) fn publish(&mut self) {
        self.published += 1;
    }

    /// Everything published and not yet assigned is safe once the store reaches `due`.
    pub(super) fn assign(&mut self, due: Progress) {
        if self.assigned == self.published {
            return;
        }
        self.assigned = self.published;
        // Answers go out in order, so a run waits for those before it; equal ones merge.
        if let Some(Run::Durable { last, due: before }) = self.runs.back_mut()
            && due.is_reached(*before)
        {
            *last = self.published;
            return;
        }
        self.runs.push_back(Run::Durable { last: self.published, due });
    }

    /// Everything but the last publish is safe once the store reaches `due`.
    pub(super) fn assign_before_last(&mut self, due: Progress) {
        if self.assigned + 1 < self.published {
            self.published -= 1;
            self.assign(due);
            self.published += 1;
        }
    }

    /// The last publish was refused by a queue; earlier ones were assigned before.
    pub(super) fn refuse(&mut self) {
        self.assigned = self.published;
        self.runs.push_back(Run::Refused { tag: self.published });
    }

    /// Publishes not yet answered.
    pub(super) fn unanswered(&self) -> u64 {
        self.published - self.answered
    }

    /// What the next answer waits for.
    pub(super) fn waits_for(&self) -> Option<Progress> {
        self.runs.front().map(|run| match run {
            Run::Durable { due, .. } => *due,
            Run::Refused { .. } => Progress::NOW,
        })
    }

    /// Hands over what can be answered now; returns how many publishes that confirms.
    pub(super) fn settle(&mut self, reached: Progress, mut send: impl FnMut(Answer)) -> u64 {
        let mut acked_to = self.answered;
        let mut confirmed = 0;
        let mut flush = |answered: &mut u64, acked_to: u64, send: &mut dyn FnMut(Answer)| {
            let n = acked_to - *answered;
            if n > 0 {
                send(Answer::Ack { tag: acked_to, multiple: n > 1 });
                confirmed += n;
                *answered = acked_to;
            }
        };
        while let Some(run) = self.runs.front().copied() {
            match run {
                Run::Durable { last, due } if due.is_reached(reached) => acked_to = last,
                Run::Durable { .. } => break,
                Run::Refused { tag } => {
                    flush(&mut self.answered, acked_to, &mut send);
                    send(Answer::Nack { tag });
                    self.answered = tag;
                    acked_to = tag;
                }
            }
            self.runs.pop_front();
        }
        flush(&mut self.answered, acked_to, &mut send);
        confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Lsn};

    fn synced(lsn: u64) -> Progress {
        Progress::at(Lsn(lsn), Durability::Fsync)
    }

    fn answers(ledger: &mut Ledger, durable: u64) -> Vec<Answer> {
        let mut sent = Vec::new();
        ledger.settle(synced(durable), |answer| sent.push(answer));
        sent
    }

    #[test]
    fn a_lone_publish_is_acked_singly_and_several_at_once() {
        let mut ledger = Ledger::default();
        ledger.publish();
        ledger.assign(synced(5));
        assert_eq!(answers(&mut ledger, 4), []);
        assert_eq!(answers(&mut ledger, 5), [Answer::Ack { tag: 1, multiple: false }]);
        for lsn in [6, 7] {
            ledger.publish();
            ledger.publish();
            ledger.assign(synced(lsn));
        }
        assert_eq!(answers(&mut ledger, 6), [Answer::Ack { tag: 3, multiple: true }]);
        assert_eq!(ledger.unanswered(), 2);
        assert_eq!(answers(&mut ledger, 9), [Answer::Ack { tag: 5, multiple: true }]);
        assert_eq!(ledger.unanswered(), 0);
    }

    #[test]
    fn a_transient_publish_waits_behind_a_durable_one() {
        let mut ledger = Ledger::default();
        ledger.publish();
        ledger.assign(synced(3));
        ledger.publish();
        ledger.assign(Progress::NOW);
        assert_eq!(answers(&mut ledger, 2), []);
        assert_eq!(answers(&mut ledger, 3), [Answer::Ack { tag: 2, multiple: true }]);
    }

    #[test]
    fn what_only_has_to_be_written_is_acked_before_it_is_synced_and_never_out_of_order() {
        let mut ledger = Ledger::default();
        let mut sent = Vec::new();
        ledger.publish();
        ledger.assign(Progress::at(Lsn(1), Durability::Os));
        ledger.publish();
        ledger.assign(synced(2));
        ledger.publish();
        ledger.assign(Progress::at(Lsn(3), Durability::Os));
        let mut reach = |written, synced| {
            let reached = Progress { written: Lsn(written), synced: Lsn(synced) };
            sent.clear();
            ledger.settle(reached, |answer| sent.push(answer));
            sent.clone()
        };
        assert_eq!(reach(0, 0), []);
        assert_eq!(reach(3, 0), [Answer::Ack { tag: 1, multiple: false }]);
        assert_eq!(reach(3, 2), [Answer::Ack { tag: 3, multiple: true }]);
    }

    #[test]
    fn a_refused_publish_is_nacked_alone_and_in_order() {
        let mut ledger = Ledger::default();
        ledger.publish();
        ledger.publish();
        ledger.assign(synced(1));
        ledger.publish();
        ledger.refuse();
        ledger.publish();
        ledger.assign(synced(2));
        assert_eq!(answers(&mut ledger, 0), []);
        assert_eq!(
            answers(&mut ledger, 2),
            [
                Answer::Ack { tag: 2, multiple: true },
                Answer::Nack { tag: 3 },
                Answer::Ack { tag: 4, multiple: false },
            ]
        );
    }
}
