//! How much memory all queues' waiting messages may take, and who reads back what they left to the
//! store.
//!
//! Owns the budget, which is one for all queues. Each may hold a *window* of so many bytes; while
//! few queues are long that is a quarter of the budget, and when together they hold more than it, a
//! sweep finds the window at which they fit and has every queue keep within it. Once much is free
//! again the window grows. What cannot be left to the store (transient messages, groups) counts,
//! too: it leaves less for the rest.
//!
//! A queue that wants something back asks once ([`Effects::reads`](super::queue::Effects)); the
//! edge calls [`Broker::read_back`] from threads of its own, so no connection waits for the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::outbox::Wake;
use super::queue::{Effects, Queue};
use super::{Broker, Now};

/// A queue's share of the budget while few are long.
const SHARE: u64 = 4;
/// A sweep leaves so many quarters of the budget in use.
const SWEPT_QUARTERS: u64 = 3;

/// The budget, and who waits for the store.
pub struct Paging {
    limit: u64,
    held: AtomicU64,
    window: AtomicU64,
    /// More than this calls for a sweep.
    sweep_above: AtomicU64,
    sweep: AtomicBool,
    asked: Mutex<VecDeque<Weak<Queue>>>,
    waker: OnceLock<Arc<dyn Wake>>,
}

impl Paging {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            held: AtomicU64::new(0),
            window: AtomicU64::new(limit / SHARE),
            sweep_above: AtomicU64::new(limit),
            sweep: AtomicBool::new(false),
            asked: Mutex::default(),
            waker: OnceLock::new(),
        }
    }

    /// Sets who is woken when something is to be read. Only the first call counts.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        let _ = self.waker.set(waker);
    }

    /// Bytes that waiting messages take.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that they may take.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit
    }

    /// Bytes that a queue may hold.
    pub(super) fn window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }

    /// A queue holds other than before. True when all of them together hold too much.
    pub(super) fn change(&self, before: u64, after: u64) -> bool {
        if after < before {
            let held = self.held.fetch_sub(before - after, Ordering::Relaxed) - (before - after);
            if held < self.limit / 2 {
                self.widen();
            }
            return false;
        }
        let held = self.held.fetch_add(after - before, Ordering::Relaxed) + (after - before);
        held > self.sweep_above.load(Ordering::Relaxed)
    }

    /// Half of the budget is free: windows may be wider again.
    fn widen(&self) {
        let window = self.window();
        if window < self.limit / SHARE {
            let wider = (2 * window).clamp(1, self.limit / SHARE);
            self.window.store(wider, Ordering::Relaxed);
            self.sweep_above.store(self.limit, Ordering::Relaxed);
        }
    }

    /// A queue wants something read.
    pub(super) fn ask(&self, queue: &Arc<Queue>) {
        self.asked().push_back(Arc::downgrade(queue));
        self.wake();
    }

    /// Too much is held.
    pub(super) fn ask_for_sweep(&self) {
        if !self.sweep.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    fn take_asked(&self) -> Option<Arc<Queue>> {
        let mut asked = self.asked();
        std::iter::from_fn(|| asked.pop_front()).find_map(|queue| queue.upgrade())
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, VecDeque<Weak<Queue>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Paging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paging").field("limit", &self.limit).field("held", &self.held).finish()
    }
}

impl Broker {
    /// The memory that waiting messages may take.
    #[must_use]
    pub fn paging(&self) -> &Arc<Paging> {
        &self.paging
    }

    /// Reads back what one queue has asked for, or has all queues hold less. False when there is
    /// nothing to do. It waits for the disk; call it with no lock held, from as many threads as you
    /// like.
    pub fn read_back(&self, now: Now) -> bool {
        let mut effects = Effects::default();
        if self.paging.sweep.swap(false, Ordering::AcqRel) {
            self.sweep(&mut effects);
        } else if let Some(queue) = self.paging.take_asked() {
            queue.read_back(now, &mut effects);
        } else {
            return false;
        }
        self.finish(&mut effects, now);
        true
    }

    /// Finds the window at which all queues fit into the budget, and has them keep within it.
    fn sweep(&self, effects: &mut Effects) {
        let paging = &self.paging;
        let all = self.queues_in_order().into_iter();
        let queues = all.map(|queue| (queue.held_bytes(), queue)).filter(|(held, _)| *held > 0);
        let queues: Vec<_> = queues.collect();
        let held = queues.iter().map(|(held, _)| *held).collect();
        let window = fitting_window(held, paging.limit / 4 * SWEPT_QUARTERS);
        let window = window.min(paging.limit / SHARE).max(1);
        paging.window.store(window, Ordering::Relaxed);
        for (_, queue) in queues.iter().filter(|(held, _)| *held > window) {
            queue.keep_within_window(effects);
        }
        // What is left and cannot be helped does not call for another sweep at once.
        let left = paging.held_bytes().saturating_add(paging.limit / 8);
        paging.sweep_above.store(left.max(paging.limit), Ordering::Relaxed);
    }
}

/// The most that each may hold so that all of them hold no more than `room`.
fn fitting_window(mut held: Vec<u64>, mut room: u64) -> u64 {
    held.sort_unstable();
    let mut left = held.len() as u64;
    for bytes in held {
        if bytes > room / left {
            return room / left;
        }
        room -= bytes;
        left -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_what_the_long_ones_share_of_what_the_short_ones_leave() {
        assert_eq!(fitting_window(vec![], 100), u64::MAX);
        assert_eq!(fitting_window(vec![40, 60], 100), u64::MAX);
        assert_eq!(fitting_window(vec![1_000], 100), 100);
        assert_eq!(fitting_window(vec![1_000, 10, 500, 10], 100), 40);
        assert_eq!(fitting_window(vec![1; 1_000], 100), 0);
    }

    #[test]
    fn windows_grow_again_once_half_of_the_budget_is_free() {
        let paging = Paging::new(1_000);
        assert_eq!(paging.window(), 250);
        assert!(!paging.change(0, 1_000));
        assert!(paging.change(0, 1));
        paging.window.store(10, Ordering::Relaxed);
        assert!(!paging.change(600, 0));
        assert_eq!(paging.window(), 20);
        (0..9).for_each(|_| assert!(!paging.change(1, 0)));
        assert_eq!(paging.window(), 250);
    }
}
