//! Group commit: one thread writes what has gathered, syncs once, and moves the watermark.
//!
//! There is no delay for batches that someone awaits: while one sync runs, the next group gathers.
//! Batches that nobody awaits wait for such a group, until [enough](Waiting::is_full) has gathered,
//! or for [`Options::gather_ms_max`]: most messages that are settled within that time are never
//! written. An idle store has no timer.
//!
//! Every write is synced, unless only queues wait for it that are content with the operating
//! system's word ([`Durability::Os`]): these are synced together, `gather_ms_max` later at most. A
//! power failure in between could lose the end of one log file and keep the beginning of the next;
//! RocksDB, which does not notice a cut at a record's boundary by itself, is told to look for such
//! holes (`track_and_verify_wals`) and ends there, so that a prefix is recovered all the same.
//!
//! After one failed write or sync nothing is ever written again: the thread ends, and says why.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rocksdb::{DB, WriteBatch, WriteOptions};

use super::apply::{Pending, Queues, Reclaim};
use super::mark::Mark;
use super::tuning::{Options, store_error};
use super::waiting::Waiting;
use crate::store::waiters::Waiters;
use crate::store::{Batch, Durability, DurableWaker, Lsn, StoreError};

/// How long the mark may go without a sync of its own, and an idle store without tidying up.
const TIDY_AFTER: Duration = Duration::from_secs(1);

/// What the committer, its callers and the readers share.
pub(super) struct Shared {
    pub(super) db: DB,
    /// RocksDB's directory.
    pub(super) dir: PathBuf,
    pub(super) queues: Mutex<Queues>,
    pub(super) durable: AtomicU64,
    /// At least as far as what is durable.
    written: AtomicU64,
    pub(super) backlog_bytes: AtomicU64,
    pub(super) counters: Counters,
    /// Whether the intake holds a failure: every connection asks in every turn.
    failed: AtomicBool,
    intake: Mutex<Intake>,
    work: Condvar,
}

/// Counters as they are kept.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) batches: AtomicU64,
    pub(super) ops: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) annihilated: AtomicU64,
}

/// What waits to be written, and who waits for it.
struct Intake {
    waiting: Waiting,
    /// The group being written: readers must still find it.
    in_flight: Arc<Vec<Pending>>,
    last: Lsn,
    /// The highest place that someone awaits to be synced, and to be written.
    wanted: Lsn,
    wanted_written: Lsn,
    committer: Committing,
    /// Something has turned up that can be tidied away.
    untidy: bool,
    closing: bool,
    failure: Option<StoreError>,
    waiters: Waiters,
    /// Those who wait for something to be written.
    written_waiters: Waiters,
}

/// What the committer does, and so what is worth waking it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Committing {
    Busy,
    /// Sleeps until someone waits, enough has gathered, or a deadline.
    Gathering,
    /// Sleeps until there is anything.
    Idle,
}

impl Shared {
    pub(super) fn new(db: DB, dir: PathBuf, queues: Queues, applied: Lsn) -> Self {
        let intake = Intake {
            waiting: Waiting::default(),
            in_flight: Arc::default(),
            last: applied,
            wanted: Lsn::ZERO,
            wanted_written: Lsn::ZERO,
            committer: Committing::Busy,
            untidy: false,
            closing: false,
            failure: None,
            waiters: Waiters::default(),
            written_waiters: Waiters::default(),
        };
        Self {
            db,
            dir,
            queues: Mutex::new(queues),
            durable: AtomicU64::new(applied.0),
            written: AtomicU64::new(applied.0),
            backlog_bytes: AtomicU64::new(0),
            counters: Counters::default(),
            failed: AtomicBool::new(false),
            intake: Mutex::new(intake),
            work: Condvar::new(),
        }
    }

    /// See [`Store::submit`](crate::store::Store::submit).
    pub(super) fn submit(&self, batch: Batch) -> Lsn {
        let cost_bytes = batch.cost_bytes();
        let mut intake = self.intake();
        if batch.is_empty() {
            return intake.last;
        }
        if intake.closing || intake.failure.is_some() {
            return Lsn::NEVER;
        }
        let lsn = Lsn(intake.last.0 + 1);
        intake.last = lsn;
        if batch.awaited {
            intake.wanted = lsn;
        }
        self.backlog_bytes.fetch_add(cost_bytes, Ordering::Relaxed);
        let awaited = batch.awaited;
        intake.waiting.push(lsn, cost_bytes, batch);
        let urgent = awaited || intake.waiting.is_full();
        self.wake_committer(intake, urgent);
        lsn
    }

    /// See [`Store::notify`](crate::store::Store::notify).
    pub(super) fn notify(&self, how: Durability, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        let mut intake = self.intake();
        let never_comes = intake.failure.is_some() || (intake.closing && lsn > intake.last);
        let reached = match how {
            Durability::Fsync => self.durable(),
            Durability::Os => self.written(),
        };
        if never_comes || lsn <= reached {
            drop(intake);
            waker.wake();
            return;
        }
        let Intake { wanted, wanted_written, waiters, written_waiters, .. } = &mut *intake;
        let (wanted, waiters) = match how {
            Durability::Fsync => (wanted, waiters),
            Durability::Os => (wanted_written, written_waiters),
        };
        if lsn < Lsn::NEVER {
            *wanted = lsn.max(*wanted);
        }
        waiters.push(lsn, waker);
        self.wake_committer(intake, true);
    }

    pub(super) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub(super) fn written(&self) -> Lsn {
        Lsn(self.written.load(Ordering::Acquire))
    }

    pub(super) fn failure(&self) -> Option<StoreError> {
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        self.intake().failure.clone()
    }

    /// Something that was written cannot be read: nothing more is promised.
    pub(super) fn fail(&self, failure: &StoreError) {
        let mut intake = self.intake();
        if intake.failure.is_some() || intake.closing {
            return;
        }
        let reached = self.fail_intake(&mut intake, failure.clone());
        intake.committer = Committing::Busy;
        drop(intake);
        self.work.notify_one();
        reached.iter().for_each(|waker| waker.wake());
    }

    /// Takes note of a failure. Returns everyone who waits for what will not come.
    fn fail_intake(&self, intake: &mut Intake, failure: StoreError) -> Vec<Arc<dyn DurableWaker>> {
        let mut reached = Vec::new();
        self.failed.store(true, Ordering::Release);
        intake.failure = Some(failure);
        intake.take_waiters(&mut reached);
        reached
    }

    /// Lets the committer delete what was found dead, if it has nothing else to write.
    pub(super) fn tidy_soon(&self) {
        let mut intake = self.intake();
        intake.untidy = true;
        self.wake_committer(intake, true);
    }

    /// Lets the committer write what is left and end.
    pub(super) fn begin_closing(&self) {
        let mut intake = self.intake();
        intake.closing = true;
        self.wake_committer(intake, true);
    }

    /// Shows `visit` every batch that may not have been written yet, in order.
    pub(super) fn each_unwritten(&self, visit: impl FnMut(&Batch)) {
        let intake = self.intake();
        let in_flight = intake.in_flight.iter();
        let in_flight = in_flight.map(|pending| &pending.batch);
        in_flight.chain(intake.waiting.batches()).for_each(visit);
    }

    pub(super) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> String {
        self.dir.display().to_string()
    }

    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_committer(&self, mut intake: MutexGuard<'_, Intake>, urgent: bool) {
        let asleep = match intake.committer {
            Committing::Busy => false,
            Committing::Gathering => urgent,
            Committing::Idle => true,
        };
        if asleep {
            // Once is enough: those who come before it has woken need not call again.
            intake.committer = Committing::Busy;
            drop(intake);
            self.work.notify_one();
        }
    }
}

impl Intake {
    /// Everyone who waits.
    fn take_waiters(&mut self, reached: &mut Vec<Arc<dyn DurableWaker>>) {
        self.waiters.take_all(reached);
        self.written_waiters.take_all(reached);
    }

    fn take_group(&mut self) -> Arc<Vec<Pending>> {
        self.in_flight = Arc::new(self.waiting.take_group());
        Arc::clone(&self.in_flight)
    }
}

/// What to do next.
enum Work {
    Write {
        group: Arc<Vec<Pending>>,
        sync: bool,
    },
    /// What was only written.
    Sync,
    Tidy {
        idle: bool,
    },
    Stop,
}

/// The thread that writes.
pub(super) struct Committer {
    shared: Arc<Shared>,
    mark: Mark,
    reclaimer: Sender<Reclaim>,
    gather: Duration,
    /// When what waits must be written.
    write_by: Option<Instant>,
    /// When what is written must be synced.
    sync_by: Option<Instant>,
    /// What can be given back once what is written has been synced.
    unsynced_reclaims: Vec<Reclaim>,
    /// When to sync the mark and tidy up.
    tidy_by: Option<Instant>,
    /// Ended in order, with or without a failure.
    ended: bool,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        mark: Mark,
        reclaimer: Sender<Reclaim>,
        options: Options,
    ) -> Self {
        Self {
            shared,
            mark,
            reclaimer,
            gather: Duration::from_millis(options.gather_ms_max),
            write_by: None,
            sync_by: None,
            unsynced_reclaims: Vec::new(),
            tidy_by: None,
            ended: false,
        }
    }

    /// Writes until the store closes or fails.
    pub(super) fn run(mut self) {
        let end = loop {
            let done = match self.next() {
                Work::Write { group, sync } => self.write(&group, sync),
                Work::Sync => self.sync(),
                Work::Tidy { idle } => self.tidy(idle),
                Work::Stop => break self.mark.sync(),
            };
            if done.is_err() {
                break done;
            }
        };
        self.ended = true;
        self.end(end.err());
    }

    /// Waits for something to do.
    fn next(&mut self) -> Work {
        let shared = Arc::clone(&self.shared);
        let (synced, written) = (shared.durable(), shared.written());
        let mut intake = shared.intake();
        loop {
            let now = now();
            let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
            let waiting = !intake.waiting.is_empty();
            let sync = intake.closing || intake.wanted > synced || due(self.sync_by);
            let urgent = sync || intake.wanted_written > written || intake.waiting.is_full();
            if intake.failure.is_some() {
                return Work::Stop;
            }
            if due(self.tidy_by) || std::mem::take(&mut intake.untidy) {
                return Work::Tidy { idle: !waiting };
            }
            if waiting && (urgent || due(self.write_by)) {
                // What nobody awaits is synced as it is written, once there is enough of it.
                let lazily = !sync && intake.wanted_written > written && !due(self.write_by);
                self.write_by = None;
                return Work::Write { group: intake.take_group(), sync: !lazily };
            }
            if sync && written > synced {
                return Work::Sync;
            }
            if intake.closing {
                return Work::Stop;
            }
            if waiting {
                self.write_by.get_or_insert(now + self.gather);
            }
            intake.committer = if waiting { Committing::Gathering } else { Committing::Idle };
            let deadlines = [self.write_by, self.sync_by, self.tidy_by];
            let deadline = deadlines.into_iter().flatten().min();
            intake = match deadline {
                Some(deadline) => {
                    let timeout = deadline.saturating_duration_since(now);
                    let woken = shared.work.wait_timeout(intake, timeout);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => shared.work.wait(intake).unwrap_or_else(PoisonError::into_inner),
            };
            intake.committer = Committing::Busy;
        }
    }

    fn write(&mut self, group: &[Pending], sync: bool) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let Some(last) = group.last().map(|pending| pending.lsn) else { return Ok(()) };
        let encoded = shared.queues().encode(group, &shared.path())?;
        let bytes = encoded.batch.size_in_bytes() as u64;
        self.write_batch(encoded.batch, sync)?;
        if sync {
            self.mark.write(last)?;
        }
        let counters = &shared.counters;
        counters.batches.fetch_add(group.len() as u64, Ordering::Relaxed);
        counters.ops.fetch_add(encoded.ops, Ordering::Relaxed);
        counters.writes.fetch_add(1, Ordering::Relaxed);
        counters.syncs.fetch_add(u64::from(sync), Ordering::Relaxed);
        counters.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        counters.annihilated.fetch_add(encoded.annihilated, Ordering::Relaxed);
        self.unsynced_reclaims.extend(encoded.reclaims);
        self.publish(last, sync, group.iter().map(|pending| pending.cost_bytes).sum());
        Ok(())
    }

    /// Syncs what was only written.
    fn sync(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let written = shared.written();
        let synced = shared.db.flush_wal(true);
        synced.map_err(|error| store_error(&shared.path(), &error))?;
        self.mark.write(written)?;
        shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.publish(written, true, 0);
        Ok(())
    }

    /// Hands on what can be given back, now that its deletion is durable.
    fn reclaim(&self, reclaims: Vec<Reclaim>) {
        for reclaim in reclaims {
            // Without a reclaimer files stay; nothing else depends on it.
            let _ = self.reclaimer.send(reclaim);
        }
    }

    fn write_batch(&self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let written = self.shared.db.write_opt(batch, &options);
        written.map_err(|error| store_error(&self.shared.path(), &error))
    }

    /// Moves the watermarks to what has just been written, or synced, and wakes whoever waited for
    /// it.
    fn publish(&mut self, written: Lsn, synced: bool, bytes: u64) {
        match synced {
            true => self.sync_by = None,
            false => drop(self.sync_by.get_or_insert_with(|| now() + self.gather)),
        }
        let shared = &self.shared;
        shared.backlog_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.tidy_by.get_or_insert_with(|| now() + TIDY_AFTER);
        let mut reached = Vec::new();
        let mut intake = shared.intake();
        if intake.failure.is_some() {
            return; // a reader has found that the store is damaged
        }
        if synced {
            shared.durable.store(written.0, Ordering::Release);
            intake.waiters.take_reached(written, &mut reached);
        }
        shared.written.store(written.0, Ordering::Release);
        intake.written_waiters.take_reached(written, &mut reached);
        intake.in_flight = Arc::default();
        drop(intake);
        reached.iter().for_each(|waker| waker.wake());
        if synced {
            let reclaims = std::mem::take(&mut self.unsynced_reclaims);
            self.reclaim(reclaims);
        }
    }

    fn tidy(&mut self, idle: bool) -> Result<(), StoreError> {
        self.tidy_by = None;
        self.mark.sync()?;
        if !idle {
            return Ok(());
        }
        let Some(put_off) = self.shared.queues().encode_put_off() else { return Ok(()) };
        if put_off.more {
            self.tidy_by = Some(now() + TIDY_AFTER);
        }
        if !put_off.batch.is_empty() {
            self.write_batch(put_off.batch, true)?;
        }
        self.reclaim(put_off.reclaims);
        Ok(())
    }

    /// Wakes everyone who waits for what will not come.
    fn end(&self, failure: Option<StoreError>) {
        let mut reached = Vec::new();
        let mut intake = self.shared.intake();
        match failure {
            Some(failure) if intake.failure.is_none() => {
                reached = self.shared.fail_intake(&mut intake, failure);
            }
            _ => intake.take_waiters(&mut reached),
        }
        let unwritten = std::mem::take(&mut intake.waiting);
        let in_flight = std::mem::take(&mut intake.in_flight);
        drop(intake);
        reached.iter().for_each(|waker| waker.wake());
        drop((unwritten, in_flight));
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if !self.ended {
            // A defect of ours: nobody must wait for a thread that is gone.
            let reason = "the committer's thread panicked".to_owned();
            self.end(Some(StoreError::Io { path: self.shared.path(), reason }));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the committer's deadlines never leave this thread")]
fn now() -> Instant {
    Instant::now()
}
