//! What the operating system says of this process and its machine, read when asked for.
//!
//! Linux's `/proc` and control groups, and the file system's free space. What cannot be read is
//! `None`, and then neither shown nor guessed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::broker::alarms::Levels;
use crate::config::Settings;
use crate::config::settings::{Amount, DiskFreeLimit};

/// A snapshot of the process and its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessStats {
    /// The time of the snapshot, in milliseconds of Unix time.
    pub now_ms: u64,
    /// The process's id.
    pub pid: u32,
    /// Memory that the process occupies.
    pub resident_memory_bytes: Option<u64>,
    /// Memory that it is meant to stay under.
    pub memory_limit_bytes: Option<u64>,
    /// Memory of the machine or container.
    pub memory_total_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// How many there may be.
    pub max_fds: Option<u64>,
    /// Free space where the data directory is.
    pub disk_free_bytes: Option<u64>,
    /// The free space that is meant to stay.
    pub disk_free_limit_bytes: Option<u64>,
    /// Threads of the process.
    pub threads: Option<u64>,
    /// Processors the process may use.
    pub processors: u64,
}

/// Reads [`ProcessStats`]. Clones share the limits.
#[derive(Debug, Clone)]
pub struct ProcessReader {
    data_dir: PathBuf,
    limits: Arc<RwLock<Limits>>,
}

/// What can be configured anew while the process runs.
#[derive(Debug, Clone, Copy)]
struct Limits {
    memory_watermark: Amount,
    memory_total_override_bytes: Option<u64>,
    disk_free_limit: DiskFreeLimit,
}

impl Limits {
    fn of(settings: &Settings) -> Self {
        Self {
            memory_watermark: settings.memory.high_watermark,
            memory_total_override_bytes: settings.memory.total_available_override_bytes,
            disk_free_limit: settings.disk_free_limit,
        }
    }

    fn memory_total_bytes(self) -> Option<u64> {
        self.memory_total_override_bytes.or_else(memory_total_bytes)
    }
}

impl ProcessReader {
    /// A reader that knows the configured limits and where the data is.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let limits = Arc::new(RwLock::new(Limits::of(settings)));
        Self { data_dir: settings.store.path.clone(), limits }
    }

    /// Takes other limits from now on.
    pub fn limit(&self, settings: &Settings) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Limits::of(settings);
    }

    fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What alarms are judged by. Much less work than a whole snapshot.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = self.limits();
        let total = limits.memory_total_bytes();
        Levels {
            memory_used_bytes: kilobytes(&status, "VmRSS:"),
            memory_limit_bytes: limit_bytes(limits.memory_watermark, total),
            disk_free_bytes: disk_free_bytes(&self.data_dir),
            disk_free_limit_bytes: limit_bytes(limits.disk_free_limit.0, total),
        }
    }

    /// Takes a snapshot. Reads a few small files and lists the open descriptors.
    #[must_use]
    pub fn read(&self, now_ms: u64) -> ProcessStats {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let process_limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let limits = self.limits();
        let total = limits.memory_total_bytes();
        ProcessStats {
            now_ms,
            pid: std::process::id(),
            resident_memory_bytes: kilobytes(&status, "VmRSS:"),
            memory_limit_bytes: limit_bytes(limits.memory_watermark, total),
            memory_total_bytes: total,
            open_fds: open_fds(),
            max_fds: max_fds(&process_limits),
            disk_free_bytes: disk_free_bytes(&self.data_dir),
            disk_free_limit_bytes: limit_bytes(limits.disk_free_limit.0, total),
            threads: field(&status, "Threads:"),
            processors: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        }
    }
}

/// The smaller of the machine's memory and its control group's limit: RabbitMQ counts so too.
fn memory_total_bytes() -> Option<u64> {
    let machine = kilobytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:");
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

fn limit_bytes(amount: Amount, total: Option<u64>) -> Option<u64> {
    match (amount, total) {
        (Amount::Absolute(bytes), _) => Some(bytes),
        (Amount::Relative(_), total) => Some(amount.bytes(total?)),
    }
}

fn open_fds() -> Option<u64> {
    // Listing them opens one more.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn disk_free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(1024)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let status = "Name:\tleveret\nVmRSS:\t   12345 kB\nThreads:\t7\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(12_345 * 1024));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!(field(status, "VmSwap:"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 4096                 files\n";
        assert_eq!(max_fds(limits), Some(1024));
    }

    #[test]
    fn a_limit_relative_to_an_unknown_total_is_unknown() {
        assert_eq!(limit_bytes(Amount::Relative(0.5), Some(1000)), Some(500));
        assert_eq!(limit_bytes(Amount::Relative(0.5), None), None);
        assert_eq!(limit_bytes(Amount::Absolute(7), None), Some(7));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_descriptors_and_a_disk() {
        let mut settings = Settings::default();
        settings.store.path = PathBuf::from("/");
        let reader = ProcessReader::new(&settings);
        let stats = reader.read(5);
        let levels = reader.levels();
        assert!(levels.memory_used_bytes > Some(0) && levels.disk_free_bytes.is_some());
        assert_eq!(levels.memory_limit_bytes, stats.memory_limit_bytes);
        assert_eq!(levels.disk_free_limit_bytes, stats.disk_free_limit_bytes);
        assert!(stats.resident_memory_bytes > Some(0));
        assert!(stats.memory_limit_bytes < stats.memory_total_bytes);
        assert!(stats.open_fds > Some(2) && stats.open_fds < stats.max_fds);
        assert!(stats.disk_free_bytes.is_some());
        assert_eq!((stats.now_ms, stats.disk_free_limit_bytes), (5, Some(50_000_000)));
    }
}
