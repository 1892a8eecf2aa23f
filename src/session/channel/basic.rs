//! Class basic, apart from publishing: consuming, fetching, acknowledging.

use std::sync::Arc;

use super::{Channel, Consumer, Mode, ReplyConsumer};
use crate::broker::REPLY_TO;
use crate::broker::access::{Resource, Right};
use crate::broker::outbox::ConsumerId;
use crate::broker::queue::{
    Acks, Attempt, ConsumeRefusal, ConsumerSpec, DeleteCondition, Fetched, Queue, QueueKind,
    Settled,
};
use crate::protocol::frame;
use crate::protocol::method::{Method, basic as methods};
use crate::protocol::refusal::{self, Refusal};
use crate::protocol::table::Table;
use crate::session::core::{Core, UnansweredGet};
use crate::session::unacked::Outstanding;
use crate::store::QueueKey;

/// Consumers on one channel that the log remarks on: rarely does a client mean to have as many.
const CONSUMERS_MANY: usize = 1_000;

impl Channel {
    pub(super) fn on_qos(&mut self, core: &mut Core, qos: methods::Qos) -> Result<(), Refusal> {
        if qos.prefetch_size != 0 {
            return Err(refusal::basic_prefetch_size(qos.prefetch_size));
        }
        // A limit for each consumer to come also lifts the one they shared, as in RabbitMQ.
        let shared = if qos.global { u32::from(qos.prefetch_count) } else { 0 };
        if !qos.global {
            self.prefetch = qos.prefetch_count;
        }
        if self.limiter.limit() != shared {
            self.limiter.set_limit(shared);
            self.resume(core);
        }
        core.send(self.number, &Method::BasicQosOk(Default::default()));
        Ok(())
    }

    // ---- consuming ---------------------------------------------------------------------------

    pub(super) fn on_consume(
        &mut self,
        core: &mut Core,
        consume: &methods::Consume<'_>,
    ) -> Result<(), Refusal> {
        let tag: Arc<str> = if consume.consumer_tag.is_empty() {
            core.broker.generate_name("amq.ctag-").into()
        } else {
            consume.consumer_tag.into()
        };
        if self.tags.contains_key(&tag) {
            return Err(refusal::basic_consumer_tag_reuse(&tag));
        }
        let max = core.settings.consumers_per_channel_max;
        if max > 0 && self.consumers.len() >= max {
            return Err(refusal::basic_consumer_max(max));
        }
        if consume.queue == REPLY_TO {
            return self.consume_replies(core, consume, tag);
        }
        let queue = core.find_queue(self.queue_name(consume.queue)?, Right::Read)?;
        let arguments = consume.arguments.to_table();
        for argument in STREAM_ARGUMENTS {
            if arguments.get(argument).is_some() {
                let module = queue.spec().args.kind.module();
                let vhost = core.vhost.name();
                return Err(refusal::queue_invalid_arg_for_type(
                    argument,
                    queue.name(),
                    vhost,
                    module,
                ));
            }
        }
        let priority = consumer_priority(&queue, &arguments)?;
        let kind = queue.spec().args.kind;
        if kind == QueueKind::Quorum && self.limiter.limit() > 0 {
            return Err(refusal::queue_no_global_qos(queue.name(), core.vhost.name()));
        }
        let id = core.broker.next_consumer_id();
        let acks = if consume.no_ack { Acks::Automatic } else { Acks::Manual };
        let spec = ConsumerSpec {
            id,
            tag: Arc::clone(&tag),
            channel: self.number,
            outbox: Arc::clone(&core.outbox),
            connection_name: Arc::clone(&core.asker.connection_name),
            acks,
            exclusive: consume.exclusive,
            priority,
            prefetch: self.prefetch,
            limiter: Arc::clone(&self.limiter),
            obeys_limiter: kind == QueueKind::Classic,
            arguments,
        };
        // Deliveries are written at the end of the turn, so consume-ok always precedes them.
        queue.add_consumer(spec, core.now, &mut core.effects).map_err(|refused| match refused {
            ConsumeRefusal::Exclusive => {
                refusal::queue_exclusive_consumer(queue.name(), core.vhost.name())
            }
            ConsumeRefusal::Gone => refusal::queue_not_found(queue.name(), core.vhost.name()),
        })?;
        self.queues.hold(&queue);
        self.tags.insert(Arc::clone(&tag), id);
        let consumer = Consumer { tag: Arc::clone(&tag), queue, acks };
        self.tell_consumer_created(core, &consumer, consume);
        self.consumers.insert(id, consumer);
        if self.consumers.len() == CONSUMERS_MANY {
            let (connection, channel) = (&core.asker.connection_name, self.number);
            tracing::warn!(%connection, channel, "a channel has {CONSUMERS_MANY} consumers");
        }
        if !consume.nowait {
            let ok = methods::ConsumeOk { consumer_tag: &tag };
            core.send(self.number, &Method::BasicConsumeOk(ok));
        }
        core.broker.finish(&mut core.effects, core.now);
        Ok(())
    }

    fn consume_replies(
        &mut self,
        core: &mut Core,
        consume: &methods::Consume<'_>,
        tag: Arc<str>,
    ) -> Result<(), Refusal> {
        if !consume.no_ack {
            return Err(refusal::reply_to_must_not_ack());
        }
        if self.reply_consumer.is_some() {
            return Err(refusal::reply_to_already_set());
        }
        let key = core.broker.add_reply_target(&core.outbox, self.number);
        if !consume.nowait {
            let ok = methods::ConsumeOk { consumer_tag: &tag };
            core.send(self.number, &Method::BasicConsumeOk(ok));
        }
        self.reply_consumer = Some(ReplyConsumer { tag, key });
        Ok(())
    }

    pub(super) fn on_cancel(
        &mut self,
        core: &mut Core,
        cancel: &methods::Cancel<'_>,
    ) -> Result<(), Refusal> {
        let reply = self.reply_consumer.take_if(|reply| &*reply.tag == cancel.consumer_tag);
        if let Some(reply) = reply {
            core.broker.remove_reply_target(&reply.key);
        } else if let Some(id) = self.tags.get(cancel.consumer_tag) {
            self.stop_consumer(core, *id);
            core.broker.finish(&mut core.effects, core.now);
        }
        if !cancel.nowait {
            let ok = methods::CancelOk { consumer_tag: cancel.consumer_tag };
            core.send(self.number, &Method::BasicCancelOk(ok));
        }
        Ok(())
    }

    /// Cancels the consumers of queues that the user may not read any more, as when their queue is
    /// gone. What they hold stays theirs to acknowledge.
    pub(in crate::session) fn cancel_refused_consumers(&mut self, core: &mut Core) {
        let rights = &mut core.asker.rights;
        let mut refused = Vec::new();
        for (id, consumer) in &self.consumers {
            if rights.check(Right::Read, Resource::Queue(consumer.queue.name())).is_err() {
                refused.push(*id);
            }
        }
        for id in refused {
            if let Some(tag) = self.stop_consumer(core, id) {
                self.send_cancelled(core, &tag);
            }
        }
        core.broker.finish(&mut core.effects, core.now);
    }

    /// Takes a consumer off its queue: what it has not been sent yet goes back, and the queue goes
    /// if it was to go with its last consumer. Returns its tag.
    fn stop_consumer(&mut self, core: &mut Core, id: ConsumerId) -> Option<Arc<str>> {
        let queue = Arc::clone(&self.consumers.get(&id)?.queue);
        let abandoned = queue.remove_consumer(id, core.now, &mut core.effects);
        let recalled = self.recall(core, Some(id));
        self.give_back(core, recalled, Attempt::Unsent);
        let tag = self.forget_consumer(core, id);
        if abandoned {
            let condition = DeleteCondition::Abandoned;
            core.broker.delete_gone_queue(&queue, condition, &mut core.effects);
        }
        tag
    }

    pub(super) fn on_get(
        &mut self,
        core: &mut Core,
        get: &methods::Get<'_>,
    ) -> Result<(), Refusal> {
        let queue = core.find_queue(self.queue_name(get.queue)?, Right::Read)?;
        let args = &queue.spec().args;
        if args.kind == QueueKind::Quorum && args.single_active_consumer {
            return Err(refusal::queue_get_with_single_active_consumer(
                queue.name(),
                core.vhost.name(),
                args.kind.name(),
            ));
        }
        let acks = if get.no_ack { Acks::Automatic } else { Acks::Manual };
        let fetched = queue.get(acks, &core.outbox, core.now, &mut core.effects);
        core.broker.finish(&mut core.effects, core.now);
        let (entry, message_count) = match fetched {
            Fetched::Message(entry, left) => (entry, left),
            Fetched::Nothing => {
                core.tally.get_empty += 1;
                core.send(self.number, &Method::BasicGetEmpty(Default::default()));
                return Ok(());
            }
            Fetched::NotYet => {
                core.unanswered_get = Some(UnansweredGet {
                    channel: self.number,
                    queue: Arc::clone(queue.name()),
                    no_ack: get.no_ack,
                });
                return Ok(());
            }
        };
        let tag = self.next_tag();
        let ok = Method::BasicGetOk(methods::GetOk {
            delivery_tag: tag,
            redelivered: entry.redelivered(),
            exchange: entry.message.exchange(),
            routing_key: entry.message.routing_key(),
            message_count,
        });
        frame::method(core.out.buffer(), self.number, &ok);
        if core.vhost.is_traced() {
            self.trace_delivery(core, &queue, &entry);
        }
        self.write_counted_content(core, &queue, &entry);
        match acks {
            Acks::Manual => {
                core.tally.get_manual_ack += 1;
                self.queues.hold(&queue);
                core.watch_acks();
                let consumer = ConsumerId::NONE;
                let delivered_ms = core.now.mono_ms;
                let queue = queue.key();
                self.unacked.push(Outstanding { tag, queue, consumer, delivered_ms, entry });
            }
            Acks::Automatic => {
                core.tally.get_auto_ack += 1;
                let settled = Settled::of(&entry, ConsumerId::NONE, Acks::Automatic);
                core.gathered.settle(&queue, settled);
            }
        }
        Ok(())
    }

    // ---- settling ----------------------------------------------------------------------------

    pub(super) fn on_ack(&mut self, core: &mut Core, ack: &methods::Ack) -> Result<(), Refusal> {
        if !ack.multiple {
            let one = self.unacked.take(ack.delivery_tag);
            let one = one.ok_or_else(|| refusal::basic_unknown_delivery_tag(ack.delivery_tag))?;
            self.settle_one(core, one);
            return Ok(());
        }
        let taken = self.take(ack.delivery_tag, true)?;
        for one in taken {
            self.settle_one(core, one);
        }
        Ok(())
    }

    fn settle_one(&mut self, core: &mut Core, held: Outstanding) {
        if let Mode::Transaction(transaction) = &mut self.mode {
            transaction.ack(held);
            return;
        }
        core.tally.acknowledged += 1;
        if held.consumer != ConsumerId::NONE {
            self.free_shared_credit(core, 1);
        }
        let settled = Settled::of(&held.entry, held.consumer, Acks::Manual);
        self.queues.release_after(held.queue, |queue| core.gathered.settle(queue, settled));
    }

    /// Frees the shared limit's room of deliveries; what was fetched takes none.
    pub(super) fn free_shared_credit_of<'a>(
        &mut self,
        core: &mut Core,
        settled: impl IntoIterator<Item = &'a Outstanding>,
    ) {
        let deliveries = settled.into_iter().filter(|held| held.consumer != ConsumerId::NONE);
        let deliveries = deliveries.count();
        self.free_shared_credit(core, deliveries);
    }

    pub(super) fn on_nack(&mut self, core: &mut Core, nack: &methods::Nack) -> Result<(), Refusal> {
        let taken = self.take(nack.delivery_tag, nack.multiple)?;
        self.refuse(core, taken, nack.requeue);
        Ok(())
    }

    pub(super) fn on_reject(
        &mut self,
        core: &mut Core,
        reject: methods::Reject,
    ) -> Result<(), Refusal> {
        let taken = self.take(reject.delivery_tag, false)?;
        self.refuse(core, taken, reject.requeue);
        Ok(())
    }

    fn take(&mut self, tag: u64, multiple: bool) -> Result<Vec<Outstanding>, Refusal> {
        let taken = if multiple {
            self.unacked.take_up_to(tag).map(Iterator::collect)
        } else {
            self.unacked.take(tag).map(|one| vec![one])
        };
        taken.ok_or_else(|| refusal::basic_unknown_delivery_tag(tag))
    }

    fn refuse(&mut self, core: &mut Core, taken: Vec<Outstanding>, requeue: bool) {
        if let Mode::Transaction(transaction) = &mut self.mode {
            for held in taken {
                transaction.refuse(held, requeue);
            }
            return;
        }
        self.refuse_now(core, taken, requeue);
    }

    /// Requeues or rejects what the client refused.
    pub(super) fn refuse_now(&mut self, core: &mut Core, taken: Vec<Outstanding>, requeue: bool) {
        self.free_shared_credit_of(core, &taken);
        let settled: Vec<QueueKey> = taken.iter().map(|held| held.queue).collect();
        let held = taken.into_iter().map(|held| (held.queue, held.consumer, held.entry));
        if requeue {
            self.give_back(core, held, Attempt::Refused);
        } else {
            for (queue, entries) in self.by_queue(held) {
                queue.reject(entries, core.now, &mut core.effects);
            }
        }
        settled.into_iter().for_each(|queue| self.queues.release(queue));
        core.broker.finish(&mut core.effects, core.now);
    }

    pub(super) fn on_recover(
        &mut self,
        core: &mut Core,
        requeue: bool,
        answer: bool,
    ) -> Result<(), Refusal> {
        if !requeue {
            return Err(refusal::basic_recover_no_requeue());
        }
        let taken: Vec<Outstanding> = self.unacked.take_up_to(0).into_iter().flatten().collect();
        if answer {
            core.send(self.number, &Method::BasicRecoverOk(Default::default()));
        }
        self.refuse_now(core, taken, true);
        Ok(())
    }

    /// The queue a method means: an empty name is the last one declared on this channel.
    pub(super) fn queue_name<'n>(&'n self, name: &'n str) -> Result<&'n str, Refusal> {
        if !name.is_empty() {
            return Ok(name);
        }
        self.last_queue.as_deref().ok_or_else(refusal::queue_none_declared)
    }
}

/// Arguments that only streams take.
const STREAM_ARGUMENTS: [&str; 3] =
    ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

fn consumer_priority(queue: &Queue, arguments: &Table) -> Result<i32, Refusal> {
    let Some(value) = arguments.get("x-priority") else { return Ok(0) };
    let bad = |reason: String| {
        let shown = format!("queue '{}' in vhost '{}'", queue.name(), queue.spec().vhost);
        Err(refusal::basic_invalid_consume_arg("x-priority", shown, reason))
    };
    match value.as_integer() {
        // RabbitMQ takes any integer; beyond 32 bits only the order of the extremes is lost.
        Some(n) => Ok(i32::try_from(n).unwrap_or(if n < 0 { i32::MIN } else { i32::MAX })),
        None => bad(format!("\"expected integer, got {}\"", value.type_name())),
    }
}
