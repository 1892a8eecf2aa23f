//! Leases: messages that are out with someone who is no channel, until a deadline.
//!
//! A message that is not settled is owned either by a channel, which gives it back when it ends,
//! or by a lease, which gives it back when its time is over. Owns the leases of one queue: what is
//! out, under which handle, until when. How often a message came back, and its place, are the
//! queue's affair as ever; memory only, so after a restart every leased message waits again, marked
//! as perhaps seen.
//!
//! Invariants: `deadlines` holds each handle of `out` once, at its deadline; a handle is never used
//! twice in a queue's life.

use std::collections::{BTreeSet, HashMap};

use super::Entry;
use crate::broker::message::Message;

/// Names a lease of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseHandle(pub u64);

/// A message on lease, as its holder sees it.
#[derive(Debug, Clone)]
pub struct Lease {
    /// What settles, extends or returns it.
    pub handle: LeaseHandle,
    /// The message.
    pub message: Message,
    /// Whether somebody may have seen it before.
    pub redelivered: bool,
    /// How often it came back before.
    pub deliveries: u32,
    /// Until when it is out, in milliseconds of Unix time.
    pub until_ms: u64,
}

/// What is asked of a queue's next messages.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRequest {
    /// How many at most.
    pub messages_max: usize,
    /// Body bytes at most, but one message in any case.
    pub bytes_max: u64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// What a holder does with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The message is done with.
    Settle,
    /// It comes back to its place and counts as a failed delivery.
    Return,
    /// It is rejected for good: dead-lettered where that is set up, else dropped.
    Reject,
}

#[derive(Debug)]
struct Leased {
    entry: Entry,
    until_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Present while there are leases.
    running: Option<Box<Running>>,
    last: u64,
}

#[derive(Debug, Default)]
struct Running {
    out: HashMap<LeaseHandle, Leased>,
    deadlines: BTreeSet<(u64, LeaseHandle)>,
}

impl Leases {
    pub(super) fn add(&mut self, entry: Entry, until_ms: u64) -> Lease {
        self.last += 1;
        let handle = LeaseHandle(self.last);
        let lease = Lease {
            handle,
            message: entry.message.clone(),
            redelivered: entry.redelivered(),
            deliveries: entry.deliveries,
            until_ms,
        };
        let running = self.running.get_or_insert_default();
        running.out.insert(handle, Leased { entry, until_ms });
        running.deadlines.insert((until_ms, handle));
        lease
    }

    /// Takes a lease's message; `None` when its time is over, or it was ended before.
    pub(super) fn take(&mut self, handle: LeaseHandle) -> Option<Entry> {
        let running = self.running.as_mut()?;
        let Leased { entry, until_ms } = running.out.remove(&handle)?;
        running.deadlines.remove(&(until_ms, handle));
        if running.out.is_empty() {
            self.running = None;
        }
        Some(entry)
    }

    /// The message of a lease that has not ended.
    pub(super) fn get(&mut self, handle: LeaseHandle) -> Option<&mut Entry> {
        self.running.as_mut()?.out.get_mut(&handle).map(|leased| &mut leased.entry)
    }

    /// Moves a lease's deadline. False when there is no such lease any more.
    pub(super) fn extend(&mut self, handle: LeaseHandle, until_ms: u64) -> bool {
        let Some(Running { out, deadlines }) = self.running.as_deref_mut() else { return false };
        let Some(leased) = out.get_mut(&handle) else { return false };
        deadlines.remove(&(leased.until_ms, handle));
        leased.until_ms = until_ms;
        deadlines.insert((until_ms, handle));
        true
    }

    /// Takes a message whose time is over.
    pub(super) fn take_overdue(&mut self, now_ms: u64) -> Option<Entry> {
        let &(until_ms, handle) = self.running.as_ref()?.deadlines.first()?;
        if until_ms > now_ms { None } else { self.take(handle) }
    }

    /// The next deadline, in milliseconds of Unix time.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.running.as_ref()?.deadlines.first().map(|(until_ms, _)| *until_ms)
    }
}
