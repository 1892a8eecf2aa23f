//! The store's contract, written once and run against every store, and what each adds to it.

#[cfg(feature = "rocksdb")]
mod apart;
#[cfg(feature = "rocksdb")]
mod backup;
#[cfg(feature = "rocksdb")]
mod crash;
#[cfg(feature = "rocksdb")]
mod damage;
#[cfg(feature = "rocksdb")]
mod disk;
#[cfg(feature = "rocksdb")]
mod ending;
mod faulty;
mod model;
#[cfg(feature = "rocksdb")]
mod refusals;
#[cfg(feature = "rocksdb")]
mod salvage;
#[cfg(feature = "rocksdb")]
mod trouble;

use std::sync::Arc;

use leveret::store::faulty::{Faults, FaultyStore, Syncing};
use leveret::store::memory::MemoryStore;
use leveret::store::{Backlog, DurableWaker, Lsn, Op, QueueKey, QueueSeq, ReadLimit, Store};

use model::{
    Bell, State, Workload, awaited, counts, del_meta, drop_queue, enqueue, message, purge,
    put_meta, queue, settle, unawaited, wait_for,
};

/// Somewhere a store lives, so that it can be started there again.
trait Place: Sized {
    fn new() -> Self;
    fn store(&self) -> &dyn Store;
    /// Closes the store and starts it again.
    fn restarted(self) -> Self;

    /// Submits a batch and waits until it is durable.
    fn commit(&self, batch: leveret::store::Batch) -> Lsn {
        let lsn = self.store().submit(batch);
        wait_for(self.store(), lsn);
        assert!(self.store().durable() >= lsn, "{:?}", self.store().failure());
        lsn
    }

    /// The bodies that a read finds, with their numbers.
    fn read(&self, of: u64, from: u64, messages_max: usize) -> Vec<(u64, Vec<u8>)> {
        let limit = ReadLimit { messages: messages_max, bytes: usize::MAX };
        let read = self.store().read(queue(of), QueueSeq(from), limit).unwrap();
        read.into_iter().map(|(seq, message)| (seq.0, message.body().to_vec())).collect()
    }
}

struct Memory(MemoryStore);

impl Place for Memory {
    fn new() -> Self {
        Self(MemoryStore::new())
    }
    fn store(&self) -> &dyn Store {
        &self.0
    }
    fn restarted(self) -> Self {
        self.0.close().unwrap();
        Self(self.0.restarted())
    }
}

struct Faulty(FaultyStore);

impl Place for Faulty {
    fn new() -> Self {
        Self(FaultyStore::new(Faults { syncing: Syncing::OneIn(1), ..Faults::default() }))
    }
    fn store(&self) -> &dyn Store {
        &self.0
    }
    fn restarted(self) -> Self {
        self.0.close().unwrap();
        Self(self.0.crash(Faults { syncing: Syncing::OneIn(1), ..Faults::default() }))
    }
    fn commit(&self, batch: leveret::store::Batch) -> Lsn {
        let lsn = self.0.submit(batch);
        self.0.sync();
        assert!(self.0.durable() >= lsn);
        lsn
    }
}

#[cfg(feature = "rocksdb")]
struct Disk {
    store: leveret::store::rocks::RocksStore,
    dir: tempfile::TempDir,
}

#[cfg(feature = "rocksdb")]
impl Place for Disk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Self::open(dir.path()).unwrap(), dir }
    }
    fn store(&self) -> &dyn Store {
        &self.store
    }
    fn restarted(self) -> Self {
        self.store.close().unwrap();
        drop(self.store);
        Self { store: Self::open(self.dir.path()).unwrap(), dir: self.dir }
    }
}

macro_rules! for_every_store {
    ($($test:ident)*) => {
        mod memory {
            $(#[test] fn $test() { super::$test::<super::Memory>() })*
        }
        mod faulty_store {
            $(#[test] fn $test() { super::$test::<super::Faulty>() })*
        }
        #[cfg(feature = "rocksdb")]
        mod rocks {
            $(#[test] fn $test() { super::$test::<super::Disk>() })*
        }
    };
}

for_every_store! {
    a_batch_becomes_durable_and_wakes_whoever_waits
    places_increase_and_an_empty_batch_takes_none
    places_go_on_after_a_restart
    definitions_and_messages_are_found_again
    settled_messages_are_gone_and_their_numbers_are_not_reused
    a_purge_takes_a_range_and_leaves_the_rest
    a_purge_spares_what_comes_after_it
    a_purge_of_more_than_there_is_stops_the_store
    counts_and_bytes_are_known_after_a_restart_without_reading
    levels_of_a_queue_know_nothing_of_each_other
    a_read_stops_after_so_many_bytes
    a_dropped_queue_leaves_nothing
    settling_what_is_unknown_changes_nothing
    a_read_starts_and_stops_where_it_is_told
    a_read_sees_what_was_only_just_submitted
    bodies_of_any_size_come_back_whole
    numbers_that_run_backwards_stop_the_store
    a_closed_store_takes_nothing_and_says_so
    whoever_waits_for_what_never_comes_is_woken_by_the_close
    many_threads_get_places_in_the_order_of_their_queues
    any_workload_is_found_again_as_it_was
}

fn a_batch_becomes_durable_and_wakes_whoever_waits<P: Place>() {
    let place = P::new();
    let store = place.store();
    assert_eq!(store.durable(), Lsn::ZERO);
    let lsn = place.commit(awaited([enqueue(1, 1, b"hello")]));
    let early = Arc::new(Bell::default());
    store.notify(lsn, Arc::clone(&early) as Arc<dyn DurableWaker>);
    assert_eq!(early.rung(), 1, "what is durable already wakes at once");
    assert_eq!(store.backlog_bytes(), 0);
    assert!(store.failure().is_none());
    let counters = store.counters();
    assert_eq!((counters.batches, counters.ops), (1, 1));
}

fn places_increase_and_an_empty_batch_takes_none<P: Place>() {
    let place = P::new();
    let first = place.store().submit(awaited([put_meta("a", "1")]));
    assert_eq!(place.store().submit(awaited([])), first);
    let second = place.store().submit(unawaited([put_meta("b", "2")]));
    assert!(Lsn::ZERO < first && first < second);
}

fn places_go_on_after_a_restart<P: Place>() {
    let place = P::new();
    let before = place.commit(awaited([put_meta("a", "1")]));
    let place = place.restarted();
    assert_eq!(place.store().durable(), before);
    let after = place.commit(awaited([put_meta("a", "2")]));
    assert_eq!(after, Lsn(before.0 + 1));
}

fn definitions_and_messages_are_found_again<P: Place>() {
    let place = P::new();
    place.commit(awaited([
        put_meta("queue/b", "2"),
        put_meta("queue/a", "1"),
        put_meta("queue/gone", "3"),
        enqueue(2, 10, b"ten"),
        enqueue(1, 1, b"one"),
        enqueue(2, 12, b"twelve"),
    ]));
    place.commit(awaited([del_meta("queue/gone"), put_meta("queue/a", "new")]));
    let place = place.restarted();
    let state = State::recovered(place.store());
    let meta: Vec<_> = state.meta.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    assert_eq!(meta, [(&b"queue/a"[..], &b"new"[..]), (b"queue/b", b"2")]);
    assert_eq!(state.queues[&queue(1)].tail, 2);
    assert_eq!(state.queues[&queue(2)].tail, 13);
    assert_eq!(place.read(2, 0, 9), [(10, b"ten".to_vec()), (12, b"twelve".to_vec())]);
}

fn settled_messages_are_gone_and_their_numbers_are_not_reused<P: Place>() {
    let place = P::new();
    place.commit(awaited((0..10).map(|seq| enqueue(1, seq, b"x"))));
    place.commit(awaited([settle(1, 0, 1), settle(1, 1, 1), settle(1, 5, 1), settle(1, 9, 1)]));
    let place = place.restarted();
    let state = State::recovered(place.store());
    let left: Vec<u64> = state.queues[&queue(1)].bodies.keys().copied().collect();
    assert_eq!(left, [2, 3, 4, 6, 7, 8]);
    assert_eq!(state.queues[&queue(1)].tail, 10);
    // Out-of-order settles before the restart join with those after it.
    place.commit(awaited([2, 3, 4, 6, 7, 8].map(|seq| settle(1, seq, 1))));
    let place = place.restarted();
    let state = State::recovered(place.store());
    assert!(state.queues[&queue(1)].bodies.is_empty());
    assert_eq!(state.queues[&queue(1)].tail, 10);
}

fn a_purge_takes_a_range_and_leaves_the_rest<P: Place>() {
    let place = P::new();
    place.commit(awaited((0..100).map(|seq| enqueue(1, seq, b"xy"))));
    place.commit(awaited([settle(1, 20, 2), purge(1, 4..20, 16, 2), purge(1, 20..90, 69, 2)]));
    let left =
        |place: &P| -> Vec<u64> { place.read(1, 0, 100).into_iter().map(|(seq, _)| seq).collect() };
    let expected: Vec<u64> = (0..4).chain(90..100).collect();
    assert_eq!(left(&place), expected);
    let place = place.restarted();
    State::recovered(place.store());
    assert_eq!(left(&place), expected);
}

fn a_purge_spares_what_comes_after_it<P: Place>() {
    let place = P::new();
    place.commit(awaited([
        enqueue(1, 0, b"before"),
        purge(1, 0..1_000, 1, 6),
        enqueue(1, 1, b"after"),
        settle(1, 2, 0),
        enqueue(1, 2, b"settled before it came: unknown"),
    ]));
    let expected = [(1, b"after".to_vec()), (2, b"settled before it came: unknown".to_vec())];
    assert_eq!(place.read(1, 0, 9), expected);
    let place = place.restarted();
    State::recovered(place.store());
    assert_eq!(place.read(1, 0, 9), expected);
}

fn a_purge_of_more_than_there_is_stops_the_store<P: Place>() {
    let place = P::new();
    let good = place.commit(awaited([enqueue(1, 5, b"x")]));
    let bad = place.store().submit(awaited([purge(1, 0..9, 2, 1)]));
    wait_for(place.store(), bad);
    assert_eq!(place.store().durable(), good);
    assert!(place.store().failure().is_some());
}

fn counts_and_bytes_are_known_after_a_restart_without_reading<P: Place>() {
    let mut place = P::new();
    place.commit(awaited(
        (0..10).map(|seq| enqueue(1, 2 * seq, &vec![0; 10 + usize::try_from(seq).unwrap()])),
    ));
    place.commit(awaited([settle(1, 0, 10), settle(1, 10, 15), enqueue(2, 7, b"seven")]));
    for _ in 0..2 {
        place = place.restarted();
        let counts = counts(place.store());
        let first = Backlog {
            queue: queue(1),
            from: QueueSeq(counts[0].from.0),
            next: 19,
            messages: 8,
            body_bytes: (10..20).sum::<u64>() - 25,
        };
        assert_eq!(counts[0], first);
        assert!((1..=2).contains(&counts[0].from.0), "{:?}", counts[0].from);
        let second =
            Backlog { queue: queue(2), from: QueueSeq(7), next: 8, messages: 1, body_bytes: 5 };
        assert_eq!(counts[1..], [second]);
    }
    // Out of order, and not from where the first one lies.
    assert_eq!(place.read(1, 5, 2).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [6, 8]);
    place.commit(awaited([settle(1, 8, 14), settle(1, 6, 13)]));
    let place = place.restarted();
    assert_eq!(counts(place.store())[0].messages, 6);
    let all: Vec<u64> = place.read(1, 0, 99).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(all, [2, 4, 12, 14, 16, 18]);
    assert!(place.store().failure().is_none());
}

fn levels_of_a_queue_know_nothing_of_each_other<P: Place>() {
    let place = P::new();
    let at = |level, number| QueueSeq::new(level, number);
    let put =
        |seq: QueueSeq, body: &[u8]| Op::Enqueue { queue: queue(1), seq, message: message(body) };
    place.commit(awaited([
        put(at(9, 1), b"high"),
        put(at(0, 1), b"low"),
        put(at(9, 2), b"second"),
    ]));
    place.commit(awaited([put(at(0, 2), b"last")]));
    let read = |place: &P, from| {
        let limit = ReadLimit { messages: 9, bytes: usize::MAX };
        place
            .store()
            .read(queue(1), from, limit)
            .unwrap()
            .into_iter()
            .map(|(seq, _)| seq)
            .collect::<Vec<_>>()
    };
    assert_eq!(read(&place, at(9, 0)), [at(9, 1), at(9, 2)]);
    assert_eq!(read(&place, at(0, 2)), [at(0, 2)]);
    assert_eq!(read(&place, at(3, 0)), []);
    let gone = Op::Settle { queue: queue(1), seq: at(9, 1), body_bytes: 4 };
    place.commit(awaited([gone]));
    let place = place.restarted();
    let found: Vec<_> = counts(place.store())
        .iter()
        .map(|it| (it.from.level(), it.next, it.messages, it.body_bytes))
        .collect();
    assert_eq!(found, [(0, 3, 2, 7), (9, 3, 1, 6)]);
    assert_eq!(read(&place, at(9, 0)), [at(9, 2)]);
    place.commit(awaited([Op::DropQueue { queue: queue(1), level_max: 9 }]));
    assert!(counts(place.restarted().store()).is_empty());
}

fn a_read_stops_after_so_many_bytes<P: Place>() {
    let place = P::new();
    place.commit(awaited((0..50).map(|seq| enqueue(1, seq, &[7; 1_000]))));
    let read = |bytes| {
        let limit = ReadLimit { messages: 99, bytes };
        place.store().read(queue(1), QueueSeq(0), limit).unwrap().len()
    };
    assert_eq!((read(0), read(1), read(1_000), read(5_000)), (1, 1, 1, 5));
}

fn a_dropped_queue_leaves_nothing<P: Place>() {
    let place = P::new();
    place.commit(awaited((0..200).flat_map(|seq| [enqueue(1, seq, b"x"), enqueue(2, seq, b"y")])));
    place.commit(awaited([enqueue(1, 200, b"x"), drop_queue(1), drop_queue(7)]));
    assert_eq!(place.read(1, 0, 9), []);
    let place = place.restarted();
    let state = State::recovered(place.store());
    assert_eq!(state.queues.keys().copied().collect::<Vec<_>>(), [queue(2)]);
    assert_eq!(state.queues[&queue(2)].bodies.len(), 200);
}

fn settling_what_is_unknown_changes_nothing<P: Place>() {
    let place = P::new();
    place.commit(awaited([enqueue(1, 5, b"five"), enqueue(1, 8, b"eight")]));
    place.commit(awaited([settle(1, 0, 4), settle(1, 6, 4), settle(1, 99, 4), settle(3, 1, 4)]));
    place.commit(awaited([settle(1, 5, 4), settle(1, 5, 4), purge(4, 0..8, 0, 0)]));
    assert_eq!(place.read(1, 0, 9), [(8, b"eight".to_vec())]);
    let place = place.restarted();
    let state = State::recovered(place.store());
    assert_eq!(state.queues.len(), 1);
    assert_eq!(place.read(1, 0, 9), [(8, b"eight".to_vec())]);
}

fn a_read_starts_and_stops_where_it_is_told<P: Place>() {
    let place = P::new();
    place.commit(awaited((0..50).map(|seq| enqueue(1, 2 * seq, b"x"))));
    place.commit(awaited((10..40).map(|seq| settle(1, 2 * seq, 1))));
    let numbers = |from, max| -> Vec<u64> {
        place.read(1, from, max).into_iter().map(|(seq, _)| seq).collect()
    };
    assert_eq!(numbers(0, 3), [0, 2, 4]);
    assert_eq!(numbers(17, 3), [18, 80, 82]);
    assert_eq!(numbers(96, 9), [96, 98]);
    assert_eq!(numbers(99, 9), [0u64; 0]);
    assert_eq!(numbers(0, 0), [0u64; 0]);
    assert_eq!(place.read(9, 0, 9), []);
}

fn a_read_sees_what_was_only_just_submitted<P: Place>() {
    let place = P::new();
    let store = place.store();
    for round in 0..200 {
        let seq = 10 * round;
        store.submit(unawaited([enqueue(1, seq, b"a"), enqueue(1, seq + 1, b"b")]));
        store.submit(unawaited([settle(1, seq, 1), enqueue(1, seq + 2, b"c")]));
        assert_eq!(place.read(1, seq, 9), [(seq + 1, b"b".to_vec()), (seq + 2, b"c".to_vec())]);
        store.submit(unawaited([purge(1, 0..seq + 2, 1, 1)]));
        assert_eq!(place.read(1, seq, 9), [(seq + 2, b"c".to_vec())]);
        store.submit(unawaited([settle(1, seq + 2, 1)]));
        assert_eq!(place.read(1, 0, 9), []);
    }
    store.submit(unawaited([enqueue(1, 5_000, b"z"), drop_queue(1)]));
    assert_eq!(place.read(1, 0, 9), []);
}

fn bodies_of_any_size_come_back_whole<P: Place>() {
    let place = P::new();
    let sizes = [0, 1, 16_384, 16_385, 300_000, 3_000_000];
    let body = |size: usize| -> Vec<u8> { (0..=255).cycle().take(size).collect() };
    for (seq, size) in (0..).zip(sizes) {
        place.store().submit(unawaited([enqueue(1, seq, &body(size))]));
    }
    place.commit(awaited([put_meta("end", "")]));
    let place = place.restarted();
    State::recovered(place.store());
    for ((_, found), size) in place.read(1, 0, 9).iter().zip(sizes) {
        assert!(*found == body(size), "the body of {size} bytes");
    }
    assert_eq!(place.read(1, 0, 9).len(), sizes.len());
}

fn numbers_that_run_backwards_stop_the_store<P: Place>() {
    let place = P::new();
    let store = place.store();
    let good = place.commit(awaited([enqueue(1, 5, b"x")]));
    let bad = store.submit(awaited([enqueue(1, 5, b"y")]));
    wait_for(store, bad);
    assert_eq!(store.durable(), good);
    assert!(store.failure().is_some_and(|failure| failure.to_string().contains("number 5")));
    let later = store.submit(awaited([enqueue(1, 6, b"z")]));
    wait_for(store, later);
    assert_eq!(store.durable(), good, "nothing is confirmed after a failure");
    assert!(store.close().is_err());
}

fn a_closed_store_takes_nothing_and_says_so<P: Place>() {
    let place = P::new();
    place.store().submit(unawaited([put_meta("kept", "nobody waited, closing wrote it")]));
    place.store().close().unwrap();
    place.store().close().unwrap();
    let durable = place.store().durable();
    let late = place.store().submit(awaited([put_meta("late", "")]));
    assert_eq!(late, Lsn::NEVER, "what a closed store does not take must not look durable");
    assert_eq!(place.store().durable(), durable);
    let place = place.restarted();
    let state = State::recovered(place.store());
    assert_eq!(state.meta.len(), 1);
}

fn whoever_waits_for_what_never_comes_is_woken_by_the_close<P: Place>() {
    let place = P::new();
    let store = place.store();
    let (early, late) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    store.notify(Lsn::NEVER, Arc::clone(&early) as Arc<dyn DurableWaker>);
    let last = store.submit(unawaited([put_meta("a", "1")]));
    assert_eq!(early.rung(), 0);
    store.close().unwrap();
    early.wait();
    assert!(store.durable() >= last);
    store.notify(Lsn::NEVER, Arc::clone(&late) as Arc<dyn DurableWaker>);
    late.wait();
    assert_eq!((early.rung(), late.rung()), (1, 1));
}

fn many_threads_get_places_in_the_order_of_their_queues<P: Place + Sync>() {
    let place = P::new();
    std::thread::scope(|scope| {
        for of in 0..8 {
            let place = &place;
            scope.spawn(move || {
                let mut last = Lsn::ZERO;
                for seq in 0..300 {
                    let lsn = place.store().submit(unawaited([enqueue(of, seq, b"x")]));
                    assert!(lsn > last);
                    last = lsn;
                    if seq % 50 == 49 {
                        place.commit(awaited([settle(of, seq, 1)]));
                    }
                }
            });
        }
    });
    place.commit(awaited([put_meta("end", "")]));
    let place = place.restarted();
    let state = State::recovered(place.store());
    assert_eq!(state.queues.len(), 8);
    assert!(state.queues.values().all(|queue| queue.bodies.len() == 294 && queue.tail == 300));
}

fn any_workload_is_found_again_as_it_was<P: Place>() {
    for seed in 0..8 {
        let mut place = P::new();
        let mut workload = Workload::new(seed);
        for _ in 0..6 {
            for _ in 0..150 {
                place.store().submit(workload.next_batch());
            }
            check_reads(&place, &workload.state, false);
            place.commit(awaited([]));
            check_reads(&place, &workload.state, true);
            place = place.restarted();
            assert_eq!(State::recovered(place.store()), workload.state, "seed {seed}");
            check_reads(&place, &workload.state, true);
        }
    }
}

/// Reads see all there is. What is settled may be shown for as long as that is not written.
fn check_reads<P: Place>(place: &P, state: &State, all_written: bool) {
    for (QueueKey { queue, .. }, expected) in &state.queues {
        let middle = expected.tail / 2;
        let mut read = place.read(*queue, middle, 20);
        if !all_written {
            read.retain(|(seq, _)| expected.bodies.contains_key(seq));
        }
        let bodies =
            expected.bodies.range(middle..).take(if all_written { 20 } else { read.len() });
        let bodies: Vec<_> = bodies.map(|(seq, body)| (*seq, body.clone())).collect();
        let sizes = |bodies: &[(u64, Vec<u8>)]| -> Vec<(u64, usize)> {
            bodies.iter().map(|(seq, body)| (*seq, body.len())).collect()
        };
        assert!(read == bodies, "{:?} where {:?} was due", sizes(&read), sizes(&bodies));
    }
}
