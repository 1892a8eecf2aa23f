//! The whole crash test: lives under load that end, one after another; after some of them the
//! queues are drained and the journals checked; a table.
//!
//! The clients stay while the broker goes: what is confirmed in one cycle must still be there many
//! crashes later, if it has not been consumed. Everything random comes from one printed seed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::CrashError;
use super::body::Random;
use super::check::check;
use super::clients::{ClientPlan, Fresh};
use super::counts::{Allowed, Counts};
use super::lives::{LifePlan, Lives, Next};

/// Starts that are looked at together, to see whether they take longer and longer.
const STARTS_MIN: usize = 10;

/// A crash test.
#[derive(Debug, Clone)]
pub(crate) struct Cycles {
    /// How the broker lives and ends.
    pub(crate) lives: LifePlan,
    /// How many times it is ended under load.
    pub(crate) cycles: u64,
    /// After how many of them the run is drained and checked.
    pub(crate) check_every: u64,
    /// The clients; each run has a directory of its own in theirs.
    pub(crate) clients: ClientPlan,
    /// Promises that this broker does not make.
    pub(crate) allowed: Allowed,
    /// Keeps the journals of good runs too.
    pub(crate) keep: bool,
}

/// Runs the test, writing the table to `out`. Returns whether all promises were kept.
pub(crate) fn run(plan: &Cycles, out: &mut impl Write) -> Result<bool, CrashError> {
    let mut table = Table::begin(plan.clients.seed, out)?;
    let mut random = Random::new(plan.clients.seed);
    let mut lives = Lives::begin(&plan.lives, random.next())?;
    for run in 1.. {
        let cycles = plan.check_every.min(plan.cycles - table.cycles);
        if cycles == 0 || !table.kept {
            break;
        }
        let mut clients = plan.clients.clone();
        clients.run.run = run;
        clients.seed = random.next();
        clients.directory = plan.clients.directory.join(format!("run-{run}"));
        super::run_clients(&clients, Fresh::Yes, |signals| {
            for cycle in 1..=cycles {
                let next = if cycle < cycles { Next::Cycle } else { Next::Drain };
                lives.cycle(&clients.directory, next, signals)?;
            }
            Ok(())
        })?;
        table.checked(cycles, &clients.directory, plan)?;
    }
    table.end(&lives)
}

/// The table of a test.
pub(crate) struct Table<'o, W> {
    out: &'o mut W,
    total: Counts,
    cycles: u64,
    kept: bool,
}

impl<'o, W: Write> Table<'o, W> {
    /// Writes its head.
    pub(crate) fn begin(seed: u64, out: &'o mut W) -> io::Result<Self> {
        writeln!(out, "seed {seed}")?;
        writeln!(out, "| cycles | {} |", Counts::HEAD)?;
        writeln!(out, "|{}", " ---: |".repeat(14))?;
        Ok(Self { out, total: Counts::default(), cycles: 0, kept: true })
    }

    /// Whether all promises were kept so far.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Checks a run's journals, which are removed when all is well.
    pub(crate) fn checked(&mut self, cycles: u64, run: &Path, plan: &Cycles) -> io::Result<()> {
        let counts = check(run, &plan.allowed)?;
        self.add(cycles, counts, &plan.allowed)?;
        if self.kept && !plan.keep { fs::remove_dir_all(run) } else { Ok(()) }
    }

    /// Adds a run's row.
    pub(crate) fn add(&mut self, cycles: u64, counts: Counts, allowed: &Allowed) -> io::Result<()> {
        self.cycles += cycles;
        self.total.add(counts);
        self.kept &= !counts.is_violated(allowed);
        writeln!(self.out, "| {} | {} |", self.cycles, counts.row())?;
        self.out.flush()
    }

    /// Writes what it comes to. Returns whether all promises were kept.
    pub(crate) fn end(self, lives: &Lives<'_>) -> Result<bool, CrashError> {
        writeln!(self.out, "| all {} | {} |", self.cycles, self.total.row())?;
        let (ends, starts) = (lives.start_kills, &lives.starts_ms);
        let (first, second) = starts.split_at(starts.len() / 2);
        writeln!(
            self.out,
            "starts {} (p50 {} ms, p99 {} ms, max {} ms; the first half {} ms, the second {} ms), \
             ended while starting {ends}, ended by a call {}",
            starts.len(),
            percentile(starts, 50),
            percentile(starts, 99),
            percentile(starts, 100),
            percentile(first, 50),
            percentile(second, 50),
            lives.hits,
        )?;
        let grown = percentile(second, 50) > 3 * percentile(first, 50) + 200;
        if starts.len() >= 2 * STARTS_MIN && grown {
            let text = "starts take longer the more there were".to_owned();
            return Err(CrashError::Breach(text));
        }
        Ok(self.kept)
    }
}

fn percentile(values: &[u64], percent: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
}

/// Checks the journals of one run. Returns whether all promises were kept.
pub(crate) fn check_only(
    directory: &Path,
    allowed: &Allowed,
    out: &mut impl Write,
) -> io::Result<bool> {
    let counts = check(directory, allowed)?;
    writeln!(out, "| {} |\n|{}\n| {} |", Counts::HEAD, " ---: |".repeat(13), counts.row())?;
    Ok(!counts.is_violated(allowed))
}
