//! Copies of a store: made while it runs, checked and put in place while it does not.
//!
//! A backup is a directory like the store's own, made from RocksDB's checkpoint: tables never
//! change, so they are linked and not copied where the file system can do that. The mark in it is
//! the watermark at which the backup began, so a start from it refuses one that holds less. A list
//! of its files, written last, makes it a backup:
//!
//! ```text
//! leveret backup 1
//! store 3
//! batch 1234
//! file 20511 db/000012.sst
//! end 89abcdef
//! ```
//!
//! The last line has the CRC-32 of those before. Tables and the manifest have checksums of their
//! own, which are compared before anything is restored.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;

use super::commit::Shared;
use super::files::log::{Found, LogReader};
use super::files::manifest::Manifest;
use super::files::table::Table;
use super::files::{damaged_at, numbered};
use super::mark::{Mark, damaged, io_error};
use super::recover::{absent, make_dir, sync_dir, version_line};
use super::schema::LAYOUT_VERSION;
use super::tuning::store_error;
use crate::store::{BackedUp, Lsn, StoreError};

const LIST: &str = "BACKUP";
const HEAD: &str = "leveret backup 1";

/// See [`Store::back_up`](crate::store::Store::back_up).
pub(super) fn back_up(shared: &Shared, dir: &Path) -> Result<BackedUp, StoreError> {
    let unfinished = absent(dir)?;
    make_dir(&unfinished)?;
    let made = fill(shared, &unfinished);
    let placed = made.and_then(|made| {
        fs::rename(&unfinished, dir).map_err(|error| io_error(dir, &error))?;
        sync_dir(parent(dir))?;
        Ok(made)
    });
    if placed.is_err() {
        // Nobody could use it, and it holds on to tables that the store would delete.
        let _ = fs::remove_dir_all(&unfinished);
    }
    placed
}

fn fill(shared: &Shared, dir: &Path) -> Result<BackedUp, StoreError> {
    // Whatever is confirmed by now is durable, and so in the checkpoint that is made after this.
    let durable = shared.durable();
    let db_dir = dir.join("db");
    let failed = |error| store_error(&shared.path(), &error);
    let checkpoint = Checkpoint::new(&shared.db).map_err(failed)?;
    checkpoint.create_checkpoint(&db_dir).map_err(failed)?;
    write_synced(&dir.join("VERSION"), version_line().as_bytes())?;
    let mark = Mark::create(&dir.join("mark"))?;
    mark.write(durable)?;
    mark.sync()?;
    let list = List::of(dir, durable)?;
    for (path, _) in list.files.iter().filter(|(path, _)| !is_table(path)) {
        let path = dir.join(path);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|error| io_error(&path, &error))?;
    }
    write_synced(&dir.join(LIST), list.text().as_bytes())?;
    sync_dir(&db_dir)?;
    sync_dir(dir)?;
    Ok(list.summary())
}

/// See [`Store::backups`](crate::store::Store::backups).
pub(super) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let whole = entries.filter(|entry| entry.path().join(LIST).is_file());
    let mut names: Vec<String> =
        whole.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.ends_with(".unfinished"));
    names.sort();
    names
}

/// Compares a backup with its list and its tables and manifest with their checksums.
///
/// # Errors
/// When something is missing or damaged, or of another version.
pub fn check_backup(from: &Path) -> Result<BackedUp, StoreError> {
    let list = List::read(from)?;
    check(from, &list)?;
    Ok(list.summary())
}

/// Makes a data directory of a backup, which is checked first. It must not be there yet, or be
/// empty.
///
/// # Errors
/// When there is something already, or the backup cannot be used; then nothing is left behind.
pub fn restore(from: &Path, dir: &Path) -> Result<BackedUp, StoreError> {
    let unfinished = absent(dir)?;
    let list = List::read(from)?;
    check(from, &list)?;
    make_dir(&unfinished)?;
    let copied = copy(from, &list, &unfinished).and_then(|()| {
        if dir.exists() {
            fs::remove_dir(dir).map_err(|error| io_error(dir, &error))?;
        }
        fs::rename(&unfinished, dir).map_err(|error| io_error(dir, &error))?;
        sync_dir(parent(dir))
    });
    if copied.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    copied.map(|()| list.summary())
}

fn check(from: &Path, list: &List) -> Result<(), StoreError> {
    for (path, bytes) in &list.files {
        let path = from.join(path);
        let found = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(&path, &format!("missing, although {LIST} lists it")));
            }
            Err(error) => return Err(io_error(&path, &error)),
        };
        if found != *bytes {
            let reason = format!("{found} bytes, of {bytes} that were written");
            return Err(damaged(&path, &reason));
        }
    }
    let version = from.join("VERSION");
    let found = fs::read(&version).map_err(|error| io_error(&version, &error))?;
    if found != version_line().as_bytes() {
        return Err(damaged(&version, "not the version that the backup is of"));
    }
    let mark = from.join("mark");
    if Mark::read(&mark)? != Some(list.batch) {
        return Err(damaged(&mark, "not the batch that the backup goes to"));
    }
    let db_dir = from.join("db");
    let manifest = Manifest::read(&db_dir)?;
    manifest.check_files(&db_dir)?;
    if let Some(offset) = manifest.cut {
        return Err(damaged_at(&manifest.path, offset, &"an edit without its end"));
    }
    for (number, path) in numbered(&db_dir, "log")? {
        // Copied as far as it went: nothing of an earlier use stands behind its end.
        let file = fs::read(&path).map_err(|error| io_error(&path, &error))?;
        let mut reader = LogReader::new(&file, number);
        while let Some(found) = reader.next() {
            if let Found::Broken(broken) = found {
                return Err(damaged_at(&path, broken.offset, &broken.reason));
            }
        }
    }
    for (_, path) in numbered(&db_dir, "sst")? {
        let table = Table::open(&path).and_then(|table| table.verify());
        table.map_err(|flaw| damaged(&path, &flaw.to_string()))?;
    }
    Ok(())
}

fn copy(from: &Path, list: &List, to: &Path) -> Result<(), StoreError> {
    make_dir(&to.join("db"))?;
    for (path, bytes) in &list.files {
        let (from, to) = (from.join(path), to.join(path));
        let copied = fs::copy(&from, &to).and_then(|copied| {
            File::open(&to)?.sync_all()?;
            Ok(copied)
        });
        let copied = copied.map_err(|error| io_error(&to, &error))?;
        if copied != *bytes {
            return Err(damaged(&from, "it has changed while it was copied"));
        }
    }
    sync_dir(&to.join("db"))?;
    sync_dir(to)
}

fn parent(dir: &Path) -> &Path {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst")
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let written = File::create_new(path).and_then(|mut file| {
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written.map_err(|error| io_error(path, &error))
}

/// What a backup consists of.
#[derive(Debug, PartialEq, Eq)]
struct List {
    batch: Lsn,
    /// From its directory on, with their lengths.
    files: Vec<(PathBuf, u64)>,
}

impl List {
    /// Of what is there now.
    fn of(dir: &Path, batch: Lsn) -> Result<Self, StoreError> {
        let mut files = Vec::new();
        for sub in ["", "db"] {
            let dir = dir.join(sub);
            let fail = |error| io_error(&dir, &error);
            for entry in fs::read_dir(&dir).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let metadata = entry.metadata().map_err(fail)?;
                if metadata.is_file() {
                    files.push((Path::new(sub).join(entry.file_name()), metadata.len()));
                }
            }
        }
        files.sort();
        Ok(Self { batch, files })
    }

    fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LIST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(&path, "missing: this is no backup, or one only begun"));
            }
            Err(error) => return Err(io_error(&path, &error)),
        };
        let malformed = || damaged(&path, "it is not as it was written");
        let (checked, end) = text.rsplit_once("end ").ok_or_else(malformed)?;
        if end != format!("{:08x}\n", crc32fast::hash(checked.as_bytes())) {
            return Err(malformed());
        }
        let mut lines = checked.lines();
        let head = lines.next().ok_or_else(malformed)?;
        let version = lines.next().and_then(|line| line.strip_prefix("store "));
        let version = version.ok_or_else(malformed)?;
        if head != HEAD || version != LAYOUT_VERSION.to_string() {
            return Err(StoreError::Version {
                path: path.display().to_string(),
                found: version.to_owned(),
                expected: LAYOUT_VERSION,
            });
        }
        let batch = lines.next().and_then(|line| line.strip_prefix("batch ")?.parse().ok());
        let batch = Lsn(batch.ok_or_else(malformed)?);
        let file = |line: &str| {
            let (bytes, path) = line.strip_prefix("file ")?.split_once(' ')?;
            Some((PathBuf::from(path), bytes.parse().ok()?))
        };
        let files: Option<Vec<_>> = lines.map(file).collect();
        Ok(Self { batch, files: files.ok_or_else(malformed)? })
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\nstore {LAYOUT_VERSION}\nbatch {}\n", self.batch.0);
        for (path, bytes) in &self.files {
            let _ = writeln!(text, "file {bytes} {}", path.display());
        }
        let checksum = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "end {checksum:08x}");
        text
    }

    fn summary(&self) -> BackedUp {
        BackedUp {
            batch: self.batch,
            files: self.files.len() as u64,
            bytes: self.files.iter().map(|(_, bytes)| bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_read_is_the_list_written_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let files = vec![("VERSION".into(), 16), ("db/000012.sst".into(), 20_511)];
        let list = List { batch: Lsn(1_234), files };
        let text = list.text();
        let path = dir.path().join(LIST);
        fs::write(&path, &text).unwrap();
        assert_eq!(List::read(dir.path()).unwrap(), list);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(List::read(dir.path()).is_err(), "a flip at {at}");
            fs::write(&path, &text.as_bytes()[..at]).unwrap();
            assert!(List::read(dir.path()).is_err(), "cut at {at}");
        }
    }
}
