//! The whole crash test: start, load, kill at a random moment, start again; after some cycles
//! drain and check; print a table.
//!
//! The clients stay while the broker goes: what is confirmed in one cycle must still be there many
//! crashes later, if it has not been consumed. Everything random comes from one printed seed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::CrashError;
use super::body::Random;
use super::broker::Broker;
use super::check::{Allowed, Counts, check};
use super::clients::{ClientPlan, Fresh, Signals};
use super::journal::{End, note_end};
use crate::clock;

/// How long a broker may take to end after SIGTERM.
const TERMINATE_S: f64 = 10.0;

/// A crash test.
#[derive(Debug, Clone)]
pub(crate) struct Cycles {
    /// The shell command that starts the broker on its port and data directory.
    pub(crate) command: String,
    /// How many times it is killed under load.
    pub(crate) cycles: u64,
    /// After how many of them the run is drained and checked.
    pub(crate) check_every: u64,
    /// The shortest and longest time from ready to kill, in milliseconds.
    pub(crate) kill_ms: (u64, u64),
    /// Starts in 100 that are killed too, at a random moment of the start.
    pub(crate) start_kill_percent: u64,
    /// How it is ended.
    pub(crate) ending: Ending,
    /// How long a start may take, in seconds.
    pub(crate) start_s: f64,
    /// The clients; each run has a directory of its own in theirs.
    pub(crate) clients: ClientPlan,
    /// Promises that this broker does not make.
    pub(crate) allowed: Allowed,
    /// Keeps the journals of good runs too.
    pub(crate) keep: bool,
}

/// How a cycle ends the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ending {
    /// SIGKILL.
    Kill,
    /// SIGTERM: it must also end in time.
    Term,
}

/// What was counted, and how long the starts took.
#[derive(Debug, Default)]
struct Progress {
    total: Counts,
    cycles: u64,
    start_kills: u64,
    starts_ms: Vec<u64>,
}

/// Runs the test, writing the table to `out`. Returns whether all promises were kept.
pub(crate) fn run(plan: &Cycles, out: &mut impl Write) -> Result<bool, CrashError> {
    writeln!(out, "seed {}", plan.clients.seed)?;
    writeln!(out, "| cycles | {} |", Counts::HEAD)?;
    writeln!(out, "|{}", " ---: |".repeat(13))?;
    let mut random = Random::new(plan.clients.seed);
    let mut progress = Progress::default();
    fs::create_dir_all(&plan.clients.directory)?;
    let mut broker = Some(start(plan, None, &mut random, &mut progress)?);
    let mut kept = true;
    for run in 1.. {
        let cycles = plan.check_every.min(plan.cycles - progress.cycles);
        if cycles == 0 || !kept {
            break;
        }
        let mut clients = plan.clients.clone();
        clients.run.run = run;
        clients.seed = random.next();
        clients.directory = run_directory(plan, run);
        super::run_clients(&clients, Fresh::Yes, |signals| {
            for _ in 0..cycles {
                cycle(plan, &clients.directory, &mut broker, &mut random, &mut progress, signals)?;
                progress.cycles += 1;
            }
            Ok(())
        })?;
        let counts = check(&clients.directory)?;
        progress.total.add(counts);
        kept = !counts.is_violated(&plan.allowed);
        if kept && !plan.keep {
            fs::remove_dir_all(&clients.directory)?;
        }
        writeln!(out, "| {} | {} |", progress.cycles, counts.row())?;
        out.flush()?;
    }
    writeln!(out, "| all {} | {} |", progress.cycles, progress.total.row())?;
    progress.starts_ms.sort_unstable();
    let at = |percent: usize| {
        progress.starts_ms.get((progress.starts_ms.len() - 1) * percent / 100).copied().unwrap_or(0)
    };
    let (starts, killed) = (progress.starts_ms.len(), progress.start_kills);
    writeln!(
        out,
        "starts {starts} (p50 {} ms, p99 {} ms, max {} ms), killed while starting {killed}",
        at(50),
        at(99),
        at(100)
    )?;
    Ok(kept)
}

/// One life of the broker under load, and its next start.
fn cycle(
    plan: &Cycles,
    directory: &Path,
    broker: &mut Option<Broker>,
    random: &mut Random,
    progress: &mut Progress,
    signals: &Signals,
) -> Result<(), CrashError> {
    let (shortest, longest) = plan.kill_ms;
    thread::sleep(Duration::from_millis(random.between(shortest, longest)));
    if signals.failed.load(Relaxed) {
        return Ok(());
    }
    if let Some(broker) = broker.take() {
        let from_ms = clock::now_ms();
        match plan.ending {
            Ending::Kill => broker.kill()?,
            Ending::Term => broker.terminate(TERMINATE_S)?,
        }
        note_end(directory, End { from_ms, to_ms: clock::now_ms() })?;
    }
    *broker = Some(start(plan, Some(directory), random, progress)?);
    Ok(())
}

/// Starts the broker; some starts are killed and begun again, as is noted in the run's directory.
fn start(
    plan: &Cycles,
    directory: Option<&Path>,
    random: &mut Random,
    progress: &mut Progress,
) -> Result<Broker, CrashError> {
    let log = plan.clients.directory.join("broker.log");
    while let Some(&last_ms) = progress.starts_ms.last()
        && random.between(1, 100) <= plan.start_kill_percent
    {
        let broker = Broker::spawn(&plan.command, &log)?;
        thread::sleep(Duration::from_millis(last_ms * random.between(10, 100) / 100));
        let from_ms = clock::now_ms();
        broker.kill()?;
        if let Some(directory) = directory {
            note_end(directory, End { from_ms, to_ms: clock::now_ms() })?;
        }
        progress.start_kills += 1;
    }
    let since_ns = clock::now_ns();
    let mut broker = Broker::spawn(&plan.command, &log)?;
    let first = progress.starts_ms.is_empty();
    broker.wait_ready(&plan.clients.target, plan.start_s).map_err(if first {
        CrashError::Io
    } else {
        CrashError::NotBack
    })?;
    progress.starts_ms.push((clock::now_ns() - since_ns) / 1_000_000);
    Ok(broker)
}

fn run_directory(plan: &Cycles, run: u32) -> PathBuf {
    plan.clients.directory.join(format!("run-{run}"))
}

/// Checks the journals of one run. Returns whether all promises were kept.
pub(crate) fn check_only(
    directory: &Path,
    allowed: &Allowed,
    out: &mut impl Write,
) -> io::Result<bool> {
    let counts = check(directory)?;
    writeln!(out, "| {} |\n|{}\n| {} |", Counts::HEAD, " ---: |".repeat(12), counts.row())?;
    Ok(!counts.is_violated(allowed))
}
