//! The next moment at which each queue has something to do: expire messages, or itself.
//!
//! One entry per queue at most a few; a queue that no longer needs its moment just finds nothing to
//! do. The edge sleeps until [`next`](Timers::next) and is woken when an earlier moment is noted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::outbox::Wake;
use super::queue::Queue;

/// Deadlines of queues, by time.
#[derive(Default)]
pub struct Timers {
    by_time: Mutex<BTreeMap<(u64, u64), Weak<Queue>>>,
    waker: OnceLock<Arc<dyn Wake>>,
}

impl Timers {
    /// Sets who is woken when an earlier deadline is noted. Only the first call counts.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        let _ = self.waker.set(waker);
    }

    /// Notes that a queue has something to do at `at_ms`, Unix milliseconds.
    pub fn note(&self, at_ms: u64, queue: &Arc<Queue>) {
        let key = (at_ms, queue.key().queue);
        let earliest = {
            let mut by_time = self.lock();
            by_time.insert(key, Arc::downgrade(queue));
            by_time.first_key_value().is_some_and(|(first, _)| *first == key)
        };
        if earliest && let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Takes a queue whose moment has come.
    #[must_use]
    pub fn take_due(&self, now_ms: u64) -> Option<Arc<Queue>> {
        let mut by_time = self.lock();
        loop {
            let (&key, _) = by_time.first_key_value()?;
            if key.0 > now_ms {
                return None;
            }
            if let Some(queue) = by_time.remove(&key).and_then(|queue| queue.upgrade()) {
                return Some(queue);
            }
        }
    }

    /// The next deadline, in Unix milliseconds.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.lock().first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Weak<Queue>>> {
        self.by_time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("waiting", &self.lock().len()).finish_non_exhaustive()
    }
}
