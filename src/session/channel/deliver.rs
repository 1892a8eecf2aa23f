//! Deliveries: what the queues assigned becomes frames, with delivery tags.

use std::sync::Arc;

use super::publish::with_headers;
use super::{Channel, Consumer};
use crate::broker::message::Message;
use crate::broker::outbox::{ConsumerId, Delivery};
use crate::broker::queue::{Acks, Entry, Queue, QueueKind, Settled};
use crate::protocol::frame;
use crate::protocol::method::{Method, basic as methods};
use crate::protocol::table::Value;
use crate::session::core::Core;
use crate::session::unacked::Outstanding;

impl Channel {
    pub(super) fn next_tag(&mut self) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        tag
    }

    /// Writes a delivery. One that needs no acknowledgement is settled with the turn.
    ///
    /// # Errors
    /// Hands the delivery back when its consumer is not here. Deliveries of a consumer that ends
    /// are recalled first, so that should not be.
    pub(in crate::session) fn deliver(
        &mut self,
        core: &mut Core,
        delivery: Delivery,
    ) -> Result<(), Delivery> {
        let Some(consumer) = self.consumers.get(&delivery.consumer) else {
            return Err(delivery);
        };
        let Delivery { queue, consumer: id, entry, .. } = delivery;
        let tag = self.next_tag;
        let method = Method::BasicDeliver(methods::Deliver {
            consumer_tag: consumer.tag.as_bytes(),
            delivery_tag: tag,
            redelivered: entry.redelivered(),
            exchange: entry.message.exchange(),
            routing_key: entry.message.routing_key(),
        });
        frame::method(core.out.buffer(), self.number, &method);
        if core.vhost.is_traced() {
            self.trace_delivery(core, &consumer.queue, &entry);
        }
        self.write_counted_content(core, &consumer.queue, &entry);
        self.next_tag = tag + 1;
        core.tally.redelivered += u64::from(entry.redelivered());
        match consumer.acks {
            Acks::Manual => {
                core.tally.delivered_manual_ack += 1;
                let delivered_ms = core.now.mono_ms;
                self.queues.hold(&consumer.queue);
                core.watch_acks();
                self.unacked.push(Outstanding { tag, queue, consumer: id, delivered_ms, entry });
            }
            Acks::Automatic => {
                core.tally.delivered_auto_ack += 1;
                let settled = Settled::of(&entry, id, Acks::Automatic);
                core.gathered.settle(&consumer.queue, settled);
            }
        }
        Ok(())
    }

    /// Writes a message's header and body; from a quorum queue the header says how often it came
    /// back, from the second delivery on.
    pub(super) fn write_counted_content(&self, core: &mut Core, queue: &Queue, entry: &Entry) {
        let message = &entry.message;
        if queue.spec().args.kind == QueueKind::Quorum
            && entry.deliveries > 0
            && let Some(properties) = with_headers(message, |headers| {
                headers.insert("x-delivery-count", Value::I64(entry.deliveries.into()));
                if message.hides_bcc() {
                    headers.remove("BCC");
                }
            })
        {
            return self.write_content_as(core, message, &properties);
        }
        self.write_content(core, message);
    }

    /// Writes a direct reply, unless the consumer that it is meant for is there no more.
    pub(in crate::session) fn deliver_reply(&mut self, core: &mut Core, message: &Message) {
        let Some(reply) = &self.reply_consumer else { return };
        if message.routing_key() != reply.key.as_bytes() {
            return;
        }
        let consumer_tag = Arc::clone(&reply.tag);
        let method = Method::BasicDeliver(methods::Deliver {
            consumer_tag: consumer_tag.as_bytes(),
            delivery_tag: self.next_tag(),
            redelivered: false,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
        });
        frame::method(core.out.buffer(), self.number, &method);
        self.write_content(core, message);
        core.tally.delivered_auto_ack += 1;
    }

    /// The consumer's queue is gone: the client is told if it asked to be.
    pub(in crate::session) fn consumer_cancelled(&mut self, core: &mut Core, id: ConsumerId) {
        if let Some(tag) = self.forget_consumer(core, id) {
            self.send_cancelled(core, &tag);
        }
    }

    /// Forgets a consumer that its queue knows no more. Returns its tag.
    pub(super) fn forget_consumer(&mut self, core: &mut Core, id: ConsumerId) -> Option<Arc<str>> {
        let Consumer { tag, queue, .. } = self.consumers.remove(&id)?;
        self.tags.remove(&tag);
        self.queues.release(queue.key());
        self.tell_consumer_deleted(core, &tag, &queue);
        Some(tag)
    }

    /// Tells a client that asked to be told that a consumer was cancelled.
    pub(super) fn send_cancelled(&self, core: &mut Core, consumer_tag: &str) {
        if core.capabilities.consumer_cancel_notify {
            let cancel = methods::Cancel { consumer_tag, nowait: true };
            core.send(self.number, &Method::BasicCancel(cancel));
        }
    }
}
