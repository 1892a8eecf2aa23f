//! Crash tests: clients that journal everything, a broker that is killed, a check of what is left.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`args`] | the command lines |
//! | [`cycles`] | the whole test: lives under load that end, drained and checked; the table |
//! | [`lives`] | how a life ends, and the next start |
//! | [`traced`] | a life under strace, which ends it at an exactly known moment |
//! | [`pressure`] | what it must live through: a full disk, little memory, a clock that jumps |
//! | [`definitions`] | declarations, bindings, policies and users instead of messages |
//! | [`clients`], [`publisher`], [`consumer`] | clients that survive the broker |
//! | [`broker`] | the broker as a child process |
//! | [`check`], [`outlived`] | the rules, applied to journals |
//! | [`counts`] | what comes of it |
//! | [`journal`] | the journals' files |
//! | [`body`] | a message's identity and checksum |

pub(crate) mod args;
mod body;
mod broker;
mod check;
mod clients;
mod consumer;
mod counts;
mod cycles;
mod definitions;
mod http;
mod journal;
mod lives;
mod outlived;
mod pressure;
mod publisher;
mod traced;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::clock::{self, seconds_between};
use crate::connection::ClientError;
use clients::{ClientPlan, Fresh, Signals, declare, delete, ready};
use consumer::CrashConsumer;
use publisher::CrashPublisher;

/// Nothing may arrive for this long before a run counts as drained.
const IDLE_S: f64 = 1.0;
/// Messages that are ready and do not arrive for this long are stuck.
const STUCK_S: f64 = 20.0;
const POLL: Duration = Duration::from_millis(20);

/// Why a crash test could not be brought to its check, or what the check cannot see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrashError {
    /// A client that did not get its connection back, or that was refused.
    #[error("a client gave up: {0}")]
    Client(#[from] ClientError),
    /// The broker's process, or a journal.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A broker that was there and does not come back.
    #[error("started again: {0}")]
    NotBack(io::Error),
    /// The broker did what it must not.
    #[error("{0}")]
    Breach(String),
    /// Messages are in a queue and are not delivered.
    #[error("{0} messages are ready and not delivered")]
    Stuck(u64),
}

impl CrashError {
    /// Whether the broker broke a promise; otherwise the test did not take place.
    pub(crate) fn is_violation(&self) -> bool {
        match self {
            // A durable queue that was declared is gone.
            Self::Client(error) => matches!(error, ClientError::Closed { code: 404, .. }),
            Self::Io(_) => false,
            Self::Breach(_) | Self::NotBack(_) | Self::Stuck(_) => true,
        }
    }
}

/// Runs the clients while `drive` does what it likes with the broker, which must be up when it
/// returns; then lets everything be confirmed and delivered.
pub(crate) fn run_clients(
    plan: &ClientPlan,
    fresh: Fresh,
    drive: impl FnOnce(&Signals) -> Result<(), CrashError>,
) -> Result<(), CrashError> {
    journal::write_plan(&plan.directory, plan.run)?;
    declare(plan, fresh)?;
    let hold_consuming = AtomicBool::new(plan.holds);
    let signals = Signals { hold_consuming, ..Signals::default() };
    let mut publishers = Vec::new();
    for number in 0..u32::try_from(plan.run.publishers).unwrap_or(0) {
        publishers.push(CrashPublisher::new(plan, number, &signals)?);
    }
    let mut consumers = Vec::new();
    for number in 0..plan.run.consumers {
        consumers.push(CrashConsumer::new(plan, number, &signals)?);
    }
    thread::scope(|scope| {
        let signals = &signals;
        let consumers: Vec<_> = consumers
            .into_iter()
            .map(|consumer| scope.spawn(|| noted(signals, consumer.run())))
            .collect();
        let publishers: Vec<_> = publishers
            .into_iter()
            .map(|publisher| scope.spawn(|| noted(signals, publisher.run())))
            .collect();
        let driven = drive(signals);
        signals.stop_publishing.store(true, Relaxed);
        signals.hold_consuming.store(false, Relaxed);
        let published = join(publishers);
        let drained = match driven.and(published) {
            Ok(()) => drain(plan, signals),
            Err(error) => Err(error),
        };
        signals.stop_consuming.store(true, Relaxed);
        let consumed = join(consumers);
        drained.and(consumed)
    })?;
    Ok(delete(plan)?)
}

/// Waits until nothing is ready and nothing more arrives.
fn drain(plan: &ClientPlan, signals: &Signals) -> Result<(), CrashError> {
    let (mut seen, mut moved_ns) = (0, clock::now_ns());
    while !signals.failed.load(Relaxed) {
        thread::sleep(POLL);
        let (delivered, now_ns) = (signals.delivered.load(Relaxed), clock::now_ns());
        if delivered != seen {
            (seen, moved_ns) = (delivered, now_ns);
            continue;
        }
        let idle_s = seconds_between(moved_ns, now_ns);
        if idle_s < IDLE_S {
            continue;
        }
        let left = ready(plan)?;
        if left == 0 {
            break;
        }
        if idle_s > STUCK_S {
            return Err(CrashError::Stuck(left));
        }
    }
    Ok(())
}

fn noted(signals: &Signals, result: Result<(), ClientError>) -> Result<(), ClientError> {
    if result.is_err() {
        signals.failed.store(true, Relaxed);
    }
    result
}

fn join(threads: Vec<ScopedJoinHandle<'_, Result<(), ClientError>>>) -> Result<(), CrashError> {
    let mut first = Ok(());
    for thread in threads {
        let result = crate::engine::joined(thread);
        if first.is_ok() {
            first = result;
        }
    }
    Ok(first?)
}
