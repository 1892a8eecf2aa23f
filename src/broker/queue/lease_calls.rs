//! The calls by which messages are leased: see [`leases`](super::leases) for what a lease is.

use std::sync::Arc;

use super::leases::{Lease, LeaseEnd, LeaseHandle, LeaseRequest};
use super::state::State;
use super::{Acks, Attempt, Effects, Fetched, Queue, Settled};
use crate::broker::Now;
use crate::broker::outbox::ConsumerId;
use crate::store::{Batch, Lsn, Op};

impl Queue {
    /// Leases the next messages, as many of those asked for as are in memory; the queue sees to it
    /// that there are some a moment later. They count as unacknowledged until their leases end.
    pub fn lease(
        self: &Arc<Self>,
        asked: LeaseRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Vec<Lease> {
        let mut state = self.lock();
        let mut batch = Batch::default();
        state.expire(self, now, &mut batch.ops, effects);
        let until_ms = now.unix_ms.saturating_add(asked.for_ms);
        let (mut leases, mut bytes) = (Vec::new(), 0);
        while leases.len() < asked.messages_max && (leases.is_empty() || bytes < asked.bytes_max) {
            let Fetched::Message(entry, _) = state.get(Acks::Manual, now) else { break };
            bytes += entry.message.body_len() as u64;
            leases.push(state.leases.add(entry, until_ms));
        }
        state.rest(self, effects);
        self.submit(batch);
        leases
    }

    /// Lets a lease last until `for_ms` from now, whether that is sooner or later than before.
    /// False when it has ended.
    pub fn extend_lease(
        self: &Arc<Self>,
        handle: LeaseHandle,
        for_ms: u64,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let mut state = self.lock();
        let extended = state.leases.extend(handle, now.unix_ms.saturating_add(for_ms));
        state.rest(self, effects);
        extended
    }

    /// Ends leases, each in its way, as one batch. Returns how many had not ended before, and
    /// when what is settled is durable.
    pub fn end_leases(
        self: &Arc<Self>,
        ends: &[(LeaseHandle, LeaseEnd)],
        now: Now,
        effects: &mut Effects,
    ) -> (usize, Lsn) {
        let mut state = self.lock();
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        let mut ended = 0;
        for (handle, end) in ends {
            ended += usize::from(state.end_lease(self, *handle, *end, &mut batch.ops, effects));
        }
        state.dispatch(self, now, &mut batch.ops, effects);
        (ended, self.submit(batch))
    }
}

impl State {
    /// Ends a lease. False when it had ended before.
    fn end_lease(
        &mut self,
        queue: &Arc<Queue>,
        handle: LeaseHandle,
        end: LeaseEnd,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) -> bool {
        let Some(entry) = self.leases.take(handle) else { return false };
        let nobody = ConsumerId::NONE;
        match end {
            LeaseEnd::Settle => {
                let settled = Settled::of(&entry, nobody, Acks::Manual);
                self.settle(queue.spec(), &[settled], ops);
            }
            LeaseEnd::Return => {
                self.requeue(queue, nobody, entry, Attempt::Refused, ops, effects);
            }
            LeaseEnd::Reject => self.reject(queue, nobody, entry, ops, effects),
        }
        true
    }

    /// Takes back what was leased and not ended in time.
    pub(super) fn end_overdue_leases(
        &mut self,
        queue: &Arc<Queue>,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        while let Some(entry) = self.leases.take_overdue(now.unix_ms) {
            self.requeue(queue, ConsumerId::NONE, entry, Attempt::Lost, ops, effects);
        }
    }
}
