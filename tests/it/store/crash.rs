//! A process that dies: this test binary runs itself as a child that commits a known workload and
//! journals on its standard output what was durable; then the child is killed, its disk fills up,
//! or `strace` makes its syncs fail, and what a successor finds is compared with the workload.
//!
//! `LEVERET_CRASH_CYCLES` sets the number of kills (20).

use std::io::{BufRead, BufReader, Write, stdout};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use leveret::store::{Lsn, Store};

use super::Disk;
use super::model::{Random, State, Workload, wait_for};

const DIR: &str = "LEVERET_CRASH_CHILD_DIR";
const SEED: &str = "LEVERET_CRASH_CHILD_SEED";
const CHILD: &str = "a_child_that_commits_until_it_dies";
const BACKLOG_BYTES_MAX: u64 = 32 << 10;
const SIGKILL: i32 = 9;

/// A directory, the seed of what is in it, and how much of that must be there.
struct Victim<'a> {
    dir: &'a Path,
    seed: u64,
    durable: u64,
}

impl Victim<'_> {
    fn command(&self, mut command: Command) -> Child {
        let (_, module) = module_path!().split_once("::").unwrap();
        command
            .args(["--exact", &format!("{module}::{CHILD}"), "--nocapture"])
            .env(DIR, self.dir)
            .env(SEED, self.seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Reads the child's journal up to `lines_max` lines; kills it then and reads the rest. Answers
    /// with what the child said of its end.
    fn watch(&mut self, mut child: Child, lines_max: u64) -> Option<String> {
        let journal = BufReader::new(child.stdout.take().unwrap());
        let (mut lines, mut failed) = (0, None);
        if lines_max == 0 {
            child.kill().unwrap();
        }
        for line in journal.lines() {
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("recovered", batches)) => {
                    let batches: u64 = batches.parse().unwrap();
                    assert!(batches >= self.durable, "{batches} of {} durable", self.durable);
                }
                Some(("durable", lsn)) => self.durable = lsn.parse().unwrap(),
                Some(("failed", reason)) => failed = Some(reason.to_owned()),
                _ => continue,
            }
            lines += 1;
            if lines == lines_max {
                child.kill().unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert!(
            status.signal() == Some(SIGKILL) || failed.is_some(),
            "the child found something wrong: {status}"
        );
        failed
    }

    /// Opens the store here and compares everything.
    fn check(&self) {
        let store = Disk::open(self.dir).unwrap();
        let state = State::recovered(&store);
        let workload = Workload::resumed(self.seed, &state);
        assert!(workload.batches >= self.durable, "confirmed batches are missing");
        assert_eq!(store.durable(), Lsn(workload.batches));
        assert_eq!(state, workload.state);
    }
}

#[test]
fn killed_at_any_time_it_keeps_a_prefix_with_everything_durable() {
    let cycles = std::env::var("LEVERET_CRASH_CYCLES").map_or(20, |cycles| cycles.parse().unwrap());
    let mut random = Random(7);
    let mut cycle = 0;
    while cycle < cycles {
        let dir = tempfile::tempdir().unwrap();
        let mut victim = Victim { dir: dir.path(), seed: cycle, durable: 0 };
        // Several lives in one directory: most of them start from a crash, not from an orderly end.
        for _ in 0..10.min(cycles - cycle) {
            let lines_max = random.below(100);
            let child = victim.command(Command::new(std::env::current_exe().unwrap()));
            victim.watch(child, lines_max);
            cycle += 1;
            if random.below(4) == 0 {
                victim.check();
            }
        }
        victim.check();
    }
}

#[test]
fn a_disk_that_refuses_stops_the_store_and_loses_nothing_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Victim { dir: dir.path(), seed: 1, durable: 0 };
    // A file may grow to 2 or 4 MiB (shells count differently): then a write to the log fails.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]);
    limited.arg(std::env::current_exe().unwrap());
    let child = victim.command(limited);
    let reason = victim.watch(child, u64::MAX).unwrap();
    assert!(reason.contains("/db/") && reason.contains("File too large"), "{reason}");
    assert!(victim.durable > 0);
    victim.check();
}

#[test]
fn a_sync_that_fails_stops_the_store_for_good_and_confirms_nothing() {
    if !can_trace() {
        eprintln!("strace is missing or may not trace: no sync was made to fail");
        return;
    }
    for syncs in [20, 40, 80] {
        let dir = tempfile::tempdir().unwrap();
        let mut victim = Victim { dir: dir.path(), seed: syncs, durable: 0 };
        // Each thread is counted by itself. Opening takes fewer, and then the committer is the one
        // that syncs. After the first failure every second sync would succeed: whoever tried again
        // would move on.
        let mut traced = failing_syncs(&format!("{syncs}+2"));
        traced.arg(std::env::current_exe().unwrap());
        let child = victim.command(traced);
        let reason = victim.watch(child, 2_000).expect("a failed sync went unnoticed");
        assert!(reason.contains("Input/output error"), "{reason}");
        victim.check();
    }
}

#[test]
fn a_new_store_lies_in_directories_that_are_synced() {
    if !can_trace() {
        eprintln!("strace is missing or may not trace: nothing was looked at");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("var/lib/store");
    let trace = parent.path().join("trace");
    let mut traced = Command::new("strace");
    traced.args([
        "-D",
        "-f",
        "-y",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=fsync,?mkdir,?mkdirat",
        "-o",
    ]);
    traced.arg(&trace).arg(std::env::current_exe().unwrap());
    let mut victim = Victim { dir: &dir, seed: 1, durable: 0 };
    let child = victim.command(traced);
    victim.watch(child, 3);
    let trace = std::fs::read_to_string(trace).unwrap();
    let last = |what: String| {
        let done = |(_, line): &(usize, &str)| line.contains(&what) && line.ends_with("= 0");
        trace.lines().enumerate().filter(done).map(|(at, _)| at).last()
    };
    for made in ["var", "var/lib", "var/lib/store", "var/lib/store/db"] {
        let made = parent.path().join(made);
        let entered = last(format!("\"{}\", 0", made.display())).unwrap();
        let synced = last(format!("<{}>)", made.parent().unwrap().display()));
        assert!(synced > Some(entered), "{} is not on disk:\n{trace}", made.display());
    }
}

/// The start of a command whose syncs fail as `when` says: the first one, and every how many after.
fn failing_syncs(when: &str) -> Command {
    let mut strace = Command::new("strace");
    // The tracer steps aside (-D), so that a kill hits whom it traces.
    strace.args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    strace.args(["-e", &format!("inject=fdatasync:error=EIO:when={when}")]);
    strace
}

/// Whether strace is there and may make calls fail.
fn can_trace() -> bool {
    let status = |when: &str| {
        let mut probe = failing_syncs(when);
        probe.args(["sync", "--data"]).arg(std::env::temp_dir()).stderr(Stdio::null());
        probe.status().ok().and_then(|status| status.code())
    };
    status("1+1") == Some(1) && status("9+1") == Some(0)
}

/// Does nothing unless it runs as a child.
#[test]
fn a_child_that_commits_until_it_dies() {
    let (Ok(dir), Ok(seed)) = (std::env::var(DIR), std::env::var(SEED)) else { return };
    let seed = seed.parse().unwrap();
    let store = Disk::open(dir.as_ref()).unwrap();
    let state = State::recovered(&store);
    let mut workload = Workload::resumed(seed, &state);
    assert_eq!(state, workload.state);
    say("recovered", workload.batches);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut durable = store.durable();
            while !done.load(Ordering::Relaxed) {
                wait_for(&store, Lsn(durable.0 + 1));
                if store.durable() > durable {
                    durable = store.durable();
                    say("durable", durable.0);
                }
            }
        });
        while store.failure().is_none() {
            let lsn = store.submit(workload.next_batch());
            if store.backlog_bytes() > BACKLOG_BYTES_MAX {
                wait_for(&store, lsn);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let durable = store.durable();
    let refused = store.submit(workload.next_batch());
    wait_for(&store, refused);
    assert_eq!(store.durable(), durable, "confirmed after a failure");
    say("failed", store.close().unwrap_err());
}

fn say(what: &str, of: impl std::fmt::Display) {
    // A parent that is gone needs no journal.
    let _ = writeln!(stdout(), "{what} {of}");
}
