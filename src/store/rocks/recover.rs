//! Opening a directory: what must be there, what is refused, and how the state is found again.
//!
//! | entry | what it is |
//! | --- | --- |
//! | `VERSION` | the layout's version, one line; locked while the store is open |
//! | `mark` | how far the watermark had come, see `mark` |
//! | `db/` | RocksDB's files |
//!
//! They are made in this order, so a start that was interrupted goes on. A directory that is
//! refused is not changed: everything is looked at first (`check`), and only a database that holds
//! everything the mark speaks of is opened for real.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rocksdb::{DB, Options as DbOptions, Range};
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::geteuid;

use super::apart::Apart;
use super::apply::{LevelState, Queues};
use super::check;
use super::commit::Shared;
use super::files::numbered;
use super::mark::{Mark, damaged, io_error};
use super::read::{each_message, each_record};
use super::schema::{self, APPLIED_KEY, LAYOUT_VERSION};
use super::tuning::{Options, store_error};
use crate::store::cursor::{Cursor, CursorError};
use crate::store::image::{backlog, queue_damaged};
use crate::store::{LevelKey, Lsn, Recovery, StoreError};

pub(super) const VERSION_PREFIX: &str = "leveret store ";
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// An opened directory.
pub(super) struct Opened {
    pub(super) db: DB,
    pub(super) dir: PathBuf,
    pub(super) mark: Mark,
    pub(super) applied: Lsn,
    pub(super) queues: Queues,
    /// RocksDB's own counters, when they are asked for.
    pub(super) statistics: Option<DbOptions>,
    /// Holds the lock.
    pub(super) version: File,
}

/// Opens a directory, making it when it does not exist.
pub(super) fn open(dir: &Path, options: Options) -> Result<Opened, StoreError> {
    make_dir(dir)?;
    let db_dir = dir.join("db");
    check_rights(dir, &db_dir)?;
    let version = open_version(dir, &db_dir)?;
    let mark_path = dir.join("mark");
    let (mark, marked) = match Mark::open(&mark_path)? {
        Some(found) => found,
        None if db_dir.join("CURRENT").exists() => {
            return Err(damaged(&mark_path, "missing although there is a database"));
        }
        None => {
            let mark = Mark::create(&mark_path)?;
            sync_dir(dir)?;
            (mark, Lsn::ZERO)
        }
    };
    let path = db_dir.display().to_string();
    let current = db_dir.join("CURRENT");
    let is_new = !current.exists();
    // A first start may have ended before it made a log: then nothing was promised yet.
    let was_begun = !is_new && marked == Lsn::ZERO && numbered(&db_dir, "log")?.is_empty();
    let mut db_options = options.to_rocksdb(!was_begun);
    if is_new {
        if marked > Lsn::ZERO || has_data(&db_dir)? {
            return Err(damaged(&current, "missing although there was a database"));
        }
    } else {
        let logged = check::check(&db_dir, marked)?;
        if logged.applied.is_none() {
            // The logs hold next to nothing: opened without writing, the tables tell it soon.
            let db = DB::open_for_read_only(&db_options, &db_dir, false)
                .map_err(|error| store_error(&path, &error))?;
            let applied = last_applied(&db, &db_dir)?;
            if applied < marked {
                return Err(logged.too_short(&db_dir, applied, marked));
            }
        }
    }
    db_options.create_if_missing(true);
    let db = DB::open(&db_options, &db_dir).map_err(|error| store_error(&path, &error))?;
    if is_new {
        // RocksDB syncs what it makes inside its directory, and not that directory's own entry.
        sync_dir(dir)?;
    }
    let applied = last_applied(&db, &db_dir)?;
    if applied < marked {
        let reason = "RocksDB has found less in its log than there is";
        return Err(damaged(&db_dir, reason));
    }
    let apart = Apart::new(options.apart_bytes_min, apart_bytes(&db));
    let queues = read_cursors(&db, &path, apart)?;
    // What was found beyond the mark has just been put into a table file: it is on disk for good.
    mark.write(applied)?;
    let statistics = options.observes_syncs.then_some(db_options);
    Ok(Opened { db, dir: db_dir, mark, applied, queues, statistics, version })
}

/// Makes a directory and puts the entry of each one that had to be made on disk: a confirmed
/// message is not safe in a directory that a power failure may take away.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|path| is_missing(path)).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                denied(dir, &error)
            }
            _ => io_error(dir, &error),
        }
    })?;
    for made in missing.iter().rev() {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or_else(|| Path::new(".")))?;
    }
    Ok(())
}

/// Where to make a directory that must not be there yet, or be empty: beside it, to be renamed once
/// it is whole. What an attempt that was interrupted has left there is refused, too.
///
/// # Errors
/// When something is there already.
pub fn absent(dir: &Path) -> Result<PathBuf, StoreError> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = dir.with_file_name(name);
    for path in [dir, &unfinished] {
        let is_there = match std::fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if is_there {
            return Err(StoreError::Exists { path: path.display().to_string() });
        }
    }
    Ok(unfinished)
}

fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && !path.exists()
}

/// What stands in the version file.
pub(super) fn version_line() -> String {
    format!("{VERSION_PREFIX}{LAYOUT_VERSION}\n")
}

/// Whether this process may read and write everything there. The superuser may, and so is asked for
/// more: what it made in somebody else's directory, that one could not use any more.
fn check_rights(dir: &Path, db_dir: &Path) -> Result<(), StoreError> {
    let version = dir.join("VERSION");
    let user = geteuid();
    if user.is_root()
        && let Ok(metadata) = std::fs::metadata(&version)
        && metadata.uid() != user.as_raw()
    {
        let owner = metadata.uid();
        let reason = format!(
            "belongs to user {owner}, and this is the superuser's process: run it as user {owner}"
        );
        return Err(StoreError::Denied { path: version.display().to_string(), reason });
    }
    let may = |path: &Path, access| match rustix::fs::access(path, access) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(denied(path, &error.into())),
    };
    for dir in [dir, db_dir] {
        may(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                may(&entry.path(), Access::READ_OK | Access::WRITE_OK)?;
            }
        }
    }
    Ok(())
}

fn denied(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Denied { path: path.display().to_string(), reason: error.to_string() }
}

/// Reads or makes the version file and locks it.
fn open_version(dir: &Path, db_dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("VERSION");
    let fail = |error: io::Error| io_error(&path, &error);
    let mismatch = |found: &str| StoreError::Version {
        path: path.display().to_string(),
        found: found.to_owned(),
        expected: LAYOUT_VERSION,
    };
    let ours = version_line();
    // Asked first, as the version file is made first.
    let has_db = db_dir.exists();
    let mut openable = OpenOptions::new();
    openable.read(true).write(true);
    let mut file = match openable.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if has_db {
                return Err(mismatch("none"));
            }
            // Never by another file's renaming: of two who start at once both must lock this one.
            openable.create(true).truncate(false).open(&path).map_err(fail)?
        }
        opened => opened.map_err(fail)?,
    };
    lock(&file, dir)?;
    let mut found = String::new();
    (&mut file).take(64).read_to_string(&mut found).map_err(fail)?;
    let is_new = !db_dir.exists() && !dir.join("mark").exists();
    if is_new && found.len() < ours.len() && ours.starts_with(&found) {
        file.write_all_at(ours.as_bytes(), 0).and_then(|()| file.sync_all()).map_err(fail)?;
        sync_dir(dir)?;
    } else if found != ours {
        return Err(mismatch(found.strip_prefix(VERSION_PREFIX).unwrap_or(&found).trim()));
    }
    Ok(file)
}

/// Locks the version file. A process that is just ending may still hold it, and so may a child of
/// ours between its fork and its start: hence a little patience.
fn lock(file: &File, dir: &Path) -> Result<(), StoreError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(io_error(dir, &error)),
        }
    }
    Err(StoreError::Locked { path: dir.display().to_string() })
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error(dir, &error))
}

/// Whether a database's directory holds what it can only hold once there is a database.
fn has_data(db_dir: &Path) -> Result<bool, StoreError> {
    if !db_dir.exists() {
        return Ok(false);
    }
    Ok(!numbered(db_dir, "sst")?.is_empty() || !numbered(db_dir, "log")?.is_empty())
}

/// The number of the last batch in the database.
fn last_applied(db: &DB, db_dir: &Path) -> Result<Lsn, StoreError> {
    let path = db_dir.display().to_string();
    match db.get(APPLIED_KEY).map_err(|error| store_error(&path, &error))? {
        None => Ok(Lsn::ZERO),
        Some(bytes) => check::applied(&bytes, db_dir),
    }
}

fn read_cursors(db: &DB, path: &str, apart: Apart) -> Result<Queues, StoreError> {
    let mut queues = Queues::new(apart);
    each_record(db, path, schema::CURSORS, |key, value| {
        let of = schema::level_of_cursor(key).ok_or_else(|| {
            let reason = format!("a cursor under the key {key:02x?}");
            StoreError::Damaged { path: path.to_owned(), reason }
        })?;
        let cursor =
            Cursor::decode(value).map_err(|error| queue_damaged(path, of.queue, &error))?;
        queues.states.insert(of, LevelState::recovered(cursor));
        Ok(())
    })?;
    Ok(queues)
}

/// About how many bytes lie apart.
fn apart_bytes(db: &DB) -> u64 {
    let (from, to) = schema::ALL_APART;
    db.get_approximate_sizes(&[Range::new(&from, &to)]).into_iter().sum()
}

/// See [`Store::recover`](crate::store::Store::recover).
pub(super) fn replay(shared: &Shared, visitor: &mut dyn Recovery) -> Result<(), StoreError> {
    let path = shared.path();
    each_record(&shared.db, &path, schema::METAS, |key, value| {
        visitor.meta(key.get(1..).unwrap_or_default(), value);
        Ok(())
    })?;
    let mut queues = shared.queues();
    let mut levels: Vec<LevelKey> = queues.states.keys().copied().collect();
    levels.sort_unstable();
    for of in levels {
        let Some(state) = queues.states.get_mut(&of) else { continue };
        if !visitor.backlog(&backlog(of, &state.cursor)) {
            continue;
        }
        let damaged = |error: CursorError| queue_damaged(&path, of.queue, &error);
        let listed = state.cursor.listed();
        each_message(&shared.db, &path, of, &listed, 0, |seq, message| {
            state.cursor.learn(0, [seq.number()], false).map_err(damaged)?;
            visitor.message(of.queue, seq, message);
            Ok(ControlFlow::Continue(()))
        })?;
        state.cursor.learn(0, [], true).map_err(damaged)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    use super::*;
    use crate::broker::message::{Envelope, Message};
    use crate::store::rocks::RocksStore;
    use crate::store::{Backlog, Batch, Op, QueueKey, QueueSeq, Store};

    /// Counts the messages it asks for.
    struct Count {
        asks: bool,
        messages: u64,
    }

    impl Recovery for Count {
        fn meta(&mut self, _: &[u8], _: &[u8]) {}
        fn message(&mut self, _: QueueKey, _: QueueSeq, _: Message) {
            self.messages += 1;
        }
        fn backlog(&mut self, _: &Backlog) -> bool {
            self.asks
        }
    }

    fn enqueue(queue: QueueKey, seq: u64) -> Op {
        let envelope = Envelope {
            exchange: b"",
            routing_key: b"",
            properties: b"",
            persistent: true,
            hides_bcc: false,
            published_ms: 0,
        };
        Op::Enqueue { queue, seq: QueueSeq(seq), message: Message::new(&envelope, b"body") }
    }

    fn submit(store: &RocksStore, ops: impl Iterator<Item = Op>) {
        store.submit(Batch { ops: ops.collect(), awaited: false });
    }

    #[test]
    fn settled_messages_are_not_walked_through() {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::open(dir.path(), Options::default()).unwrap();
        // Just too few to be deleted: 12 queues with 9,000 dead messages each lie on disk.
        for queue in (0..12).map(|queue| QueueKey { shard: 0, queue }) {
            submit(&store, (0..9_005).map(|seq| enqueue(queue, seq)));
            let settle = |seq| Op::Settle { queue, seq: QueueSeq(seq), body_bytes: 4 };
            // Half of the queues keep their first message, and so a long settled span behind it.
            submit(&store, (queue.queue % 2..9_000).map(settle));
        }
        store.close().unwrap();
        drop(store);
        let store = RocksStore::open(dir.path(), Options::default()).unwrap();
        set_perf_stats(PerfStatsLevel::EnableCount);
        let steps_of = |asks| {
            let mut perf = PerfContext::default();
            perf.reset();
            let mut count = Count { asks, messages: 0 };
            store.recover(&mut count).unwrap();
            (perf.metric(PerfMetric::InternalKeySkippedCount), count.messages)
        };
        assert_eq!(steps_of(false), (0, 0), "nothing is read that is not asked for");
        let (steps, messages) = steps_of(true);
        assert_eq!(messages, 12 * 5 + 6);
        assert!((messages..1_000).contains(&steps), "{steps} steps for {messages} messages");
    }
}
