//! RocksDB's files, read without RocksDB: to say before it writes anything whether it would find
//! everything again, and to save what can be saved when it would not.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `log` | records in blocks with checksums: the form of logs and of the manifest |
//! | `manifest` | which tables and logs the database consists of |
//! | `batch` | one write, as a log's record holds it |
//! | `table` | a table file: its blocks, and the entries in them |
//!
//! Nothing here writes, and nothing trusts a length, an offset or a count before it has checked it:
//! these files are read when they are damaged. What RocksDB has beyond the settings of `tuning` is
//! not understood but refused. Its version is pinned, and the tests read what it writes.

pub(super) mod batch;
pub(super) mod log;
pub(super) mod manifest;
pub(super) mod table;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::mark::io_error;
use crate::store::StoreError;

/// The error for a place in a file where something else stands than was written.
pub(super) fn damaged_at(path: &Path, offset: u64, reason: &dyn Display) -> StoreError {
    let path = path.display().to_string();
    StoreError::Damaged { path, reason: format!("at offset {offset}: {reason}") }
}

/// The numbered files of a kind in a directory, by their numbers, ascending.
pub(super) fn numbered(dir: &Path, extension: &str) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let fail = |error| io_error(dir, &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number
            && path.extension().is_some_and(|found| found == extension)
        {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Takes numbers and byte strings off the front of bytes. `None` is an end that comes too early,
/// or a number too large.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    pub(super) fn fixed32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    pub(super) fn fixed64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// Bytes with their length before them.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.length()?;
        self.bytes(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let read = |bytes: &[u8]| Input(bytes).varint();
        assert_eq!(read(&[0]), Some(0));
        assert_eq!(read(&[0xac, 0x02]), Some(300));
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(read(&largest), Some(u64::MAX));
        largest[9] = 2;
        assert_eq!(read(&largest), None, "larger than a number can be");
        assert_eq!(read(&[0x80; 11]), None);
        assert_eq!(read(&[0x80]), None, "its end is missing");
        assert_eq!(Input(&[3, b'a', b'b']).string(), None);
    }

    #[test]
    fn files_are_found_by_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["000010.log", "9.log", "000011.sst", "LOG", "x.log"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = numbered(dir.path(), "log").unwrap();
        assert_eq!(found.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [9, 10]);
    }
}
