//! What waits to be written to one connection: the hand-over between queues and the connection.
//!
//! Queues push under their own lock; the connection swaps everything out at once when it turns. The
//! outbox's lock is a leaf: nothing is called while it is held. The first push after a drain wakes
//! the connection, later ones do not, so a burst costs one wake-up. A wish to close it waits behind
//! nothing: it has a place of its own, which the connection looks at first.
//!
//! Invariant: `items` and `bytes` count what was pushed and not yet released by the connection;
//! when either passes its limit queues stop assigning here and set `starved`, and the connection
//! asks them to go on once it has room again. Direct replies have a limit of their own, above which
//! they are dropped. A peer that does not read therefore bounds what is held for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::broker::message::Message;
use crate::broker::queue::Entry;
use crate::protocol::refusal::Refusal;
use crate::store::QueueKey;

/// Messages that may wait for one connection.
pub const ITEMS_MAX: usize = 4096;
/// Body and header bytes that may wait for one connection.
pub const BYTES_MAX: usize = 1024 * 1024;

/// Bytes that may wait for a connection before further direct replies to it are dropped. They come
/// unasked by its queues, so the limits above do not hold them back; whoever reads replies at all
/// stays far below this.
pub const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Wakes a connection's task. Must not block and must not call back into the broker.
pub trait Wake: Send + Sync {
    /// Something is there to be handled; may be called from any thread, any number of times.
    fn wake(&self);
}

/// A connection of this node, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A consumer of this node, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

impl ConsumerId {
    /// What a message fetched by basic.get belongs to: no consumer.
    pub const NONE: Self = Self(0);
}

/// A message assigned to a consumer.
#[derive(Debug)]
pub struct Delivery {
    /// The consumer's channel.
    pub channel: u16,
    /// The queue it came from.
    pub queue: QueueKey,
    /// The consumer.
    pub consumer: ConsumerId,
    /// The message and its place.
    pub entry: Entry,
}

/// Something for a connection to do.
#[derive(Debug)]
pub enum Item {
    /// Deliver a message.
    Deliver(Delivery),
    /// Deliver a direct reply to the channel's reply consumer.
    Reply {
        /// The channel that consumes replies.
        channel: u16,
        /// The reply.
        message: Message,
    },
    /// The consumer's queue is gone: tell the client.
    Cancelled {
        /// The consumer's channel.
        channel: u16,
        /// The consumer.
        consumer: ConsumerId,
    },
}

impl Item {
    /// The message in it.
    fn message(&self) -> Option<&Message> {
        match self {
            Self::Deliver(delivery) => Some(&delivery.entry.message),
            Self::Reply { message, .. } => Some(message),
            Self::Cancelled { .. } => None,
        }
    }
}

/// One connection's outbox.
pub struct Outbox {
    connection: ConnectionId,
    waiting: Mutex<VecDeque<Item>>,
    items: AtomicUsize,
    bytes: AtomicUsize,
    signalled: AtomicBool,
    starved: AtomicBool,
    closing: OnceLock<Refusal>,
    waker: Arc<dyn Wake>,
}

impl Outbox {
    /// An empty outbox whose connection is woken through `waker`.
    #[must_use]
    pub fn new(connection: ConnectionId, waker: Arc<dyn Wake>) -> Self {
        Self {
            connection,
            waiting: Mutex::new(VecDeque::new()),
            items: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            signalled: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            closing: OnceLock::new(),
            waker,
        }
    }

    /// Whose outbox it is.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// How many more deliveries may be assigned now; marks the connection as starved when none, so
    /// that it asks the queues again later.
    #[must_use]
    pub fn room(&self) -> usize {
        let items = self.items.load(Ordering::Relaxed);
        if items >= ITEMS_MAX || self.bytes.load(Ordering::Relaxed) >= BYTES_MAX {
            self.starved.store(true, Ordering::SeqCst);
            // The connection may have drained between the two steps and not seen the mark.
            if self.items.load(Ordering::SeqCst) == 0 {
                return ITEMS_MAX;
            }
            return 0;
        }
        ITEMS_MAX - items
    }

    /// Appends deliveries. True when the caller must [`wake`](Self::wake) the connection, after it
    /// has let go of its locks.
    #[must_use]
    pub fn push_deliveries(&self, deliveries: &mut Vec<Item>, bytes: usize) -> bool {
        self.items.fetch_add(deliveries.len(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.lock().extend(deliveries.drain(..));
        !self.signalled.swap(true, Ordering::AcqRel)
    }

    /// Appends anything else. True when the caller must wake the connection.
    #[must_use]
    pub fn push(&self, item: Item) -> bool {
        if let Some(message) = item.message() {
            self.items.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(message.memory_bytes(), Ordering::Relaxed);
        }
        self.lock().push_back(item);
        !self.signalled.swap(true, Ordering::AcqRel)
    }

    /// Whether one more direct reply may be pushed.
    #[must_use]
    pub fn takes_replies(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < REPLY_BYTES_MAX
    }

    /// Asks the connection to close, telling its client why. Whoever asks first is heard. Call it
    /// with no lock held.
    pub fn close(&self, refusal: Refusal) {
        if self.closing.set(refusal).is_ok() {
            self.wake();
        }
    }

    /// Why the connection is to close, if it is.
    #[must_use]
    pub fn closing(&self) -> Option<&Refusal> {
        self.closing.get()
    }

    /// Wakes the connection.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Moves everything that waits to the end of `into`. The next push wakes the connection again.
    pub fn drain(&self, into: &mut VecDeque<Item>) {
        self.signalled.store(false, Ordering::Release);
        let mut waiting = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut *waiting, into);
        } else {
            into.append(&mut waiting);
        }
    }

    /// Messages were written out (or given back): their room is free again. True when a queue had
    /// found no room, so that the connection must ask its queues to go on.
    #[must_use]
    pub fn release(&self, items: usize, bytes: usize) -> bool {
        let left = self.items.fetch_sub(items, Ordering::SeqCst) - items;
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        left <= ITEMS_MAX / 2
            && self.starved.load(Ordering::SeqCst)
            && self.bytes.load(Ordering::Relaxed) < BYTES_MAX
            && self.starved.swap(false, Ordering::SeqCst)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Item>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Connections to wake once the locks are released; each appears once per drain.
#[derive(Debug, Default)]
pub struct Wakes(Vec<Arc<Outbox>>);

impl Wakes {
    /// Remembers a connection.
    pub fn add(&mut self, outbox: &Arc<Outbox>) {
        self.0.push(Arc::clone(outbox));
    }

    /// Wakes everyone remembered. Call it with no lock held.
    pub fn fire(&mut self) {
        for outbox in self.0.drain(..) {
            outbox.wake();
        }
    }
}
