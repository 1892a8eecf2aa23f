//! The broker counts as many messages as there are.

use leveret::broker::inspect::Inspect as _;
use leveret::store::Store as _;

use super::World;

impl World {
    /// The broker counts as many messages as there are.
    pub(super) fn check_counts(&mut self) {
        if self.disk.failure().is_some() {
            return;
        }
        for (at, queue) in self.plan.queues.iter().enumerate() {
            let Some(view) = self.broker.queue("/", &queue.name) else { continue };
            let kept = self.judge.stored_in(at);
            let (_, most) = self.judge.unstored_in(at);
            let all = view.messages_ready + view.messages_unacked;
            let other = all.checked_sub(view.messages_persistent);
            if view.messages_persistent != kept || other.is_none_or(|other| other > most) {
                let counted = (view.messages_ready, view.messages_unacked);
                let name = &queue.name;
                self.judge.fail(format!(
                    "{name} counts {counted:?}, {} of them kept; there are {kept} kept and up to \
                     {most} others",
                    view.messages_persistent
                ));
            }
        }
    }

    /// After a start the queues have what the disk has.
    pub(super) fn check_recovered(&mut self) {
        for (at, queue) in self.plan.queues.iter().enumerate() {
            let found = self.broker.queue("/", &queue.name);
            let ready = found.map_or(0, |view| view.messages_ready + view.messages_unacked);
            // What has expired meanwhile is on its way, or gone: the batches say where.
            let is_waiting = queue.ttl_ms.is_none() && queue.length_max.is_none();
            if is_waiting && ready != self.judge.stored_in(at) && self.disk.faulty.unsynced() == 0 {
                let kept = self.judge.stored_in(at);
                self.judge.fail(format!("{} starts with {ready}, kept are {kept}", queue.name));
            }
        }
    }

    pub(super) fn check_expired(&mut self) {
        for (at, queue) in self.plan.queues.iter().enumerate() {
            let left = self.judge.stored_in(at);
            if queue.ttl_ms.is_some() && left > 0 {
                self.judge.fail(format!("{left} messages in {} do not expire", queue.name));
            }
        }
    }

    pub(super) fn check_empty(&mut self) {
        for queue in &self.plan.queues {
            let Some(view) = self.broker.queue("/", &queue.name) else { continue };
            let counted = (view.messages_ready, view.messages_unacked, view.messages_persistent);
            let bytes = (view.bytes_ready, view.bytes_unacked, view.bytes_persistent);
            if (counted, bytes) != ((0, 0, 0), (0, 0, 0)) {
                let name = &queue.name;
                self.judge.fail(format!("{name} is empty and counts {counted:?}, {bytes:?}"));
            }
        }
    }
}
