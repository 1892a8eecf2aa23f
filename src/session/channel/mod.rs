//! A channel: what it has open, and what each method does to it.
//!
//! One `match` hands a method to the file of its class; each of those answers with a refusal or
//! with frames. A refusal of channel scope closes the channel, one of connection scope the
//! connection; the caller sees to both.
//!
//! Invariants: delivery tags are assigned here, when a delivery is written, and ascend; a message
//! that this channel holds is in `unacked` or in the transaction, and goes back to its queue when
//! the channel ends.

mod basic;
mod content;
mod deliver;
mod publish;
mod told;
mod topology;
mod tx;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::core::Core;
use super::held::{HeldQueues, Resumption};
use super::ledger::{Answer, Ledger};
use super::unacked::{Outstanding, Unacked};
use crate::broker::access::Taken;
use crate::broker::outbox::{ConsumerId, Item};
use crate::broker::queue::{Acks, Attempt, DeleteCondition, Entry, Limiter, Queue};
use crate::broker::views::ChannelView;
use crate::protocol::method::{Method, basic as methods, channel as channel_methods};
use crate::protocol::refusal::{self, Refusal};
use crate::store::{Progress, QueueKey};
pub(super) use content::Content;
use tx::Transaction;

/// How publishes are answered.
#[derive(Debug)]
enum Mode {
    /// Not at all.
    Plain,
    /// With confirms.
    Confirm(Ledger),
    /// By tx.commit.
    Transaction(Transaction),
}

/// A consumer as its channel knows it.
#[derive(Debug)]
struct Consumer {
    tag: Arc<str>,
    queue: Arc<Queue>,
    acks: Acks,
}

/// The channel's consumer of direct replies.
#[derive(Debug)]
struct ReplyConsumer {
    tag: Arc<str>,
    /// The routing key that reaches it.
    key: String,
}

/// How the deliveries of a channel stand that wait for their acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckState {
    /// There are none.
    None,
    /// There are some.
    Waits,
    /// The oldest has waited for longer than it may.
    Overdue {
        /// For how long it may.
        limit_ms: i64,
    },
}

/// An open channel.
#[derive(Debug)]
pub(super) struct Channel {
    number: u16,
    mode: Mode,
    /// Whether it is among [`Core::confirming`].
    is_confirming: bool,
    /// Whether it is among those with confirms that wait for the disk.
    has_confirms_due: bool,
    content: Option<Content>,
    /// Buffers of finished contents, for the next one.
    spare: Option<Content>,
    consumers: FxHashMap<ConsumerId, Consumer>,
    tags: std::collections::HashMap<Arc<str>, ConsumerId>,
    reply_consumer: Option<ReplyConsumer>,
    /// The queues of consumers and unacknowledged deliveries.
    queues: HeldQueues,
    unacked: Unacked,
    next_tag: u64,
    prefetch: u16,
    limiter: Arc<Limiter>,
    /// What the shared limit gets back at the end of the turn.
    freed_credit: u32,
    /// How often consumers were resumed: says which queue is first in turn.
    resumed: usize,
    last_queue: Option<String>,
    has_published: bool,
    /// Among the node's channels and its user's.
    _places: [Taken; 2],
}

impl Channel {
    pub(super) fn new(number: u16, places: [Taken; 2]) -> Self {
        Self {
            number,
            mode: Mode::Plain,
            is_confirming: false,
            has_confirms_due: false,
            content: None,
            spare: None,
            consumers: FxHashMap::default(),
            tags: std::collections::HashMap::new(),
            reply_consumer: None,
            queues: HeldQueues::default(),
            unacked: Unacked::default(),
            next_tag: 1,
            prefetch: 0,
            limiter: Arc::default(),
            freed_credit: 0,
            resumed: 0,
            last_queue: None,
            has_published: false,
            _places: places,
        }
    }

    /// Handles a method other than channel.open and channel.close, where no content is due.
    pub(super) fn on_method(
        &mut self,
        core: &mut Core,
        method: &Method<'_>,
    ) -> Result<(), Refusal> {
        match method {
            Method::BasicPublish(publish) => {
                self.begin_content(publish);
                return Ok(());
            }
            Method::BasicAck(ack) => return self.on_ack(core, ack),
            _ => {}
        }
        core.flush();
        core.view_changed |=
            !matches!(method, Method::BasicGet(_) | Method::BasicNack(_) | Method::BasicReject(_));
        match method {
            Method::ChannelFlow(flow) if !flow.active => Err(refusal::channel_flow_inactive()),
            Method::ChannelFlow(_) => {
                let ok = channel_methods::FlowOk { active: true };
                core.send(self.number, &Method::ChannelFlowOk(ok));
                Ok(())
            }
            Method::AccessRequest(_) => {
                core.send(self.number, &Method::AccessRequestOk(Default::default()));
                Ok(())
            }
            Method::BasicNack(nack) => self.on_nack(core, nack),
            Method::BasicReject(reject) => self.on_reject(core, *reject),
            Method::BasicQos(qos) => self.on_qos(core, *qos),
            Method::BasicConsume(consume) => self.on_consume(core, consume),
            Method::BasicCancel(cancel) => self.on_cancel(core, cancel),
            Method::BasicGet(get) => self.on_get(core, get),
            Method::BasicRecover(recover) => self.on_recover(core, recover.requeue, true),
            Method::BasicRecoverAsync(recover) => self.on_recover(core, recover.requeue, false),
            Method::ConfirmSelect(select) => self.on_confirm_select(core, select.nowait),
            Method::TxSelect(_) => self.on_tx_select(core),
            Method::TxCommit(_) => self.on_tx_commit(core),
            Method::TxRollback(_) => self.on_tx_rollback(core),
            Method::ExchangeDeclare(declare) => self.on_exchange_declare(core, declare),
            Method::ExchangeDelete(delete) => self.on_exchange_delete(core, delete),
            Method::ExchangeBind(bind) => self.on_exchange_bind(core, bind),
            Method::ExchangeUnbind(unbind) => self.on_exchange_unbind(core, unbind),
            Method::QueueDeclare(declare) => self.on_queue_declare(core, declare),
            Method::QueueBind(bind) => self.on_queue_bind(core, bind),
            Method::QueueUnbind(unbind) => self.on_queue_unbind(core, unbind),
            Method::QueuePurge(purge) => self.on_queue_purge(core, purge),
            Method::QueueDelete(delete) => self.on_queue_delete(core, delete),
            _ => Err(refusal::method_unimplemented()),
        }
    }

    fn on_confirm_select(&mut self, core: &mut Core, nowait: bool) -> Result<(), Refusal> {
        match self.mode {
            Mode::Transaction(_) => return Err(refusal::confirm_on_tx_channel()),
            Mode::Confirm(_) => {}
            Mode::Plain => self.mode = Mode::Confirm(Ledger::default()),
        }
        if !nowait {
            core.send(self.number, &Method::ConfirmSelectOk(Default::default()));
        }
        Ok(())
    }

    /// The turn's publishes are with the store: their confirms are due when it has reached `due`.
    /// True when there were none before that wait for the disk.
    pub(super) fn assign_confirms(&mut self, due: Progress) -> bool {
        self.is_confirming = false;
        if let Mode::Confirm(ledger) = &mut self.mode {
            ledger.assign(due);
        }
        !std::mem::replace(&mut self.has_confirms_due, true)
    }

    /// Sends the confirms that are due. True when there are more that wait for the disk.
    pub(super) fn settle_confirms(&mut self, core: &mut Core, reached: Progress) -> bool {
        let number = self.number;
        if let Mode::Confirm(ledger) = &mut self.mode {
            let confirmed = ledger.settle(reached, |answer| {
                let method = match answer {
                    Answer::Ack { tag, multiple } => {
                        Method::BasicAck(methods::Ack { delivery_tag: tag, multiple })
                    }
                    Answer::Nack { tag } => Method::BasicNack(methods::Nack {
                        delivery_tag: tag,
                        multiple: false,
                        requeue: true,
                    }),
                };
                core.send(number, &method);
            });
            core.tally.confirmed += confirmed;
        }
        self.has_confirms_due = self.waits_for().is_some();
        self.has_confirms_due
    }

    /// What the next confirm waits for.
    pub(super) fn waits_for(&self) -> Option<Progress> {
        match &self.mode {
            Mode::Confirm(ledger) => ledger.waits_for(),
            _ => None,
        }
    }

    /// Adds this channel's consumers to those that are to try again.
    pub(super) fn add_consumers(&self, resumption: &mut Resumption) {
        for (id, consumer) in &self.consumers {
            resumption.add(&consumer.queue, *id);
        }
    }

    /// Lets this channel's consumers try again, each queue's first in turn.
    fn resume(&mut self, core: &mut Core) {
        let mut resumption = Resumption::default();
        self.add_consumers(&mut resumption);
        resumption.run(self.resumed, core);
        self.resumed = self.resumed.wrapping_add(1);
    }

    /// The client holds so many deliveries less. Their room under the shared limit is free at the
    /// end of the turn: were it at once, a queue would take it again for what was settled there,
    /// and the others would wait for as long as that queue has messages.
    fn free_shared_credit(&mut self, core: &mut Core, deliveries: usize) {
        if deliveries > 0 && self.freed_credit == 0 {
            core.credit_freed.push(self.number);
        }
        self.freed_credit += u32::try_from(deliveries).unwrap_or(u32::MAX);
    }

    /// Lets this channel's consumers compete for what has become free under their shared limit.
    pub(super) fn hand_on_shared_credit(&mut self, core: &mut Core) {
        self.limiter.release(std::mem::take(&mut self.freed_credit));
        if self.limiter.limit() > 0 {
            self.resume(core);
        }
    }

    /// Sorts messages that this channel held by their queues.
    fn by_queue(
        &self,
        held: impl IntoIterator<Item = (QueueKey, ConsumerId, Entry)>,
    ) -> impl Iterator<Item = (&Arc<Queue>, Vec<(ConsumerId, Entry)>)> {
        let mut by_queue: BTreeMap<QueueKey, Vec<(ConsumerId, Entry)>> = BTreeMap::new();
        for (queue, consumer, entry) in held {
            by_queue.entry(queue).or_default().push((consumer, entry));
        }
        by_queue.into_iter().filter_map(|(key, entries)| Some((self.queues.get(key)?, entries)))
    }

    /// Gives messages back to their queues, in their order.
    fn give_back(
        &self,
        core: &mut Core,
        held: impl IntoIterator<Item = (QueueKey, ConsumerId, Entry)>,
        attempt: Attempt,
    ) {
        for (queue, entries) in self.by_queue(held) {
            queue.requeue(entries, attempt, core.now, &mut core.effects);
        }
    }

    /// Takes deliveries to this channel (or to one consumer of it) out of what waits to be written:
    /// the client never saw them, and they are to be given back.
    fn recall(
        &mut self,
        core: &mut Core,
        only: Option<ConsumerId>,
    ) -> Vec<(QueueKey, ConsumerId, Entry)> {
        core.outbox.drain(&mut core.inbox);
        let number = self.number;
        let mut kept = std::collections::VecDeque::with_capacity(core.inbox.len());
        let mut recalled = Vec::new();
        let mut bytes = 0;
        for item in core.inbox.drain(..) {
            match item {
                Item::Deliver(delivery)
                    if delivery.channel == number
                        && only.is_none_or(|only| only == delivery.consumer) =>
                {
                    bytes += delivery.entry.message.memory_bytes();
                    recalled.push((delivery.queue, delivery.consumer, delivery.entry));
                }
                other => kept.push_back(other),
            }
        }
        core.inbox = kept;
        let counted = recalled.iter().filter(|(_, consumer, _)| {
            self.consumers.get(consumer).is_some_and(|it| it.acks == Acks::Manual)
        });
        self.free_shared_credit(core, counted.count());
        // Whoever found no room meanwhile is asked again at the end of the turn.
        core.release_outbox(recalled.len(), bytes);
        recalled
    }

    /// Ends the channel: its consumers go, what it holds returns to the queues. The queues that
    /// must be deleted with their last consumer are deleted.
    pub(super) fn end(mut self, core: &mut Core) {
        core.flush();
        core.view_changed = true;
        if self.has_published {
            let publishers = &core.broker.counters().publishers;
            publishers.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
        let mut abandoned = Vec::new();
        let consumers = std::mem::take(&mut self.consumers);
        for (id, consumer) in &consumers {
            self.tell_consumer_deleted(core, &consumer.tag, &consumer.queue);
            if consumer.queue.remove_consumer(*id, core.now, &mut core.effects) {
                abandoned.push(&consumer.queue);
            }
        }
        if let Some(reply) = self.reply_consumer.take() {
            core.broker.remove_reply_target(&reply.key);
        }
        let recalled = self.recall(core, None);
        if let Mode::Transaction(transaction) = &mut self.mode {
            transaction.withdraw(core);
            self.unacked.restore(transaction.take_settled());
        }
        let held: Vec<Outstanding> = self.unacked.take_up_to(0).into_iter().flatten().collect();
        let held = held.into_iter().map(|held| (held.queue, held.consumer, held.entry));
        // In the order in which they were handed out.
        self.give_back(core, held, Attempt::Lost);
        self.give_back(core, recalled, Attempt::Unsent);
        self.tell_closed(core, consumers.len());
        for queue in abandoned {
            let condition = DeleteCondition::Abandoned;
            core.broker.delete_gone_queue(queue, condition, &mut core.effects);
        }
        core.broker.finish(&mut core.effects, core.now);
    }

    /// How its deliveries stand that wait for their acknowledgement. As in RabbitMQ the oldest is
    /// looked at, and the limit of the queue it came from.
    pub(super) fn acks(&self, core: &Core) -> AckState {
        let Some(oldest) = self.unacked.oldest() else { return AckState::None };
        let node_ms = core.settings.ack_ms_max;
        let limit_ms = match self.queues.get(oldest.queue) {
            Some(queue) => queue.ack_ms_max(node_ms),
            None => i64::try_from(node_ms).ok(),
        };
        let age_ms = core.now.mono_ms.saturating_sub(oldest.delivered_ms);
        match limit_ms {
            Some(limit_ms) if i128::from(age_ms) > i128::from(limit_ms) => {
                AckState::Overdue { limit_ms }
            }
            _ => AckState::Waits,
        }
    }

    /// As operators see it.
    pub(super) fn view(&self) -> ChannelView {
        let (confirm, transactional, unconfirmed, uncommitted) = match &self.mode {
            Mode::Plain => (false, false, 0, 0),
            Mode::Confirm(ledger) => (true, false, ledger.unanswered(), 0),
            Mode::Transaction(transaction) => (false, true, 0, transaction.len() as u64),
        };
        ChannelView {
            number: self.number,
            consumers: self.consumers.len() as u64,
            unacked: self.unacked.len() as u64,
            unconfirmed,
            uncommitted,
            global_prefetch: u16::try_from(self.limiter.limit()).unwrap_or(u16::MAX),
            prefetch: self.prefetch,
            confirm,
            transactional,
        }
    }
}
