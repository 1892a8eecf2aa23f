//! How long a webhook that did not answer as it should is left alone: longer each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::trigger::run::Run;

/// The longest pause, unless the server asks for a longer one.
const PAUSE_MS_MAX: u64 = 5 * 60 * 1000;
/// The longest pause that a server may ask for.
pub(super) const ASKED_MS_MAX: u64 = 60 * 60 * 1000;
/// The first pause of a trigger that has none of its own.
const PAUSE_MS_MIN: u64 = 100;

/// The triggers whose last call went wrong.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<Key, Failing>>);

/// A trigger: its vhost and name.
type Key = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Failing {
    times: u32,
    pause_ms: u64,
    until_ms: u64,
}

impl Backoff {
    /// A call went wrong: how long the next is to wait. Calls that were under way when another one
    /// failed count as that one. `random` is any number, `asked_ms` what the server asks for.
    pub(super) fn failed(&self, run: &Run, asked_ms: Option<u64>, random: u64, now_ms: u64) -> u64 {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Failing { times: 0, pause_ms: 0, until_ms: 0 };
        let it = failing.entry(key(run)).or_insert_with(new);
        if now_ms >= it.until_ms {
            let longest = PAUSE_MS_MAX.max(run.retry_delay_ms);
            let first = run.retry_delay_ms.max(PAUSE_MS_MIN);
            let pause_ms = first.saturating_mul(1 << it.times.min(32)).min(longest);
            // From half of it on: those who failed together do not come back together.
            it.pause_ms = pause_ms / 2 + random % (pause_ms / 2 + 1);
            it.times = it.times.saturating_add(1);
        }
        let pause_ms = it.pause_ms.max(asked_ms.unwrap_or_default().min(ASKED_MS_MAX));
        it.until_ms = it.until_ms.max(now_ms.saturating_add(pause_ms));
        pause_ms
    }

    /// A call was answered as it should be.
    pub(super) fn answered(&self, run: &Run) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(run));
    }
}

fn key(run: &Run) -> Key {
    (Arc::clone(&run.vhost), Arc::clone(&run.trigger))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runners::tests::run;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_an_answer() {
        let (backoff, run) = (Backoff::default(), run(Vec::new()));
        let (mut now_ms, mut pauses) = (0, Vec::new());
        for _ in 0..11 {
            // As long as can be: the greatest remainder.
            let pause_ms = backoff.failed(&run, None, 0, now_ms);
            now_ms += pause_ms;
            pauses.push(pause_ms);
        }
        let halves = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000];
        assert_eq!(pauses[..9], halves);
        assert_eq!(pauses[9..], [150_000, 150_000]);
        backoff.answered(&run);
        assert_eq!(backoff.failed(&run, None, 500, now_ms), 1_000);
    }

    #[test]
    fn calls_that_fail_together_count_as_one() {
        let (backoff, run) = (Backoff::default(), run(Vec::new()));
        assert_eq!(backoff.failed(&run, None, 0, 0), 500);
        assert_eq!(backoff.failed(&run, None, 7, 10), 500);
        assert_eq!(backoff.failed(&run, None, 0, 510), 1_000);
    }

    #[test]
    fn a_server_may_ask_for_more_time_but_not_for_ever() {
        let (backoff, run) = (Backoff::default(), run(Vec::new()));
        assert_eq!(backoff.failed(&run, Some(20_000), 0, 0), 20_000);
        assert_eq!(backoff.failed(&run, Some(u64::MAX), 0, 20_000), ASKED_MS_MAX);
        assert_eq!(backoff.failed(&run, Some(0), 0, u64::MAX / 2), 2_000);
    }
}
