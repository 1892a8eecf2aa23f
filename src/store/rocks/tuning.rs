//! How RocksDB is set up, and what the settings cost and bring.
//!
//! # Recycled logs
//!
//! A log file that is used again has its blocks already, so `fdatasync` need not write the file's
//! metadata. `benches/store.rs only=paired` lets two stores, a plain file that grows and one that
//! is overwritten take turns of 50 ms, so that a busy disk hits all alike. Batches a second, each
//! synced (two runs of 24 s, ext4 on a virtual disk, two processors at a load of 7):
//!
//! | batch | new logs | recycled logs | gain | median wait in µs |
//! | --- | --- | --- | --- | --- |
//! | 1 of 100 B | 552; 516 | 701; 740 | 27; 43 % | 408 to 231; 879 to 185 |
//! | 1 of 1 KiB | 537; 965 | 592; 1,029 | 10; 7 % | 828 to 675; 370 to 346 |
//! | 10 of 1 KiB | 487; 1,672 | 553; 2,260 | 14; 35 % | 991 to 738; 152 to 115 |
//! | 100 of 1 KiB | 292; 633 | 340; 679 | 16; 7 % | 2,709 to 2,334; 654 to 534 |
//!
//! The plain files show the same: overwriting is 25 to 60 % faster than growing at 1 KiB.
//! The gain sets in once a log has been filled: smaller write buffers recycle sooner. The price is
//! the recovery mode. RocksDB recycles only with `PointInTime`, which ends silently at the first
//! record that it cannot read, for it cannot tell damage from the remains of an earlier use. The
//! mark file (see `mark`) turns that silence into a refusal wherever something durable is missing.
//!
//! # Levels
//!
//! Every table has cursors beside its messages, so those of level 0 overlap and are merged with
//! all of the level below. That level is small, then: what grows beyond it are tables of one
//! queue's consecutive messages, which move further down without being written again. With
//! RocksDB's own sizes (merges of 4 tables into a level of 256 MiB) the merges wrote a backlog over
//! and over: processor time of the whole broker for each of 5,000,000 messages of 100 B in one
//! queue, in turns in one run, 3.97 µs published and 3.76 µs consumed; with these 2.72 and 2.18 µs.
//!
//! # Many queues
//!
//! Messages of one queue ascend, but a group has those of many, and each insertion into a write
//! buffer used to search its place from the top. RocksDB remembers where the last one went for each
//! prefix of a key if it is told what a prefix is: here, a queue's level. Processor time of the
//! whole broker for each of 3,000,000 messages of 100 B published to 1,000 queues, in turns in one
//! run, 7.25 and 8.03 µs without and 6.21 and 7.04 µs with it; to one queue 2.54, 2.73 and 2.57,
//! 2.90. It takes a quarter of a KiB of a write buffer for each prefix in it. (Merging 16
//! overlapping tables instead of 8 brings 5.41 and 5.61 µs, but then consuming from one queue takes
//! 1.9 instead of 1.5 µs, for all of them must be looked through.)
//!
//! # Write buffers
//!
//! Processor time for a message that is published and settled, and memory in use at the end
//! (100 B 2,000 behind; 1 KiB 100,000 behind; two runs each): 16 MiB: 0.78 to 0.93 and 4.0 µs, 54
//! to 67 MiB; 32 MiB: 0.89 to 0.93 and 4.0 µs, 95 to 151 MiB; 64 MiB: 1.08 to 1.39 and 3.6 to
//! 3.8 µs, 216 to 411 MiB. Larger buffers buy next to nothing here, as settled messages go by the
//! range at 10,000 or 4 MiB anyway.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options as DbOptions,
};

use super::schema::CURSOR_KEY_BYTES;
use crate::store::{Durability, StoreError};

/// Range deletions after which a write buffer becomes a table file.
const RANGE_DELETIONS_MAX: u32 = 512;

/// The size of the level into which overlapping tables are merged.
const LEVEL_BYTES: u64 = 32 << 20;
/// The size of a table that a merge writes.
const TABLE_BYTES: u64 = 4 << 20;
/// Overlapping tables that are merged at once.
const OVERLAPPING_TABLES_MAX: i32 = 8;
/// By how much the list of tables grows on disk. RocksDB's own 4 MiB are a fifth of what an empty
/// store takes.
const MANIFEST_BYTES: usize = 64 << 10;

/// What may be chosen. The defaults keep an idle broker small.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes gathered in memory before they become a table file. Messages settled before that are
    /// never written again.
    pub write_buffer_bytes: usize,
    /// Such buffers in memory at once, the one being filled included.
    pub write_buffers_max: u8,
    /// Blocks of table files kept in memory.
    pub block_cache_bytes: usize,
    /// A record of so many bytes lies apart from its queue, where no merge of queues copies it.
    pub apart_bytes_min: usize,
    /// Log files kept for reuse. A reused file's blocks are allocated already, so a sync need not
    /// write the file's metadata.
    pub recycled_logs: u8,
    /// Files kept open at once; more are opened again whenever they are read.
    pub files_max: u16,
    /// How safe a queue's messages are that asks for nothing else.
    pub durability: Durability,
    /// How long a batch that nobody awaits may wait for company before it is written and synced.
    pub gather_ms_max: u64,
    /// Has [`StoreCounters::syncs`](crate::store::StoreCounters::syncs) count the syncs of the log
    /// that RocksDB has seen return, not the writes that asked for one. For tests: RocksDB's
    /// statistics take half a MiB.
    pub observes_syncs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Options {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        write_buffer_bytes: 16 << 20,
        write_buffers_max: 4,
        block_cache_bytes: 8 << 20,
        apart_bytes_min: 4 << 10,
        recycled_logs: 4,
        files_max: 4_096,
        durability: Durability::Fsync,
        gather_ms_max: 200,
        observes_syncs: false,
    };

    /// RocksDB's own options. `has_log` says whether there is a log: RocksDB refuses to verify logs
    /// where it finds none.
    pub(super) fn to_rocksdb(self, has_log: bool) -> DbOptions {
        // The crate has no setters for these. Every read has to arrange the range deletions anew
        // that were added to the write buffer since the last one. And a log names the end of the
        // one before it, so that after a power failure nobody goes on behind an end that is
        // missing: what is not synced could leave such a hole. Write buffers remember where a
        // queue's messages go.
        let others = format!(
            "memtable_max_range_deletions={RANGE_DELETIONS_MAX};track_and_verify_wals={has_log};\
             memtable_insert_with_hint_prefix_extractor=fixed:{CURSOR_KEY_BYTES}"
        );
        let mut options = DbOptions::default()
            .get_options_from_string(others)
            .expect("invariant: the linked RocksDB knows the options");
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(self.write_buffers_max.into());
        let logs_max = u64::from(self.write_buffers_max) + 2;
        options.set_max_total_wal_size(logs_max * self.write_buffer_bytes as u64);
        options.set_recycle_log_file_num(self.recycled_logs.into());
        options.set_wal_recovery_mode(if self.recycled_logs > 0 {
            DBRecoveryMode::PointInTime
        } else {
            DBRecoveryMode::TolerateCorruptedTailRecords
        });
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_max_open_files(self.files_max.into());
        options.set_max_background_jobs(2);
        options.set_max_bytes_for_level_base(LEVEL_BYTES);
        options.set_target_file_size_base(TABLE_BYTES);
        options.set_level_zero_file_num_compaction_trigger(OVERLAPPING_TABLES_MAX);
        options.set_manifest_preallocation_size(MANIFEST_BYTES);
        options.set_bytes_per_sync(1 << 20);
        options.set_avoid_unnecessary_blocking_io(true);
        // One thread writes: the cheaper insertion will do.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        options.set_compression_type(DBCompressionType::Lz4);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_size(16 << 10);
        blocks.set_block_cache(&Cache::new_lru_cache(self.block_cache_bytes));
        options.set_block_based_table_factory(&blocks);
        // No thread wakes an idle broker to write statistics.
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        if self.observes_syncs {
            options.enable_statistics();
        }
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(1 << 20);
        options
    }
}

/// RocksDB's error as ours; `path` is its directory.
pub(super) fn store_error(path: &str, error: &rocksdb::Error) -> StoreError {
    let reason = error.to_string();
    let path = file_named(path, &reason).unwrap_or(path).to_owned();
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StoreError::Damaged { path, reason },
        rocksdb::ErrorKind::IOError
            if reason.contains("While lock file") || reason.contains("lock hold by") =>
        {
            StoreError::Locked { path }
        }
        // Each of its files is there from when something refers to it until nothing does.
        rocksdb::ErrorKind::IOError if reason.contains("No such file or directory") => {
            StoreError::Damaged { path, reason }
        }
        _ => StoreError::Io { path, reason },
    }
}

/// The first file of a directory that a text names.
fn file_named<'a>(dir: &str, text: &'a str) -> Option<&'a str> {
    let (from, _) =
        text.match_indices(dir).find(|(at, _)| text[at + dir.len()..].starts_with('/'))?;
    let named = &text[from..];
    let name = &named[dir.len() + 1..];
    let len = name.find(|it: char| it == ':' || it == ';' || it.is_whitespace());
    Some(&named[..dir.len() + 1 + len.unwrap_or(name.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_an_error_speaks_of_is_found() {
        let named = |text| file_named("/var/lib/a b/db", text);
        let text = "IO error: No such file: While open: /var/lib/a b/db/000012.sst: No such file";
        assert_eq!(named(text), Some("/var/lib/a b/db/000012.sst"));
        let text = "in /var/lib/a b/db: see /var/lib/a b/db/MANIFEST-000005 may be corrupted";
        assert_eq!(named(text), Some("/var/lib/a b/db/MANIFEST-000005"));
        assert_eq!(named("Corruption: in /var/lib/a b/db or elsewhere"), None);
        assert_eq!(named("Corruption: no file"), None);
    }
}
