//! Who may use how many of the process's file descriptors.
//!
//! Sockets are what clients can make any number of; the store must never find that none is left for
//! its next file. So each door gets a share of what the system grants, the store a share of its
//! own, and a few are left for everything else.

/// Descriptors for listeners, logs, the event queue, and sockets that are refused.
const SPARE_MAX: usize = 128;
/// More files than this the store need not keep open: it opens them again.
const STORE_MAX: usize = 4_096;

/// What a run of a trigger has open: the pipes of a program, or the socket of a webhook.
const OF_A_RUN: usize = 4;

/// Shares of the process's descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Files of the store.
    pub store: usize,
    /// Connections to the management API.
    pub management: usize,
    /// Connections to the metrics page.
    pub metrics: usize,
    /// Runs that triggers may have at once, each of several descriptors.
    pub runs: usize,
    /// AMQP connections, of all listeners.
    pub amqp: usize,
}

impl Descriptors {
    /// Shares `limit` descriptors (`RLIMIT_NOFILE`) among everyone. The HTTP doors and runs get no
    /// more than they are configured to take.
    #[must_use]
    pub fn share(limit: usize, management_max: usize, metrics_max: usize, runs_max: usize) -> Self {
        let spare = SPARE_MAX.min(limit / 4);
        let store = STORE_MAX.min(limit / 4);
        let management = management_max.min(limit / 16);
        let metrics = metrics_max.min(limit / 32);
        let runs = runs_max.min(limit / 8 / OF_A_RUN).max(1);
        let amqp = limit - spare - store - management - metrics - runs * OF_A_RUN;
        Self { store, management, metrics, runs, amqp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_use_what_is_meant_for_the_store() {
        for limit in [64, 256, 1_024, 20_000, 1_048_576] {
            let share = Descriptors::share(limit, 1_024, 256, 64);
            let others = share.amqp + share.management + share.metrics + share.runs * OF_A_RUN;
            assert!(others + share.store < limit, "{limit}: {share:?}");
            assert!(share.amqp >= limit / 4 && share.runs >= 1, "{limit}: {share:?}");
            assert!(share.store >= 16, "{limit}: {share:?}");
        }
    }

    #[test]
    fn most_of_a_large_limit_is_for_clients() {
        let share = Descriptors::share(20_000, 1_024, 256, 64);
        let (management, metrics, runs) = (1_024, 256, 64);
        let expected = Descriptors { store: 4_096, management, metrics, runs, amqp: 14_240 };
        assert_eq!(share, expected);
    }
}
