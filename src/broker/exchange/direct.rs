//! Direct exchanges: a binding matches when its key equals the routing key, byte for byte.
//!
//! Invariant: no key is kept without a binding.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Destination;
use super::arguments::label;
use super::targets::{Target, Targets};
use crate::protocol::table::Table;

/// The bindings of a direct exchange, by key.
#[derive(Debug, Default)]
pub struct DirectMatcher {
    // Hashed with std's keyed hash: clients choose the keys.
    keys: HashMap<Box<[u8]>, Targets>,
    bindings: usize,
}

impl DirectMatcher {
    /// See [`Matcher::bind`](super::Matcher::bind); any key and arguments will do.
    pub fn bind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        let target = Target { destination, label: label(&[], arguments) };
        if self.keys.entry(key.into()).or_default().insert(target) {
            self.bindings += 1;
        }
    }

    /// See [`Matcher::unbind`](super::Matcher::unbind).
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        let target = Target { destination, label: label(&[], arguments) };
        let Entry::Occupied(mut entry) = self.keys.entry(key.into()) else { return };
        if entry.get_mut().remove(&target) {
            self.bindings -= 1;
        }
        if entry.get().is_empty() {
            entry.remove();
        }
        if self.bindings == 0 {
            *self = Self::default();
        }
    }

    /// See [`Matcher::matches`](super::Matcher::matches).
    pub fn matches(&self, key: &[u8], out: &mut Vec<Destination>) {
        if let Some(targets) = self.keys.get(key) {
            targets.collect(out);
        }
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings == 0
    }
}
