//! What must be true before RocksDB may open a database and write to it.
//!
//! RocksDB, told to recycle logs, ends silently at the first record that it cannot read, for it
//! cannot tell damage from the remains of an earlier use; then it makes tables of what it has read
//! and deletes the rest. So everything is looked at before: that every table and log is there that
//! the manifest refers to, as long as it must be; that the logs go on where the tables end; and
//! that their records follow one another without a gap as far as the mark. What lies behind a gap
//! that lies behind the mark was not yet synced when the power failed. Of tables the lengths are
//! looked at, and those blocks that hold what a start reads: counts and definitions. Others have
//! checksums, too, which are compared whenever a block is read: a start must not take longer the
//! more messages there are.

use std::path::{Path, PathBuf};

use super::files::batch::WriteBatch;
use super::files::log::{Found, LogReader};
use super::files::manifest::{Listed, Manifest};
use super::files::table::{Flaw, Table};
use super::files::{damaged_at, numbered};
use super::mark::{damaged, io_error};
use super::schema::{APPLIED_KEY, is_read_at_start};
use crate::store::{Lsn, StoreError};

/// A place in a file.
struct Spot {
    path: PathBuf,
    offset: u64,
}

/// What the logs go to.
pub(super) struct Logged {
    /// The last batch in them; `None` when there is none.
    pub(super) applied: Option<Lsn>,
    end: Option<Spot>,
}

impl Logged {
    /// The error for a store that ends here, before the mark.
    pub(super) fn too_short(&self, db_dir: &Path, applied: Lsn, marked: Lsn) -> StoreError {
        let (applied, marked) = (applied.0, marked.0);
        let reason = format!("ends at batch {applied}, but batch {marked} was on disk already");
        match &self.end {
            Some(end) => damaged_at(&end.path, end.offset, &reason),
            None => damaged(db_dir, &reason),
        }
    }
}

/// Looks at everything that a start needs.
///
/// # Errors
/// When something is missing or damaged: with the file, and the offset if it is known.
pub(super) fn check(db_dir: &Path, marked: Lsn) -> Result<Logged, StoreError> {
    let manifest = Manifest::read(db_dir)?;
    manifest.check_files(db_dir)?;
    check_tables(&manifest, db_dir)?;
    let due = manifest.last_sequence + 1;
    let mut logs = Logs { end: None, due, applied: None, is_over: false };
    for (number, path) in numbered(db_dir, "log")? {
        // What logs below held is in tables.
        if number >= manifest.log_number && !logs.is_over {
            logs.read(number, path, &manifest)?;
        }
    }
    let logged = Logged { applied: logs.applied, end: logs.end };
    match logged.applied {
        Some(applied) if applied < marked => Err(logged.too_short(db_dir, applied, marked)),
        _ => Ok(logged),
    }
}

/// Reads those blocks of tables that a start reads.
fn check_tables(manifest: &Manifest, db_dir: &Path) -> Result<(), StoreError> {
    for (number, Listed { keys: (_, last), .. }) in &manifest.tables {
        if !is_read_at_start(last) {
            continue;
        }
        let path = Manifest::table_path(db_dir, *number);
        let as_damage = |flaw: Flaw| damaged_at(&path, flaw.offset, &flaw.reason);
        let table = Table::open(&path).map_err(as_damage)?;
        for block in table.blocks.iter().filter(|block| is_read_at_start(&block.to)) {
            table.entries(block).map_err(as_damage)?;
        }
    }
    Ok(())
}

/// The number of a batch, as it stands under its key.
///
/// # Errors
/// When the bytes are none.
pub(super) fn applied(value: &[u8], path: &Path) -> Result<Lsn, StoreError> {
    let bytes = value.try_into();
    let bytes = bytes.map_err(|_| damaged(path, "its last number is not a number"))?;
    Ok(Lsn(u64::from_be_bytes(bytes)))
}

/// Logs, read one after the other.
struct Logs {
    /// Where the last record of all so far ends.
    end: Option<Spot>,
    /// The number that the next write must have, at most.
    due: u64,
    applied: Option<Lsn>,
    /// There is more, and something before it is missing.
    is_over: bool,
}

impl Logs {
    fn read(&mut self, number: u64, path: PathBuf, manifest: &Manifest) -> Result<(), StoreError> {
        let file = std::fs::read(&path).map_err(|error| io_error(&path, &error))?;
        let mut reader = LogReader::new(&file, number);
        let mut end = file.len() as u64;
        while let Some(found) = reader.next() {
            let record = match found {
                Found::Record(record) => record,
                Found::Broken(broken) => {
                    self.is_over = reader.resumes().is_some();
                    end = broken.offset;
                    break;
                }
            };
            let batch = WriteBatch::parse(&record.bytes).ok_or_else(|| {
                damaged_at(&path, record.offset, &"a write that cannot be understood")
            })?;
            if batch.sequence > self.due {
                if self.end.is_none() {
                    let (last, next) = (self.due - 1, batch.sequence);
                    let reason = format!("goes on with write {next}, and the tables end at {last}");
                    let named = manifest.path.file_name().unwrap_or_default().to_string_lossy();
                    let reason = format!("{reason}, as {named} has it");
                    return Err(damaged_at(&path, record.offset, &reason));
                }
                self.is_over = true;
                return Ok(());
            }
            self.due = batch.next_sequence();
            if let Some(value) = batch.value_of(&APPLIED_KEY) {
                self.applied = Some(applied(value, &path)?);
            }
        }
        self.end = Some(Spot { path, offset: end });
        Ok(())
    }
}
