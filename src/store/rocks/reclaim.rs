//! Gives disk space back: a thread that drops table files which hold only dead records.
//!
//! A range deletion hides records; their bytes stay until tables are merged. After much of one
//! queue was deleted, files that lie wholly inside its dead range are dropped at once. Where files
//! hold several queues that finds none, so when the records in the tables are more than twice as
//! large as those that live they are merged: each such merge frees at least as much as it writes.
//! Both are counted before compression, for nobody knows how well those that live compress.
//!
//! It also looks for what is dead among the records that lie apart (`apart`).
//!
//! It works only on what is durable: a file dropped before the cursor's move is synced could be
//! missed after a power failure. Dropping a file may bring older dead records below it back to
//! light; readers start at the cursor, and ids and numbers are never used twice, so nobody sees
//! them.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rocksdb::{CompactOptions, properties};

use super::apart;
use super::apply::Reclaim;
use super::commit::Shared;
use super::schema::message_key;
use crate::store::LevelKey;

/// Tables are merged when they are so many times larger than what lives in them.
const DEAD_RATIO: u64 = 2;

/// Works until the committer is gone.
pub(super) fn run(shared: &Arc<Shared>, work: &Receiver<Reclaim>) {
    while let Ok(reclaim) = work.recv() {
        match reclaim {
            Reclaim::Files { level, below } => drop_files(shared, level, below),
            Reclaim::Apart(run) => {
                let [first, last] = run.keys();
                drop_files_between(shared, first, last);
            }
            Reclaim::Sweep => {
                if let Err(error) = apart::sweep(shared) {
                    shared.fail(&error);
                }
            }
            Reclaim::Tables { bytes_min } => merge_if_mostly_dead(shared, bytes_min),
        }
    }
}

/// Drops the table files that hold nothing but this level's messages below a number.
fn drop_files(shared: &Shared, level: LevelKey, below: u64) {
    // RocksDB counts the upper bound in: a file whose last record lies just there goes, too.
    let Some(last) = below.checked_sub(1) else { return };
    drop_files_between(shared, message_key(level, 0), message_key(level, last));
}

/// Drops the table files that hold nothing but records from one key to another, both included.
fn drop_files_between<K: AsRef<[u8]>>(shared: &Shared, first: K, last: K) {
    // A refusal only means that the space is found later, by merging.
    let _ = shared.db.delete_file_in_range(first, last);
}

fn merge_if_mostly_dead(shared: &Shared, bytes_min: u64) {
    let tables = shared.db.property_int_value(properties::TOTAL_SST_FILES_SIZE);
    let records = shared.db.property_value(properties::AGGREGATED_TABLE_PROPERTIES);
    let tables_bytes = tables.ok().flatten().unwrap_or_default();
    let records_bytes = records.ok().flatten().map_or(0, |text| raw_bytes(&text));
    let live_bytes = shared.queues().live_bytes();
    if tables_bytes < bytes_min || records_bytes / DEAD_RATIO < live_bytes {
        return;
    }
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    shared.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
}

/// The bytes of all keys and values in the tables, from RocksDB's summary of them.
fn raw_bytes(summary: &str) -> u64 {
    let pairs = summary.split(';').filter_map(|pair| pair.split_once('='));
    let raw = pairs.filter(|(name, _)| matches!(name.trim(), "raw key size" | "raw value size"));
    raw.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use rocksdb::BottommostLevelCompaction;

    use super::*;
    use crate::broker::message::{Envelope, Message};
    use crate::store::rocks::{Options, RocksStore};
    use crate::store::{Backlog, Batch, Lsn, Op, QueueKey, QueueSeq, ReadLimit, Recovery, Store};

    const QUEUE: QueueKey = QueueKey { shard: 0, queue: 1 };
    const LEVEL: LevelKey = LevelKey { queue: QUEUE, level: 0 };
    const ONE: ReadLimit = ReadLimit { messages: 1, bytes: usize::MAX };
    const MESSAGES: u64 = 48;
    /// Large messages fill a queue's tables soon: here they lie in them.
    const TOGETHER: Options = Options { apart_bytes_min: usize::MAX, ..Options::DEFAULT };

    fn commit(store: &RocksStore, op: Op) {
        let lsn = store.submit(Batch { ops: vec![op], awaited: true });
        while store.durable() < lsn {
            assert!(store.failure().is_none());
            std::thread::yield_now();
        }
    }

    fn enqueue(seq: u64, body: &[u8]) -> Op {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"",
            properties: b"",
            persistent: true,
            hides_bcc: false,
            published_ms: 0,
        };
        Op::Enqueue { queue: QUEUE, seq: QueueSeq(seq), message: Message::new(&envelope, body) }
    }

    fn settle(seq: u64) -> Op {
        Op::Settle { queue: QUEUE, seq: QueueSeq(seq), body_bytes: 256 << 10 }
    }

    /// Bytes that do not compress.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed + 1;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[7]
        };
        (0..len).map(next).collect()
    }

    fn tables(store: &RocksStore) -> Vec<(Vec<u8>, Vec<u8>)> {
        let files = store.shared.db.live_files().unwrap().into_iter();
        files.filter_map(|file| Some((file.start_key?, file.end_key?))).collect()
    }

    /// A queue in many merged tables of a few messages each.
    fn spread_out(dir: &std::path::Path) -> RocksStore {
        let store = RocksStore::open(dir, TOGETHER).unwrap();
        store.shared.db.set_options(&[("target_file_size_base", "1000000")]).unwrap();
        (0..MESSAGES).for_each(|seq| commit(&store, enqueue(seq, &noise(seq, 256 << 10))));
        store.shared.db.flush().unwrap();
        let mut rewriting = CompactOptions::default();
        rewriting.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        store.shared.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &rewriting);
        let last_in_a_file = |seq| {
            let key = message_key(LEVEL, seq);
            tables(&store).iter().any(|(_, last)| *last == key)
        };
        let lasts = (0..MESSAGES).filter(|seq| last_in_a_file(*seq)).count();
        assert!(lasts > 5, "{lasts} messages end a file");
        store
    }

    #[derive(Default)]
    struct Count(u64);

    impl Recovery for Count {
        fn meta(&mut self, _: &[u8], _: &[u8]) {}
        fn message(&mut self, _: QueueKey, _: QueueSeq, _: Message) {
            self.0 += 1;
        }
        fn backlog(&mut self, _: &Backlog) -> bool {
            true
        }
    }

    #[test]
    fn the_message_at_the_head_stays_wherever_the_head_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = spread_out(dir.path());
        let before = tables(&store).len();
        for head in 0..MESSAGES {
            drop_files(&store.shared, LEVEL, head);
            let read = store.read(QUEUE, QueueSeq(0), ONE).unwrap();
            assert_eq!(read.first().map(|(seq, _)| seq.0), Some(head));
            if head % 16 == 3 {
                store.close().unwrap();
                drop(store);
                store = RocksStore::open(dir.path(), TOGETHER).unwrap();
                let mut count = Count::default();
                store.recover(&mut count).unwrap();
                assert_eq!(count.0, MESSAGES - head);
            }
            commit(&store, settle(head));
        }
        drop_files(&store.shared, LEVEL, MESSAGES);
        let after = tables(&store).len();
        assert!(after + 4 < before, "{after} of {before} files are left");
        assert_eq!(store.durable(), Lsn(2 * MESSAGES));
    }

    fn tables_bytes(store: &RocksStore) -> u64 {
        let bytes = store.shared.db.property_int_value(properties::LIVE_SST_FILES_SIZE);
        bytes.unwrap().unwrap()
    }

    #[test]
    fn a_queue_that_is_more_than_half_full_gives_files_back_and_merges_nothing() {
        const MIB: usize = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::open(dir.path(), TOGETHER).unwrap();
        store.shared.db.set_options(&[("target_file_size_base", "4000000")]).unwrap();
        (0..160).for_each(|seq| commit(&store, enqueue(seq, &noise(seq, MIB))));
        store.shared.db.flush().unwrap();
        store.shared.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        let full = tables_bytes(&store);
        assert!(full > 150 * MIB as u64, "{full}");
        (0..70).for_each(|seq| commit(&store, settle(seq)));
        let freed = |_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            tables_bytes(&store) < full - 40 * MIB as u64
        };
        assert!((0..2_000).any(freed), "{} of {full} bytes left", tables_bytes(&store));
        assert_eq!(store.read(QUEUE, QueueSeq(0), ONE).unwrap()[0].0, QueueSeq(70));
    }

    #[test]
    fn mostly_dead_tables_are_merged_however_well_their_records_compress() {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::open(dir.path(), TOGETHER).unwrap();
        for seq in 0..115 {
            let mut body = noise(seq, 620 << 10);
            body.resize(1 << 20, 0);
            commit(&store, enqueue(seq, &body));
        }
        store.shared.db.flush().unwrap();
        let full = tables_bytes(&store);
        assert!((8 << 20..80 << 20).contains(&full), "{full}");
        // What stays is more than half of the tables as they are, and less before compression.
        (0..70).for_each(|seq| commit(&store, settle(seq)));
        let merged = |_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            tables_bytes(&store) < full * 2 / 3
        };
        assert!((0..2_000).any(merged), "{} of {full} bytes left", tables_bytes(&store));
    }
}
