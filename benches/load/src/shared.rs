//! What the threads of a running load share: stop flags, the start of measuring, and counters.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// One thread's counters, on a cache line of their own. A thread adds to them once per read or
/// write, not once per message.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Gauge {
    /// Messages published or delivered.
    pub(crate) count: AtomicU64,
    /// Messages confirmed.
    pub(crate) confirmed: AtomicU64,
    /// When the first one moved, in nanoseconds; 0 before.
    pub(crate) first_ns: AtomicU64,
    /// When the last one moved, in nanoseconds.
    pub(crate) last_ns: AtomicU64,
}

impl Gauge {
    /// Counts messages that moved at `now_ns`.
    pub(crate) fn moved(&self, count: u64, now_ns: u64) {
        if self.first_ns.load(Relaxed) == 0 {
            self.first_ns.store(now_ns, Relaxed);
        }
        self.last_ns.store(now_ns, Relaxed);
        self.count.fetch_add(count, Relaxed);
    }
}

/// The sum of some threads' counters.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    /// Messages published or delivered.
    pub(crate) count: u64,
    /// Messages confirmed.
    pub(crate) confirmed: u64,
    /// When the first one moved; 0 if none did.
    pub(crate) first_ns: u64,
    /// When the last one moved.
    pub(crate) last_ns: u64,
}

/// Adds up counters.
pub(crate) fn totals(gauges: &[Gauge]) -> Totals {
    let mut sum = Totals::default();
    for gauge in gauges {
        let first_ns = gauge.first_ns.load(Relaxed);
        if first_ns != 0 {
            let earlier = sum.first_ns == 0 || first_ns < sum.first_ns;
            sum.first_ns = if earlier { first_ns } else { sum.first_ns };
        }
        sum.last_ns = sum.last_ns.max(gauge.last_ns.load(Relaxed));
        sum.count += gauge.count.load(Relaxed);
        sum.confirmed += gauge.confirmed.load(Relaxed);
    }
    sum
}

/// Flags that the coordinator sets and the threads look at.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Publishers finish what is under way and end.
    pub(crate) stop_publishing: AtomicBool,
    /// Consumers end as soon as nothing arrives.
    pub(crate) stop_consuming: AtomicBool,
    /// Some thread gave up.
    pub(crate) failed: AtomicBool,
    /// Consumers that the broker has accepted.
    pub(crate) consumers_ready: AtomicUsize,
    /// Latencies of messages sent before this time are not recorded.
    pub(crate) measure_from_ns: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            stop_publishing: AtomicBool::new(false),
            stop_consuming: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            consumers_ready: AtomicUsize::new(0),
            measure_from_ns: AtomicU64::new(u64::MAX),
        }
    }
}

impl Shared {
    /// Ends everything because a thread cannot go on.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Relaxed);
        self.stop_publishing.store(true, Relaxed);
        self.stop_consuming.store(true, Relaxed);
    }
}
