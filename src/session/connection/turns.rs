//! A turn of an open connection, after what was read is decoded.
//!
//! The gathered work goes to the queues, what the queues assigned to this connection's consumers is
//! written, and so are the confirms that have become durable. A turn's input has a budget, so that
//! no connection keeps others waiting; a turn never waits.

use std::sync::{Arc, PoisonError};

use super::closing::{End, NO_METHOD};
use super::{ChannelState, OUTPUT_BYTES_MAX, Running};
use crate::broker::outbox::{Item, Wake};
use crate::protocol::method::Method;
use crate::protocol::method::basic::Get;
use crate::protocol::refusal;
use crate::session::held::Resumption;
use crate::store::{Durability, DurableWaker, Lsn, Progress};

/// Wakes a connection when the store's watermark moves.
struct DurableSignal(Arc<dyn Wake>);

impl DurableWaker for DurableSignal {
    fn wake(&self) {
        self.0.wake();
    }
}

impl Running {
    pub(super) fn end_turn(&mut self, waker: &Arc<dyn Wake>) -> Result<(), End> {
        if let Some(refusal) = self.core.outbox.closing() {
            return Err(End::refused(refusal.clone(), NO_METHOD));
        }
        self.look_at_rights()?;
        self.throttle.look(&mut self.core);
        self.flush();
        self.try_get_again()?;
        self.deliver();
        // Deliveries that need no acknowledgement are settled at once, which lets queues assign
        // more; that wakes this connection again instead of keeping it in the loop.
        self.flush();
        if std::mem::take(&mut self.core.has_room_again) {
            let mut starved = Resumption::default();
            for state in self.channels.values() {
                if let ChannelState::Open(channel) = state {
                    channel.add_consumers(&mut starved);
                }
            }
            starved.run(0, &mut self.core);
        }
        self.settle_confirms();
        self.await_store(waker)?;
        self.core.fold_tally();
        Ok(())
    }

    /// Answers a basic.get if its message has been read meanwhile.
    fn try_get_again(&mut self) -> Result<(), End> {
        let Some(get) = self.core.unanswered_get.take() else { return Ok(()) };
        let Some(ChannelState::Open(channel)) = self.channels.get_mut(&get.channel) else {
            return Ok(());
        };
        let method = Method::BasicGet(Get { queue: &get.queue, no_ack: get.no_ack });
        let result = channel.on_method(&mut self.core, &method);
        result.or_else(|refusal| self.refused(get.channel, refusal, method.id()))
    }

    fn flush(&mut self) {
        self.core.flush();
        let at = self.core.flushed;
        for number in std::mem::take(&mut self.core.confirming) {
            if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number)
                && channel.assign_confirms(at)
            {
                self.confirms_due.push(number);
            }
        }
        for number in std::mem::take(&mut self.core.credit_freed) {
            if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number) {
                channel.hand_on_shared_credit(&mut self.core);
            }
        }
    }

    /// Encodes what the queues assigned, as far as the peer keeps up.
    fn deliver(&mut self) {
        self.core.outbox.drain(&mut self.core.inbox);
        let (mut items, mut bytes) = (0, 0);
        while self.core.out.len() < OUTPUT_BYTES_MAX {
            let Some(item) = self.core.inbox.pop_front() else { break };
            match item {
                Item::Deliver(delivery) => {
                    items += 1;
                    bytes += delivery.entry.message.memory_bytes();
                    let unsent = match self.channels.get_mut(&delivery.channel) {
                        Some(ChannelState::Open(channel)) => {
                            channel.deliver(&mut self.core, delivery).err()
                        }
                        _ => Some(delivery),
                    };
                    if let Some(delivery) = unsent {
                        self.core.give_back(delivery);
                    }
                }
                Item::Reply { channel: number, message } => {
                    items += 1;
                    bytes += message.memory_bytes();
                    if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number) {
                        channel.deliver_reply(&mut self.core, &message);
                    }
                }
                Item::Cancelled { channel: number, consumer } => {
                    if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number) {
                        channel.consumer_cancelled(&mut self.core, consumer);
                    }
                }
            }
        }
        if self.core.inbox.is_empty() && self.core.inbox.capacity() > 1024 {
            self.core.inbox.shrink_to(64);
        }
        self.core.release_outbox(items, bytes);
    }

    fn settle_confirms(&mut self) {
        let reached = self.core.broker.store().reached();
        self.core.release_held(reached.synced);
        let mut due = std::mem::take(&mut self.confirms_due);
        due.retain(|number| match self.channels.get_mut(number) {
            Some(ChannelState::Open(channel)) => channel.settle_confirms(&mut self.core, reached),
            _ => false,
        });
        self.confirms_due = due;
    }

    /// Asks the store to wake us for the next positions that something waits for.
    fn await_store(&mut self, waker: &Arc<dyn Wake>) -> Result<(), End> {
        let confirms =
            self.confirms_due.iter().filter_map(|number| match self.channels.get(number) {
                Some(ChannelState::Open(channel)) => channel.waits_for(),
                _ => None,
            });
        let held = self.core.holds_until().map(|lsn| Progress::at(lsn, Durability::Fsync));
        let store = self.core.broker.store();
        let reached = store.reached();
        let (mut synced, mut written) = (None::<Lsn>, None::<Lsn>);
        for due in confirms.chain(held) {
            // What is reached by now wakes us at once, whichever it is.
            let (next, at) = match due.synced > reached.synced {
                true => (&mut synced, due.synced),
                false => (&mut written, due.written),
            };
            *next = Some(next.map_or(at, |next| next.min(at)));
        }
        if synced.is_none() && written.is_none() {
            return Ok(());
        }
        if store.failure().is_some() {
            return Err(End::refused(refusal::connection_internal_error(), NO_METHOD));
        }
        let is_new = |next: &Lsn, awaited: Lsn, reached| awaited <= reached || *next < awaited;
        let signal = || Arc::new(DurableSignal(Arc::clone(waker)));
        if let Some(next) = synced.filter(|at| is_new(at, self.awaited.synced, reached.synced)) {
            self.awaited.synced = next;
            store.notify(next, signal());
        }
        if let Some(next) = written.filter(|at| is_new(at, self.awaited.written, reached.written)) {
            self.awaited.written = next;
            store.notify_written(next, signal());
        }
        Ok(())
    }

    pub(super) fn refresh_view(&mut self, received_bytes: u64, sent_bytes: u64) {
        self.view_ms = self.core.now.mono_ms;
        self.view_stale = false;
        let channels = self.channels.values().filter_map(|state| match state {
            ChannelState::Open(channel) => Some(channel.view()),
            ChannelState::Closing => None,
        });
        let mut view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.blocked = self.throttle.is_blocked();
        view.received_bytes = received_bytes;
        view.sent_bytes = sent_bytes;
        view.channels = channels.collect();
        view.channels.sort_by_key(|channel| channel.number);
    }
}
