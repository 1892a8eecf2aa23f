//! What only the store on disk promises: which directories it takes and which it refuses, that a
//! damaged one is noticed and left alone, and that space and writes are saved.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use leveret::store::rocks::{Options, RocksStore};
use leveret::store::{DurableWaker, Lsn, Store, StoreError};

use super::model::{
    Bell, Random, State, Workload, awaited, drop_queue, enqueue, purge, put_meta, queue, settle,
    unawaited, wait_for,
};
use super::{Disk, Place};

/// What all tests here open a store with.
const OBSERVED: Options = Options { observes_syncs: true, ..Options::DEFAULT };

impl Disk {
    /// Opens the store in a directory. Its counter of syncs is RocksDB's own.
    pub(super) fn open(dir: &Path) -> Result<RocksStore, StoreError> {
        RocksStore::open(dir, OBSERVED)
    }
}

/// Every file below a directory, apart from RocksDB's diary.
pub(super) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else if !entry.file_name().to_string_lossy().starts_with("LOG") {
                found.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// A copy of a store's files as they are now, which is what a crash would leave.
pub(super) fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("db")).unwrap();
    for (path, bytes) in files(dir) {
        fs::write(copy.path().join(path.strip_prefix(dir).unwrap()), bytes).unwrap();
    }
    copy
}

pub(super) fn newest(dir: &Path, extension: &str) -> PathBuf {
    let is_one = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    files(dir).into_keys().filter(is_one).max().unwrap()
}

/// Opens a directory that must be refused as damaged and left as it was. Answers with the refusal.
fn refused(dir: &Path) -> String {
    let before = files(dir);
    let refusal = Disk::open(dir).unwrap_err();
    assert!(matches!(refusal, StoreError::Damaged { .. }), "{refusal}");
    assert!(files(dir) == before, "something was changed: {refusal}");
    refusal.to_string()
}

/// A store with a few durable batches, all of them still in the log.
fn with_a_log() -> (Disk, State) {
    let disk = Disk::new();
    let mut workload = Workload::new(3);
    for _ in 0..60 {
        disk.store.submit(workload.next_batch());
    }
    disk.commit(awaited([]));
    (disk, workload.state)
}

#[test]
fn a_new_directory_belongs_to_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("var/lib/store");
    drop(Disk::open(&dir).unwrap());
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let disk = Disk::new();
    let refusal = Disk::open(disk.dir.path()).unwrap_err();
    assert!(matches!(refusal, StoreError::Locked { .. }), "{refusal}");
    assert!(refusal.to_string().ends_with("in use by another process"));
    disk.commit(awaited([put_meta("a", "the first one goes on")]));
    let disk = disk.restarted();
    assert_eq!(State::recovered(&disk.store).meta.len(), 1);
}

#[test]
fn a_directory_of_another_version_is_refused_and_left_alone() {
    let Disk { store, dir } = Disk::new();
    drop(store);
    let version = dir.path().join("VERSION");
    for (text, expected) in [("leveret store 1\n", "1"), ("", ""), ("PG_VERSION", "PG_VERSION")] {
        fs::write(&version, text).unwrap();
        let before = files(dir.path());
        match Disk::open(dir.path()).unwrap_err() {
            StoreError::Version { found, expected: 4, .. } => assert_eq!(found, expected),
            other => panic!("{other}"),
        }
        assert!(files(dir.path()) == before);
    }
    fs::remove_file(&version).unwrap();
    let refusal = Disk::open(dir.path()).unwrap_err();
    assert!(matches!(refusal, StoreError::Version { .. }), "{refusal}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let refusal = Disk::open(&file.join("store")).unwrap_err();
    assert!(matches!(refusal, StoreError::Io { .. }), "{refusal}");
    assert!(refusal.to_string().contains("file/store: Not a directory"), "{refusal}");
}

#[test]
fn a_start_that_was_interrupted_goes_on() {
    let Disk { store, dir } = Disk::new();
    drop(store);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    drop(Disk::open(dir.path()).unwrap());
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    fs::remove_file(dir.path().join("mark")).unwrap();
    drop(Disk::open(dir.path()).unwrap());
    // The last of RocksDB's files that a first start makes.
    let without_logs = || {
        let logs = files(dir.path()).into_keys();
        let logs = logs.filter(|path| path.extension().is_some_and(|it| it == "log"));
        logs.for_each(|log| fs::remove_file(log).unwrap());
    };
    without_logs();
    drop(Disk::open(dir.path()).unwrap());
    let store = Disk::open(dir.path()).unwrap();
    wait_for(&store, store.submit(awaited([put_meta("a", "1")])));
    drop(store);
    without_logs();
    assert!(matches!(Disk::open(dir.path()), Err(StoreError::Damaged { .. })), "it was promised");
}

#[test]
fn of_several_first_starts_at_once_one_gets_the_directory() {
    const STARTS: usize = 4;
    for _ in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let line = Barrier::new(STARTS);
        let mut opened = thread::scope(|scope| {
            let start = || {
                line.wait();
                Disk::open(dir.path())
            };
            let starts: Vec<_> = (0..STARTS).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        opened.sort_by_key(Result::is_err);
        let store = opened.remove(0).unwrap();
        for refused in opened {
            let refusal = refused.unwrap_err();
            assert!(matches!(refusal, StoreError::Locked { .. }), "{refusal}");
        }
        let last = store.submit(awaited([put_meta("a", "1")]));
        wait_for(&store, last);
        drop(store);
        // The mark that lies there is the winner's own.
        let mark = fs::read(dir.path().join("mark")).unwrap();
        assert_eq!(mark[..8], last.0.to_le_bytes());
    }
}

#[test]
fn a_version_file_that_was_only_begun_is_made_again() {
    for begun in ["", "leveret st"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), begun).unwrap();
        drop(Disk::open(dir.path()).unwrap());
        assert_eq!(fs::read(dir.path().join("VERSION")).unwrap(), b"leveret store 4\n");
    }
}

#[test]
fn a_missing_file_is_noticed_and_nothing_is_made_in_its_place() {
    let (disk, _) = with_a_log();
    let Disk { store, dir } = disk.restarted();
    drop(store);
    for missing in ["mark", "db/CURRENT"] {
        let copy = copied(dir.path());
        fs::remove_file(copy.path().join(missing)).unwrap();
        assert!(refused(copy.path()).contains(missing));
    }
    for missing in ["sst", "MANIFEST"] {
        let copy = copied(dir.path());
        let is_one = |path: &PathBuf| path.to_string_lossy().contains(missing);
        let missing = files(copy.path()).into_keys().find(is_one).unwrap();
        fs::remove_file(&missing).unwrap();
        let refusal = refused(copy.path());
        assert!(refusal.starts_with(missing.to_str().unwrap()), "{refusal}");
    }
}

#[test]
fn a_log_cut_anywhere_before_the_mark_is_refused() {
    let (disk, state) = with_a_log();
    let whole = copied(disk.dir.path());
    assert_eq!(State::recovered(&Disk::open(whole.path()).unwrap()), state);
    let log = fs::read(newest(disk.dir.path(), "log")).unwrap();
    let mut random = Random(5);
    for _ in 0..40 {
        let cut = random.below(log.len() as u64);
        let copy = copied(disk.dir.path());
        let newest = newest(copy.path(), "log");
        fs::write(&newest, &log[..usize::try_from(cut).unwrap()]).unwrap();
        let refusal = refused(copy.path());
        assert!(refusal.contains(newest.to_str().unwrap()), "{refusal}");
        assert!(refusal.contains("but batch 60 was on disk already"), "{refusal}");
    }
}

#[test]
fn a_log_that_lost_only_what_nobody_was_told_of_is_accepted() {
    let disk = Disk::new();
    let dir = disk.dir.path();
    let told = disk.commit(awaited([put_meta("a", "durable, and said so")]));
    let synced = fs::metadata(newest(dir, "log")).unwrap().len();
    let mark = fs::read(dir.join("mark")).unwrap();
    disk.commit(awaited([enqueue(
        1,
        1,
        b"written, but the crash comes before anyone hears of it",
    )]));
    let written = fs::metadata(newest(dir, "log")).unwrap().len();
    assert!(written > synced);
    for len in (synced..written).step_by(9).chain([written - 1, written]) {
        let copy = copied(dir);
        fs::write(copy.path().join("mark"), &mark).unwrap();
        let log = fs::File::options().write(true).open(newest(copy.path(), "log")).unwrap();
        log.set_len(len).unwrap();
        let found = Disk::open(copy.path()).unwrap();
        let state = State::recovered(&found);
        let whole = u64::from(len == written);
        assert_eq!(state.meta.len(), 1);
        assert_eq!(state.queues.len() as u64, whole, "cut at {len} of {written}");
        assert_eq!(found.durable(), Lsn(told.0 + whole));
    }
}

#[test]
fn a_bit_flipped_anywhere_never_loses_or_alters_a_message_unnoticed() {
    let (disk, state) = with_a_log();
    let in_log = copied(disk.dir.path());
    let Disk { store, dir } = disk.restarted();
    drop(store);
    let mut random = Random(11);
    for (dir, extension) in [(in_log.path(), "log"), (dir.path(), "sst")] {
        let mut noticed = 0;
        for _ in 0..60 {
            let copy = copied(dir);
            let path = newest(copy.path(), extension);
            let mut bytes = fs::read(&path).unwrap();
            let bit = random.below(8 * bytes.len() as u64);
            bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            fs::write(&path, bytes).unwrap();
            noticed += usize::from(is_noticed(copy.path(), &state));
        }
        assert!(noticed > 20, "{noticed} of 60 flips in the {extension} file mattered");
    }
}

/// Whether a store is refused or its recovery is; if not, it must hold exactly this.
fn is_noticed(dir: &Path, expected: &State) -> bool {
    let Ok(store) = Disk::open(dir) else { return true };
    let mut ignored = Ignored;
    if store.recover(&mut ignored).is_err() {
        return true;
    }
    assert_eq!(State::recovered(&store), *expected);
    false
}

struct Ignored;

impl leveret::store::Recovery for Ignored {
    fn meta(&mut self, _: &[u8], _: &[u8]) {}
    fn backlog(&mut self, _: &leveret::store::Backlog) -> bool {
        true
    }
    fn message(
        &mut self,
        _: leveret::store::QueueKey,
        _: leveret::store::QueueSeq,
        _: leveret::broker::message::Message,
    ) {
    }
}

#[test]
fn what_is_in_the_log_alone_is_owed_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), OBSERVED).unwrap();
    let last = store.submit(awaited([enqueue(1, 0, &[7; 3 << 20])]));
    wait_for(&store, last);
    assert!(store.counters().owed_bytes >= 3 << 20);
    drop(store); // into a table file
    let store = RocksStore::open(dir.path(), OBSERVED).unwrap();
    assert!(store.counters().owed_bytes < 3 << 20);
}

#[test]
fn a_message_settled_before_it_is_written_never_is() {
    let dir = tempfile::tempdir().unwrap();
    // Long enough for everything below to gather in one group.
    let patient = Options { gather_ms_max: 60_000, ..OBSERVED };
    let store = RocksStore::open(dir.path(), patient).unwrap();
    let body = [7; 2_000];
    store.submit(unawaited((0..100).map(|seq| enqueue(1, seq, &body))));
    store.submit(unawaited((0..99).map(|seq| settle(1, seq, 2_000))));
    store.submit(unawaited((0..10).map(|seq| enqueue(2, seq, &body))));
    store.submit(unawaited([purge(2, 0..4, 4, 2_000), purge(2, 5..9, 4, 2_000)]));
    store.submit(unawaited((0..10).map(|seq| enqueue(3, seq, &body))));
    store.submit(unawaited([drop_queue(3)]));
    assert_eq!(store.counters().writes, 0);
    let last = store.submit(awaited([put_meta("end", "")]));
    wait_for(&store, last);
    let counters = store.counters();
    assert_eq!((counters.writes, counters.syncs, counters.annihilated), (1, 1, 99 + 8 + 10));
    assert!(counters.bytes_written < 4 * 2_000, "{} bytes", counters.bytes_written);
    drop(store);
    let state = State::recovered(&Disk::open(dir.path()).unwrap());
    assert_eq!(state.queues[&queue(1)].bodies.keys().copied().collect::<Vec<_>>(), [99]);
    assert_eq!(state.queues[&queue(2)].bodies.keys().copied().collect::<Vec<_>>(), [4, 9]);
    assert!(!state.queues.contains_key(&queue(3)));
}

#[test]
fn nothing_is_durable_without_a_sync_of_its_own() {
    let disk = Disk::new();
    let before = disk.store.counters().syncs;
    for seq in 0..100 {
        disk.commit(awaited([enqueue(1, seq, b"confirmed")]));
        let syncs = disk.store.counters().syncs - before;
        assert_eq!(syncs, seq + 1, "syncs that RocksDB has seen return");
    }
}

#[test]
fn what_need_only_be_written_is_not_synced_before_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), Options { gather_ms_max: 3_600_000, ..OBSERVED });
    let store = store.unwrap();
    let syncs = store.counters().syncs;
    for seq in 0..50 {
        let lsn = store.submit(unawaited([enqueue(1, seq, b"x")]));
        let bell = Arc::new(Bell::default());
        store.notify_written(lsn, Arc::clone(&bell) as Arc<dyn DurableWaker>);
        bell.wait();
        assert!(store.written() >= lsn);
    }
    assert_eq!((store.durable(), store.counters().syncs), (Lsn::ZERO, syncs));
    // Somebody asks for more, and gets it although there is nothing to write.
    wait_for(&store, store.written());
    assert_eq!((store.durable(), store.counters().syncs), (Lsn(50), syncs + 1));
    drop(store);
    let again = RocksStore::open(dir.path(), OBSERVED).unwrap();
    assert_eq!(State::recovered(&again).queues[&queue(1)].bodies.len(), 50);
}

#[test]
fn what_was_only_written_is_synced_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), OBSERVED).unwrap();
    let lsn = store.submit(unawaited([enqueue(1, 1, b"x")]));
    let bell = Arc::new(Bell::default());
    store.notify_written(lsn, Arc::clone(&bell) as Arc<dyn DurableWaker>);
    bell.wait();
    let synced = |_| {
        thread::sleep(Duration::from_millis(5));
        store.durable() >= lsn
    };
    assert!((0..1_000).any(synced));
}

#[test]
fn what_nobody_awaits_is_synced_all_the_same() {
    let disk = Disk::new();
    let lsn = disk.store.submit(unawaited([put_meta("a", "1")]));
    // Waiting for the watermark would ask for a sync, so there is nothing to wait for but time.
    let synced = |_| {
        thread::sleep(Duration::from_millis(10));
        disk.store.durable() >= lsn
    };
    assert!((0..1_000).any(synced));
    assert_eq!(disk.store.counters().syncs, 1);
}

#[test]
fn waiting_for_the_stores_end_hurries_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let patient = Options { gather_ms_max: 60_000, ..OBSERVED };
    let store = RocksStore::open(dir.path(), patient).unwrap();
    let end = Arc::new(Bell::default());
    store.notify(Lsn::NEVER, Arc::clone(&end) as Arc<dyn DurableWaker>);
    for seq in 0..20 {
        store.submit(unawaited([enqueue(1, seq, b"x")]));
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!((store.counters().syncs, end.rung()), (0, 0));
    store.close().unwrap();
    assert_eq!((store.counters().batches, end.rung()), (20, 1));
}

#[test]
fn many_who_wait_share_a_sync() {
    let disk = Disk::new();
    let last = (0..2_000).map(|seq| disk.store.submit(awaited([enqueue(1, seq, b"x")]))).last();
    wait_for(&disk.store, last.unwrap());
    let counters = disk.store.counters();
    assert_eq!(counters.batches, 2_000);
    assert!(counters.syncs < 200, "{} syncs for 2,000 batches", counters.syncs);
}

#[test]
fn a_long_queue_settled_in_any_order_is_found_again_exactly() {
    const MESSAGES: u64 = 30_000;
    let mut random = Random(2);
    // In order; with the first one held back; one in three held back; at random.
    let stays: [Box<dyn Fn(u64, u64) -> bool>; 4] = [
        Box::new(|seq, _| seq >= MESSAGES - 3),
        Box::new(|seq, _| seq == 0),
        Box::new(|seq, _| seq % 3 == 0),
        Box::new(|_, random| random == 0),
    ];
    for stays in stays {
        let mut disk = Disk::new();
        let mut expected: Vec<u64> = (0..MESSAGES).collect();
        for chunk in expected.chunks(1_000) {
            disk.store.submit(unawaited(chunk.iter().map(|seq| enqueue(1, *seq, &[3; 40]))));
        }
        disk.commit(awaited([]));
        let (left, mut settled): (Vec<u64>, Vec<u64>) =
            expected.iter().partition(|seq| stays(**seq, random.below(40)));
        for at in (1..settled.len()).rev().filter(|at| at % 2 == 0) {
            settled.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
        }
        expected = left;
        for chunk in settled.chunks(1_000) {
            disk.store.submit(unawaited(chunk.iter().map(|seq| settle(1, *seq, 40))));
            disk.commit(awaited([]));
        }
        disk = disk.restarted();
        let state = State::recovered(&disk.store);
        let found: Vec<u64> = state.queues[&queue(1)].bodies.keys().copied().collect();
        assert!(found == expected, "{} found, {} expected", found.len(), expected.len());
        disk.commit(awaited([purge(1, 0..MESSAGES, expected.len() as u64, 40)]));
        disk = disk.restarted();
        assert!(State::recovered(&disk.store).queues[&queue(1)].bodies.is_empty());
    }
}

#[test]
fn a_drained_queue_gives_its_disk_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options { write_buffer_bytes: 4 << 20, ..OBSERVED };
    let store = RocksStore::open(dir.path(), small).unwrap();
    let mut random = Random(3);
    let mut body = vec![0; 64 << 10];
    body.iter_mut().for_each(|byte| *byte = random.below(256).to_le_bytes()[0]);
    for seq in 0..2_400 {
        let lsn = store.submit(unawaited([enqueue(seq % 3, seq, &body)]));
        if store.backlog_bytes() > 8 << 20 {
            wait_for(&store, lsn);
        }
    }
    let full = tables_bytes(dir.path());
    assert!(full > 100 << 20, "{full} bytes of tables");
    for seq in 0..2_400 {
        let lsn = store.submit(unawaited([settle(seq % 3, seq, 64 << 10)]));
        if seq % 100 == 99 {
            wait_for(&store, lsn);
        }
    }
    let freed = |_| {
        thread::sleep(Duration::from_millis(20));
        tables_bytes(dir.path()) < 80 << 20
    };
    assert!((0..1_000).any(freed), "{} of {full} bytes left", tables_bytes(dir.path()));
}

pub(super) fn tables_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir.join("db")).unwrap().map(Result::unwrap);
    let tables = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "sst"));
    // A file may be dropped while it is looked at.
    tables.map(|table| table.metadata().map_or(0, |metadata| metadata.len())).sum()
}
