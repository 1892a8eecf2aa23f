//! The triggers of a vhost, by their names and by the queues that they watch.
//!
//! Invariant: both hold the same triggers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Trigger;

/// A vhost's triggers.
#[derive(Debug, Default)]
pub(in crate::broker) struct Registry {
    by_name: BTreeMap<Arc<str>, Arc<Trigger>>,
    by_queue: HashMap<Arc<str>, Vec<Arc<Trigger>>>,
}

impl Registry {
    /// The trigger of this name.
    pub(in crate::broker) fn get(&self, name: &str) -> Option<&Arc<Trigger>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub(in crate::broker) fn all(&self) -> impl Iterator<Item = &Arc<Trigger>> {
        self.by_name.values()
    }

    /// Those that watch a queue.
    pub(in crate::broker) fn of_queue(&self, queue: &str) -> &[Arc<Trigger>] {
        self.by_queue.get(queue).map_or(&[], Vec::as_slice)
    }

    /// Adds a trigger in place of the one with its name, which it returns.
    pub(in crate::broker) fn insert(&mut self, trigger: Arc<Trigger>) -> Option<Arc<Trigger>> {
        let replaced = self.remove(&trigger.name);
        let of_queue = self.by_queue.entry(Arc::clone(&trigger.spec.queue)).or_default();
        of_queue.push(Arc::clone(&trigger));
        self.by_name.insert(Arc::clone(&trigger.name), trigger);
        replaced
    }

    /// Takes a trigger away.
    pub(in crate::broker) fn remove(&mut self, name: &str) -> Option<Arc<Trigger>> {
        let removed = self.by_name.remove(name)?;
        if let Some(of_queue) = self.by_queue.get_mut(&removed.spec.queue) {
            of_queue.retain(|trigger| !Arc::ptr_eq(trigger, &removed));
            if of_queue.is_empty() {
                self.by_queue.remove(&removed.spec.queue);
            }
        }
        Some(removed)
    }
}
