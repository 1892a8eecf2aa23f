//! What a connection's channels share: the broker, the way out, and the work gathered in a turn.
//!
//! A turn is one run of the connection's task: it decodes what was read, then hands its publishes
//! and settlements to their queues: queue by queue, each under one lock and as one batch, unless a
//! message goes to several queues that store it. Then the turn is one batch, submitted while all of
//! its queues are locked, so that a crash shows such a message in all of them or in none. Gathering
//! keeps the order per queue; anything that must see its effects calls [`flush`](Core::flush)
//! first.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::SessionSettings;
use super::held::OwnQueues;
use super::output::Output;
use super::routes::Routes;
use crate::broker::access::{Resource, Right};
use crate::broker::exchange::Kind;
use crate::broker::inspect::MessageSizes;
use crate::broker::message::Message;
use crate::broker::outbox::{ConnectionId, Delivery, Item, Outbox};
use crate::broker::queue::{Attempt, Effects, Publisher, Queue, Settled, Turn};
use crate::broker::vhost::{Exchange, Vhost};
use crate::broker::views::NodeCounters;
use crate::broker::{Asker, Broker, Now};
use crate::protocol::frame;
use crate::protocol::method::Method;
use crate::protocol::refusal::{self, Refusal};
use crate::store::{Batch, Durability, Lsn, Progress, Store};

/// How often deliveries are looked at for their age, as in RabbitMQ.
const ACK_CHECK_MS: u64 = 60_000;
/// Queues whose gathering slots are kept from turn to turn.
const SLOTS_KEPT_MAX: usize = 64;

/// What a client said it can cope with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Capabilities {
    pub(super) authentication_failure_close: bool,
    pub(super) consumer_cancel_notify: bool,
    pub(super) connection_blocked: bool,
}

/// Counters of a turn, added to the node's once at its end.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) received: u64,
    pub(super) received_confirm: u64,
    pub(super) routed: u64,
    pub(super) confirmed: u64,
    pub(super) unroutable_dropped: u64,
    pub(super) unroutable_returned: u64,
    pub(super) delivered_manual_ack: u64,
    pub(super) delivered_auto_ack: u64,
    pub(super) get_manual_ack: u64,
    pub(super) get_auto_ack: u64,
    pub(super) get_empty: u64,
    pub(super) redelivered: u64,
    pub(super) acknowledged: u64,
    message_sizes: [u64; 9],
    message_bytes: u64,
}

impl Tally {
    /// Counts a received message of this size.
    pub(super) fn receive(&mut self, body_bytes: u64) {
        self.received += 1;
        self.message_bytes += body_bytes;
        let bounds = MessageSizes::BOUNDS_BYTES;
        let at = bounds.iter().position(|bound| body_bytes <= *bound).unwrap_or(bounds.len());
        self.message_sizes[at] += 1;
    }

    fn add_to(&mut self, node: &NodeCounters) {
        let tally = std::mem::take(self);
        NodeCounters::add(&node.received, tally.received);
        NodeCounters::add(&node.received_confirm, tally.received_confirm);
        NodeCounters::add(&node.routed, tally.routed);
        NodeCounters::add(&node.confirmed, tally.confirmed);
        NodeCounters::add(&node.unroutable_dropped, tally.unroutable_dropped);
        NodeCounters::add(&node.unroutable_returned, tally.unroutable_returned);
        NodeCounters::add(&node.delivered_manual_ack, tally.delivered_manual_ack);
        NodeCounters::add(&node.delivered_auto_ack, tally.delivered_auto_ack);
        NodeCounters::add(&node.get_manual_ack, tally.get_manual_ack);
        NodeCounters::add(&node.get_auto_ack, tally.get_auto_ack);
        NodeCounters::add(&node.get_empty, tally.get_empty);
        NodeCounters::add(&node.redelivered, tally.redelivered);
        NodeCounters::add(&node.acknowledged, tally.acknowledged);
        NodeCounters::add(&node.message_bytes, tally.message_bytes);
        for (counter, n) in node.message_sizes.iter().zip(tally.message_sizes) {
            NodeCounters::add(counter, n);
        }
    }
}

/// The work gathered for one queue.
#[derive(Debug)]
struct Slot {
    queue: Arc<Queue>,
    publishes: Vec<Message>,
    settled: Vec<Settled>,
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.settled.is_empty()
    }
}

/// The work gathered in a turn.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    slots: Vec<Slot>,
    by_queue: FxHashMap<u64, usize>,
    last: usize,
    publishes: usize,
    settled: usize,
    /// Whether a publisher waits for one of the publishes.
    awaited: bool,
    /// Whether a message is stored in more than one queue.
    joint: bool,
}

impl Gathered {
    fn slot(&mut self, queue: &Arc<Queue>) -> &mut Slot {
        let id = queue.key().queue;
        let known = self.slots.get(self.last).is_some_and(|slot| slot.queue.key().queue == id);
        if !known {
            self.last = *self.by_queue.entry(id).or_insert_with(|| {
                let queue = Arc::clone(queue);
                self.slots.push(Slot { queue, publishes: Vec::new(), settled: Vec::new() });
                self.slots.len() - 1
            });
        }
        &mut self.slots[self.last]
    }

    /// A publisher waits for what is gathered.
    pub(super) fn await_publishes(&mut self) {
        self.awaited = true;
    }

    /// Adds a message for its queues.
    pub(super) fn publish(&mut self, queues: &[Arc<Queue>], message: Message) {
        let Some((last, others)) = queues.split_last() else { return };
        if !others.is_empty() && !self.joint {
            let mut storing = queues.iter().filter(|queue| queue.stores(&message));
            self.joint = storing.nth(1).is_some();
        }
        self.publishes += queues.len();
        for queue in others {
            self.slot(queue).publishes.push(message.clone());
        }
        self.slot(last).publishes.push(message);
    }

    /// Adds a settlement for a queue.
    pub(super) fn settle(&mut self, queue: &Arc<Queue>, settled: Settled) {
        self.settled += 1;
        self.slot(queue).settled.push(settled);
    }

    fn is_empty(&self) -> bool {
        self.publishes == 0 && self.settled == 0
    }

    /// Hands everything to the queues; returns what the publishes' confirms wait for.
    fn flush(&mut self, store: &dyn Store, now: Now, effects: &mut Effects) -> Progress {
        let publisher = match std::mem::take(&mut self.awaited) {
            true => Publisher::Waits,
            false => Publisher::GoesOn,
        };
        let due = if std::mem::take(&mut self.joint) {
            self.flush_jointly(store, publisher, now, effects)
        } else {
            let mut due = Progress::NOW;
            for Slot { queue, publishes, settled } in &mut self.slots {
                if !publishes.is_empty() || !settled.is_empty() {
                    let turn = Turn { settled, publishes, publisher };
                    due = due.and(queue.take_turn(turn, now, effects));
                    settled.clear();
                }
            }
            due
        };
        self.publishes = 0;
        self.settled = 0;
        if self.slots.len() > SLOTS_KEPT_MAX {
            self.slots.clear();
            self.by_queue.clear();
            self.last = 0;
        }
        due
    }

    /// The same as one batch.
    fn flush_jointly(
        &mut self,
        store: &dyn Store,
        publisher: Publisher,
        now: Now,
        effects: &mut Effects,
    ) -> Progress {
        let mut slots: Vec<_> = self.slots.iter_mut().filter(|slot| !slot.is_empty()).collect();
        slots.sort_unstable_by_key(|slot| slot.queue.key());
        let mut batch = Batch::default();
        let mut changes = Vec::with_capacity(slots.len());
        for Slot { queue, publishes, settled } in slots {
            changes.push((queue.begin(), Turn { settled, publishes, publisher }));
        }
        let mut durability = Durability::Os;
        let mut stored = false;
        for (change, turn) in &mut changes {
            if change.take_turn(turn, now, &mut batch.ops, effects) {
                stored = true;
                durability = durability.max(change.durability());
            }
        }
        batch.awaited = stored && publisher == Publisher::Waits && durability == Durability::Fsync;
        let lsn = if batch.is_empty() { Lsn::ZERO } else { store.submit(batch) };
        drop(changes);
        for slot in &mut self.slots {
            slot.settled.clear();
        }
        if stored { Progress::at(lsn, durability) } else { Progress::NOW }
    }
}

/// A basic.get that is to be tried again.
#[derive(Debug)]
pub(super) struct UnansweredGet {
    pub(super) channel: u16,
    pub(super) queue: Arc<str>,
    pub(super) no_ack: bool,
}

/// What the channels of an open connection share.
pub(super) struct Core {
    pub(super) broker: Arc<Broker>,
    pub(super) settings: Arc<SessionSettings>,
    pub(super) vhost: Arc<Vhost>,
    pub(super) asker: Asker,
    pub(super) capabilities: Capabilities,
    pub(super) outbox: Arc<Outbox>,
    pub(super) frame_max: u32,
    pub(super) out: Output,
    pub(super) now: Now,
    pub(super) gathered: Gathered,
    pub(super) effects: Effects,
    pub(super) routes: Routes,
    pub(super) tally: Tally,
    /// Taken from the outbox, not yet encoded.
    pub(super) inbox: VecDeque<Item>,
    pub(super) exclusive_queues: OwnQueues,
    /// Channels with publishes whose confirm is not assigned to a position yet.
    pub(super) confirming: Vec<u16>,
    /// Channels whose shared limit has credit to hand on.
    pub(super) credit_freed: Vec<u16>,
    /// When deliveries are next looked at for their age, while any may wait for its
    /// acknowledgement.
    pub(super) ack_check_ms: Option<u64>,
    /// Replies that wait until what they report is durable. Input rests meanwhile.
    held: Vec<u8>,
    held_until: Option<Lsn>,
    /// A basic.get whose message is being read from the store. Input rests meanwhile.
    pub(super) unanswered_get: Option<UnansweredGet>,
    /// What the confirms of all that was flushed wait for.
    pub(super) flushed: Progress,
    /// Queues found no room in the outbox; now there is some.
    pub(super) has_room_again: bool,
    /// What operators see of the connection has changed.
    pub(super) view_changed: bool,
}

impl Core {
    pub(super) fn new(
        broker: Arc<Broker>,
        settings: Arc<SessionSettings>,
        vhost: Arc<Vhost>,
        asker: Asker,
        outbox: Arc<Outbox>,
        out: Output,
    ) -> Self {
        let actor = Some(asker.rights.user().name.as_str().into());
        let connection = Some(Arc::clone(&asker.connection_name));
        Self {
            broker,
            settings,
            vhost,
            asker,
            capabilities: Capabilities::default(),
            outbox,
            frame_max: 0,
            out,
            now: Now::default(),
            gathered: Gathered::default(),
            effects: Effects { actor, connection, ..Effects::default() },
            routes: Routes::default(),
            tally: Tally::default(),
            inbox: VecDeque::new(),
            exclusive_queues: OwnQueues::default(),
            confirming: Vec::new(),
            credit_freed: Vec::new(),
            ack_check_ms: None,
            held: Vec::new(),
            held_until: None,
            unanswered_get: None,
            flushed: Progress::NOW,
            has_room_again: false,
            view_changed: false,
        }
    }

    /// Deliveries left the outbox, written or recalled.
    pub(super) fn release_outbox(&mut self, items: usize, bytes: usize) {
        if items > 0 && self.outbox.release(items, bytes) {
            self.has_room_again = true;
        }
    }

    /// A delivery waits for its acknowledgement.
    pub(super) fn watch_acks(&mut self) {
        self.ack_check_ms.get_or_insert(self.now.mono_ms + ACK_CHECK_MS);
    }

    /// Gives a delivery back that nobody here takes: its queue must have assigned it after its
    /// consumer had gone, which it does not, but a message is not to be lost over it.
    pub(super) fn give_back(&mut self, delivery: Delivery) {
        let Some(queue) = self.vhost.queue_by_key(delivery.queue) else { return };
        let returned = [(delivery.consumer, delivery.entry)];
        queue.requeue(returned, Attempt::Unsent, self.now, &mut self.effects);
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.asker.connection
    }

    /// Bytes of body that fit one frame to the peer.
    pub(super) fn payload_max(&self) -> usize {
        match self.frame_max {
            0 => frame::UNLIMITED_PAYLOAD_BYTES_MAX as usize,
            max => max as usize - frame::OVERHEAD_BYTES,
        }
    }

    /// Sends a method. Behind replies that are held back, so that replies stay in order.
    pub(super) fn send(&mut self, channel: u16, method: &Method<'_>) {
        let out = if self.held_until.is_some() { &mut self.held } else { self.out.buffer() };
        frame::method(out, channel, method);
    }

    /// Sends a reply once the store has made `lsn` durable.
    pub(super) fn send_when_durable(&mut self, channel: u16, method: &Method<'_>, lsn: Lsn) {
        if lsn > self.broker.store().durable() {
            self.held_until = self.held_until.max(Some(lsn));
        }
        self.send(channel, method);
    }

    /// The position that replies wait for; input rests while there is one.
    pub(super) fn holds_until(&self) -> Option<Lsn> {
        self.held_until
    }

    /// Lets replies go whose time has come.
    pub(super) fn release_held(&mut self, durable: Lsn) {
        if self.held_until.is_some_and(|lsn| lsn <= durable) {
            self.held_until = None;
            self.out.buffer().append(&mut self.held);
        }
    }

    /// Hands the gathered work to the queues and does what they leave to be done. Returns true when
    /// there was work.
    pub(super) fn flush(&mut self) -> bool {
        let worked = !self.gathered.is_empty();
        if worked {
            let store = self.broker.store().as_ref();
            let due = self.gathered.flush(store, self.now, &mut self.effects);
            self.flushed = self.flushed.and(due);
        }
        self.broker.finish(&mut self.effects, self.now);
        worked
    }

    /// Moves the turn's counters to the node's.
    pub(super) fn fold_tally(&mut self) {
        self.tally.add_to(self.broker.counters());
    }

    /// The queue of this name, if this connection may use it, and its user has this right on it.
    pub(super) fn find_queue(&mut self, name: &str, right: Right) -> Result<Arc<Queue>, Refusal> {
        self.broker.find_queue(&self.vhost, name, right, &mut self.asker)
    }

    /// The exchange of this name, if messages may be published there, with whatever key.
    pub(super) fn publishable(&mut self, name: &[u8]) -> Result<Arc<Exchange>, Refusal> {
        let shown = || String::from_utf8_lossy(name).into_owned();
        self.asker.rights.check(Right::Write, Resource::Exchange(&shown()))?;
        let exchange = self
            .vhost
            .exchange(name)
            .ok_or_else(|| refusal::exchange_not_found(shown(), self.vhost.name()))?;
        if exchange.spec.internal {
            return Err(refusal::exchange_internal_publish(shown(), self.vhost.name()));
        }
        Ok(exchange)
    }

    /// The same with these keys.
    pub(super) fn publishable_with(
        &mut self,
        name: &[u8],
        keys: &[&[u8]],
    ) -> Result<Arc<Exchange>, Refusal> {
        let exchange = self.publishable(name)?;
        if exchange.spec.kind == Kind::Topic {
            for key in keys {
                self.asker.rights.check_topic(Right::Write, &exchange.spec.name, key)?;
            }
        }
        Ok(exchange)
    }

    /// Forgets what followed from rights that have changed.
    pub(super) fn rights_changed(&mut self) {
        self.routes = Routes::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::access::Identity;
    use crate::broker::outbox::{ConsumerId, Wake};
    use crate::broker::queue::{Acks, Fetched};
    use crate::broker::{BrokerSettings, QueueDeclaration};
    use crate::protocol::table::Table;
    use crate::store::memory::MemoryStore;

    struct Asleep;

    impl Wake for Asleep {
        fn wake(&self) {}
    }

    #[test]
    fn a_delivery_that_nobody_takes_is_back_in_its_queue() {
        let now = Now::default();
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let store = Arc::new(MemoryStore::new());
        let broker = Broker::open(BrokerSettings::default(), store, entropy, now).unwrap();
        let vhost = broker.vhost("/").unwrap();
        let mut effects = Effects::default();
        let user = broker.access().user("guest").unwrap();
        let identity = Identity { user, authority: None };
        let by = (ConnectionId(1), "a test".into());
        let mut asker = Asker::new(&broker, by, identity, &vhost, now);
        let asked = QueueDeclaration {
            name: "q",
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Table::new(),
        };
        let queue = broker.declare_queue(&vhost, asked, &mut asker, now, &mut effects).unwrap().0;
        let outbox = Arc::new(Outbox::new(ConnectionId(1), Arc::new(Asleep)));
        let settings = Arc::default();
        let mut core = Core::new(broker, settings, vhost, asker, outbox, Output::default());
        let envelope = crate::broker::message::Envelope {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            persistent: false,
            hides_bcc: false,
            published_ms: 0,
        };
        core.gathered.publish(&[Arc::clone(&queue)], Message::new(&envelope, b"x"));
        core.flush();
        let asker = Arc::clone(&core.outbox);
        let get = |core: &mut Core| match queue.get(Acks::Manual, &asker, now, &mut core.effects) {
            Fetched::Message(entry, _) => entry,
            other => panic!("{other:?}"),
        };
        let entry = get(&mut core);
        assert_eq!(queue.counts(), (0, 0));
        core.give_back(Delivery {
            channel: 1,
            queue: queue.key(),
            consumer: ConsumerId(99),
            entry,
        });
        let entry = get(&mut core);
        assert!(!entry.redelivered(), "no client has seen it");
    }
}
