//! Latency histograms: one per thread while a load runs, added up at its end.
//!
//! At a fixed rate the time counts from when a message was *meant* to be sent, so a broker that
//! makes the sender late is charged for every message that waited (coordinated omission).

use hdrhistogram::Histogram;
use serde::Serialize;

const HIGHEST_NS: u64 = 600 * 1_000_000_000;

/// Latencies in nanoseconds, three significant digits.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_NS, 3);
        Self(histogram.expect("invariant: the bounds are valid"))
    }
}

impl Latency {
    /// Records one; more than ten minutes counts as ten.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("invariant: all histograms have the same bounds");
    }

    /// The figures that are reported; `None` when nothing was recorded.
    pub(crate) fn summary(&self) -> Option<LatencySummary> {
        let at = |percentile| self.0.value_at_percentile(percentile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| LatencySummary {
            samples: self.0.len(),
            p50_us: at(50.0),
            p95_us: at(95.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: self.0.max() as f64 / 1000.0,
        })
    }
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    /// How many messages were measured.
    pub(crate) samples: u64,
    /// Half were faster.
    pub(crate) p50_us: f64,
    /// 95 in 100 were faster.
    pub(crate) p95_us: f64,
    /// 99 in 100 were faster.
    pub(crate) p99_us: f64,
    /// 999 in 1,000 were faster.
    pub(crate) p999_us: f64,
    /// The slowest.
    pub(crate) max_us: f64,
}
