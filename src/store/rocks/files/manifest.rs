//! The manifest: which tables and logs the database consists of.
//!
//! `CURRENT` names the manifest, a log whose records are edits: tables that came and went, and from
//! which log on writes are not yet in tables. We have one column family and no blob files; whoever
//! finds an edit that speaks of more refuses it.
//!
//! An edit that is only begun ends the manifest, as a power failure may leave it: what it spoke of
//! had not happened yet. A manifest that was cut looks the same. Then tables or logs are gone that
//! an earlier edit speaks of, or the logs' first write is not the one that was due.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::log::{Found, LogReader};
use super::{Input, damaged_at};
use crate::store::StoreError;
use crate::store::rocks::mark::{damaged, io_error};

/// What a manifest amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store::rocks) struct Manifest {
    /// The file itself.
    pub(in crate::store::rocks) path: PathBuf,
    /// Live tables.
    pub(in crate::store::rocks) tables: BTreeMap<u64, Listed>,
    /// Writes in logs below are in tables.
    pub(in crate::store::rocks) log_number: u64,
    /// The last write's number as it was when the last edit was written.
    pub(in crate::store::rocks) last_sequence: u64,
    /// Whether an edit has said what every manifest says.
    begun: bool,
    /// Where an edit was only begun, at the end.
    pub(in crate::store::rocks) cut: Option<u64>,
    /// Logs that were finished, and as how many bytes.
    pub(in crate::store::rocks) finished_logs: BTreeMap<u64, u64>,
}

/// What a manifest says of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store::rocks) struct Listed {
    pub(in crate::store::rocks) bytes: u64,
    /// Its first key and its last one.
    pub(in crate::store::rocks) keys: (Vec<u8>, Vec<u8>),
}

mod tag {
    pub(super) const COMPARATOR: u64 = 1;
    pub(super) const LOG_NUMBER: u64 = 2;
    pub(super) const NEXT_FILE: u64 = 3;
    pub(super) const LAST_SEQUENCE: u64 = 4;
    pub(super) const COMPACT_CURSOR: u64 = 5;
    pub(super) const DELETED_FILE: u64 = 6;
    pub(super) const PREVIOUS_LOG: u64 = 9;
    pub(super) const LOG_TO_KEEP: u64 = 10;
    pub(super) const NEW_FILE: u64 = 103;
    pub(super) const FAMILY: u64 = 200;
    pub(super) const FAMILY_ADDED: u64 = 201;
    pub(super) const FAMILY_MAX: u64 = 203;
    pub(super) const ATOMIC_GROUP: u64 = 300;
    /// Tags with this bit have a length and can be skipped.
    pub(super) const IGNORABLE: u64 = 1 << 13;
    pub(super) const LOG_FINISHED: u64 = IGNORABLE + 7;
    pub(super) const LOGS_DELETED: u64 = IGNORABLE + 8;
    /// Within a new file's fields.
    pub(super) const END: u64 = 1;
    pub(super) const FIELD_NOT_IGNORABLE: u64 = 1 << 6;
    /// Within what is said of a finished log.
    pub(super) const LOG_END: u64 = 1;
    pub(super) const SYNCED_SIZE: u64 = 2;
}

impl Manifest {
    /// Reads the manifest that `CURRENT` names.
    ///
    /// # Errors
    /// When a file is missing, cannot be read, or is damaged: with where.
    pub(in crate::store::rocks) fn read(db_dir: &Path) -> Result<Self, StoreError> {
        let current = db_dir.join("CURRENT");
        let name = std::fs::read(&current).map_err(|error| io_error(&current, &error))?;
        let name = std::str::from_utf8(&name).ok();
        let name = name.and_then(|name| name.strip_suffix('\n')).filter(|name| {
            let number = name.strip_prefix("MANIFEST-").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        });
        let name = name.ok_or_else(|| damaged(&current, "it names no manifest"))?;
        let path = db_dir.join(name);
        match std::fs::read(&path) {
            Ok(file) => Self::parse(path, &file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(damaged(&path, "missing, although CURRENT names it"))
            }
            Err(error) => Err(io_error(&path, &error)),
        }
    }

    fn parse(path: PathBuf, file: &[u8]) -> Result<Self, StoreError> {
        let mut manifest = Self { path, ..Self::default() };
        let mut reader = LogReader::of_one_use(file);
        while let Some(found) = reader.next() {
            match found {
                Found::Record(record) => {
                    let applied = manifest.apply(Input(&record.bytes));
                    applied.ok_or_else(|| {
                        let reason = "an edit that cannot be understood";
                        damaged_at(&manifest.path, record.offset, &reason)
                    })?;
                }
                Found::Broken(broken) => {
                    let is_end = broken.reason.starts_with("the file ends")
                        || broken.reason.starts_with("zeroes");
                    if !is_end || reader.resumes().is_some() {
                        return Err(damaged_at(&manifest.path, broken.offset, &broken.reason));
                    }
                    manifest.cut.get_or_insert(broken.offset);
                }
            }
        }
        if !manifest.begun {
            return Err(damaged(&manifest.path, "it is empty, or only its beginning is there"));
        }
        Ok(manifest)
    }

    fn apply(&mut self, mut edit: Input<'_>) -> Option<()> {
        while !edit.is_empty() {
            match edit.varint()? {
                tag::COMPARATOR => {
                    (edit.string()? == b"leveldb.BytewiseComparator").then_some(())?;
                }
                tag::LOG_NUMBER => self.log_number = self.log_number.max(edit.varint()?),
                tag::LAST_SEQUENCE => self.last_sequence = edit.varint()?,
                tag::NEXT_FILE => {
                    edit.varint()?;
                    self.begun = true;
                }
                tag::PREVIOUS_LOG | tag::LOG_TO_KEEP | tag::ATOMIC_GROUP => {
                    edit.varint()?;
                }
                tag::FAMILY_MAX | tag::FAMILY => {
                    (edit.varint()? == 0).then_some(())?;
                }
                tag::FAMILY_ADDED => {
                    (edit.string()? == b"default").then_some(())?;
                }
                tag::COMPACT_CURSOR => {
                    edit.varint()?;
                    edit.string()?;
                }
                tag::DELETED_FILE => {
                    let _level = edit.varint()?;
                    self.tables.remove(&edit.varint()?);
                }
                tag::NEW_FILE => self.add_table(&mut edit)?,
                tag::LOG_FINISHED => self.finish_log(Input(edit.string()?))?,
                tag::LOGS_DELETED => {
                    let first = Input(edit.string()?).varint()?;
                    self.finished_logs.retain(|number, _| *number >= first);
                }
                tag if tag & tag::IGNORABLE != 0 => {
                    edit.string()?;
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn add_table(&mut self, edit: &mut Input<'_>) -> Option<()> {
        let _level = edit.varint()?;
        let number = edit.varint()?;
        let bytes = edit.varint()?;
        let keys = (user_key(edit.string()?)?, user_key(edit.string()?)?);
        let _sequences = (edit.varint()?, edit.varint()?);
        loop {
            match edit.varint()? {
                tag::END => break,
                field if field & tag::FIELD_NOT_IGNORABLE != 0 => return None,
                _ => {
                    edit.string()?;
                }
            }
        }
        self.tables.insert(number, Listed { bytes, keys });
        Some(())
    }

    fn finish_log(&mut self, mut log: Input<'_>) -> Option<()> {
        let number = log.varint()?;
        loop {
            match log.varint()? {
                tag::SYNCED_SIZE => {
                    self.finished_logs.insert(number, log.varint()?);
                }
                tag::LOG_END => return Some(()),
                _ => return None,
            }
        }
    }

    /// Where a table lies.
    pub(in crate::store::rocks) fn table_path(db_dir: &Path, number: u64) -> PathBuf {
        db_dir.join(format!("{number:06}.sst"))
    }

    /// Where a log lies.
    pub(in crate::store::rocks) fn log_path(db_dir: &Path, number: u64) -> PathBuf {
        db_dir.join(format!("{number:06}.log"))
    }

    /// Whether every table and every log is there, as long as it must be.
    ///
    /// # Errors
    /// When one is not.
    pub(in crate::store::rocks) fn check_files(&self, db_dir: &Path) -> Result<(), StoreError> {
        for (number, Listed { bytes, .. }) in &self.tables {
            let path = Self::table_path(db_dir, *number);
            let found = file_bytes(&path)?.ok_or_else(|| self.missing(&path))?;
            if found != *bytes {
                let reason = format!("{found} bytes, of {bytes} that were written");
                return Err(damaged(&path, &reason));
            }
        }
        for (number, bytes) in self.finished_logs.range(self.log_number..) {
            let path = Self::log_path(db_dir, *number);
            let found = file_bytes(&path)?.ok_or_else(|| self.missing(&path))?;
            if found < *bytes {
                let reason = format!("ends at offset {found}, of {bytes} bytes that were written");
                return Err(damaged(&path, &reason));
            }
        }
        Ok(())
    }

    /// The error for a file that the database refers to and that is not there.
    pub(in crate::store::rocks) fn missing(&self, path: &Path) -> StoreError {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        damaged(path, &format!("missing, although {name} refers to it"))
    }
}

/// A key without the number and kind of its write.
fn user_key(key: &[u8]) -> Option<Vec<u8>> {
    key.split_last_chunk::<8>().map(|(key, _)| key.to_vec())
}

/// A file's length; `None` when there is none.
fn file_bytes(path: &Path) -> Result<Option<u64>, StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, &error)),
    }
}
