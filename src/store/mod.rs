//! What durable means: the trait behind which messages and definitions are kept, and its contract.
//!
//! The broker puts every change that must survive into a [`Batch`] and submits it; one committer
//! writes waiting batches together, syncs once and moves the [`durable`](Store::durable) watermark.
//! Nothing above this module knows how that is done, and nothing here knows AMQP.
//!
//! # The crash contract
//!
//! - **Prefix.** After any crash the recovered state equals the effect of batches `1..=k` in `Lsn`
//!   order, with `k` at least the highest `durable()` that anyone has seen; where only the process
//!   has ended and not the operating system, at least the highest `written()`.
//! - **Atomic.** A batch is wholly there or wholly absent, however many queues it touches.
//! - **Order.** `submit` hands out increasing `Lsn`s. The broker submits a queue's operations while
//!   it holds that queue's lock, so the operations of one queue are in the order of its states: the
//!   sequence numbers of its `Enqueue`s increase within their level, and a `Settle` follows its
//!   `Enqueue`.
//! - **Self-contained.** A batch holds everything needed to apply it: ids, sequence numbers and
//!   times were chosen by the proposer, and applying it consults no clock and no randomness. A
//!   batch can therefore be replicated and applied elsewhere with the same result.
//! - **Failure.** After one failed write, sync or read `durable()` never moves again and
//!   [`failure`](Store::failure) says why: the broker stops confirming and the process ends.
//!   A sync is never retried (the kernel may have marked the lost page clean).
//! - **Counts.** How many messages of a queue are unsettled, and how many bytes their bodies have,
//!   is known after a restart without reading any: a `Settle` and a `Purge` say what they take.
//! - **Annihilation.** An `Enqueue` and its `Settle` that are both still unwritten may both vanish.
//!   `durable()` passes them all the same.
//! - **Version.** A data directory of an unknown version, or one that is damaged, is refused with a
//!   reason that names the file; nothing in it is changed.

#[cfg_attr(
    not(feature = "rocksdb"),
    allow(dead_code, reason = "only the RocksDB store keeps cursors as records")
)]
mod cursor;
pub mod faulty;
mod image;
pub mod memory;
mod progress;
#[cfg(feature = "rocksdb")]
pub mod rocks;
#[cfg_attr(
    not(feature = "rocksdb"),
    expect(dead_code, reason = "only the RocksDB store keeps numbers in records")
)]
mod varint;
mod waiters;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::broker::message::Message;
pub use progress::{Durability, Progress};

/// Reads a cursor's record and writes it again: so much of cursors as bytes, for whoever tests what
/// becomes of damaged ones.
///
/// # Errors
/// Why the bytes are no cursor's record.
#[doc(hidden)]
pub fn reencoded_cursor(record: &[u8]) -> Result<Vec<u8>, String> {
    let cursor = cursor::Cursor::decode(record).map_err(|error| error.to_string())?;
    let mut again = Vec::new();
    cursor.encode(&mut again);
    Ok(again)
}

/// The position of a batch in the store's total order. `Lsn::ZERO` precedes every batch, so it is
/// always durable: transient work carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every batch; durable from the start.
    pub const ZERO: Self = Self(0);
    /// After every batch; never durable. What a store that has failed or closed answers.
    pub const NEVER: Self = Self(u64::MAX);
}

/// Where a queue's records live: a shard (the unit of a later replication; 0 on a single node) and
/// an id that is never used again after the queue is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey {
    /// The replication shard.
    pub shard: u16,
    /// The queue's id within the node.
    pub queue: u64,
}

/// A message's place in its queue: a level in the upper 8 bits, a number below. Numbers increase
/// strictly within their level and are never reused; gaps are allowed (transient messages take
/// numbers too). Levels know nothing of each other: a queue with priorities has one for each, any
/// other queue has level 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueSeq(pub u64);

impl QueueSeq {
    const LEVEL_SHIFT: u32 = 56;
    /// Behind the last number of a level.
    pub const NUMBERS_END: u64 = 1 << Self::LEVEL_SHIFT;

    /// A number of a level; of one beyond [`NUMBERS_END`](Self::NUMBERS_END) the end is left.
    #[must_use]
    pub const fn new(level: u8, number: u64) -> Self {
        let number = if number < Self::NUMBERS_END { number } else { Self::NUMBERS_END - 1 };
        Self(((level as u64) << Self::LEVEL_SHIFT) | number)
    }

    /// Its level.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// Its number within the level.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & (Self::NUMBERS_END - 1)
    }
}

/// One level of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct LevelKey {
    queue: QueueKey,
    level: u8,
}

impl LevelKey {
    fn of(queue: QueueKey, seq: QueueSeq) -> Self {
        Self { queue, level: seq.level() }
    }
}

/// One change. Applying the same operations in the same order gives the same state anywhere.
#[derive(Debug, Clone)]
pub enum Op {
    /// Keep a message in a queue. `seq` is above every earlier `seq` of that queue; one that is not
    /// stops the store, for it would mean that two messages were given the same place.
    Enqueue {
        /// The queue.
        queue: QueueKey,
        /// The message's place in it.
        seq: QueueSeq,
        /// The message; shared, not copied.
        message: Message,
    },
    /// The message is done with (acknowledged, dropped, expired, or moved elsewhere by another
    /// operation of the same batch). Unknown or already settled numbers are ignored.
    Settle {
        /// The queue.
        queue: QueueKey,
        /// The message's place in it.
        seq: QueueSeq,
        /// Its body's length.
        body_bytes: u64,
    },
    /// Every message of the queue from one number up to another is done with, however many they
    /// are: both are of one level, which need not hold all of them yet. The counts must be right:
    /// a purge of more than there is stops the store. Those in `except` stay, and do not count.
    Purge {
        /// The queue.
        queue: QueueKey,
        /// The first number.
        from: QueueSeq,
        /// Behind the last.
        to: QueueSeq,
        /// Numbers between them that stay, in their order.
        except: Vec<u64>,
        /// How many messages that is.
        messages: u64,
        /// Bytes of their bodies.
        body_bytes: u64,
    },
    /// Forget a queue's messages altogether. Its key is never used again.
    DropQueue {
        /// The queue.
        queue: QueueKey,
        /// Its highest level.
        level_max: u8,
    },
    /// Keep a definition (vhost, user, exchange, queue, binding...) under a key.
    PutMeta {
        /// The key: a kind and names, see `broker::definitions`.
        key: Vec<u8>,
        /// The record.
        value: Vec<u8>,
    },
    /// Forget a definition.
    DelMeta {
        /// The key.
        key: Vec<u8>,
    },
}

/// The runs of numbers that a purge settles.
fn purged_numbers(
    from: QueueSeq,
    to: QueueSeq,
    except: &[u64],
) -> impl Iterator<Item = Range<u64>> {
    let ends = except.iter().copied().chain([to.number()]);
    let run = |start: &mut u64, end: u64| {
        let numbers = *start..end;
        *start = end + 1;
        Some(numbers)
    };
    ends.scan(from.number(), run).filter(|numbers| !numbers.is_empty())
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In the order in which they apply.
    pub ops: Vec<Op>,
    /// Whether someone waits for `durable()` to pass this batch (a confirm, a reply). Batches that
    /// nobody awaits ride along with the next awaited one, or are synced within 200 ms.
    pub awaited: bool,
}

impl Batch {
    /// True when there is nothing to submit.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// About how many bytes the batch occupies while it waits and when it is written.
    fn cost_bytes(&self) -> u64 {
        self.ops.iter().map(Op::cost_bytes).sum()
    }
}

impl Op {
    fn cost_bytes(&self) -> u64 {
        const OP_BYTES: u64 = size_of::<Op>() as u64;
        OP_BYTES
            + match self {
                Self::Enqueue { message, .. } => message.memory_bytes() as u64,
                Self::PutMeta { key, value } => (key.len() + value.len()) as u64,
                Self::DelMeta { key } => key.len() as u64,
                Self::Settle { .. } | Self::Purge { .. } | Self::DropQueue { .. } => 0,
            }
    }
}

/// Someone who waits for the watermark.
pub trait DurableWaker: Send + Sync {
    /// The watermark has reached the awaited `Lsn`, or the store has failed or closed. Called on
    /// the committer's thread: it must return at once and never call the store.
    fn wake(&self);
}

/// One level of a queue as its counts tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// The queue.
    pub queue: QueueKey,
    /// No unsettled message lies before this place; the level is its own.
    pub from: QueueSeq,
    /// The number from which the level's next messages are counted on.
    pub next: u64,
    /// Unsettled messages.
    pub messages: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
}

/// What is found again at start.
pub trait Recovery {
    /// A definition, in key order. All definitions come before any message.
    fn meta(&mut self, key: &[u8], value: &[u8]);
    /// A level of a queue that has ever held a stored message. True asks for its messages, one by
    /// one; this costs time that grows with their number.
    fn backlog(&mut self, backlog: &Backlog) -> bool;
    /// An unsettled message of the level that came last, in the order of their numbers.
    fn message(&mut self, queue: QueueKey, seq: QueueSeq, message: Message);
}

/// How much a read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Messages.
    pub messages: usize,
    /// Bytes of their records, after which it stops; it returns one message in any case.
    pub bytes: usize,
}

/// A store that could not be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The directory belongs to another version of the layout.
    #[error("{path}: data of layout version {found}, this build reads version {expected}")]
    Version {
        /// The directory or file.
        path: String,
        /// The version found there.
        found: String,
        /// The version this build writes.
        expected: u32,
    },
    /// Another process uses the directory.
    #[error("{path}: in use by another process")]
    Locked {
        /// The directory.
        path: String,
    },
    /// This process may not use the directory, or not write to it.
    #[error("{path}: {reason}")]
    Denied {
        /// The directory or file.
        path: String,
        /// What is in the way.
        reason: String,
    },
    /// Something is there already where something new was to be made.
    #[error("{path}: exists already")]
    Exists {
        /// The directory or file.
        path: String,
    },
    /// Something on disk is not as it was written.
    #[error("{path}: damaged: {reason}")]
    Damaged {
        /// The file or directory.
        path: String,
        /// What was found.
        reason: String,
    },
    /// The operating system refused.
    #[error("{path}: {reason}")]
    Io {
        /// The file or directory.
        path: String,
        /// What it said.
        reason: String,
    },
}

/// A copy of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// It has every batch up to here at least.
    pub batch: Lsn,
    /// How many files it consists of.
    pub files: u64,
    /// Their bytes; where files are linked they take no room of their own.
    pub bytes: u64,
}

/// Counters of the committer's work, for metrics and benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Batches submitted.
    pub batches: u64,
    /// Operations applied.
    pub ops: u64,
    /// Group commits written.
    pub writes: u64,
    /// Syncs that returned.
    pub syncs: u64,
    /// Bytes handed to the log.
    pub bytes_written: u64,
    /// Messages that were settled before they were written, and so never were.
    pub annihilated: u64,
    /// Bytes that are in the log alone and will be written once more: room that is not free,
    /// though the file system says so.
    pub owed_bytes: u64,
}

/// Keeps batches. See the module's documentation for the contract.
pub trait Store: Send + Sync {
    /// Queues a batch for writing and returns its place. Never waits; an empty batch returns the
    /// place of the last one submitted. A store that has failed or closed takes nothing and
    /// returns [`Lsn::NEVER`]. Callers hold at most one queue's lock (or several taken in key
    /// order): the store's own lock is a leaf.
    fn submit(&self, batch: Batch) -> Lsn;

    /// Everything up to here is on disk.
    fn durable(&self) -> Lsn;

    /// Everything up to here is with the operating system, and will be on disk within 200 ms.
    fn written(&self) -> Lsn {
        self.durable()
    }

    /// Both watermarks.
    fn reached(&self) -> Progress {
        // In this order: what is written only grows meanwhile.
        let synced = self.durable();
        Progress { written: self.written(), synced }
    }

    /// How safe a queue's messages are that asks for nothing else.
    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    /// Asks for one [`DurableWaker::wake`] once `durable()` has reached `lsn`, or never will
    /// because the store has failed or closed; at once if it already has. [`Lsn::NEVER`] thus waits
    /// for the store's end.
    fn notify(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>);

    /// The same with `written()`.
    fn notify_written(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        self.notify(lsn, waker);
    }

    /// Bytes submitted and not yet durable. Readers of sockets pause above a limit.
    fn backlog_bytes(&self) -> u64;

    /// Why the store stopped, once it has.
    fn failure(&self) -> Option<StoreError>;

    /// Reads unsettled messages of a queue from `from` on, ascending, within `from`'s level. It
    /// sees every message submitted before, written or not; one whose settlement was submitted may
    /// still be shown until that is written. Nothing returned means that there is nothing. It may
    /// wait for the disk, never for a sync.
    ///
    /// # Errors
    /// When the disk or a record cannot be read, or messages are missing: then the store has
    /// [failed](Self::failure).
    fn read(
        &self,
        queue: QueueKey,
        from: QueueSeq,
        limit: ReadLimit,
    ) -> Result<Vec<(QueueSeq, Message)>, StoreError>;

    /// Replays what is kept into `visitor`, which must not call the store. Called once, before the
    /// first `submit`.
    ///
    /// # Errors
    /// When something on disk cannot be read or is not what was written.
    fn recover(&self, visitor: &mut dyn Recovery) -> Result<(), StoreError>;

    /// Where it keeps what it is given, as an operator would look for it.
    fn place(&self) -> String;

    /// Makes a copy of the store in a directory that is not there yet, while it goes on: of
    /// everything that is [`durable`](Self::durable) when it begins, and perhaps of some that comes
    /// meanwhile, as a crash would leave it. It waits for the disk.
    ///
    /// # Errors
    /// When the directory exists or cannot be written, or there is nothing on disk to copy.
    fn back_up(&self, dir: &Path) -> Result<BackedUp, StoreError> {
        let reason = "kept in memory only: there is nothing to back up".to_owned();
        Err(StoreError::Io { path: dir.display().to_string(), reason })
    }

    /// The names of the backups in a directory.
    fn backups(&self, _dir: &Path) -> Vec<String> {
        Vec::new()
    }

    /// What has been done so far.
    fn counters(&self) -> StoreCounters;

    /// Writes and syncs everything submitted, then stops. Further submits are ignored.
    ///
    /// # Errors
    /// When the last write or sync failed.
    fn close(&self) -> Result<(), StoreError>;
}
