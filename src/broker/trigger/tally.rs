//! What a trigger has done: its counters, and its last runs. It outlives changes of the definition.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Runs that are remembered.
pub const RUNS_KEPT: usize = 100;
/// Bytes of what a run wrote for people that are remembered.
pub const STDERR_BYTES_KEPT: usize = 1_024;

/// Why a trigger whose condition holds does not fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suppressed {
    /// As many runs as it may have are under way.
    Running,
    /// Somebody consumes.
    Consumers,
    /// It pauses after a run.
    Cooldown,
    /// It pauses after a failure, or because it went in circles.
    Backoff,
    /// What it starts cannot be started.
    Error,
    /// Too many messages wait to be tried again.
    Retries,
}

impl Suppressed {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Consumers, Self::Cooldown, Self::Backoff, Self::Error, Self::Retries];

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Consumers => "consumers",
            Self::Cooldown => "cooldown",
            Self::Backoff => "backoff",
            Self::Error => "error",
            Self::Retries => "retries",
        }
    }
}

/// How a run ended, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    /// All is done.
    Succeeded,
    /// Some messages are to be tried again, or were rejected.
    Partly,
    /// All are to be tried again later.
    Retried,
    /// Nothing succeeded.
    Failed,
    /// It could not be started.
    NotStarted,
    /// The node stopped.
    Stopped,
}

impl Result {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Succeeded,
        Self::Partly,
        Self::Retried,
        Self::Failed,
        Self::NotStarted,
        Self::Stopped,
    ];

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partly => "partly",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::NotStarted => "not_started",
            Self::Stopped => "stopped",
        }
    }
}

/// A run that is over, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    /// Its number.
    pub id: u64,
    /// When it was taken, in milliseconds of Unix time.
    pub started_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Why the trigger had fired.
    pub cause: String,
    /// Messages that were handed over.
    pub messages: usize,
    /// Those of them that are done with.
    pub settled: usize,
    /// Counts the attempts at this batch.
    pub attempt: u32,
    /// How it ended.
    pub result: &'static str,
    /// The same in words: `exit code 1`.
    pub exit: String,
    /// The end of what it wrote for people.
    pub stderr_tail: String,
}

/// What a trigger has done since it was defined, or the node started.
#[derive(Debug, Default)]
pub struct Tally {
    evaluated: AtomicU64,
    fired: AtomicU64,
    last_fired_ms: AtomicU64,
    suppressed: [AtomicU64; Suppressed::ALL.len()],
    runs: [AtomicU64; Result::ALL.len()],
    running: AtomicU64,
    took_ms: AtomicU64,
    took: [AtomicU64; TOOK_BOUNDS_MS.len()],
    last_runs: Mutex<VecDeque<RunView>>,
}

/// Upper bounds of the histogram of how long runs take.
pub const TOOK_BOUNDS_MS: [u64; 8] = [10, 50, 100, 500, 1_000, 5_000, 30_000, 300_000];

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often the condition was looked at.
    pub evaluated: u64,
    /// How often it fired.
    pub fired: u64,
    /// When last, in milliseconds of Unix time; 0 is never.
    pub last_fired_ms: u64,
    /// How often it did not fire though its condition held, by reason.
    pub suppressed: [u64; Suppressed::ALL.len()],
    /// Runs that are over, by result.
    pub runs: [u64; Result::ALL.len()],
    /// Runs under way.
    pub running: u64,
    /// Runs that took up to each of [`TOOK_BOUNDS_MS`] and longer than the bound before it.
    pub took: [u64; TOOK_BOUNDS_MS.len()],
    /// How long all runs took together.
    pub took_ms: u64,
}

impl Tally {
    pub(in crate::broker) fn evaluated(&self) {
        add(&self.evaluated);
    }

    pub(in crate::broker) fn fired(&self, now_ms: u64) {
        add(&self.fired);
        self.last_fired_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(in crate::broker) fn suppressed(&self, why: Suppressed) {
        add(&self.suppressed[why as usize]);
    }

    pub(in crate::broker) fn started(&self) {
        add(&self.running);
    }

    pub(in crate::broker) fn ended(&self, result: Result, run: RunView) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        add(&self.runs[result as usize]);
        self.took_ms.fetch_add(run.took_ms, Ordering::Relaxed);
        if let Some(at) = TOOK_BOUNDS_MS.iter().position(|bound| run.took_ms <= *bound) {
            add(&self.took[at]);
        }
        let mut last = self.last_runs.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == RUNS_KEPT {
            last.pop_front();
        }
        last.push_back(run);
    }

    /// The last runs, the latest first.
    #[must_use]
    pub fn last_runs(&self) -> Vec<RunView> {
        let last = self.last_runs.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().rev().cloned().collect()
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            evaluated: read(&self.evaluated),
            fired: read(&self.fired),
            last_fired_ms: read(&self.last_fired_ms),
            suppressed: std::array::from_fn(|at| read(&self.suppressed[at])),
            runs: std::array::from_fn(|at| read(&self.runs[at])),
            running: read(&self.running),
            took: std::array::from_fn(|at| read(&self.took[at])),
            took_ms: read(&self.took_ms),
        }
    }
}

impl Counts {
    /// Adds another's; of two last times the later.
    pub fn add(&mut self, other: &Self) {
        let sum = |own: &mut [u64], other: &[u64]| {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        };
        self.evaluated += other.evaluated;
        self.fired += other.fired;
        self.last_fired_ms = self.last_fired_ms.max(other.last_fired_ms);
        self.running += other.running;
        self.took_ms += other.took_ms;
        sum(&mut self.suppressed, &other.suppressed);
        sum(&mut self.runs, &other.runs);
        sum(&mut self.took, &other.took);
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
