//! Failed logins, by where they come from: who fails too often has to wait.
//!
//! Each source has an allowance that every failure uses up a part of and that comes back with time.
//! A source is remembered only while some of its allowance is missing, and at most
//! [`SOURCES_MAX`] are: then the one that will be forgotten soonest is forgotten at once. Guessing
//! from ever more addresses therefore costs a bounded amount of memory, and buys what a fresh
//! address buys anyway.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Where someone comes from, as far as limits are concerned: an IPv4 address, or the first 64 bits
/// of an IPv6 address (everything below is the client's to choose).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Source(pub u64);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

/// Sources remembered at once.
const SOURCES_MAX: usize = 8_192;
/// How long a whole allowance takes to come back.
const WINDOW_MS: u64 = 60_000;

/// The sources of failed logins; without a limit by default. Hashed with std's keyed hash: clients
/// choose where they come from.
#[derive(Debug, Default)]
pub struct LoginFailures {
    /// What a failure uses up: a share of the window; 0 when nothing is limited.
    cost_ms: u64,
    /// When each source has its whole allowance back.
    whole_at_ms: Mutex<HashMap<Source, u64>>,
}

impl LoginFailures {
    /// Nothing failed yet. `per_minute` failures are free; 0 is no limit.
    #[must_use]
    pub fn new(per_minute: u64) -> Self {
        let cost_ms = WINDOW_MS.checked_div(per_minute).map_or(0, |cost_ms| cost_ms.max(1));
        Self { cost_ms, whole_at_ms: Mutex::default() }
    }

    /// A login from there has failed.
    pub fn note(&self, source: Source, now_ms: u64) {
        if self.cost_ms == 0 {
            return;
        }
        let mut sources = self.whole_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            sources.retain(|_, whole_at_ms| *whole_at_ms > now_ms);
            if sources.len() >= SOURCES_MAX
                && let Some((soonest, _)) = sources.iter().min_by_key(|(_, at_ms)| **at_ms)
            {
                let soonest = *soonest;
                sources.remove(&soonest);
            }
        }
        let whole_at_ms = sources.entry(source).or_insert(now_ms);
        // What lies beyond the window would only lengthen the wait after a long attack.
        let used_ms = (whole_at_ms.saturating_sub(now_ms) + self.cost_ms).min(WINDOW_MS);
        *whole_at_ms = now_ms + used_ms;
    }

    /// Whether a source has used up its allowance.
    #[must_use]
    pub fn is_exceeded(&self, source: Source, now_ms: u64) -> bool {
        if self.cost_ms == 0 {
            return false;
        }
        let sources = self.whole_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let whole_at_ms = sources.get(&source).copied().unwrap_or_default();
        whole_at_ms + self.cost_ms > now_ms + WINDOW_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source(1);
    const THERE: Source = Source(2);

    #[test]
    fn twenty_failures_are_free_and_come_back_one_by_one() {
        let failures = LoginFailures::new(20);
        for _ in 0..20 {
            assert!(!failures.is_exceeded(HERE, 5_000));
            failures.note(HERE, 5_000);
        }
        assert!(failures.is_exceeded(HERE, 5_000));
        assert!(!failures.is_exceeded(THERE, 5_000));
        assert!(failures.is_exceeded(HERE, 7_999));
        assert!(!failures.is_exceeded(HERE, 8_000));
        failures.note(HERE, 8_000);
        assert!(failures.is_exceeded(HERE, 8_000));
    }

    #[test]
    fn whoever_fails_every_three_seconds_never_waits() {
        let failures = LoginFailures::new(20);
        for turn in 0..1_000 {
            assert!(!failures.is_exceeded(HERE, turn * 3_000));
            failures.note(HERE, turn * 3_000);
        }
    }

    #[test]
    fn a_long_attack_is_forgiven_within_a_minute() {
        let failures = LoginFailures::new(20);
        (0..10_000).for_each(|_| failures.note(HERE, 0));
        assert!(failures.is_exceeded(HERE, 2_999));
        assert!(!failures.is_exceeded(HERE, 3_000));
        assert!(!failures.is_exceeded(HERE, 60_000));
    }

    #[test]
    fn the_sources_remembered_have_a_limit() {
        let failures = LoginFailures::new(20);
        (0..20).for_each(|_| failures.note(HERE, 0));
        for number in 0..3 * SOURCES_MAX as u64 {
            failures.note(Source(10 + number), 0);
        }
        let remembered = failures.whole_at_ms.lock().unwrap().len();
        assert!(remembered <= SOURCES_MAX, "{remembered}");
        assert!(failures.is_exceeded(HERE, 0), "those who fail most are remembered longest");
    }

    #[test]
    fn a_limit_of_nothing_limits_nothing() {
        let failures = LoginFailures::new(0);
        (0..1_000).for_each(|_| failures.note(HERE, 0));
        assert!(!failures.is_exceeded(HERE, 0));
        assert!(failures.whole_at_ms.lock().unwrap().is_empty());
    }
}
