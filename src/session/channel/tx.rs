//! Class tx: publishes and acknowledgements that take effect together.
//!
//! Publishes are checked and routed when they arrive, as in RabbitMQ; acknowledgements and
//! rejections keep what they settle. tx.commit locks every queue involved, in key order, applies
//! everything, and submits one batch to the store: after a crash either all of it is there or none
//! (RabbitMQ promises that for one queue only). A message that the commit sends to a dead-letter
//! exchange moves right after it, in a batch of its own. commit-ok is sent once all of this is
//! durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Channel, Mode};
use crate::broker::message::Message;
use crate::broker::queue::{Acks, Publisher, Queue, QueueChange, Settled};
use crate::protocol::method::Method;
use crate::protocol::refusal::{self, Refusal};
use crate::session::core::Core;
use crate::session::unacked::Outstanding;
use crate::store::{Batch, Lsn, QueueKey};

/// A publish that waits for tx.commit.
pub(super) struct Publish {
    pub(super) message: Message,
    /// Where it was routed; `None` is a direct reply.
    pub(super) queues: Option<Vec<Arc<Queue>>>,
    pub(super) mandatory: bool,
}

/// What waits for tx.commit.
#[derive(Default)]
pub(super) struct Transaction {
    publishes: Vec<Publish>,
    acked: Vec<Outstanding>,
    requeued: Vec<Outstanding>,
    rejected: Vec<Outstanding>,
}

impl Transaction {
    pub(super) fn publish(&mut self, publish: Publish) {
        self.publishes.push(publish);
    }

    pub(super) fn ack(&mut self, held: Outstanding) {
        self.acked.push(held);
    }

    pub(super) fn refuse(&mut self, held: Outstanding, requeue: bool) {
        if requeue { self.requeued.push(held) } else { self.rejected.push(held) }
    }

    /// Publishes and acknowledgements that wait.
    pub(super) fn len(&self) -> usize {
        self.publishes.len() + self.settled().count()
    }

    /// The deliveries that are acknowledged or refused.
    fn settled(&self) -> impl Iterator<Item = &Outstanding> {
        self.acked.iter().chain(&self.requeued).chain(&self.rejected)
    }

    /// Forgets what was published, and lets those that have seen it forget it, too.
    pub(super) fn withdraw(&mut self, core: &Core) {
        for publish in self.publishes.drain(..) {
            core.vhost.withdraw(&publish.message);
        }
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
        transaction.withdraw(core);
        let undone = transaction.take_settled();
        self.unacked.restore(undone);
        core.watch_acks();
        core.send(self.number, &Method::TxRollbackOk(Default::default()));
        Ok(())
    }

    pub(super) fn on_tx_commit(&mut self, core: &mut Core) -> Result<(), Refusal> {
        let Mode::Transaction(transaction) = &mut self.mode else {
            return Err(refusal::tx_not_selected());
        };
        let mut transaction = std::mem::take(transaction);
        // They come to their queues now: their time to live and their delay begin.
        for publish in &mut transaction.publishes {
            publish.message.arrive_at(core.now.unix_ms);
        }
        core.tally.acknowledged += transaction.acked.len() as u64;
        self.free_shared_credit_of(core, transaction.settled());
        let held: Vec<QueueKey> = transaction.settled().map(|held| held.queue).collect();
        let (lsn, partial) = self.apply(core, &mut transaction);
        held.into_iter().for_each(|queue| self.queues.release(queue));
        let published: Vec<Message> = if partial {
            transaction.publishes.iter().map(|publish| publish.message.clone()).collect()
        } else {
            Vec::new()
        };
        let moved = core.broker.finish_for(Publisher::Waits, &mut core.effects, core.now);
        for Publish { message, queues, mandatory } in transaction.publishes {
            match queues {
                Some(queues) if queues.is_empty() => self.unroutable(core, &message, mandatory),
                Some(_) => core.tally.routed += 1,
                None => {
                    let key = message.routing_key().to_vec();
                    core.broker.reply(&key, message, &mut core.effects.wakes);
                }
            }
        }
        core.broker.finish(&mut core.effects, core.now);
        if partial {
            // Which of the messages were refused does not matter: all may come again.
            published.iter().for_each(|message| core.vhost.withdraw(message));
            return Err(refusal::tx_partial_completion());
        }
        let ok = Method::TxCommitOk(Default::default());
        core.send_when_durable(self.number, &ok, lsn.max(moved));
        Ok(())
    }

    /// Applies a transaction to its queues as one change and one batch. True when a queue refused a
    /// publish.
    fn apply(&self, core: &mut Core, transaction: &mut Transaction) -> (Lsn, bool) {
        let mut queues: BTreeMap<QueueKey, Arc<Queue>> = BTreeMap::new();
        for queue in transaction.publishes.iter().filter_map(|it| it.queues.as_ref()).flatten() {
            queues.entry(queue.key()).or_insert_with(|| Arc::clone(queue));
        }
        for held in transaction.settled() {
            if let Some(queue) = self.queues.get(held.queue) {
                queues.entry(held.queue).or_insert_with(|| Arc::clone(queue));
            }
        }
        let mut changes: BTreeMap<QueueKey, QueueChange<'_>> =
            queues.iter().map(|(key, queue)| (*key, queue.begin())).collect();
        let mut partial = false;
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        let (now, ops, effects) = (core.now, &mut batch.ops, &mut core.effects);
        let Transaction { publishes, acked, requeued, rejected } = transaction;
        for publish in publishes {
            for queue in publish.queues.iter().flatten() {
                if let Some(change) = changes.get_mut(&queue.key()) {
                    partial |= !change.offer(publish.message.clone(), now, ops, effects);
                }
            }
        }
        for held in acked.drain(..) {
            if let Some(change) = changes.get_mut(&held.queue) {
                change.settle(&[Settled::of(&held.entry, held.consumer, Acks::Manual)], ops);
            }
        }
        for held in requeued.drain(..) {
            if let Some(change) = changes.get_mut(&held.queue) {
                change.requeue(held.consumer, held.entry, ops, effects);
            }
        }
        for held in rejected.drain(..) {
            if let Some(change) = changes.get_mut(&held.queue) {
                change.reject(held.consumer, held.entry, ops, effects);
            }
        }
        for change in changes.values_mut() {
            change.dispatch(now, ops, effects);
        }
        let lsn = if batch.is_empty() { Lsn::ZERO } else { core.broker.store().submit(batch) };
        (lsn, partial)
    }
}
