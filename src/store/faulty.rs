//! A store whose disk lags, fails and crashes on demand, for simulations.
//!
//! It keeps the state as a disk would hold it after a sync (the synced prefix), the batches
//! submitted since (the unsynced suffix) and the state with all of them applied. A crash keeps the
//! prefix and a random number of the first unsynced batches, which is what the contract allows and
//! all it allows; a mere end of the process keeps what was written, too. Everything random comes
//! from a seed: the same calls give the same run.
//!
//! As a negative control of whoever relies on it, it can break its word, too: [`Faults::lies`].
//!
//! Wakers are called after the store's lock is released, on the thread whose call moved the
//! watermark.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::image::Image;
use super::waiters::Waiters;
use super::{
    Batch, DurableWaker, Lsn, QueueKey, QueueSeq, ReadLimit, Recovery, Store, StoreCounters,
    StoreError,
};
use crate::broker::message::Message;

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Where the randomness starts.
    pub seed: u64,
    /// When the watermark moves.
    pub syncing: Syncing,
    /// When batches are with the operating system.
    pub writing: Writing,
    /// The submit, counted from 1, at which the store fails.
    pub failing_submit: Option<u64>,
    /// The sync, counted from 1, at which the store fails.
    pub failing_sync: Option<u64>,
    /// It says that it has synced, and has not: what no store may do.
    pub lies: bool,
}

/// When batches are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writing {
    /// When they are submitted.
    #[default]
    AtOnce,
    /// Only at [`FaultyStore::write_first`], and not synced before.
    Manual,
}

/// When the watermark moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Syncing {
    /// Only at [`FaultyStore::sync`].
    #[default]
    Manual,
    /// After about one in so many submits, and then up to a random unsynced batch.
    OneIn(u64),
}

/// A store in memory that can lose what was not synced.
#[derive(Debug)]
pub struct FaultyStore {
    state: Mutex<State>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct State {
    random: Random,
    synced: Image,
    unsynced: VecDeque<Batch>,
    current: Image,
    last: u64,
    /// With the operating system, if writing is manual.
    written: u64,
    durable: u64,
    /// What is on disk in truth.
    on_disk: u64,
    submits: u64,
    syncs: u64,
    closed: bool,
    failure: Option<StoreError>,
    waiters: Waiters,
    waiters_for_writes: Waiters,
    counters: StoreCounters,
}

impl FaultyStore {
    /// An empty store with these faults ahead of it.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self::over(Image::default(), 0, faults)
    }

    /// Syncs everything submitted.
    pub fn sync(&self) {
        let mut state = self.lock();
        let unsynced = state.unsynced.len();
        let reached = state.sync(unsynced, &self.faults);
        drop(state);
        reached.iter().for_each(|waker| waker.wake());
    }

    /// Syncs the first `batches` of those unsynced.
    pub fn sync_first(&self, batches: usize) {
        let reached = self.lock().sync(batches, &self.faults);
        reached.iter().for_each(|waker| waker.wake());
    }

    /// Writes the first `batches` of those not written, if writing is manual.
    pub fn write_first(&self, batches: u64) {
        let reached = self.lock().write(batches, &self.faults);
        reached.iter().for_each(|waker| waker.wake());
    }

    /// Fails now, as it might at a write, a sync or a read.
    pub fn break_down(&self, reason: &str) {
        let mut state = self.lock();
        let lives = state.failure.is_none() && !state.closed;
        let woken = if lives { state.fail(reason) } else { Vec::new() };
        drop(state);
        woken.iter().for_each(|waker| waker.wake());
    }

    /// Batches submitted and not synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Batches submitted in all its lives, as far as they have survived.
    #[must_use]
    pub fn submitted(&self) -> Lsn {
        Lsn(self.lock().last)
    }

    /// Crashes: what a restart finds, with `faults` ahead of the new life. Their seed decides how
    /// many unsynced batches happened to reach the disk. This store is of no further use.
    #[must_use]
    pub fn crash(&self, faults: Faults) -> Self {
        let on_disk = self.lock().on_disk;
        self.end(faults, on_disk)
    }

    /// The same when only the process ends and the operating system lives on.
    #[must_use]
    pub fn kill(&self, faults: Faults) -> Self {
        let written = self.written().0;
        self.end(faults, written)
    }

    fn end(&self, faults: Faults, kept: u64) -> Self {
        let mut state = self.lock();
        let mut random = Random(faults.seed);
        let kept = kept.max(state.on_disk);
        let survivors = kept + random.below(state.last - kept + 1);
        let mut image = state.synced.clone();
        let mut last = state.on_disk;
        while last < survivors {
            let Some(batch) = state.unsynced.pop_front() else { break };
            // A batch that was refused stopped the store: nothing of it reached the disk.
            if image.apply(batch).is_err() {
                break;
            }
            last += 1;
        }
        state.closed = true;
        Self::over(image, last, faults)
    }

    fn over(image: Image, last: u64, faults: Faults) -> Self {
        let state = State {
            random: Random(faults.seed),
            synced: image.clone(),
            current: image,
            last,
            written: last,
            durable: last,
            on_disk: last,
            ..State::default()
        };
        Self { state: Mutex::new(state), faults }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, reason: &str) -> Vec<Arc<dyn DurableWaker>> {
        let path = "faulty store".to_owned();
        self.fail_with(StoreError::Io { path, reason: reason.to_owned() })
    }

    fn fail_with(&mut self, failure: StoreError) -> Vec<Arc<dyn DurableWaker>> {
        let mut reached = Vec::new();
        self.failure = Some(failure);
        self.waiters.take_all(&mut reached);
        self.waiters_for_writes.take_all(&mut reached);
        reached
    }

    fn write(&mut self, batches: u64, faults: &Faults) -> Vec<Arc<dyn DurableWaker>> {
        if self.failure.is_some() || self.closed || faults.writing == Writing::AtOnce {
            return Vec::new();
        }
        self.written = self.last.min(self.written.saturating_add(batches));
        self.counters.writes += 1;
        let mut reached = Vec::new();
        self.waiters_for_writes.take_reached(Lsn(self.written), &mut reached);
        reached
    }

    fn sync(&mut self, batches: usize, faults: &Faults) -> Vec<Arc<dyn DurableWaker>> {
        if self.failure.is_some() || self.closed {
            return Vec::new();
        }
        self.syncs += 1;
        if faults.failing_sync == Some(self.syncs) {
            return self.fail("the sync was made to fail");
        }
        let written = if faults.writing == Writing::AtOnce { self.last } else { self.written };
        for _ in 0..batches {
            if self.durable == written {
                break;
            }
            self.durable += 1;
            if faults.lies {
                continue;
            }
            let Some(batch) = self.unsynced.pop_front() else { break };
            if let Err(error) = self.synced.apply(batch) {
                return self.fail_with(error);
            }
            self.on_disk += 1;
        }
        self.counters.syncs += 1;
        let mut reached = Vec::new();
        self.waiters.take_reached(Lsn(self.durable), &mut reached);
        reached
    }
}

impl Store for FaultyStore {
    fn submit(&self, batch: Batch) -> Lsn {
        let mut state = self.lock();
        if batch.is_empty() {
            return Lsn(state.last);
        }
        if state.closed || state.failure.is_some() {
            return Lsn::NEVER;
        }
        state.last += 1;
        state.submits += 1;
        let lsn = Lsn(state.last);
        state.counters.batches += 1;
        state.counters.ops += batch.ops.len() as u64;
        let reached = if self.faults.failing_submit == Some(state.submits) {
            state.fail("the submit was made to fail")
        } else if let Err(error) = state.current.apply(batch.clone()) {
            state.fail_with(error)
        } else {
            state.unsynced.push_back(batch);
            let unsynced = state.unsynced.len() as u64;
            match self.faults.syncing {
                Syncing::OneIn(submits) if state.random.below(submits) == 0 => {
                    let batches = state.random.below(unsynced) + 1;
                    state.sync(usize::try_from(batches).unwrap_or(usize::MAX), &self.faults)
                }
                Syncing::Manual | Syncing::OneIn(_) => Vec::new(),
            }
        };
        drop(state);
        reached.iter().for_each(|waker| waker.wake());
        lsn
    }

    fn durable(&self) -> Lsn {
        Lsn(self.lock().durable)
    }

    fn notify(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        let mut state = self.lock();
        if state.failure.is_none() && !state.closed && lsn.0 > state.durable {
            state.waiters.push(lsn, waker);
            return;
        }
        drop(state);
        waker.wake();
    }

    /// With the operating system is what was submitted, whatever becomes of it, unless writing is
    /// manual.
    fn written(&self) -> Lsn {
        let state = self.lock();
        match self.faults.writing {
            Writing::AtOnce => Lsn(state.last),
            Writing::Manual => Lsn(state.written),
        }
    }

    fn notify_written(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        let mut state = self.lock();
        let lives = state.failure.is_none() && !state.closed;
        if lives && self.faults.writing == Writing::Manual && lsn.0 > state.written {
            state.waiters_for_writes.push(lsn, waker);
            return;
        }
        drop(state);
        waker.wake();
    }

    fn backlog_bytes(&self) -> u64 {
        self.lock().unsynced.iter().map(Batch::cost_bytes).sum()
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
        Ok(self.lock().current.read(queue, from, limit))
    }

    fn recover(&self, visitor: &mut dyn Recovery) -> Result<(), StoreError> {
        self.lock().current.replay(visitor);
        Ok(())
    }

    fn place(&self) -> String {
        "faulty store".to_owned()
    }

    fn counters(&self) -> StoreCounters {
        self.lock().counters
    }

    fn close(&self) -> Result<(), StoreError> {
        self.sync();
        let mut state = self.lock();
        state.closed = true;
        let mut left = Vec::new();
        state.waiters.take_all(&mut left);
        state.waiters_for_writes.take_all(&mut left);
        let closed = state.failure.clone().map_or(Ok(()), Err);
        drop(state);
        left.iter().for_each(|waker| waker.wake());
        closed
    }
}

/// SplitMix64: a few lines, good enough to pick a victim.
#[derive(Debug, Default)]
struct Random(u64);

impl Random {
    /// A number below `limit`; 0 when `limit` is 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(limit).unwrap_or(0)
    }
}
