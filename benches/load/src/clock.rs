//! The one clock of the generator: the machine's monotonic clock in nanoseconds.
//!
//! It counts from the machine's start and not from the process's, so a time stamped into a message
//! by one process can be compared in another one on the same machine (`fill` now, `drain` later).

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Monotonic time now, in nanoseconds since the machine started.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// The same in milliseconds.
pub(crate) fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// The time of day in milliseconds since 1970, to be compared with what other programs note.
pub(crate) fn unix_ms() -> f64 {
    nanoseconds(clock_gettime(ClockId::Realtime)) as f64 / 1e6
}

/// The CPU time that this process has used in all its threads, in nanoseconds.
pub(crate) fn own_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// The seconds from one reading to a later one; zero when they are in the wrong order.
pub(crate) fn seconds_between(from_ns: u64, to_ns: u64) -> f64 {
    Duration::from_nanos(to_ns.saturating_sub(from_ns)).as_secs_f64()
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * SECOND_NS + u64::try_from(time.tv_nsec).unwrap_or(0)
}
