//! The mark: how far the watermark had come, kept outside the log it speaks of.
//!
//! Whatever way a log is read back, one that was cut at a record's end looks whole. So after every
//! sync of the log the last durable `Lsn` is written into this file of 16 bytes (number, zeroes, a
//! CRC-32 of both), in place. A store whose log ends before the mark has lost what it promised, and
//! is refused. Written after the log's sync, the mark is never ahead of what is on disk; it is
//! exact after the process was killed, and at most a second behind after a power failure.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::store::{Lsn, StoreError};

const MARK_BYTES: usize = 16;
const CHECKED_BYTES: usize = 12;

/// The open mark file.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
}

impl Mark {
    /// Opens the mark and reads it; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(super) fn open(path: &Path) -> Result<Option<(Self, Lsn)>, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(path, &error)),
        };
        let lsn = read(&file, path)?;
        Ok(Some((Self { file, path: path.to_owned() }, lsn)))
    }

    /// Reads a mark that is not to be changed; `None` when there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn read(path: &Path) -> Result<Option<Lsn>, StoreError> {
        match File::open(path) {
            Ok(file) => read(&file, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(path, &error)),
        }
    }

    /// Makes the mark of a new store and syncs it.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let fail = |error| io_error(path, &error);
        // Written under another name first: a mark is whole or absent, even if power fails now.
        let draft = path.with_extension("new");
        let file = File::create(&draft).map_err(fail)?;
        file.write_all_at(&encode(Lsn::ZERO), 0).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        std::fs::rename(&draft, path).map_err(fail)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Notes that the log is synced up to here.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, durable: Lsn) -> Result<(), StoreError> {
        let written = self.file.write_all_at(&encode(durable), 0);
        written.map_err(|error| io_error(&self.path, &error))
    }

    /// Puts the note itself on disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| io_error(&self.path, &error))
    }
}

fn read(file: &File, path: &Path) -> Result<Lsn, StoreError> {
    let mut mark = [0; MARK_BYTES];
    match file.read_exact_at(&mut mark, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, "shorter than 16 bytes"));
        }
        Err(error) => return Err(io_error(path, &error)),
    }
    decode(&mark).ok_or_else(|| damaged(path, "its checksum does not fit"))
}

/// An error of the operating system with the path it is about.
pub(super) fn io_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { path: path.display().to_string(), reason: error.to_string() }
}

/// The error for something that is not as it was written.
pub(super) fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Damaged { path: path.display().to_string(), reason: reason.to_owned() }
}

fn encode(lsn: Lsn) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..8].copy_from_slice(&lsn.0.to_le_bytes());
    let checksum = crc32fast::hash(&mark[..CHECKED_BYTES]);
    mark[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    mark
}

fn decode(mark: &[u8; MARK_BYTES]) -> Option<Lsn> {
    let (checked, checksum) = mark.split_at(CHECKED_BYTES);
    let lsn = u64::from_le_bytes(*checked.first_chunk()?);
    (checksum == crc32fast::hash(checked).to_le_bytes()).then_some(Lsn(lsn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_written_is_the_mark_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        assert!(Mark::open(&path).unwrap().is_none());
        let mark = Mark::create(&path).unwrap();
        mark.write(Lsn(1 << 40)).unwrap();
        mark.sync().unwrap();
        let (_, lsn) = Mark::open(&path).unwrap().unwrap();
        assert_eq!(lsn, Lsn(1 << 40));
    }

    #[test]
    fn a_mark_with_any_bit_flipped_or_byte_missing_is_refused() {
        let whole = encode(Lsn(123_456));
        for bit in 0..8 * MARK_BYTES {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        std::fs::write(&path, &whole[..15]).unwrap();
        assert!(matches!(Mark::open(&path), Err(StoreError::Damaged { .. })));
    }
}
