//! What a check counts, and which of it breaks a promise.

use serde::Serialize;

/// The counts of one or more runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Messages that a publisher began to send.
    pub(crate) attempted: u64,
    /// Of these, confirmed.
    pub(crate) confirmed: u64,
    /// Of these, refused.
    pub(crate) refused: u64,
    /// Deliveries.
    pub(crate) delivered: u64,
    /// Deliveries beyond a message's first.
    pub(crate) duplicated: u64,
    /// Messages delivered without a confirm.
    pub(crate) recovered: u64,
    /// See [`check`](super::check).
    pub(crate) lost: u64,
    /// See [`check`](super::check).
    pub(crate) unexpected: u64,
    /// See [`check`](super::check).
    pub(crate) corrupt: u64,
    /// See [`check`](super::check).
    pub(crate) disordered: u64,
    /// See [`check`](super::check).
    pub(crate) unflagged: u64,
    /// See [`check`](super::check).
    pub(crate) torn: u64,
    /// See [`check`](super::check).
    pub(crate) resurrected: u64,
    /// See [`check`](super::check).
    pub(crate) excused: u64,
}

impl Counts {
    /// Adds another run's.
    pub(crate) fn add(&mut self, other: Self) {
        self.attempted += other.attempted;
        self.confirmed += other.confirmed;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.recovered += other.recovered;
        self.lost += other.lost;
        self.unexpected += other.unexpected;
        self.corrupt += other.corrupt;
        self.disordered += other.disordered;
        self.unflagged += other.unflagged;
        self.torn += other.torn;
        self.resurrected += other.resurrected;
        self.excused += other.excused;
    }

    /// Whether a promise was broken, beside those that are allowed to be.
    pub(crate) fn is_violated(&self, allowed: &Allowed) -> bool {
        let torn = if allowed.torn { 0 } else { self.torn };
        let unflagged = if allowed.unflagged { 0 } else { self.unflagged };
        let never = self.lost + self.unexpected + self.corrupt + self.disordered + self.resurrected;
        never + torn + unflagged > 0
    }

    /// The head of a table of counts.
    pub(crate) const HEAD: &'static str = "attempted | confirmed | delivered | duplicated | \
        recovered | lost | unexpected | corrupt | disordered | unflagged | torn | resurrected | \
        excused";

    /// One row of that table.
    pub(crate) fn row(&self) -> String {
        let cells = [
            self.attempted,
            self.confirmed,
            self.delivered,
            self.duplicated,
            self.recovered,
            self.lost,
            self.unexpected,
            self.corrupt,
            self.disordered,
            self.unflagged,
            self.torn,
            self.resurrected,
            self.excused,
        ];
        cells.map(|cell| cell.to_string()).join(" | ")
    }
}

/// Promises that not every broker makes, and how far one goes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// A crash may tear a fanout or a transaction.
    pub(crate) torn: bool,
    /// A repetition after a crash may lack the flag.
    pub(crate) unflagged: bool,
    /// How long what is confirmed on the operating system's word may stay unsynced.
    pub(crate) unsynced_ms: u64,
}
