//! A damaged directory: whatever is cut, flipped or missing, a start refuses it and names the file,
//! or finds everything that was promised; and a refused directory is left as it was.
//!
//! `LEVERET_DAMAGE=all` tries a cut at every byte of the last 4 KiB of the log and of the manifest,
//! and a thousand flips in each kind of file; otherwise some are tried. What came of them is
//! printed.

use std::fs;
use std::path::{Path, PathBuf};

use leveret::store::rocks::{Options, RocksStore};
use leveret::store::{Lsn, ReadLimit, Store, StoreError};

use super::disk::{copied, files, newest};
use super::model::{Random, State, Workload, awaited, enqueue, put_meta, settle, wait_for};

/// A store that was killed with tables, logs and a manifest of several edits, and its state after
/// each batch.
pub(super) struct Killed {
    pub(super) dir: tempfile::TempDir,
    pub(super) states: Vec<State>,
}

impl Killed {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let small = Options { write_buffer_bytes: 64 << 10, ..Options::DEFAULT };
        let mut states = vec![State::default()];
        for life in 0..2 {
            let store = RocksStore::open(dir.path(), small).unwrap();
            let mut workload = Workload::resumed(3, states.last().unwrap());
            // In the first life half of it comes into tables; in the second most stays in the log.
            for at in 0..120 / (1 + life) {
                let batch =
                    if at % 3 == 0 { filler(life * 1_000 + at) } else { workload.next_batch() };
                let batch = awaited(batch.ops);
                let mut state = states.last().unwrap().clone();
                state.apply(&batch);
                workload.state = state.clone();
                states.push(state);
                wait_for(&store, store.submit(batch));
            }
            if life == 1 {
                return Self { dir: copied(dir.path()), states };
            }
            store.close().unwrap();
        }
        unreachable!("the second life is the last one")
    }

    pub(super) fn last(&self) -> &State {
        self.states.last().unwrap()
    }

    /// Starts a damaged copy.
    fn start(&self, dir: &Path) -> Outcome {
        let before = files(dir);
        let store = match RocksStore::open(dir, Options::DEFAULT) {
            Ok(store) => store,
            Err(refusal) => {
                assert!(files(dir) == before, "something was changed: {refusal}");
                return Outcome::Refused(refusal);
            }
        };
        if let Err(refusal) = read_all(&store) {
            return Outcome::RefusedLater(refusal);
        }
        let Lsn(batch) = store.durable();
        let state = &self.states[usize::try_from(batch).unwrap()];
        assert_eq!(State::recovered(&store), *state, "batch {batch}");
        Outcome::Started(batch)
    }

    /// Starts a copy of which one file was changed. It must be refused, or be whole.
    fn refuses(&self, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Option<StoreError> {
        let copy = copied(self.dir.path());
        let path = copy.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        match self.start(copy.path()) {
            Outcome::Refused(refusal) | Outcome::RefusedLater(refusal) => {
                let text = refusal.to_string();
                assert!(!text.contains('\n'), "{text}");
                Some(refusal)
            }
            Outcome::Started(batch) => {
                assert_eq!(batch, self.states.len() as u64 - 1, "after {}", file.display());
                None
            }
        }
    }

    /// The files of a kind, from the directory on.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<PathBuf> {
        let all = files(self.dir.path()).into_keys();
        let relative = all.map(|path| path.strip_prefix(self.dir.path()).unwrap().to_owned());
        relative.filter(|path| path.to_str().unwrap().contains(kind)).collect()
    }
}

/// Much of nothing, so that buffers fill.
fn filler(seq: u64) -> leveret::store::Batch {
    let mut random = Random(seq);
    let body: Vec<u8> = (0..8_000).map(|_| random.below(256).to_le_bytes()[0]).collect();
    awaited([
        enqueue(99, 2 * seq, &body),
        enqueue(99, 2 * seq + 1, &body),
        settle(99, 2 * seq, 8_000),
        put_meta("filler", &seq.to_string()),
    ])
}

#[derive(Debug)]
enum Outcome {
    Refused(StoreError),
    /// Only once it was read.
    RefusedLater(StoreError),
    Started(u64),
}

/// Recovers without a message, and then reads each queue as its consumers would.
fn read_all(store: &RocksStore) -> Result<(), StoreError> {
    let mut levels = Levels::default();
    store.recover(&mut levels)?;
    for backlog in levels.0 {
        let mut from = backlog.from;
        loop {
            let limit = ReadLimit { messages: 100, bytes: usize::MAX };
            let found = store.read(backlog.queue, from, limit)?;
            let Some((last, _)) = found.last() else { break };
            from.0 = last.0 + 1;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Levels(Vec<leveret::store::Backlog>);

impl leveret::store::Recovery for Levels {
    fn meta(&mut self, _: &[u8], _: &[u8]) {}
    fn backlog(&mut self, backlog: &leveret::store::Backlog) -> bool {
        self.0.push(*backlog);
        false
    }
    fn message(
        &mut self,
        _: leveret::store::QueueKey,
        _: leveret::store::QueueSeq,
        _: leveret::broker::message::Message,
    ) {
    }
}

fn all() -> bool {
    std::env::var("LEVERET_DAMAGE").is_ok_and(|what| what == "all")
}

#[test]
fn a_killed_store_is_found_whole() {
    let killed = Killed::new();
    assert!(killed.of_kind(".sst").len() > 1, "{:?}", killed.of_kind(""));
    assert!(killed.last().queues.len() > 3);
    let copy = copied(killed.dir.path());
    match killed.start(copy.path()) {
        Outcome::Started(batch) => assert_eq!(batch, killed.states.len() as u64 - 1),
        refused => panic!("{refused:?}"),
    }
}

#[test]
fn a_file_that_is_missing_empty_or_cut_is_named() {
    let killed = Killed::new();
    let mut kinds = Vec::new();
    for kind in ["VERSION", "mark", "CURRENT", "MANIFEST", ".sst", ".log"] {
        let files = killed.of_kind(kind);
        let mut refused = 0;
        for file in &files {
            let named = |refusal: &StoreError| {
                let text = refusal.to_string();
                let name = file.file_name().unwrap().to_str().unwrap();
                // Of a manifest that lost its end the files tell that it refers to no more.
                let is_told_by_others = matches!(kind, "MANIFEST" | ".log");
                assert!(text.contains(name) || is_told_by_others, "{name}: {text}");
            };
            let copy = copied(killed.dir.path());
            fs::remove_file(copy.path().join(file)).unwrap();
            let outcomes = [
                match killed.start(copy.path()) {
                    Outcome::Refused(refusal) => Some(refusal),
                    Outcome::Started(batch) if batch == killed.states.len() as u64 - 1 => None,
                    other => panic!("{} missing: {other:?}", file.display()),
                },
                killed.refuses(file, Vec::clear),
                killed.refuses(file, |bytes| bytes.truncate(bytes.len() / 2)),
            ];
            outcomes.iter().flatten().for_each(named);
            refused += usize::from(outcomes.iter().all(Option::is_some));
        }
        kinds.push((kind, files.len(), refused));
    }
    println!("kind, files, refused: {kinds:?}");
    for (kind, files, refused) in kinds {
        // Logs whose writes are in tables wait to be used again: nothing of them is needed.
        let needed = if kind == ".log" { 1 } else { files };
        assert!(refused >= needed.max(1), "{refused} of {files} {kind}");
    }
}

#[test]
fn what_was_made_again_at_every_start_may_be_missing() {
    let killed = Killed::new();
    for file in ["IDENTITY", "OPTIONS"].iter().flat_map(|kind| killed.of_kind(kind)) {
        let copy = copied(killed.dir.path());
        fs::remove_file(copy.path().join(&file)).unwrap();
        assert!(matches!(killed.start(copy.path()), Outcome::Started(_)), "{}", file.display());
    }
}

#[test]
fn a_bit_flipped_anywhere_is_refused_or_does_not_matter() {
    let killed = Killed::new();
    let flips = if all() { 1_000 } else { 50 };
    let mut random = Random(17);
    for kind in ["VERSION", "mark", "CURRENT", "MANIFEST", ".sst", ".log"] {
        let (mut refused, mut harmless) = (0, 0);
        for _ in 0..flips {
            let files = killed.of_kind(kind);
            let at = random.below(files.len() as u64);
            let file = &files[usize::try_from(at).unwrap()];
            let bit = random.below(1 << 40);
            let refusal = killed.refuses(file, |bytes| {
                let bit = bit % (8 * bytes.len().max(1) as u64);
                if let Some(byte) = bytes.get_mut(usize::try_from(bit / 8).unwrap()) {
                    *byte ^= 1 << (bit % 8);
                }
            });
            match refusal {
                Some(refusal) => {
                    refused += 1;
                    let text = refusal.to_string();
                    if matches!(kind, ".sst" | ".log" | "MANIFEST") {
                        let name = file.file_name().unwrap().to_str().unwrap();
                        assert!(text.contains(name), "{name}: {text}");
                        assert!(text.contains("offset"), "{text}");
                    }
                }
                None => harmless += 1,
            }
        }
        println!("{kind}: of {flips} flips {refused} refused, {harmless} harmless");
        if kind != ".log" {
            assert!(harmless * 10 <= flips, "{kind}: {harmless} harmless of {flips}");
        }
        assert!(refused > 0, "{kind}");
    }
}

#[test]
fn a_log_cut_before_the_mark_is_refused_and_one_cut_behind_it_loses_only_what_lies_there() {
    const CUT_BYTES: u64 = 4 << 10;
    let killed = Killed::new();
    let log = newest(killed.dir.path(), "log");
    let log = log.strip_prefix(killed.dir.path()).unwrap();
    let last = killed.states.len() as u64 - 1;
    let start = |marked: u64, len: u64| {
        let copy = copied(killed.dir.path());
        fs::write(copy.path().join("mark"), mark(marked)).unwrap();
        let file = fs::File::options().write(true).open(copy.path().join(log)).unwrap();
        file.set_len(len).unwrap();
        killed.start(copy.path())
    };
    // What an earlier use left lies behind the log's end: that is the shortest that has everything.
    let (mut short, mut len) = (0, fs::metadata(killed.dir.path().join(log)).unwrap().len());
    while short + 1 < len {
        let middle = u64::midpoint(short, len);
        match start(last, middle) {
            Outcome::Started(_) => len = middle,
            _ => short = middle,
        }
    }
    let (mut refused, mut started) = (0, 0);
    let step = if all() { 1 } else { 61 };
    for cut in (0..CUT_BYTES.min(len)).step_by(step).map(|cut| len - cut) {
        for marked in [last, last - 4] {
            match start(marked, cut) {
                Outcome::Started(batch) => {
                    started += 1;
                    assert!(batch >= marked, "{batch} of {marked} with a cut at {cut}");
                    assert_eq!(batch == last, cut == len, "{batch} with a cut at {cut}");
                }
                Outcome::Refused(refusal) => {
                    refused += 1;
                    let text = refusal.to_string();
                    assert!(matches!(refusal, StoreError::Damaged { .. }), "{text}");
                    assert!(text.contains(log.to_str().unwrap()), "{text}");
                    assert!(text.contains("at offset"), "{text}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    println!("log of {len} bytes cut: {refused} refused, {started} started");
    assert!(refused > 0 && started > 0);
}

/// A mark file.
fn mark(lsn: u64) -> Vec<u8> {
    let mut mark = [lsn.to_le_bytes().as_slice(), &[0; 4]].concat();
    mark.extend(crc32fast::hash(&mark).to_le_bytes());
    mark
}

#[test]
fn a_manifest_cut_anywhere_never_loses_what_was_promised() {
    let killed = Killed::new();
    let manifest = killed.of_kind("MANIFEST").remove(0);
    let len = fs::metadata(killed.dir.path().join(&manifest)).unwrap().len();
    let (mut refused, mut whole) = (0, 0);
    let step = if all() { 1 } else { 37 };
    for cut in (0..len.min(4 << 10)).step_by(step).map(|cut| len - 1 - cut) {
        let cut = usize::try_from(cut).unwrap();
        match killed.refuses(&manifest, |bytes| bytes.truncate(cut)) {
            Some(_) => refused += 1,
            None => whole += 1,
        }
    }
    println!("manifest of {len} bytes cut: {refused} refused, {whole} whole");
    assert!(refused > 0);
}
