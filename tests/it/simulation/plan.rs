//! The queues and exchanges of a simulation, drawn from its seed: what is declared, and what the
//! judge goes by.
//!
//! Invariants: a dead letter goes to a queue further on in the list, so none comes back to where it
//! has been; no queue that refuses messages is the target of dead letters, of delayed messages or
//! of transactions, where a refusal is a loss or an error.

use crate::support::*;

use super::random::Random;

/// A fanout exchange.
pub(super) const FANOUT: &str = "fan";
/// A delayed-message exchange that fans out.
pub(super) const LATER: &str = "later";
/// An exchange, always there, to which nothing is bound but what clients declare for themselves.
pub(super) const DIRECT: &str = "amq.direct";

/// A queue.
#[derive(Debug, Clone, Default)]
pub(super) struct QueuePlan {
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) quorum: bool,
    pub(super) priority_max: Option<u8>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) length_max: Option<u64>,
    pub(super) rejects: bool,
    /// Where its dead letters go, by number.
    pub(super) dead_letters_to: Option<usize>,
    /// How often a message may come back.
    pub(super) delivery_limit: Option<u64>,
    pub(super) os: bool,
    pub(super) groups: bool,
    pub(super) single_active: bool,
}

/// Everything that is declared before anyone publishes.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) queues: Vec<QueuePlan>,
    /// What is bound to [`FANOUT`], by number.
    pub(super) fanout: Vec<usize>,
    /// What is bound to [`LATER`], by number.
    pub(super) later: Vec<usize>,
}

impl QueuePlan {
    /// Whether the store keeps a message that is here.
    pub(super) fn stores(&self, persistent: bool) -> bool {
        self.durable && (persistent || self.quorum)
    }

    /// Whether a message may go from here without anyone having asked for it.
    pub(super) fn drops(&self) -> bool {
        self.ttl_ms.is_some() || self.length_max.is_some() || self.delivery_limit.is_some()
    }

    fn drawn(at: usize, last: usize, random: &mut Random) -> Self {
        let quorum = random.one_in(3);
        let rejects = at > 0 && random.one_in(6);
        let mut queue = Self {
            name: format!("q{at}"),
            durable: quorum || !random.one_in(6),
            quorum,
            priority_max: (!quorum).then(|| random.perhaps(4, &[1, 3])).flatten(),
            ttl_ms: random.perhaps(4, &[0, 50, 700, 5_000]),
            length_max: random.perhaps(4, &[0, 1, 3, 10]),
            rejects,
            dead_letters_to: None,
            delivery_limit: quorum.then(|| random.perhaps(2, &[0, 1, 3])).flatten(),
            os: random.one_in(4),
            groups: random.one_in(6),
            single_active: random.one_in(6),
        };
        if rejects {
            queue.length_max = Some(random.pick(&[0, 1, 4]));
        }
        if at < last && random.one_in(2) {
            queue.dead_letters_to = Some(at + 1 + random.index(last - at));
        }
        queue
    }

    /// How it is declared.
    pub(super) fn declaration(&self, all: &[Self]) -> QueueDeclare {
        let mut declare = queue(&self.name);
        if self.durable {
            declare = declare.durable();
        }
        if self.quorum {
            let limit = self.delivery_limit.map_or(-1, |limit| i64::try_from(limit).unwrap());
            declare = declare.arg("x-queue-type", "quorum").arg("x-delivery-limit", limit);
        }
        if let Some(max) = self.priority_max {
            declare = declare.arg("x-max-priority", i32::from(max));
        }
        if let Some(ms) = self.ttl_ms {
            declare = declare.arg("x-message-ttl", i64::try_from(ms).unwrap());
        }
        if let Some(max) = self.length_max {
            declare = declare.arg("x-max-length", i64::try_from(max).unwrap());
        }
        if self.rejects {
            declare = declare.arg("x-overflow", "reject-publish");
        }
        if let Some(to) = self.dead_letters_to {
            declare = declare
                .arg("x-dead-letter-exchange", "")
                .arg("x-dead-letter-routing-key", all[to].name.as_str());
        }
        if self.os {
            declare = declare.arg("x-durability", "os");
        }
        if self.groups {
            declare = declare.arg("x-message-groups", true);
        }
        if self.single_active {
            declare = declare.arg("x-single-active-consumer", true);
        }
        declare
    }
}

impl Plan {
    /// A plan from a seed's randomness.
    pub(super) fn drawn(random: &mut Random) -> Self {
        let last = 2 + random.index(6);
        let mut queues: Vec<_> = (0..=last).map(|at| QueuePlan::drawn(at, last, random)).collect();
        // What dead letters reach takes them.
        for at in 0..=last {
            if let Some(to) = queues[at].dead_letters_to {
                queues[to].rejects = false;
            }
        }
        queues[last].rejects = false;
        let mut subset = |refusing: bool| -> Vec<usize> {
            let some: Vec<usize> = (0..=last).filter(|_| !random.one_in(3)).collect();
            some.into_iter().filter(|at| refusing || !queues[*at].rejects).collect()
        };
        let (fanout, later) = (subset(true), subset(false));
        Self { queues, fanout, later }
    }

    /// The queue of this name, by number.
    pub(super) fn queue(&self, name: &str) -> Option<usize> {
        self.queues.iter().position(|queue| queue.name == name)
    }

    /// Where a message goes that is published so; `None` when nobody here knows.
    pub(super) fn homes(&self, exchange: &str, key: &str) -> Vec<usize> {
        match exchange {
            "" => self.queue(key).into_iter().collect(),
            FANOUT => self.fanout.clone(),
            LATER => self.later.clone(),
            _ => Vec::new(),
        }
    }
}
