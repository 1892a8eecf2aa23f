//! Backups: made under load they hold everything that was confirmed when they began, as a crash
//! would leave it; and only whole ones are restored, into nothing but nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use leveret::store::rocks::{Options, RocksStore, check_backup, restore};
use leveret::store::{Lsn, Store, StoreError};

use super::disk::files;
use super::model::{Random, State, Workload, wait_for};

const SMALL: Options = Options { write_buffer_bytes: 64 << 10, ..Options::DEFAULT };

#[test]
fn a_backup_made_under_load_holds_what_was_confirmed_when_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path().join("data"), SMALL).unwrap();
    let states = Mutex::new(BTreeMap::from([(Lsn::ZERO, State::default())]));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut workload = Workload::new(4);
            while !is_over.load(Ordering::Relaxed) {
                let lsn = store.submit(workload.next_batch());
                states.lock().unwrap().insert(lsn, workload.state.clone());
                if store.backlog_bytes() > 64 << 10 {
                    wait_for(&store, lsn);
                }
            }
        });
        for at in 0..4 {
            wait_for(&store, Lsn(100 * (at + 1)));
            let confirmed = store.durable();
            let backup = dir.path().join(format!("backup{at}"));
            let made = store.back_up(&backup).unwrap();
            assert!(made.batch >= confirmed);
            assert_eq!(check_backup(&backup).unwrap(), made);
            let restored = dir.path().join(format!("restored{at}"));
            assert_eq!(restore(&backup, &restored).unwrap(), made);
            let found = RocksStore::open(&restored, SMALL).unwrap();
            assert!(found.durable() >= made.batch);
            let states = states.lock().unwrap();
            assert_eq!(State::recovered(&found), states[&found.durable()]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let names = ["backup0", "backup1", "backup2", "backup3"];
    assert_eq!(store.backups(dir.path()), names);
}

/// A store's backup, and the store's state.
fn backed_up(dir: &Path) -> PathBuf {
    let store = RocksStore::open(dir.join("data"), SMALL).unwrap();
    let mut workload = Workload::new(6);
    for _ in 0..100 {
        wait_for(&store, store.submit(workload.next_batch()));
    }
    let backup = dir.join("backup");
    store.back_up(&backup).unwrap();
    let taken = store.back_up(&backup).unwrap_err();
    assert!(matches!(taken, StoreError::Exists { .. }), "{taken}");
    backup
}

#[test]
fn only_a_whole_backup_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path());
    let data = dir.path().join("restored");
    let mut random = Random(8);
    for (path, bytes) in files(&backup) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let refused = || {
            let refusal = restore(&backup, &data).expect_err(name);
            assert!(!data.exists(), "{refusal}");
            assert!(!dir.path().join("restored.unfinished").exists(), "{refusal}");
            refusal.to_string()
        };
        fs::remove_file(&path).unwrap();
        assert!(refused().contains(name), "without {name}");
        fs::write(&path, [&*bytes, &[0]].concat()).unwrap();
        assert!(refused().contains(name), "{name} with something behind it");
        let Some(last) = bytes.len().checked_sub(1) else {
            fs::write(&path, &bytes).unwrap();
            continue;
        };
        fs::write(&path, &bytes[..last]).unwrap();
        assert!(refused().contains(name), "{name} cut");
        // What RocksDB makes anew at every start, or only to be read by people.
        if !name.starts_with("OPTIONS") && name != "IDENTITY" {
            for _ in 0..4 {
                let bit = random.below(8 * bytes.len() as u64);
                let mut flipped = bytes.clone();
                flipped[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
                fs::write(&path, flipped).unwrap();
                let refusal = refused();
                assert!(refusal.contains(name), "{name} flipped: {refusal}");
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
    restore(&backup, &data).unwrap();
    assert!(RocksStore::open(&data, SMALL).is_ok());
}

#[test]
fn nothing_is_restored_over_anything() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path());
    let data = dir.path().join("data");
    let before = files(&data);
    let refusal = restore(&backup, &data).unwrap_err();
    assert!(matches!(refusal, StoreError::Exists { .. }), "{refusal}");
    assert!(files(&data) == before);
    let refusal = restore(&data, &dir.path().join("new")).unwrap_err();
    assert!(refusal.to_string().contains("BACKUP: damaged: missing: this is no backup"));
    // An empty directory may be there, as a mount point's is.
    fs::create_dir(dir.path().join("empty")).unwrap();
    restore(&backup, &dir.path().join("empty")).unwrap();
}
