//! Who waits for which place of the watermark: a heap, lowest place first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::{DurableWaker, Lsn};

/// Wakers by the place they wait for. Not synchronised: it lies under its store's lock.
#[derive(Default)]
pub(crate) struct Waiters(BinaryHeap<Reverse<Waiter>>);

struct Waiter {
    lsn: Lsn,
    waker: Arc<dyn DurableWaker>,
}

impl Waiters {
    /// Adds one.
    pub(crate) fn push(&mut self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        self.0.push(Reverse(Waiter { lsn, waker }));
    }

    /// Takes those whose place is reached into `reached`.
    pub(crate) fn take_reached(&mut self, durable: Lsn, reached: &mut Vec<Arc<dyn DurableWaker>>) {
        while self.0.peek().is_some_and(|Reverse(waiter)| waiter.lsn <= durable) {
            reached.extend(self.0.pop().map(|Reverse(waiter)| waiter.waker));
        }
    }

    /// Takes everyone: the store has failed or closed.
    pub(crate) fn take_all(&mut self, reached: &mut Vec<Arc<dyn DurableWaker>>) {
        reached.extend(self.0.drain().map(|Reverse(waiter)| waiter.waker));
    }
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiters").field(&self.0.len()).finish()
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.lsn == other.lsn
    }
}

impl Eq for Waiter {}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> Ordering {
        self.lsn.cmp(&other.lsn)
    }
}
