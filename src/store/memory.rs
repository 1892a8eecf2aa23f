//! A store without a disk: every batch is durable the moment it is submitted.
//!
//! For tests and for running where nothing has to survive. What it keeps lives as long as the
//! value: [`MemoryStore::restarted`] hands it to a successor, as a disk would.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::image::Image;
use super::waiters::Waiters;
use super::{
    Batch, DurableWaker, Lsn, QueueKey, QueueSeq, ReadLimit, Recovery, Store, StoreCounters,
    StoreError,
};
use crate::broker::message::Message;

/// Keeps batches in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    durable: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    image: Image,
    last: u64,
    closed: bool,
    failure: Option<StoreError>,
    waiters: Waiters,
    counters: StoreCounters,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that finds everything this one kept, as a restart on the same disk would.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let before = self.lock();
        let state = State { image: before.image.clone(), last: before.last, ..State::default() };
        Self { durable: AtomicU64::new(state.last), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn submit(&self, batch: Batch) -> Lsn {
        let mut state = self.lock();
        if batch.is_empty() {
            return Lsn(state.last);
        }
        if state.closed || state.failure.is_some() {
            return Lsn::NEVER;
        }
        state.last += 1;
        let lsn = state.last;
        state.counters.batches += 1;
        state.counters.ops += batch.ops.len() as u64;
        let mut reached = Vec::new();
        if let Err(error) = state.image.apply(batch) {
            state.failure = Some(error);
            state.waiters.take_all(&mut reached);
        } else {
            self.durable.store(lsn, Ordering::Release);
            state.waiters.take_reached(Lsn(lsn), &mut reached);
        }
        drop(state);
        reached.iter().for_each(|waker| waker.wake());
        Lsn(lsn)
    }

    fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    fn notify(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        let mut state = self.lock();
        // Whatever was submitted is durable: only for what comes later, or for the end, one waits.
        if state.failure.is_none() && !state.closed && lsn.0 > state.last {
            state.waiters.push(lsn, waker);
            return;
        }
        drop(state);
        waker.wake();
    }

    fn backlog_bytes(&self) -> u64 {
        0
    }

    fn failure(&self) -> Option<StoreError> {
        self.lock().failure.clone()
    }

    fn read(
        &self,
        queue: QueueKey,
        from: QueueSeq,
        limit: ReadLimit,
    ) -> Result<Vec<(QueueSeq, Message)>, StoreError> {
        Ok(self.lock().image.read(queue, from, limit))
    }

    fn recover(&self, visitor: &mut dyn Recovery) -> Result<(), StoreError> {
        self.lock().image.replay(visitor);
        Ok(())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn counters(&self) -> StoreCounters {
        self.lock().counters
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.closed = true;
        let mut left = Vec::new();
        state.waiters.take_all(&mut left);
        let closed = state.failure.clone().map_or(Ok(()), Err);
        drop(state);
        left.iter().for_each(|waker| waker.wake());
        closed
    }
}
