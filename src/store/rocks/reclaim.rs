//! Gives disk space back: a thread that drops table files which hold only dead records.
//!
//! A range deletion hides records; their bytes stay until tables are merged. After much of one
//! queue was deleted, files that lie wholly inside its dead range are dropped at once. Where files
//! hold several queues that finds none, so when the tables are more than twice as large as what
//! lives in them they are merged: each such merge frees at least as much as it writes.
//!
//! It works only on what is durable: a file dropped before the cursor's move is synced could be
//! missed after a power failure. Dropping a file may bring older dead records below it back to
//! light; readers start at the cursor, and ids and numbers are never used twice, so nobody sees
//! them.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rocksdb::CompactOptions;

use super::apply::Reclaim;
use super::commit::Shared;
use super::schema::message_key;

/// Tables smaller than this are left alone.
const TABLES_BYTES_MIN: u64 = 64 << 20;
/// Tables are merged when they are so many times larger than what lives in them.
const DEAD_RATIO: u64 = 2;

/// Works until the committer is gone.
pub(super) fn run(shared: &Arc<Shared>, work: &Receiver<Reclaim>) {
    while let Ok(reclaim) = work.recv() {
        match reclaim {
            Reclaim::Files { queue, below } => {
                // A refusal only means that the space is found later, by merging.
                let _ = shared
                    .db
                    .delete_file_in_range(message_key(queue, 0), message_key(queue, below));
            }
            Reclaim::Tables => merge_if_mostly_dead(shared),
        }
    }
}

fn merge_if_mostly_dead(shared: &Shared) {
    let tables = shared.db.property_int_value(rocksdb::properties::TOTAL_SST_FILES_SIZE);
    let tables_bytes = tables.ok().flatten().unwrap_or_default();
    let live_bytes = shared.queues().ready_bytes();
    if tables_bytes < TABLES_BYTES_MIN || tables_bytes / DEAD_RATIO < live_bytes {
        return;
    }
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    shared.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
}
