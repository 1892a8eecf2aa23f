//! Log lines about what can happen thousands of times a second, written once a second.

use std::sync::{Mutex, PoisonError};

use super::Now;

const PAUSE_MS: u64 = 1_000;

/// Counts what happened since the log last said so.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    times: u64,
    logged_ms: Option<u64>,
}

impl Seldom {
    /// It happened. How often it did, this time included, if the log is to say so now.
    pub fn happened(&self, now: Now) -> Option<u64> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.times += 1;
        if since.logged_ms.is_some_and(|at_ms| now.mono_ms < at_ms + PAUSE_MS) {
            return None;
        }
        since.logged_ms = Some(now.mono_ms);
        Some(std::mem::take(&mut since.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once_a_second_and_counted() {
        let seldom = Seldom::default();
        let at = |mono_ms| seldom.happened(Now { mono_ms, unix_ms: 0 });
        assert_eq!(at(0), Some(1));
        assert_eq!(at(1), None);
        assert_eq!(at(999), None);
        assert_eq!(at(1_000), Some(3));
        assert_eq!(at(5_000), Some(1));
    }
}
