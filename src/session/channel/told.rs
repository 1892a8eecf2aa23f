//! What a channel tells those who listen to the event exchange.
//!
//! All of this is off the usual path: without listeners nothing is made.

use super::{Channel, Consumer};
use crate::broker::events::fields::{self, integer, process_id};
use crate::broker::queue::{Acks, Queue};
use crate::protocol::method::basic as methods;
use crate::protocol::table::Table;
use crate::session::core::Core;

impl Channel {
    pub(in crate::session) fn tell_created(&self, core: &mut Core) {
        let Core { broker, effects, asker, user, vhost, .. } = core;
        broker.told(effects).tell("channel.created", || {
            Table::new()
                .with("pid", process_id(broker, asker.connection, self.number))
                .with("name", format!("{} ({})", asker.connection_name, self.number))
                .with("connection", process_id(broker, asker.connection, 0))
                .with("number", integer(self.number))
                .with("user", &*user.name)
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
}
