//! The check of a run's journals, by Jepsen's rules for a queue and some stricter ones.
//!
//! - *lost*: confirmed, and no consumer ever settled it. A delivery that was neither settled nor
//!   repeated counts as lost too: the broker owed it again.
//! - *unexpected*: delivered though never attempted, from the wrong queue, or of another run;
//!   *corrupt*: delivered with a wrong checksum.
//! - *unflagged*: delivered more than once without the redelivered flag. *Duplicated* counts all
//!   repetitions, which are allowed when flagged.
//! - *recovered*: delivered though its confirm never came: allowed.
//! - *disordered*: delivered after a later message of the same publishing channel. Where a queue
//!   has one consumer that gives nothing back, this covers repetitions too (per consuming channel).
//! - *resurrected*: delivered again although it was settled for good: its acknowledgement had been
//!   sent, at least [`SURE_MS`] later a message was sent that was confirmed, and the broker was not
//!   ended in between: what is confirmed is durable, and all that the broker did before it. Looked
//!   for only where the ends are known. (An acknowledgement that was on its way at a crash, or that
//!   waits for a slow disk, may be lost.)
//! - *torn*: an unconfirmed message that outlived a crash in some queues of a fanout and is missing
//!   in others, or a transaction of which only a part did. What was delivered before the crash and
//!   came back nowhere proves nothing: deliveries do not wait for the disk. Where the ends are
//!   known, what a connection made after the crash was given has outlived it; elsewhere, what was
//!   redelivered. Torn is also a message that became a dead letter and stayed: it was acknowledged
//!   in the one queue and delivered from the other by the same life of the broker. And torn is an
//!   unconfirmed message that is gone with an end which a later one of its channel and queue has
//!   outlived.
//! - *excused*: confirmed, of queues that are content with the operating system's word, and gone
//!   with the power before it had to be synced. Not excused is what something later outlived (see
//!   [`outlived`](super::outlived)), and what was confirmed longer than `unsynced_ms` before
//!   something was sent that was confirmed as well: whoever still writes must have synced it by
//!   then. (How old it was is not asked: a slow disk may take its time for a sync, but nothing is
//!   confirmed meanwhile.) Transactions are always synced. A message in several queues is excused
//!   only if none of them wants it synced.
//!
//! A queue and that of its dead letters count as one: a message is settled once it is in either. A
//! dead letter that was delivered may be back in its queue after a crash and then become one anew,
//! without the flag: only within one life of the broker that would be unflagged. Dead letters have
//! no order.

use std::io;
use std::path::Path;

use super::counts::{Allowed, Counts};
use super::journal::{
    Consumed, End, Published, RunPlan, read_consumer, read_ends, read_plan, read_publisher,
};
use super::outlived::Outlived;

/// How long after it was sent an acknowledgement must have been read by whoever still reads.
const SURE_MS: u64 = 1_500;

const ATTEMPTED: u8 = 1;
const CONFIRMED: u8 = 2;
const REFUSED: u8 = 4;
const SETTLED: u8 = 1;
const DELIVERED: u8 = 2;
const UNFLAGGED: u8 = 4;
/// Delivered with the redelivered flag: after a crash, or given back.
const AGAIN: u8 = 8;

/// Checks the run whose journals are in `directory`.
pub(crate) fn check(directory: &Path, allowed: &Allowed) -> io::Result<Counts> {
    let plan = read_plan(directory)?;
    let ends = read_ends(directory)?;
    let (counts, sent, seen) = (Counts::default(), Vec::new(), Vec::new());
    let confirmed_ms = Vec::new();
    let unsynced_ms = allowed.unsynced_ms;
    let mut check = Check { plan, ends, counts, sent, confirmed_ms, seen, unsynced_ms };
    for publisher in 0..plan.publishers {
        check.read_publisher(directory, publisher)?;
    }
    check.confirmed_ms.sort_unstable();
    let lengths: Vec<usize> = check.sent.iter().map(|sent| sent.state.len()).collect();
    for queue in 0..plan.queues_all() {
        check.seen.push(lengths.iter().map(|&length| vec![Seen::default(); length]).collect());
        let consumers = (0..plan.consumers).filter(|&number| plan.queue_of(number) == queue);
        let strict = consumers.clone().count() == 1;
        for consumer in consumers {
            check.read_consumer(directory, queue, consumer, strict)?;
        }
    }
    check.conclude();
    Ok(check.counts)
}

/// What one publisher did; indexed by seq.
#[derive(Default)]
struct Sent {
    state: Vec<u8>,
    channels: Vec<u64>,
    /// When they were opened.
    opened_ms: Vec<u64>,
    /// Not before when the messages from a seq on were sent.
    sent_ms: Vec<(u64, u64)>,
    /// Since when the messages from a seq on had been confirmed, those that were.
    confirmed_ms: Vec<(u64, u64)>,
    transactions: Vec<(u64, u64)>,
}

/// What became of a message in one queue.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    state: u8,
    /// When it was delivered last, at the latest line of time before that.
    delivered_ms: u64,
    /// When the last connection was asked for that it was delivered to.
    opened_ms: u64,
    /// From when on it must not be delivered any more.
    sure_ms: Option<u64>,
    /// In which life of the broker it was delivered last, and in which acknowledged; from 1 on.
    life: usize,
    acknowledged_life: usize,
}

impl Seen {
    /// What became of it in either of two queues.
    fn or(self, other: Self) -> Self {
        Self {
            state: self.state | other.state,
            delivered_ms: self.delivered_ms.max(other.delivered_ms),
            opened_ms: self.opened_ms.max(other.opened_ms),
            sure_ms: [self.sure_ms, other.sure_ms].into_iter().flatten().min(),
            life: self.life.max(other.life),
            acknowledged_life: self.acknowledged_life.max(other.acknowledged_life),
        }
    }
}

struct Check {
    plan: RunPlan,
    /// When the broker was ended.
    ends: Option<Vec<End>>,
    counts: Counts,
    sent: Vec<Sent>,
    /// Not before when messages were sent that were confirmed, ascending.
    confirmed_ms: Vec<u64>,
    /// By queue, publisher, seq.
    seen: Vec<Vec<Vec<Seen>>>,
    unsynced_ms: u64,
}

/// A consumer's place in its journal.
struct Reader {
    queue: usize,
    /// Deliveries of this channel that are not settled yet.
    unsettled: Vec<(usize, usize)>,
    /// Those whose acknowledgement was about to be sent at the time, in milliseconds.
    settling: Vec<(usize, usize)>,
    now_ms: u64,
    /// When this channel's connection was asked for, once that is read.
    opened_ms: Option<u64>,
    /// Which life of the broker that was to, from 1 on.
    life: usize,
    /// The highest seq so far, by publisher, with the publishing channel it is of.
    highest: Vec<Option<(usize, u64)>>,
    strict: bool,
}

impl Check {
    fn read_publisher(&mut self, directory: &Path, publisher: usize) -> io::Result<()> {
        let mut sent = Sent::default();
        let (counts, confirmed_ms) = (&mut self.counts, &mut self.confirmed_ms);
        let mut now_ms = 0;
        read_publisher(directory, publisher, |event| match event {
            Published::Channel(first) => {
                sent.channels.push(first);
                sent.opened_ms.push(0);
            }
            Published::Time(ms) => {
                if let Some(opened_ms) = sent.opened_ms.last_mut().filter(|ms| **ms == 0) {
                    *opened_ms = ms;
                }
                now_ms = ms;
            }
            Published::Attempted(first, last) => {
                counts.attempted += mark(&mut sent.state, first, last, ATTEMPTED);
                sent.sent_ms.push((first, now_ms));
            }
            Published::Confirmed(first, last) => {
                counts.confirmed += mark(&mut sent.state, first, last, CONFIRMED);
                confirmed_ms.extend(last_from(&sent.sent_ms, last));
                sent.confirmed_ms.push((first, now_ms));
            }
            Published::Refused(first, last) => {
                counts.refused += mark(&mut sent.state, first, last, REFUSED);
            }
            Published::Transaction(first, last) => sent.transactions.push((first, last)),
        })?;
        sent.confirmed_ms.sort_unstable();
        self.sent.push(sent);
        Ok(())
    }

    fn read_consumer(
        &mut self,
        directory: &Path,
        queue: usize,
        consumer: usize,
        strict: bool,
    ) -> io::Result<()> {
        let highest = vec![None; self.plan.publishers];
        let (unsettled, settling) = (Vec::new(), Vec::new());
        let (now_ms, opened_ms, life) = (0, None, 1);
        let mut reader =
            Reader { queue, unsettled, settling, now_ms, opened_ms, life, highest, strict };
        read_consumer(directory, consumer, |event| match event {
            Consumed::Channel => {
                reader.unsettled.clear();
                reader.settling.clear();
                reader.opened_ms = None;
                if reader.strict {
                    reader.highest.fill(None);
                }
            }
            Consumed::Delivered(publisher, seq, again) => {
                if let Some(place) = self.delivered(&mut reader, publisher, seq, again) {
                    reader.unsettled.push(place);
                }
            }
            Consumed::Requeued(publisher, seq, again) => {
                // From here on earlier messages come later.
                reader.strict = false;
                self.delivered(&mut reader, publisher, seq, again);
            }
            Consumed::Rejected(publisher, seq, again) => {
                self.delivered(&mut reader, publisher, seq, again);
            }
            Consumed::Settled => {
                for &(publisher, seq) in &reader.unsettled {
                    let seen = &mut self.seen[queue][publisher][seq];
                    seen.state |= SETTLED;
                    seen.acknowledged_life = reader.life;
                }
                reader.settling.append(&mut reader.unsettled);
            }
            Consumed::Time(ms) => {
                // A connection does not outlive the broker it was made to, but what its client
                // writes may seem to be sent for a while.
                let from_ms = reader.opened_ms.unwrap_or(reader.now_ms);
                if let Some(sure_ms) = self.sure_ms(from_ms, ms) {
                    for (publisher, seq) in reader.settling.drain(..) {
                        self.seen[queue][publisher][seq].sure_ms.get_or_insert(sure_ms);
                    }
                }
                reader.settling.clear();
                if reader.opened_ms.is_none() {
                    reader.opened_ms = Some(ms);
                    reader.life = self.life(ms);
                }
                reader.now_ms = ms;
            }
            Consumed::Foreign => self.counts.unexpected += 1,
            Consumed::Corrupt => self.counts.corrupt += 1,
        })
    }

    /// Which life of the broker a connection is to that was asked for at a time.
    fn life(&self, opened_ms: u64) -> usize {
        let ends = self.ends.as_deref().unwrap_or_default();
        1 + ends.partition_point(|end| end.to_ms <= opened_ms)
    }

    /// From when on an acknowledgement must have come to stay that was sent by a time on a
    /// connection made at another.
    fn sure_ms(&self, from_ms: u64, to_ms: u64) -> Option<u64> {
        let proof = self.confirmed_ms.partition_point(|&sent_ms| sent_ms < to_ms + SURE_MS);
        let sure_ms = *self.confirmed_ms.get(proof)?;
        let mut ends = self.ends.as_ref()?.iter();
        let interrupts = |end: &End| end.to_ms >= from_ms && end.from_ms < sure_ms;
        (!ends.any(interrupts)).then_some(sure_ms)
    }

    /// Notes a delivery. Returns where its state is kept, unless it was unexpected.
    fn delivered(
        &mut self,
        reader: &mut Reader,
        publisher: u32,
        seq: u64,
        again: bool,
    ) -> Option<(usize, usize)> {
        self.counts.delivered += 1;
        let (publisher, at) = (publisher as usize, usize::try_from(seq).unwrap_or(usize::MAX));
        let home = reader.queue % self.plan.queues;
        let is_dead = reader.queue != home;
        let expected = self.plan.fanout || at % self.plan.queues == home;
        let sent = self.sent.get(publisher).filter(|sent| {
            expected && sent.state.get(at).is_some_and(|state| state & ATTEMPTED != 0)
        });
        let Some(sent) = sent else {
            self.counts.unexpected += 1;
            return None;
        };
        let seen = &mut self.seen[reader.queue][publisher][at];
        seen.delivered_ms = seen.delivered_ms.max(reader.now_ms);
        seen.opened_ms = seen.opened_ms.max(reader.opened_ms.unwrap_or(0));
        let anew = is_dead && seen.life != reader.life;
        seen.life = reader.life;
        let state = &mut seen.state;
        self.counts.duplicated += u64::from(*state & DELIVERED != 0);
        if again {
            *state |= AGAIN;
        } else {
            self.counts.unflagged += u64::from(*state & UNFLAGGED != 0 && !anew);
            *state |= UNFLAGGED;
        }
        *state |= DELIVERED;
        if !is_dead && (reader.strict || !again) {
            let channel = sent.channels.partition_point(|&first| first <= seq);
            let highest = &mut reader.highest[publisher];
            let late = highest.is_some_and(|(of, highest)| of == channel && seq <= highest);
            self.counts.disordered += u64::from(late);
            *highest = (*highest).max(Some((channel, seq)));
        }
        Some((publisher, at))
    }

    /// Compares what was sent with what was seen, once both are complete.
    fn conclude(&mut self) {
        let mut counts = self.counts;
        let outlived = self.outlived();
        for (publisher, sent) in self.sent.iter().enumerate() {
            for (at, state) in sent.state.iter().enumerate() {
                if state & ATTEMPTED == 0 {
                    continue;
                }
                let homes = self.homes(at);
                let became = homes.clone().map(|queue| self.seen(queue, publisher, at));
                for Seen { delivered_ms, sure_ms, .. } in became.clone() {
                    let again = sure_ms.is_some_and(|sure_ms| delivered_ms >= sure_ms);
                    counts.resurrected += u64::from(again);
                }
                let is_delivered = became.clone().any(|seen| seen.state & DELIVERED != 0);
                let unsettled = |queue: &usize| {
                    let Seen { state, .. } = self.seen(*queue, publisher, at);
                    state & SETTLED == 0
                };
                let mut unsettled = homes.clone().filter(unsettled);
                let stayed = homes.filter(|&queue| self.has_stayed(queue, publisher, at)).count();
                counts.torn += stayed as u64;
                if state & CONFIRMED != 0 {
                    for queue in unsettled {
                        let excused = self.is_excused(&outlived, publisher, at, queue);
                        *(if excused { &mut counts.excused } else { &mut counts.lost }) += 1;
                    }
                    continue;
                }
                let hole = |queue| self.is_hole(&outlived, publisher, at, queue);
                counts.torn += u64::from(state & REFUSED == 0 && unsettled.any(hole));
                if is_delivered {
                    counts.recovered += 1;
                    counts.torn += u64::from(self.is_torn(publisher, &[at]));
                }
            }
            for &(first, last) in &sent.transactions {
                let places = |seq: u64| usize::try_from(seq).unwrap_or(usize::MAX);
                let places: Vec<usize> = (first..=last).map(places).collect();
                counts.torn += u64::from(self.is_torn(publisher, &places));
            }
        }
        self.counts = counts;
    }

    /// What became of a message in a queue, or as a dead letter of it.
    fn seen(&self, queue: usize, publisher: usize, at: usize) -> Seen {
        let seen = self.seen[queue][publisher][at];
        if !self.plan.dead_letters {
            return seen;
        }
        seen.or(self.seen[queue + self.plan.queues][publisher][at])
    }

    /// Whether a message has become a dead letter and was in its queue all the same.
    fn has_stayed(&self, queue: usize, publisher: usize, at: usize) -> bool {
        if !self.plan.dead_letters {
            return false;
        }
        let life = self.seen[queue][publisher][at].acknowledged_life;
        life != 0 && self.seen[queue + self.plan.queues][publisher][at].life == life
    }

    /// Whether some of what belongs together outlived a crash and some is not there.
    fn is_torn(&self, publisher: usize, together: &[usize]) -> bool {
        let (mut there, mut missing) = (false, false);
        for &at in together {
            let gone_ms = self.gone_ms(publisher, at);
            for queue in self.homes(at) {
                let Seen { state, opened_ms, .. } = self.seen[queue][publisher][at];
                let kept = match gone_ms {
                    Some(gone_ms) => opened_ms > gone_ms,
                    None => state & AGAIN != 0,
                };
                there |= kept;
                missing |= !kept && state & SETTLED == 0;
            }
        }
        there && missing
    }

    /// What outlived the end of the life that it was sent to.
    fn outlived(&self) -> Outlived {
        let mut outlived = Outlived::default();
        for (publisher, sent) in self.sent.iter().enumerate() {
            for (at, _) in sent.state.iter().enumerate().filter(|(_, state)| **state != 0) {
                let Some((channel, end)) = self.life_of(publisher, at) else { continue };
                for queue in self.homes(at) {
                    if self.has_outlived(end, publisher, at, queue) {
                        let sent_ms = last_from(&sent.sent_ms, at as u64).unwrap_or(0);
                        outlived.note(end, sent_ms, (publisher, channel, queue), at);
                    }
                }
            }
        }
        outlived
    }

    /// Whether an unsettled message is missing where a later one outlived the same end. (Dead
    /// letters leave in another order than they came.)
    fn is_hole(&self, outlived: &Outlived, publisher: usize, at: usize, queue: usize) -> bool {
        let Some((channel, end)) = self.life_of(publisher, at) else { return false };
        !self.plan.dead_letters
            && !self.has_outlived(end, publisher, at, queue)
            && outlived.has_passed((publisher, channel, queue), at)
    }

    /// Whether a message was in a queue after an end.
    fn has_outlived(&self, end: usize, publisher: usize, at: usize, queue: usize) -> bool {
        let opened_ms = self.seen[queue][publisher][at].opened_ms;
        self.end(end).is_some_and(|end| opened_ms > end.to_ms)
    }

    /// Whether a confirmed message that a queue has lost need not have been synced.
    fn is_excused(&self, outlived: &Outlived, publisher: usize, at: usize, queue: usize) -> bool {
        let sent = &self.sent[publisher];
        let synced = self.homes(at).any(|home| self.plan.is_synced(home));
        if synced || !sent.transactions.is_empty() {
            return false;
        }
        let since_ms = last_from(&sent.confirmed_ms, at as u64);
        let Some(((_, end), since_ms)) = self.life_of(publisher, at).zip(since_ms) else {
            return false;
        };
        let Some(End { to_ms, power: true, .. }) = self.end(end) else { return false };
        let due_ms = since_ms + self.unsynced_ms;
        let next = self.confirmed_ms.partition_point(|&sent_ms| sent_ms <= due_ms);
        let proven = self.confirmed_ms.get(next).is_some_and(|sent_ms| sent_ms < to_ms);
        !proven
            && !self.has_outlived(end, publisher, at, queue)
            && !self.is_hole(outlived, publisher, at, queue)
            && !outlived.has_later(end, since_ms)
    }

    fn end(&self, end: usize) -> Option<&End> {
        self.ends.as_ref()?.get(end)
    }

    /// When the broker was gone to which a message was sent.
    fn gone_ms(&self, publisher: usize, at: usize) -> Option<u64> {
        Some(self.end(self.life_of(publisher, at)?.1)?.to_ms)
    }

    /// The channel that a message was sent on, and which end of the broker was its own.
    fn life_of(&self, publisher: usize, at: usize) -> Option<(usize, usize)> {
        let Sent { channels, opened_ms, .. } = &self.sent[publisher];
        let channel = channels.partition_point(|&first| first <= at as u64).checked_sub(1)?;
        let opened_ms = *opened_ms.get(channel)?;
        let end = self.ends.as_ref()?.iter().position(|end| end.to_ms >= opened_ms)?;
        Some((channel, end))
    }

    /// The queues in which a message belongs.
    fn homes(&self, at: usize) -> std::ops::Range<usize> {
        if self.plan.fanout {
            0..self.plan.queues
        } else {
            let queue = at % self.plan.queues;
            queue..queue + 1
        }
    }
}

/// What stands for a seq in a list of what stands from a seq on.
fn last_from(list: &[(u64, u64)], seq: u64) -> Option<u64> {
    let at = list.partition_point(|(from, _)| *from <= seq);
    at.checked_sub(1).map(|at| list[at].1)
}

/// Sets a bit for a range of seqs and returns how many did not have it.
fn mark(state: &mut Vec<u8>, first: u64, last: u64, bit: u8) -> u64 {
    let (first, last) = (usize::try_from(first).unwrap_or(0), usize::try_from(last).unwrap_or(0));
    if last >= state.len() {
        state.resize(last + 1, 0);
    }
    let mut marked = 0;
    for state in &mut state[first..=last] {
        marked += u64::from(*state & bit == 0);
        *state |= bit;
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::journal::{Journal, note_end, write_plan};
    use std::fs;
    use std::path::PathBuf;

    use Consumed::{Delivered as D, Requeued as R, Settled as S, Time as W};
    use Published::{Attempted as A, Channel as E, Confirmed as C, Transaction as T};

    /// A run directory that is removed with the test.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn checked(
        name: &str,
        shape: (usize, bool),
        published: &[Published],
        consumed: &[&[Consumed]],
    ) -> Counts {
        checked_with_ends(name, shape, published, consumed, &[])
    }

    fn checked_with_ends(
        name: &str,
        (queues, fanout): (usize, bool),
        published: &[Published],
        consumed: &[&[Consumed]],
        ends: &[u64],
    ) -> Counts {
        let directory = format!("leveret-load-check-{}-{name}", std::process::id());
        let scratch = Scratch(std::env::temp_dir().join(directory));
        let run = RunPlan {
            run: 1,
            publishers: 1,
            consumers: consumed.len(),
            queues,
            fanout,
            dead_letters: name.starts_with("dead"),
            os_queues: usize::from(name.starts_with("os")),
        };
        write_plan(&scratch.0, run).unwrap();
        let mut journal = Journal::publisher(&scratch.0, 0).unwrap();
        for &event in published {
            journal.published(event).unwrap();
        }
        journal.flush().unwrap();
        for (consumer, events) in consumed.iter().enumerate() {
            let mut journal = Journal::consumer(&scratch.0, consumer).unwrap();
            for &event in *events {
                journal.consumed(event).unwrap();
            }
            journal.flush().unwrap();
        }
        let power = !name.ends_with("killed");
        let end = |ms: &u64| End { from_ms: *ms, to_ms: *ms, power };
        ends.iter().for_each(|ms| note_end(&scratch.0, end(ms)).unwrap());
        check(&scratch.0, &Allowed { unsynced_ms: 200, ..Allowed::default() }).unwrap()
    }

    #[test]
    fn a_run_without_faults_is_clean() {
        let consumed: &[Consumed] = &[Consumed::Channel, D(0, 0, false), D(0, 1, false), S];
        let counts = checked("clean", (1, false), &[E(0), A(0, 1), C(0, 1)], &[consumed]);
        let expected = Counts { attempted: 2, confirmed: 2, delivered: 2, ..Counts::default() };
        assert_eq!(counts, expected);
    }

    #[test]
    fn confirmed_and_never_seen_or_never_settled_is_lost() {
        let published = [E(0), A(0, 2), C(0, 1)];
        let counts = checked("lost", (1, false), &published, &[&[D(0, 0, false)]]);
        assert_eq!((counts.lost, counts.recovered), (2, 0));
        let again = [D(0, 0, false), Consumed::Channel, D(0, 0, true), D(0, 1, false), S];
        let counts = checked("again", (1, false), &published, &[&again]);
        assert_eq!((counts.lost, counts.duplicated, counts.unflagged), (0, 1, 0));
        assert!(!counts.is_violated(&Allowed::default()));
    }

    #[test]
    fn a_repetition_without_the_flag_is_told_from_one_with_it() {
        let events = [D(0, 0, false), S, Consumed::Channel, D(0, 0, false), S];
        let counts = checked("unflagged", (1, false), &[E(0), A(0, 0), C(0, 0)], &[&events]);
        assert_eq!((counts.duplicated, counts.unflagged, counts.disordered), (1, 1, 0));
    }

    #[test]
    fn what_was_settled_well_before_a_crash_must_not_come_back() {
        let later = 20 + SURE_MS;
        // Of two messages the second is confirmed late, when the first has been settled for long.
        let time = Published::Time;
        let late = [E(0), time(5), A(0, 0), C(0, 0), time(later), A(1, 1), C(1, 1)];
        let published = std::cell::Cell::new(&late[..]);
        let settled_at = |ms| [Consumed::Channel, W(10), D(0, 0, false), S, W(ms)];
        let again_at = |ms| [Consumed::Channel, W(ms), D(0, 0, true), D(0, 1, false), S, W(ms + 1)];
        let resurrected = |name, settled, again, ends: &[u64]| {
            let published = published.get();
            let events = [&settled_at(settled)[..], &again_at(again)[..]].concat();
            let counts = checked_with_ends(name, (1, false), published, &[&events], ends);
            assert_eq!((counts.duplicated, counts.disordered, counts.lost), (1, 0, 0));
            assert_eq!(counts.is_violated(&Allowed::default()), counts.resurrected > 0);
            counts.resurrected
        };
        assert_eq!(resurrected("back", 20, later + 9, &[later]), 1);
        assert_eq!(resurrected("back-late", 20, 9 * later, &[later, 8 * later]), 1);
        assert_eq!(resurrected("on-its-way", 20, later + 9, &[later - 1]), 0);
        assert_eq!(resurrected("not-sent", 20, later + 9, &[15, later]), 0);
        assert_eq!(resurrected("ends-unknown", 20, later + 9, &[]), 0);
        // Nothing was confirmed any more: its disk may have taken its time.
        let stalled = [E(0), time(5), A(0, 0), C(0, 0), time(later), A(1, 1)];
        published.set(&stalled);
        assert_eq!(resurrected("stalled", 20, later + 9, &[later]), 0);
        let published = &late[..];
        // Another consumer of the queue counts as well.
        let (one, other) = (settled_at(20), again_at(later + 9));
        let counts =
            checked_with_ends("other", (1, false), published, &[&one[..], &other[..]], &[later]);
        assert_eq!(counts.resurrected, 1);
        // Sent to a broker that had ended, by a client that had not noticed.
        let unread = [W(10), D(0, 0, false), W(18), S, W(20)];
        let unread = [&unread[..], &again_at(later + 9)].concat();
        let counts = checked_with_ends("unread", (1, false), published, &[&unread], &[15, later]);
        assert_eq!(counts.resurrected, 0);
        // Settled without being sent: the connection broke.
        let unsent = [&[W(10), D(0, 0, false), S][..], &again_at(later + 9)].concat();
        let counts = checked_with_ends("unsent", (1, false), published, &[&unsent], &[later]);
        assert_eq!(counts.resurrected, 0);
    }

    #[test]
    fn what_was_never_attempted_or_is_in_the_wrong_queue_is_unexpected() {
        let events = [D(0, 9, false), D(0, 1, false), Consumed::Foreign, Consumed::Corrupt];
        let counts = checked("unexpected", (2, false), &[E(0), A(0, 1)], &[&events, &[]]);
        assert_eq!((counts.unexpected, counts.corrupt, counts.recovered), (3, 1, 0));
    }

    #[test]
    fn order_holds_per_publishing_channel_and_not_across_them() {
        let events = [D(0, 1, false), D(0, 0, false), D(0, 3, false), D(0, 2, false), S];
        let published = [E(0), A(0, 1), E(2), A(2, 2), E(3), A(3, 3)];
        let counts = checked("order", (1, false), &published, &[&events]);
        assert_eq!((counts.disordered, counts.recovered), (1, 4));
    }

    #[test]
    fn a_requeued_message_may_come_later_and_must_be_settled() {
        let published = [E(0), A(0, 1), C(0, 1)];
        let events = [R(0, 0, false), D(0, 1, false), D(0, 0, true), S];
        let counts = checked("requeue", (1, false), &published, &[&events]);
        assert_eq!((counts.disordered, counts.lost), (0, 0));
        let counts = checked("requeue2", (1, false), &published, &[&[R(0, 0, false), S]]);
        assert_eq!(counts.lost, 2);
    }

    #[test]
    fn a_fanout_or_a_transaction_is_whole_or_absent() {
        let (one, none): (&[Consumed], &[Consumed]) = (&[D(0, 0, true), S], &[]);
        let counts = checked("fanout", (2, true), &[E(0), A(0, 1)], &[one, none]);
        assert_eq!((counts.torn, counts.recovered), (1, 1));
        assert!(counts.is_violated(&Allowed::default()));
        assert!(!counts.is_violated(&Allowed { torn: true, ..Allowed::default() }));
        let published = [E(0), T(0, 1), A(0, 1)];
        let counts = checked("tx", (1, false), &published, &[one]);
        assert_eq!(counts.torn, 1);
        // Seen before the crash alone: nothing of it was promised, and nothing is left.
        let before: &[Consumed] = &[D(0, 0, false), S];
        let counts = checked("seen", (2, true), &[E(0), A(0, 1)], &[before, none]);
        assert_eq!(counts.torn, 0);
        assert_eq!(checked("seen-tx", (1, false), &published, &[before]).torn, 0);
    }

    #[test]
    fn what_was_delivered_before_a_crash_and_is_gone_after_it_is_not_torn() {
        let published = [E(0), Published::Time(5), A(0, 1)];
        let torn = |name, one: &[Consumed], other: &[Consumed]| {
            let consumed = [&[Consumed::Channel, W(6)], one, other].concat();
            let without: &[Consumed] = &[Consumed::Channel, W(6), Consumed::Channel, W(30)];
            let consumed: &[&[Consumed]] = &[&consumed, without];
            checked_with_ends(name, (2, true), &published, consumed, &[20]).torn
        };
        let anew = [Consumed::Channel, W(30)];
        assert_eq!(torn("gone", &[D(0, 0, false)], &anew), 0);
        assert_eq!(torn("settled", &[D(0, 0, false), S, W(7)], &anew), 0);
        let kept = [Consumed::Channel, W(30), D(0, 0, true), S];
        assert_eq!(torn("kept", &[D(0, 0, false)], &kept), 1);
        // Seen for the first time, and all the same after the crash.
        let late = [Consumed::Channel, W(30), D(0, 0, false), S];
        assert_eq!(torn("late", &[], &late), 1);
    }

    #[test]
    fn what_did_not_outlive_a_crash_that_a_later_one_of_its_queue_did_is_torn() {
        let published = [E(0), Published::Time(5), A(0, 3)];
        let torn = |name, before: &[Consumed], after: &[Consumed]| {
            let consumed = [&[Consumed::Channel, W(6)], before, &[Consumed::Channel, W(30)], after];
            checked_with_ends(name, (2, false), &published, &[&consumed.concat(), &[]], &[20]).torn
        };
        assert_eq!(torn("hole", &[], &[D(0, 2, false), S]), 1);
        assert_eq!(torn("hole-seen", &[D(0, 0, false)], &[D(0, 2, false), S]), 1);
        assert_eq!(torn("end", &[], &[D(0, 0, false), S]), 0);
        assert_eq!(torn("done", &[D(0, 0, false), S], &[D(0, 2, false), S]), 0);
    }

    #[test]
    fn power_may_take_the_last_of_what_the_system_alone_has() {
        // Message 0 is confirmed at 100, and more is sent, and confirmed, until the end at 400.
        let sent = |ms| [Published::Time(ms), A(1, 2)];
        let first = [E(0), Published::Time(50), A(0, 0), Published::Time(100), C(0, 0)];
        let excused = |name, queues, later: &[Published], after: &[Consumed]| {
            let published = [&first[..], later].concat();
            let consumed = [&[Consumed::Channel, W(6), Consumed::Channel, W(500)], after].concat();
            let consumed: &[&[Consumed]] = &[&consumed, &consumed];
            let shape = (queues, false);
            let consumed = &consumed[..queues];
            let counts = checked_with_ends(name, shape, &published, consumed, &[400]);
            assert_eq!(counts.is_violated(&Allowed::default()), counts.lost > 0);
            (counts.excused, counts.lost)
        };
        assert_eq!(excused("os-late", 1, &sent(310), &[]), (1, 0));
        assert_eq!(excused("os-killed", 1, &sent(310), &[]), (0, 1));
        assert_eq!(excused("synced", 1, &sent(310), &[]), (0, 1));
        // Sent within 200 ms: two more are excused.
        let confirmed = |ms| [&sent(ms)[..], &[C(1, 2)]].concat();
        assert_eq!(excused("os-in-time", 1, &confirmed(300), &[]), (3, 0));
        // What was sent later and confirmed proves that the first was due.
        assert_eq!(excused("os-due", 1, &confirmed(301), &[]), (2, 1));
        // By the broker's next life, it proves nothing.
        let next = [&[E(1)][..], &confirmed(450), &[]].concat();
        assert_eq!(excused("os-next", 1, &next, &[D(0, 1, false), D(0, 2, false), S]), (1, 0));
        // A later one outlived it: in the same queue, or in another once this was confirmed.
        let again = [D(0, 1, false), S];
        assert_eq!(excused("os-hole", 1, &sent(300), &again), (0, 1));
        let other = [&[Consumed::Channel, W(500)], &again[..]].concat();
        let published = [&first[..], &sent(300)].concat();
        let counts = checked_with_ends("os-other", (2, false), &published, &[&[], &other], &[400]);
        assert_eq!((counts.excused, counts.lost), (0, 1));
        // It outlived the power and was lost later.
        assert_eq!(excused("os-kept", 1, &sent(300), &[D(0, 0, true)]), (0, 1));
        // A transaction is synced, wherever it goes.
        let published = [&[T(0, 0)], &first[..]].concat();
        let counts = checked_with_ends("os-tx", (1, false), &published, &[&[]], &[400]);
        assert_eq!((counts.excused, counts.lost), (0, 1));
        // So is what goes to a queue that wants it.
        let counts = checked_with_ends("os-fanout", (2, true), &first, &[&[], &[]], &[400]);
        assert_eq!((counts.excused, counts.lost), (0, 2));
    }

    #[test]
    fn a_dead_letter_is_in_one_queue_or_in_the_other() {
        let published = [E(0), Published::Time(5), A(0, 1), C(0, 1)];
        let dead = |name, main: &[Consumed], letters: &[Consumed], ends: &[u64]| {
            let opened = [Consumed::Channel, W(6)];
            let consumed = [[&opened[..], main].concat(), [&opened[..], letters].concat()];
            let consumed: Vec<&[Consumed]> = consumed.iter().map(Vec::as_slice).collect();
            checked_with_ends(name, (1, false), &published, &consumed, ends)
        };
        let rejected = [Consumed::Rejected(0, 0, false), D(0, 1, false), S];
        let counts = dead("dead-moved", &rejected, &[D(0, 0, false), S], &[]);
        assert_eq!((counts.lost, counts.duplicated, counts.torn), (0, 0, 0));
        assert!(!counts.is_violated(&Allowed::default()));
        assert_eq!(dead("dead-lost", &rejected, &[], &[]).lost, 1);
        let stayed = [D(0, 0, false), D(0, 1, false), S];
        assert_eq!(dead("dead-stayed", &stayed, &[D(0, 0, false), S], &[]).torn, 1);
        // Delivered as a dead letter before the crash, and back in its queue after it.
        let again = [&rejected[..], &[Consumed::Channel, W(30), D(0, 0, true), S]].concat();
        let counts = dead("dead-back", &again, &[D(0, 0, false), S], &[20]);
        assert_eq!((counts.torn, counts.unflagged, counts.resurrected), (0, 0, 0));
        // And rejected anew: its second dead letter is a first one to the other queue.
        let rejected_again =
            [&rejected[..], &[Consumed::Channel, W(30), Consumed::Rejected(0, 0, true)]].concat();
        let twice = [D(0, 0, false), S, Consumed::Channel, W(30), D(0, 0, false), S];
        assert_eq!(dead("dead-anew", &rejected_again, &twice, &[20]).unflagged, 0);
        assert_eq!(dead("dead-doubled", &rejected, &twice, &[]).unflagged, 1);
    }
}
