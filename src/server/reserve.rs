//! Room that is kept for acknowledgements: a file of nothing, given up when the disk fills.
//!
//! While the disk alarm keeps publishers waiting, consumers go on, and what they acknowledge is
//! written, too; so is what the store still holds in memory. Whoever else fills the disk asks
//! nobody. So a file holds on to some space; when little else is left it is emptied, and filled
//! again once there is room beside it. As long as it is missing, its size is missing from what
//! alarms are judged by: giving it up lets no publisher go on.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::broker::alarms::Levels;

/// How large the file is, unless the file system is small.
const RESERVE_BYTES: u64 = 64 << 20;
/// The part of a file system that it may take.
const SHARE: u64 = 16;

/// The file, and whether it holds its space now.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: Mutex<bool>,
}

impl Reserve {
    /// Finds or makes the file in a directory. Without one (on a file system that cannot set space
    /// aside, for one) there is no reserve, and that is logged.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let size = statvfs(dir).ok().and_then(|disk| disk.f_blocks.checked_mul(disk.f_frsize));
        let bytes = RESERVE_BYTES.min(size.unwrap_or_default() / SHARE);
        let reserve = Self { path: dir.join("reserve"), bytes, held: Mutex::new(false) };
        let found = File::open(&reserve.path).and_then(|file| file.metadata());
        let is_full = found.is_ok_and(|found| found.len() >= bytes);
        *reserve.held() = is_full;
        reserve
    }

    /// Gives the space up or takes it back, as these levels call for, and answers with what alarms
    /// are to be judged by.
    #[must_use]
    pub fn levels(&self, mut levels: Levels) -> Levels {
        let Some(free) = levels.disk_free_bytes else { return levels };
        let limit = levels.disk_free_limit_bytes.unwrap_or_default();
        let mut held = self.held();
        if *held && free < self.bytes / 2 {
            match self.release() {
                Ok(()) => {
                    *held = false;
                    let bytes = self.bytes;
                    tracing::warn!("little space is left: {bytes} bytes kept for it are given up");
                }
                Err(error) => tracing::error!("{}: {error}", self.path.display()),
            }
            // What was free does not count the space that this has given.
            levels.disk_free_bytes = Some(if *held { free } else { 0 });
        } else if !*held {
            let beside = free.saturating_sub(self.bytes);
            if beside > limit && self.take().is_ok() {
                *held = true;
            }
            levels.disk_free_bytes = Some(beside);
        }
        levels
    }

    fn take(&self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        fallocate(&file, FallocateFlags::empty(), 0, self.bytes).inspect_err(|_| {
            // Part of it may have been set aside.
            let _ = file.set_len(0);
        })?;
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, bool> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn space_is_given_up_when_little_is_left_and_does_not_count_as_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let reserve = Reserve { path, bytes: 4 * MIB, held: Mutex::new(false) };
        let judged = |free: u64| {
            let levels = Levels { disk_free_bytes: Some(free), ..Levels::default() };
            let levels = Levels { disk_free_limit_bytes: Some(10 * MIB), ..levels };
            let free = reserve.levels(levels).disk_free_bytes.unwrap();
            (free, std::fs::metadata(&reserve.path).map_or(0, |file| file.len()))
        };
        assert_eq!(judged(12 * MIB), (8 * MIB, 0), "there is no room for it beside the limit");
        assert_eq!(judged(20 * MIB), (16 * MIB, 4 * MIB), "taken");
        assert_eq!(judged(16 * MIB), (16 * MIB, 4 * MIB));
        assert_eq!(judged(3 * MIB), (3 * MIB, 4 * MIB), "the alarm is set, and it is kept still");
        assert_eq!(judged(MIB), (0, 0), "given up");
        assert_eq!(judged(5 * MIB), (MIB, 0), "what it has given is not free");
        assert_eq!(judged(13 * MIB), (9 * MIB, 0));
        assert_eq!(judged(15 * MIB), (11 * MIB, 4 * MIB), "taken back");
    }
}
