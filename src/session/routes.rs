//! A connection's memory of where messages go.
//!
//! Publishers repeat themselves: the same exchange and key, again and again. The answer is kept
//! until the vhost's topology changes. Keys are chosen by clients, so the map hashes them safely
//! and is emptied when it grows too large.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::queue::Queue;

const ROUTES_MAX: usize = 4096;

/// Where messages with one exchange and key go.
#[derive(Debug)]
pub(super) struct Route {
    exchange_len: u8,
    /// Exchange and routing key, joined.
    name: Box<[u8]>,
    /// The queues.
    pub(super) queues: Vec<Arc<Queue>>,
    /// Whether one of the queues may refuse a publish.
    pub(super) may_reject: bool,
}

impl Route {
    fn is(&self, exchange: &[u8], key: &[u8]) -> bool {
        self.name.len() == exchange.len() + key.len()
            && usize::from(self.exchange_len) == exchange.len()
            && self.name[exchange.len()..] == *key
            && self.name[..exchange.len()] == *exchange
    }
}

/// Known routes of one connection.
#[derive(Debug, Default)]
pub(super) struct Routes {
    generation: u64,
    known: Vec<Route>,
    by_name: HashMap<(u8, Box<[u8]>), usize>,
    last: usize,
    scratch: Vec<u8>,
}

impl Routes {
    /// The route, if it is known and `generation` is still the one it was learnt in.
    pub(super) fn find(&mut self, generation: u64, exchange: &[u8], key: &[u8]) -> Option<usize> {
        if generation != self.generation {
            self.clear();
            self.generation = generation;
            return None;
        }
        if self.known.get(self.last).is_some_and(|route| route.is(exchange, key)) {
            return Some(self.last);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(exchange);
        self.scratch.extend_from_slice(key);
        let name = (u8::try_from(exchange.len()).ok()?, self.scratch.as_slice().into());
        let at = *self.by_name.get(&name)?;
        self.last = at;
        Some(at)
    }

    /// Remembers a route that was found under `generation`.
    pub(super) fn learn(
        &mut self,
        generation: u64,
        exchange: &[u8],
        key: &[u8],
        queues: Vec<Arc<Queue>>,
    ) -> usize {
        if generation != self.generation || self.known.len() >= ROUTES_MAX {
            self.clear();
            self.generation = generation;
        }
        let exchange_len = u8::try_from(exchange.len()).unwrap_or(u8::MAX);
        let name: Box<[u8]> = [exchange, key].concat().into();
        let may_reject = queues.iter().any(|queue| queue.may_reject());
        let at = self.known.len();
        self.by_name.insert((exchange_len, name.clone()), at);
        self.known.push(Route { exchange_len, name, queues, may_reject });
        self.last = at;
        at
    }

    /// A known route.
    pub(super) fn at(&self, at: usize) -> &Route {
        &self.known[at]
    }

    fn clear(&mut self) {
        self.known.clear();
        self.by_name.clear();
        self.last = 0;
    }
}
