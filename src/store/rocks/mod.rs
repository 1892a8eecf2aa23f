//! The durable store: RocksDB behind one thread that commits in groups.
//!
//! A batch that is submitted waits in a short list. The committer takes all that waits, encodes it
//! as one write with the cursors of the queues it touches, syncs the log if anyone waits for it and
//! moves the watermark (`commit`, `apply`). Which messages are settled is a cursor per queue and
//! not a deletion per message (`store::cursor`); what is dead goes by the range (`reclaim`).
//!
//! # What lies where
//!
//! In memory: cursors (a few dozen bytes per queue as long as settles come about in order), the
//! batches not yet written, RocksDB's write buffers and a small block cache (`tuning`). On disk:
//! see `schema` for the keys and `recover` for the directory.
//!
//! # Threads and locks
//!
//! The intake's lock is a leaf, held for a push or for taking a group; `read` holds it while it
//! looks through what is not yet written, which it does only near a queue's end. The queues' lock
//! is held while a group is encoded, never during a write or a sync. Nobody holds both.

mod apart;
mod apply;
mod backup;
mod check;
mod commit;
mod files;
mod mark;
mod read;
mod reclaim;
mod recover;
pub mod salvage;
mod schema;
mod tuning;
mod waiting;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};

use rocksdb::Options as DbOptions;
use rocksdb::statistics::Ticker;

pub use backup::{check_backup, restore};
pub use recover::absent;
pub use tuning::Options;

use super::{
    BackedUp, Batch, Durability, DurableWaker, Lsn, QueueKey, QueueSeq, ReadLimit, Recovery, Store,
    StoreCounters, StoreError,
};
use crate::broker::message::Message;
use commit::{Committer, Shared};
use mark::io_error;

/// What the store occupies, as far as it is cheap to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes in write buffers.
    pub write_buffers_bytes: u64,
    /// Bytes of cached blocks.
    pub block_cache_bytes: u64,
    /// Bytes that open table files keep in memory for their indexes.
    pub table_readers_bytes: u64,
    /// Bytes of table files on disk.
    pub tables_bytes: u64,
}

/// A store on disk. One process at a time has it open.
pub struct RocksStore {
    // The order matters: the database is closed before the lock is given back.
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
    statistics: Option<DbOptions>,
    durability: Durability,
    _lock: File,
}

#[derive(Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    reclaimer: Option<JoinHandle<()>>,
}

impl RocksStore {
    /// Opens the store in a directory, which is made (for its owner alone) when it does not exist.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, is of another version, or lacks something that
    /// was on disk already. Nothing in it is changed then, apart from RocksDB's own `LOG`.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let opened = recover::open(dir.as_ref(), options)?;
        let shared = Shared::new(opened.db, opened.dir, opened.queues, opened.applied);
        let shared = Arc::new(shared);
        let (reclaimer, reclaims) = mpsc::channel();
        let committer = Committer::new(Arc::clone(&shared), opened.mark, reclaimer, options);
        let reclaiming = Arc::clone(&shared);
        let store = Self {
            shared,
            threads: Mutex::default(),
            statistics: opened.statistics,
            durability: options.durability,
            _lock: opened.version,
        };
        // Should the second thread not start, the first one ends as the store is dropped.
        let committer = store.spawn("store-commit", move || committer.run())?;
        store.threads().committer = Some(committer);
        let reclaimer = store.spawn("store-reclaim", move || {
            reclaim::run(&reclaiming, &reclaims);
        })?;
        store.threads().reclaimer = Some(reclaimer);
        Ok(store)
    }

    /// What the store occupies now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        use rocksdb::properties as name;
        let db = &self.shared.db;
        let of = |property| db.property_int_value(property).ok().flatten().unwrap_or_default();
        Usage {
            write_buffers_bytes: of(name::CUR_SIZE_ALL_MEM_TABLES),
            block_cache_bytes: of(name::BLOCK_CACHE_USAGE),
            table_readers_bytes: of(name::ESTIMATE_TABLE_READERS_MEM),
            tables_bytes: of(name::TOTAL_SST_FILES_SIZE),
        }
    }

    fn spawn(
        &self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, StoreError> {
        let spawned = Builder::new().name(name.to_owned()).spawn(run);
        spawned.map_err(|error| io_error(&self.shared.dir, &error))
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for RocksStore {
    fn submit(&self, batch: Batch) -> Lsn {
        self.shared.submit(batch)
    }

    fn durable(&self) -> Lsn {
        self.shared.durable()
    }

    fn written(&self) -> Lsn {
        self.shared.written()
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn notify(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        self.shared.notify(Durability::Fsync, lsn, waker);
    }

    fn notify_written(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        self.shared.notify(Durability::Os, lsn, waker);
    }

    fn backlog_bytes(&self) -> u64 {
        self.shared.backlog_bytes.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Option<StoreError> {
        self.shared.failure()
    }

    fn read(
        &self,
        queue: QueueKey,
        from: QueueSeq,
        limit: ReadLimit,
    ) -> Result<Vec<(QueueSeq, Message)>, StoreError> {
        let read = read::read(&self.shared, queue, from, limit);
        read.inspect_err(|error| self.shared.fail(error))
    }

    fn recover(&self, visitor: &mut dyn Recovery) -> Result<(), StoreError> {
        recover::replay(&self.shared, visitor)
    }

    fn place(&self) -> String {
        self.shared.path()
    }

    fn back_up(&self, dir: &Path) -> Result<BackedUp, StoreError> {
        backup::back_up(&self.shared, dir)
    }

    fn backups(&self, dir: &Path) -> Vec<String> {
        backup::names(dir)
    }

    fn counters(&self) -> StoreCounters {
        let counters = &self.shared.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreCounters {
            batches: of(&counters.batches),
            ops: of(&counters.ops),
            writes: of(&counters.writes),
            syncs: match &self.statistics {
                Some(statistics) => statistics.get_ticker_count(Ticker::WalFileSynced),
                None => of(&counters.syncs),
            },
            bytes_written: of(&counters.bytes_written),
            annihilated: of(&counters.annihilated),
            owed_bytes: self.usage().write_buffers_bytes,
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.shared.begin_closing();
        let mut threads = self.threads();
        let Some(committer) = threads.committer.take() else {
            return self.failure().map_or(Ok(()), Err);
        };
        // A thread that panicked has left its failure behind.
        let _ = committer.join();
        let closed = match self.failure() {
            Some(failure) => Err(failure),
            // Into table files, so that the next start has no log to read.
            None => self.shared.db.flush().map_err(|error| {
                let path = self.shared.path();
                tuning::store_error(&path, &error)
            }),
        };
        // A merge of tables may take minutes; it goes on after the next start.
        self.shared.db.cancel_all_background_work(false);
        let _ = threads.reclaimer.take().map(JoinHandle::join);
        closed
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        // Whoever wanted to know has closed it before.
        let _ = self.close();
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}
