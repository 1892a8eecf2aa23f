//! Queues that a channel or a connection has to do with, for as long as it has.
//!
//! A channel holds a queue once for each of its consumers and each unacknowledged delivery;
//! a connection holds the exclusive queues it declared. Long-lived ones that use a queue per
//! request therefore keep nothing of those that are done with.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::core::Core;
use crate::broker::outbox::ConsumerId;
use crate::broker::queue::Queue;
use crate::broker::vhost::Vhost;
use crate::store::QueueKey;

/// Exclusive queues that a connection may have without a look at whether they are still there.
const OWN_QUEUES_UNCHECKED_MAX: usize = 16;

/// The queues of a channel's consumers and unacknowledged deliveries.
#[derive(Debug, Default)]
pub(super) struct HeldQueues(FxHashMap<QueueKey, Held>);

#[derive(Debug)]
struct Held {
    queue: Arc<Queue>,
    uses: usize,
}

impl HeldQueues {
    /// A consumer or a delivery more.
    pub(super) fn hold(&mut self, queue: &Arc<Queue>) {
        let held = self.0.entry(queue.key());
        held.or_insert_with(|| Held { queue: Arc::clone(queue), uses: 0 }).uses += 1;
    }

    /// A consumer or a delivery less.
    pub(super) fn release(&mut self, key: QueueKey) {
        self.release_after(key, |_| ());
    }

    /// A delivery less, once `settle` has told its queue.
    pub(super) fn release_after(&mut self, key: QueueKey, settle: impl FnOnce(&Arc<Queue>)) {
        let Some(held) = self.0.get_mut(&key) else { return };
        settle(&held.queue);
        held.uses -= 1;
        if held.uses == 0 {
            self.0.remove(&key);
            if self.0.is_empty() {
                self.0.shrink_to(16);
            }
        }
    }

    pub(super) fn get(&self, key: QueueKey) -> Option<&Arc<Queue>> {
        self.0.get(&key).map(|held| &held.queue)
    }
}

/// Consumers that may be able to take more, by queue: each queue is asked once.
#[derive(Debug, Default)]
pub(super) struct Resumption(BTreeMap<QueueKey, (Arc<Queue>, Vec<ConsumerId>)>);

impl Resumption {
    pub(super) fn add(&mut self, queue: &Arc<Queue>, consumer: ConsumerId) {
        let asked = self.0.entry(queue.key()).or_insert_with(|| (Arc::clone(queue), Vec::new()));
        asked.1.push(consumer);
    }

    /// Asks the queues, beginning with another one whenever `turn` is another number: what they
    /// compete for goes to each in turn.
    pub(super) fn run(self, turn: usize, core: &mut Core) {
        let queues: Vec<_> = self.0.into_values().collect();
        let (after, first) = queues.split_at(turn.checked_rem(queues.len()).unwrap_or(0));
        for (queue, consumers) in first.iter().chain(after) {
            queue.resume(consumers, core.now, &mut core.effects);
        }
        core.broker.finish(&mut core.effects, core.now);
    }
}

/// The exclusive queues of a connection, in the order in which they were declared.
#[derive(Debug, Default)]
pub(super) struct OwnQueues {
    by_key: BTreeMap<QueueKey, Arc<Queue>>,
    checked_len: usize,
}

impl OwnQueues {
    /// Adds a queue. Those that have gone by themselves (expired, abandoned, deleted by an
    /// operator) are forgotten whenever there are twice as many as after the last time.
    pub(super) fn add(&mut self, queue: &Arc<Queue>, vhost: &Vhost) {
        self.by_key.insert(queue.key(), Arc::clone(queue));
        if self.by_key.len() > OWN_QUEUES_UNCHECKED_MAX.max(2 * self.checked_len) {
            self.by_key.retain(|key, _| vhost.queue_by_key(*key).is_some());
            self.checked_len = self.by_key.len();
        }
    }

    pub(super) fn remove(&mut self, key: QueueKey) {
        self.by_key.remove(&key);
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Arc<Queue>> + use<> {
        std::mem::take(&mut self.by_key).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Now;
    use crate::broker::paging::Paging;
    use crate::broker::policy::AppliedPolicy;
    use crate::broker::queue::{QueueArgs, QueueSpec};
    use crate::protocol::table::Table;
    use crate::store::memory::MemoryStore;

    fn queue(number: u64) -> Arc<Queue> {
        let spec = QueueSpec {
            key: QueueKey { shard: 0, queue: number },
            vhost: "/".into(),
            name: number.to_string().into(),
            durable: false,
            auto_delete: false,
            owner: None,
            arguments: Table::new(),
            args: QueueArgs::default(),
            delays_for: None,
        };
        Arc::new(Queue::new(
            spec,
            (Arc::new(MemoryStore::new()), Arc::new(Paging::new(1 << 20))),
            AppliedPolicy::default(),
            Now::default(),
        ))
    }

    #[test]
    fn a_queue_is_held_until_its_last_use_ends() {
        let mut held = HeldQueues::default();
        let (one, other) = (queue(1), queue(2));
        held.hold(&one);
        held.hold(&other);
        held.hold(&one);
        held.release(one.key());
        assert!(held.get(one.key()).is_some());
        held.release(one.key());
        assert!(held.get(one.key()).is_none());
        assert_eq!(Arc::strong_count(&one), 1);
        assert!(held.get(other.key()).is_some());
    }

    #[test]
    fn a_connection_forgets_exclusive_queues_that_went_by_themselves() {
        let vhost = Vhost::new("/".into());
        let mut own = OwnQueues::default();
        for number in 0..1_000 {
            own.add(&queue(number), &vhost);
            assert!(own.by_key.len() <= OWN_QUEUES_UNCHECKED_MAX);
        }
    }
}
