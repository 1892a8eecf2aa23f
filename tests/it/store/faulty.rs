//! The store that fails on demand keeps the contract, and no more than the contract.

use std::collections::BTreeSet;
use std::sync::Arc;

use leveret::store::faulty::{Faults, FaultyStore, Syncing};
use leveret::store::{DurableWaker, Lsn, Store};

use super::model::{Bell, State, Workload, awaited, put_meta};

#[test]
fn the_watermark_moves_only_with_a_sync() {
    let store = FaultyStore::new(Faults::default());
    let bell = Arc::new(Bell::default());
    let first = store.submit(awaited([put_meta("a", "1")]));
    let second = store.submit(awaited([put_meta("b", "2")]));
    store.notify(first, Arc::clone(&bell) as Arc<dyn DurableWaker>);
    store.notify(second, Arc::clone(&bell) as Arc<dyn DurableWaker>);
    assert_eq!((store.durable(), bell.rung(), store.unsynced()), (Lsn::ZERO, 0, 2));
    assert!(store.backlog_bytes() > 0);
    store.sync_first(1);
    assert_eq!((store.durable(), bell.rung(), store.unsynced()), (first, 1, 1));
    store.sync();
    assert_eq!((store.durable(), bell.rung(), store.unsynced()), (second, 2, 0));
    assert_eq!(store.backlog_bytes(), 0);
}

#[test]
fn a_crash_loses_a_suffix_of_what_was_not_synced_and_nothing_else() {
    let mut survivors = BTreeSet::new();
    for seed in 0..200 {
        let mut workload = Workload::new(seed);
        let store =
            FaultyStore::new(Faults { seed, syncing: Syncing::OneIn(8), ..Faults::default() });
        let mut states = vec![workload.state.clone()];
        for _ in 0..40 {
            store.submit(workload.next_batch());
            states.push(workload.state.clone());
        }
        let durable = store.durable();
        let crashed = store.crash(Faults { seed, ..Faults::default() });
        let state = State::recovered(&crashed);
        assert!(crashed.durable() >= durable, "seed {seed}");
        let kept = usize::try_from(crashed.durable().0).unwrap();
        assert_eq!(state, states[kept], "seed {seed}");
        survivors.insert(crashed.durable().0 - durable.0);
        assert_eq!(crashed.submit(workload.next_batch()).0, kept as u64 + 1);
    }
    assert!(survivors.len() > 5, "crashes differ: {survivors:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let faults = Faults { seed: 9, syncing: Syncing::OneIn(5), ..Faults::default() };
        let store = FaultyStore::new(faults);
        let mut workload = Workload::new(1);
        let durable = |_| {
            store.submit(workload.next_batch());
            store.durable()
        };
        (0..100).map(durable).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_failed_sync_confirms_nothing_and_wakes_everyone() {
    let store = FaultyStore::new(Faults { failing_sync: Some(2), ..Faults::default() });
    let first = store.submit(awaited([put_meta("a", "1")]));
    store.sync();
    let second = store.submit(awaited([put_meta("b", "2")]));
    let bell = Arc::new(Bell::default());
    store.notify(second, Arc::clone(&bell) as Arc<dyn DurableWaker>);
    store.sync();
    assert_eq!(bell.rung(), 1);
    assert!(store.failure().is_some());
    store.sync();
    assert_eq!(store.durable(), first, "a sync is not tried again");
    assert!(store.close().is_err());
}

#[test]
fn a_failed_submit_stops_the_store() {
    let store = FaultyStore::new(Faults { failing_submit: Some(2), ..Faults::default() });
    store.submit(awaited([put_meta("a", "1")]));
    assert!(store.failure().is_none());
    store.submit(awaited([put_meta("b", "2")]));
    assert!(store.failure().is_some());
    store.sync();
    assert_eq!(store.durable(), Lsn::ZERO);
}
