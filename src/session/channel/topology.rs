//! Classes exchange and queue: the broker decides, this file asks and answers.

use super::Channel;
use crate::broker::access::Right;
use crate::broker::queue::DeleteCondition;
use crate::broker::{
    BindingRequest, Broker, DestinationRef, ExchangeDeclaration, QueueDeclaration, REPLY_TO,
};
use crate::protocol::method::{Method, exchange as exchange_methods, queue as queue_methods};
use crate::protocol::refusal::{self, Refusal};
use crate::session::core::Core;
use crate::store::Lsn;

impl Channel {
    // ---- exchanges ---------------------------------------------------------------------------

    pub(super) fn on_exchange_declare(
        &mut self,
        core: &mut Core,
        declare: &exchange_methods::Declare<'_>,
    ) -> Result<(), Refusal> {
        let ok = Method::ExchangeDeclareOk(Default::default());
        if declare.passive {
            let lsn = core.broker.check_exchange(&core.vhost, declare.exchange, &mut core.asker)?;
            if !declare.nowait {
                core.send_when_durable(self.number, &ok, lsn);
            }
            return Ok(());
        }
        let asked = ExchangeDeclaration {
            name: declare.exchange,
            kind: declare.type_,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.to_table(),
        };
        let Core { broker, vhost, asker, effects, .. } = core;
        let lsn = broker.declare_exchange(vhost, asked, asker, effects)?;
        if !declare.nowait {
            core.send_when_durable(self.number, &ok, lsn);
        }
        Ok(())
    }

    pub(super) fn on_exchange_delete(
        &mut self,
        core: &mut Core,
        delete: &exchange_methods::Delete<'_>,
    ) -> Result<(), Refusal> {
        let (name, if_unused) = (delete.exchange, delete.if_unused);
        let Core { broker, vhost, asker, effects, .. } = core;
        let lsn = broker.delete_exchange(vhost, name, if_unused, asker, effects)?;
        if !delete.nowait {
            let ok = Method::ExchangeDeleteOk(Default::default());
            core.send_when_durable(self.number, &ok, lsn);
        }
        Ok(())
    }

    pub(super) fn on_exchange_bind(
        &mut self,
        core: &mut Core,
        bind: &exchange_methods::Bind<'_>,
    ) -> Result<(), Refusal> {
        let asked = BindingRequest {
            source: bind.source,
            destination: DestinationRef::Exchange(bind.destination),
            routing_key: bind.routing_key,
            arguments: bind.arguments.to_table(),
        };
        let lsn = bind_ends(core, &asked)?;
        if !bind.nowait {
            let ok = Method::ExchangeBindOk(Default::default());
            core.send_when_durable(self.number, &ok, lsn);
        }
        Ok(())
    }

    pub(super) fn on_exchange_unbind(
        &mut self,
        core: &mut Core,
        unbind: &exchange_methods::Unbind<'_>,
    ) -> Result<(), Refusal> {
        let asked = BindingRequest {
            source: unbind.source,
            destination: DestinationRef::Exchange(unbind.destination),
            routing_key: unbind.routing_key,
            arguments: unbind.arguments.to_table(),
        };
        let lsn = unbind_ends(core, &asked)?;
        if !unbind.nowait {
            let ok = Method::ExchangeUnbindOk(Default::default());
            core.send_when_durable(self.number, &ok, lsn);
        }
        Ok(())
    }

    // ---- queues ------------------------------------------------------------------------------

    pub(super) fn on_queue_declare(
        &mut self,
        core: &mut Core,
        declare: &queue_methods::Declare<'_>,
    ) -> Result<(), Refusal> {
        if declare.queue == REPLY_TO || Broker::is_reply_key(declare.queue.as_bytes()) {
            return self.declare_reply_queue(core, declare);
        }
        let (queue, lsn) = if declare.passive {
            // An empty name is not the last declared queue here: RabbitMQ looks for "".
            core.broker.check_queue(&core.vhost, declare.queue, &mut core.asker)?
        } else {
            let asked = QueueDeclaration {
                name: declare.queue,
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments.to_table(),
            };
            let Core { broker, vhost, asker, now, effects, .. } = core;
            broker.declare_queue(vhost, asked, asker, *now, effects)?
        };
        queue.touch(core.now, &mut core.effects);
        core.broker.finish(&mut core.effects, core.now);
        if queue.spec().owner.is_some() {
            core.exclusive_queues.add(&queue, &core.vhost);
        }
        self.last_queue = Some(queue.name().to_string());
        if !declare.nowait {
            let (message_count, consumer_count) = queue.counts();
            let ok = Method::QueueDeclareOk(queue_methods::DeclareOk {
                queue: queue.name(),
                message_count,
                consumer_count,
            });
            core.send_when_durable(self.number, &ok, lsn);
        }
        Ok(())
    }

    /// A responder may check whether its requester is still there by declaring the reply address.
    fn declare_reply_queue(
        &mut self,
        core: &mut Core,
        declare: &queue_methods::Declare<'_>,
    ) -> Result<(), Refusal> {
        let name = declare.queue;
        if name != REPLY_TO && !core.broker.has_reply_target(name.as_bytes()) {
            return Err(refusal::queue_not_found(name, core.vhost.name()));
        }
        self.last_queue = Some(name.to_owned());
        if !declare.nowait {
            let ok = Method::QueueDeclareOk(queue_methods::DeclareOk {
                queue: declare.queue,
                message_count: 0,
                consumer_count: 1,
            });
            core.send(self.number, &ok);
        }
        Ok(())
    }

    pub(super) fn on_queue_bind(
        &mut self,
        core: &mut Core,
        bind: &queue_methods::Bind<'_>,
    ) -> Result<(), Refusal> {
        let queue = self.queue_name(bind.queue)?;
        let asked = BindingRequest {
            source: bind.exchange,
            destination: DestinationRef::Queue(queue),
            routing_key: binding_key(bind.queue, bind.routing_key, queue),
            arguments: bind.arguments.to_table(),
        };
        let lsn = bind_ends(core, &asked)?;
        if !bind.nowait {
            let ok = Method::QueueBindOk(Default::default());
            core.send_when_durable(self.number, &ok, lsn);
        }
        Ok(())
    }

    pub(super) fn on_queue_unbind(
        &mut self,
        core: &mut Core,
        unbind: &queue_methods::Unbind<'_>,
    ) -> Result<(), Refusal> {
        let queue = self.queue_name(unbind.queue)?;
        let asked = BindingRequest {
            source: unbind.exchange,
            destination: DestinationRef::Queue(queue),
            routing_key: binding_key(unbind.queue, unbind.routing_key, queue),
            arguments: unbind.arguments.to_table(),
        };
        let lsn = unbind_ends(core, &asked)?;
        let ok = Method::QueueUnbindOk(Default::default());
        core.send_when_durable(self.number, &ok, lsn);
        Ok(())
    }

    pub(super) fn on_queue_purge(
        &mut self,
        core: &mut Core,
        purge: &queue_methods::Purge<'_>,
    ) -> Result<(), Refusal> {
        let queue = core.find_queue(self.queue_name(purge.queue)?, Right::Read)?;
        let purged = queue.purge(&mut core.effects);
        core.broker.finish(&mut core.effects, core.now);
        if !purge.nowait {
            let ok = queue_methods::PurgeOk { message_count: purged.messages };
            core.send_when_durable(self.number, &Method::QueuePurgeOk(ok), purged.lsn);
        }
        Ok(())
    }

    pub(super) fn on_queue_delete(
        &mut self,
        core: &mut Core,
        delete: &queue_methods::Delete<'_>,
    ) -> Result<(), Refusal> {
        let name = self.queue_name(delete.queue)?;
        let deleted = match core.find_queue(name, Right::Configure) {
            Ok(queue) => {
                let (if_unused, if_empty) = (delete.if_unused, delete.if_empty);
                let condition = DeleteCondition::Asked { if_unused, if_empty };
                let deleted =
                    core.broker.delete_queue(&core.vhost, &queue, condition, &mut core.effects);
                core.broker.finish(&mut core.effects, core.now);
                let deleted = deleted?;
                core.exclusive_queues.remove(queue.key());
                deleted
            }
            // A missing queue counts as deleted.
            Err(refused) if refused.id == "queue.not-found" => (0, core.vhost.defined()),
            Err(refused) => return Err(refused),
        };
        if !delete.nowait {
            let ok = queue_methods::DeleteOk { message_count: deleted.0 };
            core.send_when_durable(self.number, &Method::QueueDeleteOk(ok), deleted.1);
        }
        Ok(())
    }
}

fn bind_ends(core: &mut Core, asked: &BindingRequest<'_>) -> Result<Lsn, Refusal> {
    let (asker, effects) = (&mut core.asker, &mut core.effects);
    let lsn = core.broker.bind(&core.vhost, asked, asker, core.now, effects);
    core.broker.finish(&mut core.effects, core.now);
    lsn
}

fn unbind_ends(core: &mut Core, asked: &BindingRequest<'_>) -> Result<Lsn, Refusal> {
    let (asker, effects) = (&mut core.asker, &mut core.effects);
    core.broker.unbind(&core.vhost, asked, asker, effects)
}

/// With neither a queue nor a key named, the queue's name is the key, too.
fn binding_key<'k>(asked_queue: &str, key: &'k str, queue: &'k str) -> &'k str {
    if asked_queue.is_empty() && key.is_empty() { queue } else { key }
}
