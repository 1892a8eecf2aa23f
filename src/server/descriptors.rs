//! Who may use how many of the process's file descriptors.
//!
//! Sockets are what clients can make any number of; the store must never find that none is left for
//! its next file. So each door gets a share of what the system grants, the store a share of its
//! own, and a few are left for everything else.

/// Descriptors for listeners, logs, the event queue, and sockets that are refused.
const SPARE_MAX: usize = 128;
/// More files than this the store need not keep open: it opens them again.
const STORE_MAX: usize = 4_096;

/// Shares of the process's descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Files of the store.
    pub store: usize,
    /// Connections to the management API.
    pub management: usize,
    /// Connections to the metrics page.
    pub metrics: usize,
    /// AMQP connections, of all listeners.
    pub amqp: usize,
}

impl Descriptors {
    /// Shares `limit` descriptors (`RLIMIT_NOFILE`) among everyone. The HTTP doors get no more than
    /// they are configured to take.
    #[must_use]
    pub fn share(limit: usize, management_max: usize, metrics_max: usize) -> Self {
        let spare = SPARE_MAX.min(limit / 4);
        let store = STORE_MAX.min(limit / 4);
        let management = management_max.min(limit / 16);
        let metrics = metrics_max.min(limit / 32);
        let amqp = limit - spare - store - management - metrics;
        Self { store, management, metrics, amqp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_use_what_is_meant_for_the_store() {
        for limit in [64, 256, 1_024, 20_000, 1_048_576] {
            let share = Descriptors::share(limit, 1_024, 256);
            let sockets = share.amqp + share.management + share.metrics;
            assert!(sockets + share.store < limit, "{limit}: {share:?}");
            assert!(share.amqp >= limit / 3, "{limit}: {share:?}");
            assert!(share.store >= 16, "{limit}: {share:?}");
        }
    }

    #[test]
    fn most_of_a_large_limit_is_for_clients() {
        let share = Descriptors::share(20_000, 1_024, 256);
        let expected = Descriptors { store: 4_096, management: 1_024, metrics: 256, amqp: 14_496 };
        assert_eq!(share, expected);
    }
}
