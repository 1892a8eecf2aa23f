//! Fanout exchanges: every binding matches; key and arguments only tell bindings apart.

use super::Destination;
use super::arguments::label;
use super::targets::{Target, Targets};
use crate::protocol::table::Table;

/// The bindings of a fanout exchange.
#[derive(Debug, Default)]
pub struct FanoutMatcher {
    targets: Targets,
    bindings: usize,
}

impl FanoutMatcher {
    /// See [`Matcher::bind`](super::Matcher::bind); any key and arguments will do.
    pub fn bind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        if self.targets.insert(Target { destination, label: label(key, arguments) }) {
            self.bindings += 1;
        }
    }

    /// See [`Matcher::unbind`](super::Matcher::unbind).
    pub fn unbind(&mut self, key: &[u8], arguments: &Table, destination: Destination) {
        if self.targets.remove(&Target { destination, label: label(key, arguments) }) {
            self.bindings -= 1;
        }
    }

    /// See [`Matcher::matches`](super::Matcher::matches).
    pub fn matches(&self, out: &mut Vec<Destination>) {
        self.targets.collect(out);
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
