//! `leveret salvage`: what can be saved of a data directory that is refused, and what is lost.
//!
//! The directory itself is never written to. What is kept is written to a new one beside it, under
//! another name until it is whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use leveret::broker::access::{Hashing, PasswordHash, Permission, User, UserLimits, VhostLimits};
use leveret::broker::definitions::{DefinitionKey, put_vhost};
use leveret::broker::message::Message;
use leveret::broker::salvage::{Repaired, repair};
use leveret::store::rocks::salvage::{FileFlaw, Findings, KeyName, Take, salvage};
use leveret::store::rocks::{Options, RocksStore, absent};
use leveret::store::{Batch, DurableWaker, Lsn, Op, QueueKey, QueueSeq, Store, StoreError};

use crate::{SalvageArgs, exit};

/// Where messages come whose queue is lost.
const VHOST: &str = "/";
const BATCH_OPS_MAX: usize = 1_000;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes handed to the new store and not yet written.
const BACKLOG_BYTES_MAX: u64 = 32 << 20;

/// Prints what is found, and writes it if it is to be written.
pub(crate) fn run(args: &SalvageArgs) -> ExitCode {
    let done = match &args.write_to {
        None => look(args),
        Some(new) => write(args, new),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("leveret: {error}");
            ExitCode::from(exit::of_store(&error))
        }
    }
}

/// A dry run.
fn look(args: &SalvageArgs) -> Result<ExitCode, StoreError> {
    let mut take = Definitions::default();
    let findings = salvage(&args.data_dir, args.ignore_version, &mut take)?;
    let repaired = take.repaired(&findings);
    let report = Report { findings: &findings, repaired: &repaired };
    print(&report.text(&args.data_dir));
    let end = if report.is_whole() {
        "Everything can be read. Nothing was written."
    } else {
        "Nothing was written. With --write-to NEWDIR what is kept is written to a new directory."
    };
    print(end);
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(exit::DAMAGED) })
}

fn write(args: &SalvageArgs, new: &Path) -> Result<ExitCode, StoreError> {
    let unfinished = absent(new)?;
    let written = write_unfinished(args, &unfinished, new);
    if written.is_err() {
        // Half of what can be saved is of no use, and would be in the way of another attempt.
        let _ = std::fs::remove_dir_all(&unfinished);
    }
    written
}

fn write_unfinished(
    args: &SalvageArgs,
    unfinished: &Path,
    new: &Path,
) -> Result<ExitCode, StoreError> {
    let mut writer = Writer {
        store: RocksStore::open(unfinished, Options::default())?,
        ops: Vec::new(),
        bytes: 0,
        definitions: Definitions::default(),
    };
    let findings = salvage(&args.data_dir, args.ignore_version, &mut writer)?;
    let repaired = writer.definitions.repaired(&findings);
    writer.ops.extend(repaired.ops.iter().cloned());
    if !repaired.has_users() {
        writer.ops.extend(first_user());
    }
    writer.submit()?;
    writer.store.close()?;
    drop(writer);
    std::fs::rename(unfinished, new).map_err(|error| StoreError::Io {
        path: new.display().to_string(),
        reason: error.to_string(),
    })?;
    print(&Report { findings: &findings, repaired: &repaired }.text(&args.data_dir));
    print(&format!("What is kept was written to {}.", new.display()));
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) {
    // Who closes the pipe has read enough.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The user that a new directory begins with.
fn first_user() -> Vec<Op> {
    let entropy = |bytes: &mut [u8]| {
        getrandom::fill(bytes).expect("invariant: the operating system gives random bytes");
    };
    let user = User {
        name: "guest".to_owned(),
        password: PasswordHash::new(Hashing::default(), b"guest", entropy),
        tags: vec!["administrator".to_owned()],
        limits: UserLimits::default(),
    };
    let all = Permission::new([".*"; 3]).expect("invariant: a sound pattern");
    vec![user.put(), put_vhost(VHOST, VhostLimits::default()), all.put("guest", VHOST)]
}

/// Keeps definitions, and lets messages pass.
#[derive(Default)]
struct Definitions(Vec<(Vec<u8>, Vec<u8>)>);

impl Definitions {
    fn repaired(&mut self, findings: &Findings) -> Repaired {
        let mut queues: BTreeMap<u64, u8> = BTreeMap::new();
        for level in findings.levels.iter().filter(|level| level.found > 0) {
            let highest = queues.entry(level.queue.queue).or_default();
            *highest = (*highest).max(level.level);
        }
        repair(std::mem::take(&mut self.0), &queues, VHOST)
    }
}

impl Take for Definitions {
    fn message(&mut self, _: QueueKey, _: QueueSeq, _: Message) -> Result<(), StoreError> {
        Ok(())
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.push((key.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// Writes messages to a new store.
struct Writer {
    store: RocksStore,
    ops: Vec<Op>,
    /// Bytes of the messages in them.
    bytes: usize,
    definitions: Definitions,
}

impl Take for Writer {
    fn message(
        &mut self,
        queue: QueueKey,
        seq: QueueSeq,
        message: Message,
    ) -> Result<(), StoreError> {
        self.bytes += message.memory_bytes();
        self.ops.push(Op::Enqueue { queue, seq, message });
        let is_full = self.ops.len() >= BATCH_OPS_MAX || self.bytes >= BATCH_BYTES_MAX;
        if is_full { self.submit() } else { Ok(()) }
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.definitions.meta(key, value)
    }
}

impl Writer {
    fn submit(&mut self) -> Result<(), StoreError> {
        let ops = std::mem::take(&mut self.ops);
        self.bytes = 0;
        let lsn = self.store.submit(Batch { ops, awaited: false });
        if self.store.backlog_bytes() > BACKLOG_BYTES_MAX {
            wait_durable(&self.store, lsn);
        }
        self.store.failure().map_or(Ok(()), Err)
    }
}

/// Waits until the store has come so far, or has failed.
fn wait_durable(store: &dyn Store, lsn: Lsn) {
    let bell = Arc::new(Bell::default());
    store.notify(lsn, Arc::<Bell>::clone(&bell));
    let rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
    let _rung = bell.bell.wait_while(rung, |rung| !*rung);
}

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl DurableWaker for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }
}

/// What was found, in words.
struct Report<'r> {
    findings: &'r Findings,
    repaired: &'r Repaired,
}

impl Report<'_> {
    fn is_whole(&self) -> bool {
        self.findings.flaws.is_empty()
            && self.repaired.dropped.is_empty()
            && self.repaired.made.is_empty()
            && self.lost().is_empty()
    }

    fn text(&self, dir: &Path) -> String {
        let mut text = format!("{}: read, and not changed\n", dir.display());
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = write!(text, "\n{title}:\n");
                lines.iter().for_each(|line| text.extend(["  ", line, "\n"]));
            }
        };
        let flaws = self.findings.flaws.iter();
        section("Damaged", flaws.map(|flaw| self.flaw(flaw, dir)).collect());
        section("Lost", self.lost());
        section("Left out", self.repaired.dropped.clone());
        section("Made again", self.made());
        section("Kept", self.kept());
        text
    }

    fn flaw(&self, flaw: &FileFlaw, dir: &Path) -> String {
        let path: PathBuf = flaw.path.strip_prefix(dir).unwrap_or(&flaw.path).to_owned();
        let mut text = path.display().to_string();
        if let Some(offset) = flaw.offset {
            let _ = write!(text, " at offset {offset}");
        }
        let _ = write!(text, ": {}", flaw.reason);
        if let Some(between) = &flaw.between {
            let end = |key: &[u8], end: &str| match key {
                [] => end.to_owned(),
                key => self.key(key),
            };
            let after = end(&between.after, "the file's first entry");
            let before = end(&between.before, "its last one");
            let _ = write!(text, "\n    lost is what lay between {after}\n    and {before}");
        }
        text
    }

    fn key(&self, key: &[u8]) -> String {
        let queue = |queue: QueueKey| self.repaired.queue_name(queue.queue);
        match KeyName::of(key) {
            KeyName::Counts(of, 0) => format!("the counts of {}", queue(of)),
            KeyName::Counts(of, level) => {
                format!("the counts of priority {level} of {}", queue(of))
            }
            KeyName::Message(of, seq) => {
                format!("message number {} of {}", seq.number(), queue(of))
            }
            KeyName::Definition(key) => match DefinitionKey::decode(&key) {
                Ok(key) => format!("the definition of {key}"),
                Err(error) => error.to_string(),
            },
            KeyName::Apart => "what lies apart from its queues".to_owned(),
            KeyName::LastBatch => "the number of the last batch".to_owned(),
            KeyName::Other => format!("the key {key:02x?}"),
        }
    }

    /// Levels of one queue together.
    fn by_queue(&self) -> BTreeMap<u64, Sum> {
        let mut queues: BTreeMap<u64, Sum> = BTreeMap::new();
        for level in &self.findings.levels {
            let sum = queues.entry(level.queue.queue).or_default();
            sum.found += level.found;
            sum.body_bytes += level.body_bytes;
            sum.unreadable += level.unreadable;
            match level.counted {
                Some(counted) => {
                    sum.counted += counted;
                    sum.lost += counted.saturating_sub(level.found + level.unreadable);
                    sum.surplus += level.found.saturating_sub(counted);
                }
                None => sum.uncounted += level.found,
            }
        }
        queues
    }

    fn lost(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for (id, sum) in self.by_queue() {
            let name = self.repaired.queue_name(id);
            let Sum { lost: gone, counted, surplus, uncounted, unreadable, .. } = sum;
            if gone > 0 {
                lost.push(format!("{gone} of {counted} messages of {name}"));
            }
            if unreadable > 0 {
                lost.push(format!("{unreadable} messages of {name} whose records cannot be read"));
            }
            let again = surplus + uncounted;
            if again > 0 {
                let of = if uncounted > 0 { "the counts" } else { "the latest counts" };
                lost.push(format!(
                    "{of} of {name}: of the {again} messages found beyond them some may have been \
                     acknowledged already"
                ));
            }
        }
        let applied = self.findings.applied;
        match self.findings.marked {
            Some(marked) if marked > applied => lost.push(format!(
                "the changes of batches {} to {}: what was published then, and that other \
                 messages were acknowledged",
                applied.0 + 1,
                marked.0
            )),
            Some(_) => {}
            None => lost.push(
                "how far the log went: whether anything is missing at its end cannot be told"
                    .to_owned(),
            ),
        }
        lost
    }

    fn made(&self) -> Vec<String> {
        let mut made = self.repaired.made.clone();
        if !self.repaired.has_users() {
            made.push("user 'guest' with the password 'guest', as no user is left".to_owned());
        }
        made
    }

    fn kept(&self) -> Vec<String> {
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for key in &self.repaired.kept {
            let kind = match key {
                DefinitionKey::NextQueueId => continue,
                DefinitionKey::Policy { .. } => "policies",
                DefinitionKey::User { .. } => "users",
                DefinitionKey::Vhost { .. } => "vhosts",
                DefinitionKey::Permission { .. } => "permissions",
                DefinitionKey::TopicPermission { .. } => "topic permissions",
                DefinitionKey::Exchange { .. } => "exchanges",
                DefinitionKey::Queue { .. } => "queues",
                DefinitionKey::Trigger { .. } => "triggers",
                DefinitionKey::Binding(_) => "bindings",
                DefinitionKey::Publisher { .. } => "publishers' sequences",
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let mut kept: Vec<String> =
            kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        for (id, sum) in self.by_queue().into_iter().filter(|(_, sum)| sum.found > 0) {
            let name = self.repaired.queue_name(id);
            let Sum { found, body_bytes, .. } = sum;
            kept.push(format!("{found} messages of {name}, {body_bytes} bytes"));
        }
        kept
    }
}

/// What was found of a queue.
#[derive(Default)]
struct Sum {
    counted: u64,
    found: u64,
    body_bytes: u64,
    lost: u64,
    surplus: u64,
    uncounted: u64,
    unreadable: u64,
}
