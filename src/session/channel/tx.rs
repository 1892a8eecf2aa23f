//! Class tx: publishes and acknowledgements that take effect together.
//!
//! Publishes are checked when they arrive and kept with their targets; acknowledgements keep what
//! they settle. tx.commit locks every queue involved, in key order, applies everything, and submits
//! one batch to the store: after a crash either all of it is there or none (RabbitMQ promises that
//! for one queue only). commit-ok is sent once the batch is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::publish::Targets;
use super::{Channel, Mode};
use crate::broker::message::Message;
use crate::broker::outbox::ConsumerId;
use crate::broker::queue::{Acks, Queue, QueueChange, Settled};
use crate::protocol::method::Method;
use crate::protocol::refusal::{self, Refusal};
use crate::session::core::Core;
use crate::session::unacked::Outstanding;
use crate::store::{Batch, Lsn, QueueKey};

/// A publish that waits for tx.commit.
struct Publish {
    message: Message,
    queues: Option<Vec<Arc<Queue>>>,
    mandatory: bool,
}

/// What waits for tx.commit.
#[derive(Default)]
pub(super) struct Transaction {
    publishes: Vec<(Message, Targets, bool)>,
    acked: Vec<Outstanding>,
    requeued: Vec<Outstanding>,
    rejected: Vec<Outstanding>,
}

impl Transaction {
    pub(super) fn publish(&mut self, message: Message, targets: Targets, mandatory: bool) {
        self.publishes.push((message, targets, mandatory));
    }

    pub(super) fn ack(&mut self, held: Outstanding) {
        self.acked.push(held);
    }

    pub(super) fn refuse(&mut self, held: Outstanding, requeue: bool) {
        if requeue { self.requeued.push(held) } else { self.rejected.push(held) }
    }

    /// Publishes and acknowledgements that wait.
    pub(super) fn len(&self) -> usize {
        self.publishes.len() + self.acked.len() + self.requeued.len() + self.rejected.len()
    }

    /// The deliveries whose acknowledgement is undone.
    pub(super) fn take_settled(&mut self) -> Vec<Outstanding> {
        let mut taken = std::mem::take(&mut self.acked);
        taken.append(&mut self.requeued);
        taken.append(&mut self.rejected);
        taken
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("len", &self.len()).finish()
    }
}

impl Channel {
    pub(super) fn on_tx_select(&mut self, core: &mut Core) -> Result<(), Refusal> {
        match self.mode {
            Mode::Confirm(_) => return Err(refusal::tx_on_confirm_channel()),
            Mode::Transaction(_) => {}
            Mode::Plain => self.mode = Mode::Transaction(Transaction::default()),
        }
        core.send(self.number, &Method::TxSelectOk(Default::default()));
        Ok(())
    }

    pub(super) fn on_tx_rollback(&mut self, core: &mut Core) -> Result<(), Refusal> {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return Err(refusal::tx_not_selected());
        };
        transaction.publishes.clear();
        let undone = transaction.take_settled();
        self.unacked.restore(undone);
        core.send(self.number, &Method::TxRollbackOk(Default::default()));
        Ok(())
    }

    pub(super) fn on_tx_commit(&mut self, core: &mut Core) -> Result<(), Refusal> {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return Err(refusal::tx_not_selected());
        };
        let Transaction { publishes, acked, requeued, rejected } = std::mem::take(transaction);
        let publishes = self.resolve(core, publishes);
        let (lsn, partial) = self.apply(core, &publishes, &acked);
        for publish in &publishes {
            match &publish.queues {
                Some(queues) if queues.is_empty() => {
                    self.unroutable(core, &publish.message, publish.mandatory);
                }
                Some(_) => core.tally.routed += 1,
                None => {
                    let key = publish.message.routing_key().to_vec();
                    let message = publish.message.clone();
                    core.broker.reply(&key, message, &mut core.effects.wakes);
                }
            }
        }
        core.tally.acknowledged += acked.len() as u64;
        let from_consumers = acked.iter().filter(|held| held.consumer != ConsumerId::NONE).count();
        self.limiter.release(u32::try_from(from_consumers).unwrap_or(u32::MAX));
        self.refuse_now(core, requeued, true);
        self.refuse_now(core, rejected, false);
        if partial {
            return Err(refusal::tx_partial_completion());
        }
        core.send_when_durable(self.number, &Method::TxCommitOk(Default::default()), lsn);
        Ok(())
    }

    /// The queues of each publish. Remembered routes may have been forgotten since: the topology at
    /// the time of the commit decides, as in RabbitMQ.
    fn resolve(&self, core: &mut Core, publishes: Vec<(Message, Targets, bool)>) -> Vec<Publish> {
        let mut resolved = Vec::with_capacity(publishes.len());
        for (message, targets, mandatory) in publishes {
            let queues = match targets {
                Targets::Once(queues) => Some(queues),
                Targets::Reply => None,
                Targets::Known(_) => {
                    let mut queues = Vec::new();
                    if let Some(exchange) = core.vhost.exchange(message.exchange()) {
                        core.vhost.route(&exchange, &[message.routing_key()], None, &mut queues);
                    }
                    Some(queues)
                }
            };
            resolved.push(Publish { message, queues, mandatory });
        }
        resolved
    }

    /// Applies publishes and acks to their queues as one change and one batch. True when a queue
    /// refused a publish.
    fn apply(&self, core: &mut Core, publishes: &[Publish], acked: &[Outstanding]) -> (Lsn, bool) {
        let mut partial = false;
        let mut queues: BTreeMap<QueueKey, Arc<Queue>> = BTreeMap::new();
        for queue in publishes.iter().filter_map(|publish| publish.queues.as_ref()).flatten() {
            queues.insert(queue.key(), Arc::clone(queue));
        }
        for held in acked {
            let queue = self.queue_at(held.queue_slot);
            queues.insert(queue.key(), Arc::clone(queue));
        }
        let mut changes: BTreeMap<QueueKey, QueueChange<'_>> =
            queues.iter().map(|(key, queue)| (*key, queue.begin())).collect();
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        for publish in publishes {
            for queue in publish.queues.iter().flatten() {
                let Some(change) = changes.get_mut(&queue.key()) else { continue };
                if change.is_full_for(&publish.message) {
                    partial = true;
                } else {
                    change.enqueue(publish.message.clone(), core.now, &mut batch.ops);
                }
            }
        }
        for held in acked {
            let key = self.queue_at(held.queue_slot).key();
            if let Some(change) = changes.get_mut(&key) {
                let settled = Settled::of(&held.entry, held.consumer, Acks::Manual);
                change.settle(&[settled], &mut batch.ops);
            }
        }
        for change in changes.values_mut() {
            change.dispatch(core.now, &mut batch.ops, &mut core.effects);
        }
        let lsn = if batch.is_empty() { Lsn::ZERO } else { core.broker.store().submit(batch) };
        (lsn, partial)
    }
}
