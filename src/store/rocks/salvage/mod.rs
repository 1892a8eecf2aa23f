//! Saving what can be read of a directory that is refused.
//!
//! Reads tables and logs block by block without RocksDB, past what is damaged, and never writes to
//! the directory. What cannot be read is told: which file, where, and between which keys. A
//! queue's cursor says how many messages there must be and which are settled, so what is missing is
//! counted; what lies beyond the cursor's end came later and is kept. In doubt a message is kept:
//! one that was acknowledged may come again, none that can be read is lost.
//!
//! As long as the manifest can be read, it says which files count. Otherwise all that are there do:
//! numbers tell which of two writes is the newer one, but what was deleted lately may come back.

mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use self::merge::{LogEntries, Merge};
use super::check::applied;
use super::files::batch::WriteBatch;
use super::files::log::{Found, LogReader};
use super::files::manifest::Manifest;
use super::files::numbered;
use super::files::table::Table;
use super::mark::{Mark, io_error};
use super::recover::{VERSION_PREFIX, version_line};
use super::schema::{self, Key, LAYOUT_VERSION};
use crate::broker::message::Message;
use crate::store::cursor::{Cursor, Listed};
use crate::store::{LevelKey, Lsn, QueueKey, QueueSeq, StoreError};

/// Something that cannot be read, or is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFlaw {
    /// Where.
    pub path: PathBuf,
    /// Where in it, if that is known.
    pub offset: Option<u64>,
    /// What was found.
    pub reason: String,
    /// Between which keys something is missing, if that is known.
    pub between: Option<Between>,
}

/// Keys around something that is missing; empty stands for the beginning or the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Between {
    /// The last one before.
    pub after: Vec<u8>,
    /// The next one.
    pub before: Vec<u8>,
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyName {
    /// A queue's level's counts.
    Counts(QueueKey, u8),
    /// A message.
    Message(QueueKey, QueueSeq),
    /// A definition, under its own key.
    Definition(Vec<u8>),
    /// The number of the last batch.
    LastBatch,
    /// A record that lies apart from its queues.
    Apart,
    /// Nothing of ours.
    Other,
}

impl KeyName {
    /// What a key names.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        match Key::of(key) {
            Some(Key::Cursor(of)) => Self::Counts(of.queue, of.level),
            Some(Key::Message(of, number)) => {
                Self::Message(of.queue, QueueSeq::new(of.level, number))
            }
            Some(Key::Applied) => Self::LastBatch,
            Some(Key::Meta(key)) => Self::Definition(key.to_vec()),
            Some(Key::Places(_) | Key::Apart(_)) => Self::Apart,
            None => Self::Other,
        }
    }
}

/// What was found of one level of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelFound {
    /// The queue.
    pub queue: QueueKey,
    /// The level.
    pub level: u8,
    /// How many unsettled messages there must be; `None` when the counts are lost.
    pub counted: Option<u64>,
    /// How many were found.
    pub found: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Messages of which only that is there: their records cannot be read or understood.
    pub unreadable: u64,
}

/// What a directory still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What cannot be read.
    pub flaws: Vec<FileFlaw>,
    /// What was found of each level.
    pub levels: Vec<LevelFound>,
    /// The last batch that was found.
    pub applied: Lsn,
    /// The last batch that was on disk; `None` when nothing tells.
    pub marked: Option<Lsn>,
}

/// Takes what was found.
pub trait Take {
    /// An unsettled message. Those of a level come together, in the order of their numbers.
    ///
    /// # Errors
    /// When it cannot be kept: then nothing more comes.
    fn message(
        &mut self,
        queue: QueueKey,
        seq: QueueSeq,
        message: Message,
    ) -> Result<(), StoreError>;

    /// A definition. All of them come behind the messages, in key order.
    ///
    /// # Errors
    /// When it cannot be kept: then nothing more comes.
    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;
}

/// Reads everything that can be read in a directory, which no process may be using.
///
/// # Errors
/// When there is no such directory, it is in use or of another version, or `take` fails.
pub fn salvage(
    dir: &Path,
    ignore_version: bool,
    take: &mut dyn Take,
) -> Result<Findings, StoreError> {
    let db_dir = dir.join("db");
    let mut findings = Findings::default();
    let _lock = check_version(dir, ignore_version, &mut findings)?;
    match Mark::read(&dir.join("mark")) {
        Ok(Some(marked)) => findings.marked = Some(marked),
        Ok(None) => findings.flaws.push(missing(dir.join("mark"))),
        Err(error) => findings.flaws.push(flaw_of(error)),
    }
    let files = Files::find(&db_dir, &mut findings)?;
    let mut logs = LogEntries::default();
    let end = files.read_logs(&mut logs, &mut findings)?;
    let mut merge = Merge::new(files.open_tables(&mut findings), logs);
    sort_out(&mut merge, &mut findings, take)?;
    findings.flaws.append(&mut merge.flaws);
    if findings.marked.is_none_or(|marked| findings.applied < marked) {
        findings.flaws.extend(end);
    }
    Ok(findings)
}

fn missing(path: PathBuf) -> FileFlaw {
    FileFlaw { path, offset: None, reason: "missing".to_owned(), between: None }
}

/// A refusal of a start, as one of the things that are wrong.
fn flaw_of(error: StoreError) -> FileFlaw {
    let (path, reason) = match error {
        StoreError::Damaged { path, reason }
        | StoreError::Io { path, reason }
        | StoreError::Denied { path, reason } => (path, reason),
        other => (String::new(), other.to_string()),
    };
    FileFlaw { path: path.into(), offset: None, reason, between: None }
}

/// Holds the directory as a running broker would, and looks at its version.
fn check_version(
    dir: &Path,
    ignore_version: bool,
    findings: &mut Findings,
) -> Result<Option<File>, StoreError> {
    if !dir.join("db").is_dir() {
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(io_error(&dir.join("db"), &error));
    }
    let path = dir.join("VERSION");
    let Ok(file) = File::open(&path) else {
        findings.flaws.push(missing(path));
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Locked { path: dir.display().to_string() });
        }
        Err(TryLockError::Error(error)) => return Err(io_error(&path, &error)),
    }
    let found = std::fs::read(&path).unwrap_or_default();
    if found == version_line().into_bytes() {
        return Ok(Some(file));
    }
    let found = String::from_utf8_lossy(&found).trim().to_owned();
    let version = found.strip_prefix(VERSION_PREFIX).filter(|it| it.parse::<u32>().is_ok());
    if let Some(version) = version
        && !ignore_version
    {
        return Err(StoreError::Version {
            path: path.display().to_string(),
            found: version.to_owned(),
            expected: LAYOUT_VERSION,
        });
    }
    let reason = format!("{found:?}, taken as version {LAYOUT_VERSION}");
    findings.flaws.push(FileFlaw { path, offset: None, reason, between: None });
    Ok(Some(file))
}

/// The files that count.
struct Files {
    tables: Vec<PathBuf>,
    /// Tables that the manifest does not know: only begun, or newer than its end.
    surplus: Vec<PathBuf>,
    logs: Vec<(u64, PathBuf)>,
    /// The number of the last write in the tables, if that is known.
    last_sequence: Option<u64>,
}

impl Files {
    fn find(db_dir: &Path, findings: &mut Findings) -> Result<Self, StoreError> {
        let tables = numbered(db_dir, "sst")?;
        let logs = numbered(db_dir, "log")?;
        let manifest = match Manifest::read(db_dir) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.flaws.push(flaw_of(error));
                let tables = tables.into_iter().map(|(_, path)| path).collect();
                return Ok(Self { tables, surplus: Vec::new(), logs, last_sequence: None });
            }
        };
        let known: BTreeSet<u64> = tables.iter().map(|(number, _)| *number).collect();
        let gone = manifest.tables.keys().filter(|number| !known.contains(number));
        let gone = gone.map(|number| missing(Manifest::table_path(db_dir, *number)));
        findings.flaws.extend(gone);
        let newest = manifest.tables.keys().next_back().copied().unwrap_or_default();
        let (listed, others): (Vec<_>, Vec<_>) =
            tables.into_iter().partition(|(number, _)| manifest.tables.contains_key(number));
        let newer = others.into_iter().filter(|(number, _)| *number > newest);
        Ok(Self {
            tables: listed.into_iter().map(|(_, path)| path).collect(),
            surplus: newer.map(|(_, path)| path).collect(),
            logs: logs.into_iter().filter(|(number, _)| *number >= manifest.log_number).collect(),
            last_sequence: Some(manifest.last_sequence),
        })
    }

    fn open_tables(&self, findings: &mut Findings) -> Vec<(PathBuf, Table)> {
        let mut opened = Vec::new();
        for path in &self.tables {
            let as_flaw = |flaw: super::files::table::Flaw| FileFlaw {
                path: path.clone(),
                offset: Some(flaw.offset),
                reason: flaw.reason,
                between: None,
            };
            match Table::open_damaged(path) {
                Ok(mut table) => {
                    let flaws = std::mem::take(&mut table.flaws);
                    findings.flaws.extend(flaws.into_iter().map(as_flaw));
                    opened.push((path.clone(), table));
                }
                Err(flaw) => findings.flaws.push(as_flaw(flaw)),
            }
        }
        for path in &self.surplus {
            // One that is not whole was never more than begun.
            if let Ok(table) = Table::open(path) {
                opened.push((path.clone(), table));
            }
        }
        opened
    }

    /// Reads the logs. Answers with where they end, if that looks like damage: whether it is, the
    /// mark tells.
    fn read_logs(
        &self,
        entries: &mut LogEntries,
        findings: &mut Findings,
    ) -> Result<Option<FileFlaw>, StoreError> {
        let mut due = self.last_sequence.map(|last| last + 1);
        let mut tail: Option<FileFlaw> = None;
        for (number, path) in &self.logs {
            let flaw = |offset, reason: &str| FileFlaw {
                path: path.clone(),
                offset: Some(offset),
                reason: reason.to_owned(),
                between: None,
            };
            let file = std::fs::read(path).map_err(|error| io_error(path, &error))?;
            let mut reader = LogReader::new(&file, *number);
            while let Some(found) = reader.next() {
                match found {
                    Found::Record(record) => {
                        let Some(batch) = WriteBatch::parse(&record.bytes) else {
                            let reason = "a write that cannot be understood";
                            findings.flaws.push(flaw(record.offset, reason));
                            continue;
                        };
                        if let Some(due) = due
                            && batch.sequence > due
                        {
                            let lost = batch.sequence - due;
                            let reason = format!("{lost} changes before this place are lost");
                            findings.flaws.extend(tail.take());
                            findings.flaws.push(flaw(record.offset, &reason));
                        }
                        due = Some(batch.next_sequence());
                        tail = None;
                        entries.add(&batch);
                    }
                    // The end of a log looks like this, too: what comes next tells.
                    Found::Broken(broken) if tail.is_none() => {
                        tail = Some(flaw(broken.offset, broken.reason));
                    }
                    Found::Broken(_) => {}
                }
            }
        }
        Ok(tail)
    }
}

/// A level as far as it has been read.
struct Level {
    listed: Option<Listed>,
    found: LevelFound,
}

impl Level {
    fn new(of: LevelKey, cursor: Option<&Cursor>) -> Self {
        let found = LevelFound {
            queue: of.queue,
            level: of.level,
            counted: cursor.map(Cursor::ready),
            found: 0,
            body_bytes: 0,
            unreadable: 0,
        };
        Self { listed: cursor.map(Cursor::listed), found }
    }

    fn is_settled(&self, number: u64) -> bool {
        self.listed.as_ref().is_some_and(|listed| {
            number < listed.head || listed.spans.iter().any(|span| span.contains(&number))
        })
    }
}

fn sort_out(
    merge: &mut Merge,
    findings: &mut Findings,
    take: &mut dyn Take,
) -> Result<(), StoreError> {
    let mut levels: BTreeMap<LevelKey, Level> = BTreeMap::new();
    // Which messages are settled says what lies behind them all.
    merge.walk(schema::READ_AT_START);
    while let Some((key, value)) = merge.next() {
        match Key::of(&key) {
            Some(Key::Cursor(of)) => {
                if let Ok(cursor) = Cursor::decode(&value) {
                    levels.insert(of, Level::new(of, Some(&cursor)));
                }
            }
            Some(Key::Applied) => {
                findings.applied = applied(&value, Path::new("")).unwrap_or_default();
            }
            Some(Key::Meta(key)) => take.meta(key, &value)?,
            _ => {}
        }
    }
    merge.walk(schema::MESSAGES);
    while let Some((key, value)) = merge.next() {
        let Some(Key::Message(of, number)) = Key::of(&key) else { continue };
        let level = levels.entry(of).or_insert_with(|| Level::new(of, None));
        if level.is_settled(number) {
            continue;
        }
        let record = match schema::linked(&value) {
            None => Some(value),
            Some(id) => id.and_then(|id| merge.look_up(&schema::apart_key(id))),
        };
        let message = record.and_then(|record| Message::from_record(&record).ok());
        let Some(message) = message else {
            level.found.unreadable += 1;
            continue;
        };
        level.found.found += 1;
        level.found.body_bytes += message.body_len() as u64;
        take.message(of.queue, QueueSeq::new(of.level, number), message)?;
    }
    findings.levels = levels.into_values().map(|level| level.found).collect();
    Ok(())
}
