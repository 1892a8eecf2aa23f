//! Direct reply-to: answers that go straight to a channel, without a queue.
//!
//! A channel that consumes `amq.rabbitmq.reply-to` is known here under an unguessable token; a
//! message published to the default exchange with the key `amq.rabbitmq.reply-to.{token}` is handed
//! to that channel, or vanishes when the channel is gone, as in RabbitMQ.

use std::sync::Arc;

use dashmap::DashMap;

use super::Broker;
use super::limits::Limit;
use super::message::Message;
use super::outbox::{Item, Outbox, Wakes};

/// The pseudo-queue that requesters consume from.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const KEY_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Channels that wait for replies, by routing key.
#[derive(Debug, Default)]
pub(super) struct ReplyTargets(DashMap<Box<[u8]>, (Arc<Outbox>, u16)>);

impl Broker {
    /// Makes a channel a target for replies; returns the routing key that reaches it.
    #[must_use]
    pub fn add_reply_target(&self, outbox: &Arc<Outbox>, channel: u16) -> String {
        let key = self.generate_name(KEY_PREFIX);
        self.reply_targets.0.insert(key.as_bytes().into(), (Arc::clone(outbox), channel));
        key
    }

    /// The channel is gone, or consumes replies no more.
    pub fn remove_reply_target(&self, key: &str) {
        self.reply_targets.0.remove(key.as_bytes());
    }

    /// Whether a routing key looks like a reply's.
    #[must_use]
    pub fn is_reply_key(key: &[u8]) -> bool {
        key.starts_with(KEY_PREFIX.as_bytes())
    }

    /// Whether a reply with this key would reach someone.
    #[must_use]
    pub fn has_reply_target(&self, key: &[u8]) -> bool {
        self.reply_targets.0.contains_key(key)
    }

    /// Hands a reply over. False when nobody waits for it, or too much that is unread waits for
    /// whoever does: then it is dropped, so that neither memory nor the responder pays for that.
    pub fn reply(&self, key: &[u8], message: Message, wakes: &mut Wakes) -> bool {
        let target = self.reply_targets.0.get(key).map(|target| (Arc::clone(&target.0), target.1));
        let Some((outbox, channel)) = target else { return false };
        if !outbox.takes_replies() {
            self.counters.limits.note(Limit::ReplyBacklog);
            return false;
        }
        if outbox.push(Item::Reply { channel, message }) {
            wakes.add(&outbox);
        }
        true
    }
}
