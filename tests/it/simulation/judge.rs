//! What must be true of every message, whoever does what and whatever breaks.
//!
//! The judge sees three streams: what connections take of their clients' requests, what the broker
//! submits to the store, and what is written to clients. It follows each *copy* of a message (the
//! message in one of the queues it was published to, and wherever dead-lettering takes it from
//! there) and knows of each what the disk holds, so that after a crash it knows what must be there.
//! It does not decide who gets which message, or when something expires or is dropped: it learns
//! that, and checks that it was allowed.
//!
//! | file | what it judges |
//! | --- | --- |
//! | this one | crashes; what is there in the end |
//! | `judge/asked.rs` | what clients ask for |
//! | `judge/disk.rs` | what is submitted: allowed, complete, whole batches |
//! | `judge/sight.rs` | what clients see: deliveries, confirms, answers |

mod asked;
mod disk;
mod sight;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::plan::{LATER, Plan};
use crate::support::Then;

/// What a client's request means to the judge.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// Nothing that is judged.
    Other,
    Publish(u32),
    Settle {
        tag: u64,
        multiple: bool,
        how: Settling,
    },
    Recover,
    CloseChannel,
    CloseConnection,
    Consume {
        tag: String,
        queue: usize,
        no_ack: bool,
        prefetch: u16,
    },
    Cancel,
    Get {
        queue: usize,
        no_ack: bool,
    },
    Commit,
    Rollback,
    Purge {
        queue: usize,
    },
    /// Something is declared or deleted; what goes with it is gone, too.
    Define {
        what: String,
        exists: bool,
        takes: Vec<String>,
    },
}

impl Asked {
    /// Whether all that a channel holds comes back.
    pub(super) fn gives_back(&self) -> bool {
        matches!(self, Self::Recover | Self::CloseChannel | Self::CloseConnection)
    }
}

/// How a delivery is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    Ack,
    Refuse(Then),
}

/// A message as it is about to be published.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    pub(super) exchange: &'static str,
    pub(super) homes: Vec<usize>,
    pub(super) persistent: bool,
    pub(super) mandatory: bool,
    pub(super) ttl_ms: Option<u64>,
    pub(super) priority: u8,
    pub(super) delay_ms: Option<u64>,
    pub(super) group: Option<u8>,
    /// The channel it is published on, never the same twice.
    pub(super) origin: u64,
    /// When the broker had it.
    pub(super) taken_ms: Option<u64>,
    /// A full queue has refused it.
    pub(super) refused: bool,
    pub(super) confirmed: bool,
}

/// A message in one of the queues that it was published to.
type CopyKey = (u32, usize);

/// Where a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Nowhere,
    /// In the delayed exchange.
    Waiting,
    In(usize),
    Gone,
}

/// What the disk was told of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    At { lsn: u64, queue: u64, seq: u64, arrived_ms: u64 },
    Gone { lsn: u64 },
}

impl Record {
    fn lsn(self) -> u64 {
        match self {
            Self::At { lsn, .. } | Self::Gone { lsn } => lsn,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Copy {
    place: Place,
    /// Oldest first; empty when the store was told nothing.
    records: Vec<Record>,
    /// Who holds it.
    out: Option<(usize, u16)>,
    /// The queues from which it was given to a client.
    seen: BTreeSet<usize>,
    /// It was here when the broker started, which does not know whether anyone has seen it.
    recovered: bool,
    /// How often it came back in its present place and life.
    returns: u64,
    arrived_ms: u64,
    /// Settled in this step, perhaps because it is given to someone who does not acknowledge.
    auto: Option<Auto>,
    /// Not stored, and allowed to go unseen.
    loose: bool,
    /// An answer has said that it is settled for good.
    surely_gone: bool,
}

/// A copy that was settled without a client's word.
#[derive(Debug, Clone, Copy)]
struct Auto {
    from: usize,
    /// Nothing else can have been the reason.
    surely: bool,
    recovered: bool,
}

impl Copy {
    /// It comes to another queue, where it is new.
    fn arrive(&mut self, now_ms: u64) {
        self.arrived_ms = now_ms;
        self.returns = 0;
        self.recovered = false;
    }

    fn is_stored(&self) -> bool {
        matches!(self.records.last(), Some(Record::At { .. }))
    }
}

#[derive(Debug, Default)]
struct Channel {
    /// Publishes in the order of their confirms, if it is in confirm mode.
    confirms: Vec<u32>,
    answered: usize,
    consumers: BTreeMap<String, Consumer>,
    gets: VecDeque<(usize, bool)>,
    out: BTreeMap<u64, (CopyKey, Option<String>)>,
    last_tag: u64,
    /// Answers to come that report something durable, and where the store has it.
    answers: VecDeque<(u64, Vec<(String, bool)>)>,
    commits: VecDeque<(u64, Vec<CopyKey>, Vec<u32>)>,
    transaction: Option<Transaction>,
}

#[derive(Debug, Default, Clone)]
struct Transaction {
    published: Vec<u32>,
    settled: Vec<(u64, CopyKey, Option<String>, Settling)>,
}

#[derive(Debug)]
struct Consumer {
    queue: usize,
    no_ack: bool,
    prefetch: u16,
    held: u64,
    /// The latest message of each origin and priority that came for the first time.
    last: BTreeMap<(u64, u8), u32>,
}

/// What happens in one step of the simulation.
#[derive(Debug, Default)]
struct Step {
    published: Vec<u32>,
    acked: Vec<CopyKey>,
    rejected: Vec<(CopyKey, usize)>,
    requeued: Vec<(CopyKey, usize)>,
    purged: BTreeSet<usize>,
    /// What was settled without a client's word.
    autos: Vec<CopyKey>,
    defines: Option<Defines>,
    commits: Vec<((usize, u16), Transaction)>,
}

/// What a channel has asked to be declared or deleted: by name, whether it is there then.
#[derive(Debug)]
struct Defines {
    asker: (usize, u16),
    changed: Vec<(String, bool)>,
}

/// How a life of the broker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    Process,
    Power,
}

/// See the module's documentation.
pub(super) struct Judge {
    plan: Plan,
    now_ms: u64,
    sent: BTreeMap<u32, Sent>,
    copies: BTreeMap<CopyKey, Copy>,
    /// What is stored where.
    stored: BTreeMap<(u64, u64), Vec<CopyKey>>,
    /// The store's keys of the queues that are judged; `None` is what the delayed exchange keeps.
    keys: BTreeMap<u64, Option<usize>>,
    channels: BTreeMap<(usize, u16), Channel>,
    /// What is declared: `None` when an answer is due.
    defined: BTreeMap<String, Option<bool>>,
    step: Step,
    /// What was settled and may have been given to someone who does not acknowledge.
    unseen: Vec<CopyKey>,
    /// Messages that were sent before this one may come out of order: something may have come back
    /// since, that no client had seen.
    in_order_from: u32,
    /// The store has failed: nothing more is promised, or kept.
    has_failed: bool,
    violation: Option<String>,
    pub(super) tally: Tally,
}

/// What a run has seen, for whoever wonders whether it does anything.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) confirmed: u64,
    pub(super) refused: u64,
    pub(super) delivered: u64,
    pub(super) redelivered: u64,
    pub(super) dead_letters: u64,
    pub(super) committed: u64,
    pub(super) crashes: u64,
    pub(super) failures: u64,
    pub(super) forgotten: u64,
    pub(super) late_reads: u64,
}

impl Tally {
    /// Counts another run, too.
    pub(super) fn add(&mut self, other: &Self) {
        self.confirmed += other.confirmed;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.dead_letters += other.dead_letters;
        self.committed += other.committed;
        self.crashes += other.crashes;
        self.failures += other.failures;
        self.forgotten += other.forgotten;
        self.late_reads += other.late_reads;
    }
}

impl Judge {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            now_ms: 0,
            sent: BTreeMap::new(),
            copies: BTreeMap::new(),
            stored: BTreeMap::new(),
            keys: BTreeMap::new(),
            channels: BTreeMap::new(),
            defined: BTreeMap::new(),
            step: Step::default(),
            unseen: Vec::new(),
            in_order_from: 0,
            has_failed: false,
            violation: None,
            tally: Tally::default(),
        }
    }

    /// What is wrong, once something is.
    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Notes what is wrong; the first thing counts.
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| what.into());
    }

    pub(super) fn set_time(&mut self, unix_ms: u64) {
        self.now_ms = unix_ms;
    }

    pub(super) fn store_has_failed(&mut self) {
        if !self.has_failed {
            self.tally.failures += 1;
        }
        self.has_failed = true;
    }

    /// The store's keys of the queues that are judged.
    pub(super) fn know_keys(&mut self, keys: impl IntoIterator<Item = (u64, Option<usize>)>) {
        self.keys.extend(keys);
    }

    /// A message is about to be published.
    pub(super) fn send(&mut self, id: u32, sent: Sent) {
        for home in &sent.homes {
            self.copies.insert((id, *home), Copy::default());
        }
        self.sent.insert(id, sent);
    }

    /// Publishes of a channel in confirm mode that were not answered; requests included that the
    /// broker has not taken yet.
    pub(super) fn unanswered(&self, link: usize, channel: u16) -> usize {
        let channel = self.channels.get(&(link, channel));
        channel.map_or(0, |channel| channel.confirms.len() - channel.answered)
    }

    // ---- crashes -----------------------------------------------------------------------------

    /// The broker is gone; the disk has kept the first batches, up to `kept`.
    pub(super) fn crash(&mut self, end: End, kept: u64) {
        self.tally.crashes += 1;
        self.channels.clear();
        self.step = Step::default();
        self.has_failed = false;
        self.stored.clear();
        self.forget_order();
        let mut broken = None;
        for (key, copy) in &mut self.copies {
            let before = copy.records.len();
            copy.records.retain(|record| record.lsn() <= kept);
            if copy.records.len() < before {
                // It is where it was, and nobody has seen it there that the broker knows of.
                copy.seen.clear();
            }
            self.tally.forgotten += (before - copy.records.len()) as u64;
            copy.out = None;
            copy.auto = None;
            copy.recovered = true;
            copy.returns = 0;
            copy.loose = false;
            copy.place = match copy.records.last() {
                Some(Record::At { queue, seq, arrived_ms, .. }) => {
                    copy.arrived_ms = *arrived_ms;
                    self.stored.entry((*queue, *seq)).or_default().push(*key);
                    self.keys[queue].map_or(Place::Waiting, Place::In)
                }
                Some(Record::Gone { .. }) | None => Place::Gone,
            };
            let (sent, home) = (&self.sent[&key.0], &self.plan.queues[key.1]);
            // What a queue of the level `os` has confirmed may go with the power, and once only:
            // after that crash there is nothing left to lose.
            let may_go = home.os && end == End::Power && sent.delay_ms.is_none();
            let is_kept = home.stores(sent.persistent) || sent.delay_ms.is_some();
            let is_lost = is_kept && before > 0 && copy.records.is_empty();
            if sent.confirmed && is_lost && !sent.refused && !may_go {
                let lost = || format!("lost: {key:?} was confirmed, and {sent:?}");
                broken.get_or_insert_with(lost);
            }
            if copy.surely_gone && copy.place != Place::Gone {
                let back = || format!("resurrected: {key:?} was settled for good");
                broken.get_or_insert_with(back);
            }
        }
        if let Some(broken) = broken {
            self.fail(broken);
        }
    }

    /// What is declared after a crash, as far as it was promised.
    pub(super) fn check_definitions(&mut self, is_there: impl Fn(&str) -> bool) {
        for (what, defined) in &mut self.defined {
            let found = is_there(what);
            if defined.is_some_and(|promised| promised != found) {
                let answer = if found { "deleted" } else { "declared" };
                let wrong = || format!("{what} was {answer} for good, and is not");
                self.violation.get_or_insert_with(wrong);
            }
            *defined = Some(found);
        }
    }

    // ---- what is there -----------------------------------------------------------------------

    /// How many messages of a queue the store keeps.
    pub(super) fn stored_in(&self, queue: usize) -> u64 {
        let here = |copy: &&Copy| copy.place == Place::In(queue) && copy.is_stored();
        self.copies.values().filter(here).count() as u64
    }

    /// How many messages of a queue the store does not keep, at least and at most.
    pub(super) fn unstored_in(&self, queue: usize) -> (u64, u64) {
        let (mut least, mut most) = (0, 0);
        for copy in self.copies.values().filter(|copy| !copy.is_stored()) {
            least += u64::from(copy.place == Place::In(queue) && !copy.loose);
            let may_be = |at| at == queue || (copy.loose && self.leads_to(at, queue));
            most += u64::from(matches!(copy.place, Place::In(at) if may_be(at)));
        }
        (least, most)
    }

    /// Whether dead letters of one queue come to another.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        let next = |at: &usize| self.plan.queues[*at].dead_letters_to;
        std::iter::successors(next(&from), next).any(|at| at == to)
    }

    /// What ought to have been drained and was not.
    pub(super) fn left(&self) -> Vec<(u32, usize)> {
        let is_left = |copy: &Copy| !matches!(copy.place, Place::Gone | Place::Nowhere);
        let left = self.copies.iter().filter(|(_, copy)| is_left(copy) && !copy.loose);
        left.map(|(key, _)| *key).collect()
    }

    /// Shows a copy, for a report.
    fn shown(&self, key: CopyKey) -> String {
        format!(
            "message {} for {}: {:?} {:?}",
            key.0,
            key.1,
            self.sent.get(&key.0),
            self.copies.get(&key)
        )
    }

    fn is_delayed(sent: &Sent) -> bool {
        sent.exchange == LATER && sent.delay_ms.is_some()
    }
}
