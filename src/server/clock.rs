//! The one place that reads the clocks.
//!
//! Wall time is read once, at start; from then on it advances with the monotonic clock, so that a
//! clock that is set forward does not expire every message at once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::broker::Now;

/// A clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    unix_ms_at_start: u64,
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), unix_ms_at_start: millis(unix) }
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono_ms = millis(self.start.elapsed());
        Now { mono_ms, unix_ms: self.unix_ms_at_start + mono_ms }
    }

    /// The moment at which `mono_ms` is reached, for sleeping.
    #[must_use]
    pub fn instant(&self, mono_ms: u64) -> Instant {
        self.start + Duration::from_millis(mono_ms)
    }

    /// The moment at which `unix_ms` is reached, for sleeping.
    #[must_use]
    pub fn instant_of_unix(&self, unix_ms: u64) -> Instant {
        self.instant(unix_ms.saturating_sub(self.unix_ms_at_start))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
