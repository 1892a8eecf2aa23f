//! The disk of a simulation: a [`FaultyStore`] that notes what the broker submits, and whose reads
//! may take their time.
//!
//! A read that is held waits on its own thread while the simulation goes on; only one of the two
//! ever runs, so a run stays the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use leveret::broker::message::Message;
use leveret::protocol::properties::Properties;
use leveret::store::faulty::FaultyStore;
use leveret::store::{
    Batch, Durability, DurableWaker, Lsn, Op, Progress, QueueKey, QueueSeq, ReadLimit, Recovery,
    Store, StoreCounters, StoreError,
};

use super::message;
use super::plan::LATER;

/// A batch as the judge sees it.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) lsn: u64,
    pub(super) changes: Vec<Change>,
}

/// An operation as the judge sees it.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Enqueue { queue: u64, seq: u64, id: u32, first_death: Option<String>, is_later: bool },
    Settle { queue: u64, seq: u64 },
    Purge { queue: u64, from: u64, to: u64, messages: u64 },
    Definition,
}

/// Where a held read waits: it says that it has read, and is told to go on.
pub(super) struct Gate {
    pub(super) has_read: Sender<bool>,
    pub(super) go_on: Receiver<()>,
}

/// The store of a simulation.
pub(super) struct Disk {
    pub(super) faulty: FaultyStore,
    submitted: Mutex<Vec<Submitted>>,
    /// What the next read waits at.
    gate: Mutex<Option<Gate>>,
    is_gated: AtomicBool,
    read_fails: AtomicBool,
}

impl Disk {
    pub(super) fn new(faulty: FaultyStore) -> Self {
        let (gate, is_gated) = (Mutex::default(), AtomicBool::new(false));
        let read_fails = AtomicBool::new(false);
        Self { faulty, submitted: Mutex::default(), gate, is_gated, read_fails }
    }

    /// What was submitted since this was last asked.
    pub(super) fn take_submitted(&self) -> Vec<Submitted> {
        std::mem::take(&mut self.submitted.lock().unwrap())
    }

    /// Has the next read wait once it has read.
    pub(super) fn hold_next_read(&self, gate: Gate) {
        *self.gate.lock().unwrap() = Some(gate);
        self.is_gated.store(true, Ordering::SeqCst);
    }

    /// No read needs to wait any more.
    pub(super) fn hold_no_read(&self) {
        self.is_gated.store(false, Ordering::SeqCst);
        *self.gate.lock().unwrap() = None;
    }

    /// Whether the next read fails, and the store with it.
    pub(super) fn fail_next_read(&self, fails: bool) {
        self.read_fails.store(fails, Ordering::SeqCst);
    }
}

fn change(op: &Op) -> Change {
    match op {
        Op::Enqueue { queue, seq, message } => Change::Enqueue {
            queue: queue.queue,
            seq: seq.0,
            id: message::id(message.body()).unwrap_or(u32::MAX),
            first_death: first_death(message),
            is_later: message.exchange() == LATER.as_bytes(),
        },
        Op::Settle { queue, seq, .. } => Change::Settle { queue: queue.queue, seq: seq.0 },
        Op::Purge { queue, from, to, messages, .. } => {
            Change::Purge { queue: queue.queue, from: from.0, to: to.0, messages: *messages }
        }
        Op::DropQueue { .. } | Op::PutMeta { .. } | Op::DelMeta { .. } => Change::Definition,
    }
}

fn first_death(message: &Message) -> Option<String> {
    let properties = Properties::parse(message.properties()).unwrap();
    let headers = properties.headers?.to_table();
    headers.get("x-first-death-queue").and_then(|name| name.as_str().map(str::to_owned))
}

impl Store for Disk {
    fn submit(&self, batch: Batch) -> Lsn {
        let changes: Vec<Change> = batch.ops.iter().map(change).collect();
        let lsn = self.faulty.submit(batch);
        if !changes.is_empty() && lsn != Lsn::NEVER {
            self.submitted.lock().unwrap().push(Submitted { lsn: lsn.0, changes });
        }
        lsn
    }

    fn read(
        &self,
        queue: QueueKey,
        from: QueueSeq,
        limit: ReadLimit,
    ) -> Result<Vec<(QueueSeq, Message)>, StoreError> {
        if self.read_fails.swap(false, Ordering::SeqCst) {
            self.faulty.break_down("the read was made to fail");
            return Err(self.faulty.failure().unwrap());
        }
        let read = self.faulty.read(queue, from, limit);
        if self.is_gated.swap(false, Ordering::SeqCst)
            && let Some(gate) = self.gate.lock().unwrap().take()
        {
            gate.has_read.send(true).unwrap();
            gate.go_on.recv().unwrap();
        }
        read
    }

    fn durable(&self) -> Lsn {
        self.faulty.durable()
    }

    fn written(&self) -> Lsn {
        self.faulty.written()
    }

    fn reached(&self) -> Progress {
        self.faulty.reached()
    }

    fn durability(&self) -> Durability {
        self.faulty.durability()
    }

    fn notify(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        self.faulty.notify(lsn, waker);
    }

    fn notify_written(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        self.faulty.notify_written(lsn, waker);
    }

    fn backlog_bytes(&self) -> u64 {
        self.faulty.backlog_bytes()
    }

    fn failure(&self) -> Option<StoreError> {
        self.faulty.failure()
    }

    fn recover(&self, visitor: &mut dyn Recovery) -> Result<(), StoreError> {
        self.faulty.recover(visitor)
    }

    fn place(&self) -> String {
        self.faulty.place()
    }

    fn counters(&self) -> StoreCounters {
        self.faulty.counters()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.faulty.close()
    }
}
