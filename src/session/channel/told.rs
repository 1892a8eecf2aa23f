//! What a channel tells those who listen to the event exchange, and who trace the vhost.
//!
//! All of this is off the usual path: without listeners and tracing nothing is made.

use super::publish::Targets;
use super::{Channel, Consumer};
use crate::broker::events::fields::{self, integer, process_id};
use crate::broker::message::Message;
use crate::broker::queue::{Acks, Entry, Queue};
use crate::broker::trace::{Step, Traced};
use crate::protocol::method::basic as methods;
use crate::protocol::table::Table;
use crate::session::core::Core;

impl Channel {
    pub(in crate::session) fn tell_created(&self, core: &mut Core) {
        let Core { broker, effects, asker, vhost, .. } = core;
        broker.told(effects).tell("channel.created", || {
            Table::new()
                .with("pid", process_id(broker, asker.connection, self.number))
                .with("name", format!("{} ({})", asker.connection_name, self.number))
                .with("connection", process_id(broker, asker.connection, 0))
                .with("number", integer(self.number))
                .with("user", &*asker.rights.user().name)
                .with("vhost", &**vhost.name())
        });
    }

    pub(super) fn tell_closed(&self, core: &mut Core, consumers: usize) {
        let Core { broker, effects, asker, .. } = core;
        broker.told(effects).tell("channel.closed", || {
            Table::new()
                .with("pid", process_id(broker, asker.connection, self.number))
                .with("consumer_count", integer(consumers as u64))
        });
    }

    pub(super) fn tell_consumer_created(
        &self,
        core: &mut Core,
        consumer: &Consumer,
        consume: &methods::Consume<'_>,
    ) {
        let Core { broker, effects, asker, .. } = core;
        broker.told(effects).tell("consumer.created", || {
            Table::new()
                .with("consumer_tag", &*consumer.tag)
                .with("exclusive", consume.exclusive)
                .with("ack_required", consumer.acks == Acks::Manual)
                .with("channel", process_id(broker, asker.connection, self.number))
                .with("queue", &**consumer.queue.name())
                .with("vhost", &*consumer.queue.spec().vhost)
                .with("prefetch_count", integer(self.prefetch))
                .with("arguments", fields::arguments(&consume.arguments.to_table()))
        });
    }

    pub(super) fn tell_consumer_deleted(&self, core: &mut Core, tag: &str, queue: &Queue) {
        let Core { broker, effects, asker, .. } = core;
        broker.told(effects).tell("consumer.deleted", || {
            Table::new()
                .with("consumer_tag", tag)
                .with("channel", process_id(broker, asker.connection, self.number))
                .with("queue", &**queue.name())
                .with("vhost", &*queue.spec().vhost)
        });
    }

    /// The vhost is traced, and a message was routed.
    #[cold]
    pub(super) fn trace_publish(&self, core: &mut Core, message: &Message, targets: &Targets) {
        let queues = match targets {
            Targets::Known(at) => core.routes.at(*at).queues.clone(),
            Targets::Once(queues) => queues.clone(),
            Targets::Reply | Targets::Duplicate | Targets::Unknown => Vec::new(),
        };
        self.trace(core, message, Step::Published { queues: &queues });
    }

    /// The vhost is traced, and a message is about to be delivered.
    #[cold]
    pub(super) fn trace_delivery(&self, core: &mut Core, queue: &Queue, entry: &Entry) {
        let redelivered = entry.redelivered();
        self.trace(core, &entry.message, Step::Delivered { queue: queue.name(), redelivered });
    }

    fn trace(&self, core: &mut Core, message: &Message, step: Step<'_>) {
        let Core { broker, effects, asker, vhost, now, .. } = core;
        let connection = &*asker.connection_name;
        let user = &asker.rights.user().name;
        let traced = Traced { message, connection, channel: self.number, user, step };
        broker.trace(vhost, &traced, *now, effects);
    }
}
