//! Connections that have not logged in yet: how many there may be, in all and from one source.
//!
//! Whoever comes when the lobby is full has the oldest of those inside dropped: someone who is
//! about to log in takes a moment, those who only sit there are the oldest. A source over its own
//! limit drops the oldest of its own, so that it cannot clear the lobby of everyone else.
//!
//! Invariants: a connection is inside from being accepted until it has logged in or its [`Place`]
//! is dropped, whichever comes first; one that was told to go is counted no more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::events::fields;
use crate::broker::limits::Limit;
use crate::broker::logins::Source;
use crate::broker::seldom::Seldom;
use crate::broker::{Broker, Now};
use crate::protocol::table::Table;

/// How many connections may be there without having logged in; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub struct LobbyLimits {
    /// From everywhere.
    pub max: usize,
    /// From one source.
    pub max_per_source: usize,
}

/// Told to go when someone else needs the place.
pub(super) trait Guest: Send + Sync {
    /// It is to be dropped. Must not block and must not call back.
    fn dismiss(&self);
}

/// The connections that have not logged in, oldest first.
pub struct Lobby {
    limits: LobbyLimits,
    broker: Arc<Broker>,
    inside: Mutex<Inside>,
    dropped: Seldom,
}

#[derive(Default)]
struct Inside {
    next: u64,
    guests: BTreeMap<u64, (Source, Arc<dyn Guest>)>,
    /// Those of each source, oldest first. Hashed with std's keyed hash: clients choose where they
    /// come from.
    by_source: HashMap<Source, BTreeSet<u64>>,
}

/// A place in the lobby, until it is dropped.
pub(super) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Default for LobbyLimits {
    fn default() -> Self {
        Self { max: 1_000, max_per_source: 64 }
    }
}

impl Lobby {
    /// An empty lobby of this node.
    #[must_use]
    pub fn new(limits: LobbyLimits, broker: Arc<Broker>) -> Arc<Self> {
        Arc::new(Self { limits, broker, inside: Mutex::default(), dropped: Seldom::default() })
    }

    /// Someone comes in; whoever has to make room for that is dismissed.
    pub(super) fn enter(
        self: &Arc<Self>,
        source: Source,
        guest: Arc<dyn Guest>,
        now: Now,
    ) -> Place {
        let LobbyLimits { max, max_per_source } = self.limits;
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inside.next;
        inside.next += 1;
        let of_source = inside.by_source.get(&source);
        let own = of_source.filter(|own| max_per_source > 0 && own.len() >= max_per_source);
        let (oldest, limit) = match own.and_then(|own| own.first().copied()) {
            Some(oldest) => (Some(oldest), Limit::HalfOpenMaxPerAddress),
            None if max > 0 && inside.guests.len() >= max => {
                (inside.guests.keys().next().copied(), Limit::HalfOpenMax)
            }
            None => (None, Limit::HalfOpenMax),
        };
        let dismissed = oldest.and_then(|oldest| inside.remove(oldest));
        inside.guests.insert(number, (source, guest));
        inside.by_source.entry(source).or_default().insert(number);
        self.count(&inside);
        drop(inside);
        if let Some(dismissed) = dismissed {
            self.broker.counters().limits.note(limit);
            dismissed.dismiss();
            if let Some(dropped) = self.dropped.happened(now) {
                self.broker.emit_aside("limit.hit", now, || {
                    Table::new().with("limit", limit.name()).with("times", fields::integer(dropped))
                });
                tracing::warn!(
                    limit = limit.name(),
                    dropped,
                    "connections that had not logged in were dropped to make room for others"
                );
            }
        }
        Place { lobby: Arc::clone(self), number }
    }

    fn count(&self, inside: &Inside) {
        let half_open = inside.guests.len() as u64;
        self.broker.counters().half_open.store(half_open, Ordering::Relaxed);
    }
}

impl Inside {
    fn remove(&mut self, number: u64) -> Option<Arc<dyn Guest>> {
        let (source, guest) = self.guests.remove(&number)?;
        if let Some(own) = self.by_source.get_mut(&source) {
            own.remove(&number);
            if own.is_empty() {
                self.by_source.remove(&source);
            }
        }
        Some(guest)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.lobby.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.remove(self.number);
        self.lobby.count(&inside);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::broker::BrokerSettings;
    use crate::store::memory::MemoryStore;

    #[derive(Default)]
    struct Sitting(AtomicBool);

    impl Guest for Sitting {
        fn dismiss(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn lobby(max: usize, max_per_source: usize) -> Arc<Lobby> {
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let store = Arc::new(MemoryStore::new());
        let settings = BrokerSettings::default();
        let broker = Broker::open(settings, store, entropy, Now::default()).unwrap();
        Lobby::new(LobbyLimits { max, max_per_source }, broker)
    }

    fn enter(lobby: &Arc<Lobby>, source: u64) -> (Arc<Sitting>, Place) {
        let guest = Arc::new(Sitting::default());
        let place = lobby.enter(Source(source), Arc::<Sitting>::clone(&guest), Now::default());
        (guest, place)
    }

    fn gone(guests: &[(Arc<Sitting>, Place)]) -> Vec<usize> {
        let gone = |at: &usize| guests[*at].0.0.load(Ordering::SeqCst);
        (0..guests.len()).filter(gone).collect()
    }

    #[test]
    fn the_oldest_makes_room_when_the_lobby_is_full() {
        let lobby = lobby(3, 0);
        let guests: Vec<_> = (0..5).map(|source| enter(&lobby, source)).collect();
        assert_eq!(gone(&guests), [0, 1]);
        assert_eq!(lobby.broker.counters().half_open.load(Ordering::Relaxed), 3);
        assert_eq!(lobby.broker.counters().limits.of(Limit::HalfOpenMax), 2);
    }

    #[test]
    fn a_source_over_its_limit_drops_its_own() {
        let lobby = lobby(4, 2);
        let guests: Vec<_> = [1, 2, 2, 2, 2].map(|source| enter(&lobby, source)).into();
        assert_eq!(gone(&guests), [1, 2]);
        assert_eq!(lobby.broker.counters().limits.of(Limit::HalfOpenMaxPerAddress), 2);
        assert_eq!(lobby.broker.counters().limits.of(Limit::HalfOpenMax), 0);
    }

    #[test]
    fn whoever_logs_in_leaves_and_is_dropped_no_more() {
        let lobby = lobby(2, 2);
        let (first, place) = enter(&lobby, 1);
        drop(place);
        let others: Vec<_> = (0..2).map(|_| enter(&lobby, 1)).collect();
        assert!(!first.0.load(Ordering::SeqCst));
        assert_eq!(gone(&others), [0; 0]);
        drop(others);
        assert!(lobby.inside.lock().unwrap().by_source.is_empty());
        assert_eq!(lobby.broker.counters().half_open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_limits_nobody_is_dropped() {
        let lobby = lobby(0, 0);
        let guests: Vec<_> = (0..5_000).map(|_| enter(&lobby, 1)).collect();
        assert_eq!(gone(&guests), [0; 0]);
    }
}
