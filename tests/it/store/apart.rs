//! A message in several queues lies on disk once, stays for as long as one of them has it, and
//! gives its space back when none has.

use std::thread;
use std::time::Duration;

use leveret::store::rocks::{Options, RocksStore};
use leveret::store::{Op, QueueSeq, ReadLimit, Store};

use super::disk::tables_bytes;
use super::model::{
    Random, State, awaited, drop_queue, message, queue, settle, unawaited, wait_for,
};
use super::{Disk, Place};

const QUEUES: u64 = 10;

fn noise(random: &mut Random, bytes: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.below(256).to_le_bytes()[0]).take(bytes).collect()
}

/// One message to every queue, under the same number.
fn fan_out(seq: u64, body: &[u8]) -> Vec<Op> {
    let message = message(body);
    let to = |of| Op::Enqueue { queue: queue(of), seq: QueueSeq(seq), message: message.clone() };
    (0..QUEUES).map(to).collect()
}

#[test]
fn a_message_in_ten_queues_is_written_once_and_found_in_each() {
    let mut disk = Disk::new();
    let mut random = Random(1);
    let bodies: Vec<Vec<u8>> = (0..20).map(|_| noise(&mut random, 10 << 10)).collect();
    for (seq, body) in (0..).zip(&bodies) {
        disk.commit(awaited(fan_out(seq, body)));
    }
    let written = disk.store.counters().bytes_written;
    assert!(written < 20 * (12 << 10), "{written} bytes for 20 messages of 10 KiB");
    for _ in 0..2 {
        for of in 0..QUEUES {
            let read = disk.read(of, 0, 100);
            assert!(read.into_iter().map(|(_, body)| body).eq(bodies.iter().cloned()));
        }
        disk = disk.restarted();
        let found = State::recovered(&disk.store);
        assert!(found.queues.values().all(|queue| queue.bodies.values().eq(&bodies)));
    }
}

#[test]
fn what_all_queues_but_one_are_done_with_within_a_group_is_still_there_for_that_one() {
    let disk = Disk::new();
    let body = vec![7; 8 << 10];
    // Nobody awaits: both batches become one write.
    disk.store.submit(unawaited(fan_out(0, &body)));
    let settles = (1..QUEUES).map(|of| settle(of, 0, 8 << 10));
    disk.store.submit(unawaited(settles));
    disk.commit(awaited([super::put_meta("done", "")]));
    let disk = disk.restarted();
    assert_eq!(disk.read(0, 0, 10), [(0, body)]);
    assert!((1..QUEUES).all(|of| disk.read(of, 0, 10).is_empty()));
}

/// More than what counts as written lately: 96 MiB, read by nobody yet.
fn old(store: &RocksStore, random: &mut Random) -> u64 {
    const MESSAGES: u64 = 1_536;
    for seq in 0..MESSAGES {
        let lsn = store.submit(unawaited(fan_out(seq, &noise(random, 64 << 10))));
        if store.backlog_bytes() > 64 << 20 {
            wait_for(store, lsn);
        }
    }
    MESSAGES
}

fn shrinks_below(dir: &std::path::Path, bytes: u64) {
    let below = |_| {
        thread::sleep(Duration::from_millis(20));
        tables_bytes(dir) < bytes
    };
    assert!((0..1_500).any(below), "{} bytes left", tables_bytes(dir));
}

#[test]
fn space_comes_back_once_the_last_queue_is_done_with_a_message_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options { write_buffer_bytes: 4 << 20, ..Options::DEFAULT };
    let mut store = RocksStore::open(dir.path(), small).unwrap();
    let messages = old(&store, &mut Random(2));
    for of in 1..QUEUES - 1 {
        let settles = (0..messages).map(|seq| settle(of, seq, 64 << 10));
        wait_for(&store, store.submit(awaited(settles)));
    }
    wait_for(&store, store.submit(awaited([drop_queue(QUEUES - 1)])));
    store.close().unwrap();
    drop(store);
    store = RocksStore::open(dir.path(), small).unwrap();
    let one = ReadLimit { messages: 1, bytes: usize::MAX };
    for seq in (0..messages).step_by(97) {
        let read = store.read(queue(0), QueueSeq(seq), one).unwrap();
        assert_eq!(read[0].1.body_len(), 64 << 10, "message {seq}");
    }
    // The last queue lets go of the first ones: they are given back, whatever the others do.
    let most = messages * 2 / 3;
    for first in (0..most).step_by(64) {
        let settles = (first..(first + 64).min(most)).map(|seq| settle(0, seq, 64 << 10));
        wait_for(&store, store.submit(awaited(settles)));
    }
    shrinks_below(dir.path(), 64 << 20);
    let rest = ReadLimit { messages: 10_000, bytes: usize::MAX };
    let read = store.read(queue(0), QueueSeq(0), rest).unwrap();
    assert!(read.iter().map(|(seq, _)| seq.0).eq(most..messages));
    let settles = (most..messages).map(|seq| settle(0, seq, 64 << 10));
    wait_for(&store, store.submit(awaited(settles)));
    shrinks_below(dir.path(), 8 << 20);
}
