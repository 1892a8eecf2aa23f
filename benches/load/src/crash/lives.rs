//! The broker's lives: started, ended in the way that is tested, started again.
//!
//! Where power is to be lost, two commands do it: one makes the disk forget what was not synced
//! and refuse everything from then on, the other makes it usable again. What is noted of an end in
//! a run's directory covers the time from before it was brought about until the broker was gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::CrashError;
use super::body::Random;
use super::broker::Broker;
use super::clients::Signals;
use super::journal::{End, note_end};
use super::traced::{Calls, Inject, Trace};
use crate::clock;
use crate::connection::Target;

/// How long a broker may take to end after SIGTERM.
const TERMINATE_S: f64 = 10.0;
/// How long it may take to end once its disk has failed: clients and tasks have 0.6 s to say
/// good-bye, and on a busy machine all of that and more is taken.
const FAILED_S: f64 = 3.0;
/// How often in a row a broker may be ended while it starts.
const START_ENDS_MAX: u32 = 3;
/// A life this long has clients, who must be told when it ends in order.
const SERVED_MS: u64 = 400;

/// How the broker's lives end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ending {
    /// SIGKILL at a random moment.
    Kill,
    /// SIGTERM: it must also end in time, and tell its clients.
    Term,
    /// SIGTERM, and again while it stops.
    TermTwice,
    /// SIGSTOP and, after a while, SIGCONT: it must go on with the same connections. Then SIGKILL.
    Pause,
    /// Its disk refuses everything: it must end by itself, at once, saying why.
    DeadDisk,
    /// SIGKILL as it enters its Nth call of a kind.
    Call,
    /// Its Nth call of a kind fails: it must end by itself, at once, saying why.
    FailedCall,
}

/// What makes the power go and come back.
#[derive(Debug, Clone)]
pub(crate) struct Power {
    /// Makes the disk forget what was not synced, and refuse everything.
    pub(crate) cut: String,
    /// Makes it usable again; nobody uses it then.
    pub(crate) restore: String,
}

/// How the broker lives.
#[derive(Debug, Clone)]
pub(crate) struct LifePlan {
    /// The shell command that starts the broker on its port and data directory.
    pub(crate) command: String,
    /// Where it is reached.
    pub(crate) target: Target,
    /// Where its output and traces go.
    pub(crate) directory: PathBuf,
    /// How it ends.
    pub(crate) ending: Ending,
    /// The shortest and longest time from ready to the end, in milliseconds.
    pub(crate) life_ms: (u64, u64),
    /// How long a pause is, in milliseconds.
    pub(crate) pause_ms: u64,
    /// Whether power is lost with every end.
    pub(crate) power: Option<Power>,
    /// Which calls end a life or fail.
    pub(crate) calls: Calls,
    /// Starts in 100 that are killed too, at a random moment of the start.
    pub(crate) start_kill_percent: u64,
    /// How long a start may take, in seconds.
    pub(crate) start_s: f64,
}

/// What comes after a start, which prepares for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another cycle of the same run.
    Cycle,
    /// The end of the run, which the broker must live through.
    Drain,
}

/// The lives so far.
pub(crate) struct Lives<'p> {
    plan: &'p LifePlan,
    random: Random,
    broker: Option<Broker>,
    trace: Option<Trace>,
    /// How long each undisturbed start took, in order.
    pub(crate) starts_ms: Vec<u64>,
    /// Starts that were not lived through.
    pub(crate) start_kills: u64,
    /// Lives that a call ended or failed in.
    pub(crate) hits: u64,
    traced: u64,
}

impl<'p> Lives<'p> {
    /// Starts the first one.
    pub(crate) fn begin(plan: &'p LifePlan, seed: u64) -> Result<Self, CrashError> {
        fs::create_dir_all(&plan.directory)?;
        let mut lives = Self {
            plan,
            random: Random::new(seed),
            broker: None,
            trace: None,
            starts_ms: Vec::new(),
            start_kills: 0,
            hits: 0,
            traced: 0,
        };
        let since_ns = clock::now_ns();
        let mut broker = Broker::spawn(&plan.command, &lives.log(), &plan.target)?;
        broker.wait_ready(&plan.target, plan.start_s)?;
        lives.is_ready(broker, since_ns);
        Ok(lives)
    }

    /// The rest of a life under load, its end, and the next start.
    pub(crate) fn cycle(
        &mut self,
        run: &Path,
        next: Next,
        signals: &Signals,
    ) -> Result<(), CrashError> {
        if self.is_ended_by_calls() && self.trace.is_none() {
            self.kill(run, Next::Cycle)?;
        }
        let (shortest, longest) = self.plan.life_ms;
        let life_ms = self.random.between(shortest, longest);
        if self.trace.is_none() {
            thread::sleep(Duration::from_millis(life_ms));
        }
        if signals.failed.load(Relaxed) {
            return Ok(());
        }
        self.end(run, life_ms, signals)?;
        self.start(run, next)
    }

    /// Kills the broker now, whatever the plan is, and starts it again.
    pub(crate) fn kill(&mut self, run: &Path, next: Next) -> Result<(), CrashError> {
        let from_ms = clock::now_ms();
        if let Some(broker) = self.broker.take() {
            broker.kill()?;
        }
        note_end(run, End { from_ms, to_ms: clock::now_ms(), power: false })?;
        self.start(run, next)
    }

    /// Whether the broker has ended by itself.
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        match &mut self.broker {
            Some(broker) => Ok(broker.ended()?.is_some()),
            None => Ok(true),
        }
    }

    fn is_ended_by_calls(&self) -> bool {
        matches!(self.plan.ending, Ending::Call | Ending::FailedCall)
    }

    fn end(&mut self, run: &Path, life_ms: u64, signals: &Signals) -> Result<(), CrashError> {
        let Some(mut broker) = self.broker.take() else { return Ok(()) };
        let trace = self.trace.take();
        let forced = signals.forced.load(Relaxed);
        if self.plan.ending == Ending::Pause {
            self.pause(&broker, run, signals)?;
        }
        let from_ms = clock::now_ms();
        let power = self.plan.power.is_some()
            && !matches!(self.plan.ending, Ending::Term | Ending::TermTwice);
        match (self.plan.ending, trace) {
            (Ending::Kill | Ending::Pause | Ending::Call | Ending::FailedCall, None) => {
                self.cut_power()?;
                broker.kill()?;
            }
            (Ending::Term, _) => broker.terminate(TERMINATE_S)?,
            (Ending::TermTwice, _) => {
                broker.signal(Signal::TERM)?;
                thread::sleep(Duration::from_millis(self.random.between(0, 20)));
                broker.terminate(TERMINATE_S)?;
            }
            (Ending::DeadDisk, _) => {
                self.cut_power()?;
                let ended = broker.wait_end(FAILED_S)?;
                self.check_failed(ended)?;
                broker.kill()?;
            }
            (_, Some(trace)) => self.end_by_call(broker, &trace, life_ms as f64 / 1e3)?,
        }
        note_end(run, End { from_ms, to_ms: clock::now_ms(), power })?;
        let told = matches!(self.plan.ending, Ending::Term | Ending::TermTwice);
        if told && life_ms >= SERVED_MS {
            wait_for_forced(signals, forced)?;
        }
        self.restore_power()
    }

    /// Lets a traced broker live until a call of its own ends it, or its time is up.
    fn end_by_call(
        &mut self,
        mut broker: Broker,
        trace: &Trace,
        life_s: f64,
    ) -> Result<(), CrashError> {
        let mut ended = broker.wait_end(life_s)?;
        if ended.is_none() && trace.failed_at_ms()?.is_some() {
            ended = broker.wait_end(FAILED_S)?; // just now
        }
        let hit = self.check_call(trace, ended)?;
        self.hits += u64::from(hit);
        self.cut_power()?;
        Ok(broker.kill()?)
    }

    /// Looks at how a traced broker has just ended. Returns whether a call was the end of it;
    /// otherwise it is alive.
    fn check_call(&self, trace: &Trace, ended: Option<Option<i32>>) -> Result<bool, CrashError> {
        let failed_ms = trace.failed_at_ms()?;
        match (self.plan.ending, ended, failed_ms) {
            (Ending::FailedCall, _, Some(failed_ms)) => {
                let late_ms = clock::unix_ms() - failed_ms;
                self.check_failed(ended)?;
                if late_ms > FAILED_S * 1e3 {
                    let text = format!("ended {late_ms:.0} ms after a sync had failed");
                    return Err(CrashError::Breach(text));
                }
            }
            (_, None, _) => return Ok(false),
            (Ending::Call, Some(None), _) => {}
            (_, Some(code), _) => {
                let text = format!("ended by itself with {code:?}, unasked");
                return Err(CrashError::Breach(text));
            }
        }
        Ok(true)
    }

    /// A broker whose disk fails must end at once, with an error, having said why in a line.
    fn check_failed(&self, ended: Option<Option<i32>>) -> Result<(), CrashError> {
        match ended {
            None => {
                Err(CrashError::Breach(format!("still there {FAILED_S} s after its disk failed")))
            }
            Some(Some(0)) => {
                Err(CrashError::Breach("its disk failed and it ended well".to_owned()))
            }
            Some(_) => {
                let log = fs::read_to_string(self.log())?;
                let last = log.lines().last().unwrap_or_default();
                if log.contains("panicked at") || last.is_empty() {
                    return Err(CrashError::Breach(format!(
                        "its disk failed, and it said {last:?}"
                    )));
                }
                Ok(())
            }
        }
    }

    fn pause(&mut self, broker: &Broker, run: &Path, signals: &Signals) -> Result<(), CrashError> {
        let from_ms = clock::now_ms();
        broker.signal(Signal::STOP)?;
        thread::sleep(Duration::from_millis(self.plan.pause_ms));
        let connections = signals.connections.load(Relaxed);
        broker.signal(Signal::CONT)?;
        // Acknowledgements that were sent meanwhile have not been read.
        note_end(run, End { from_ms, to_ms: clock::now_ms(), power: false })?;
        let delivered = signals.delivered.load(Relaxed);
        let until_ms = clock::now_ms() + 2_000;
        while clock::now_ms() < until_ms {
            thread::sleep(Duration::from_millis(20));
        }
        if signals.connections.load(Relaxed) != connections {
            let text = "connections did not survive a pause".to_owned();
            return Err(CrashError::Breach(text));
        }
        if signals.delivered.load(Relaxed) == delivered {
            return Err(CrashError::Breach("nothing is delivered after a pause".to_owned()));
        }
        Ok(())
    }

    /// Starts the broker; some starts are ended and begun again, which the run's directory notes.
    fn start(&mut self, run: &Path, next: Next) -> Result<(), CrashError> {
        self.kill_starts(run)?;
        for attempt in 0.. {
            let armed = next == Next::Cycle && attempt < START_ENDS_MAX;
            let trace = if armed { self.next_trace() } else { None };
            let command = match &trace {
                Some(trace) => trace.around(&self.plan.command),
                None => self.plan.command.clone(),
            };
            let (since_ns, from_ms) = (clock::now_ns(), clock::now_ms());
            let mut broker = Broker::spawn(&command, &self.log(), &self.plan.target)?;
            match (broker.wait_ready(&self.plan.target, self.plan.start_s), trace) {
                (Ok(()), None) => {
                    self.is_ready(broker, since_ns);
                    break;
                }
                (Ok(()), Some(trace)) => {
                    (self.broker, self.trace) = (Some(broker), Some(trace));
                    break;
                }
                (Err(_), Some(trace)) if self.check_call(&trace, broker.ended()?)? => {
                    self.cut_power()?;
                    broker.kill()?;
                    self.note_cut(run, from_ms)?;
                    self.restore_power()?;
                    (self.start_kills, self.hits) = (self.start_kills + 1, self.hits + 1);
                }
                (Err(error), _) => return Err(CrashError::NotBack(error)),
            }
        }
        Ok(())
    }

    /// Kills some starts, each at a random moment of what the last good one took.
    fn kill_starts(&mut self, run: &Path) -> Result<(), CrashError> {
        while let Some(&last_ms) = self.starts_ms.last()
            && self.random.between(1, 100) <= self.plan.start_kill_percent
        {
            let broker = Broker::spawn(&self.plan.command, &self.log(), &self.plan.target)?;
            thread::sleep(Duration::from_millis(last_ms * self.random.between(10, 100) / 100));
            let from_ms = clock::now_ms();
            self.cut_power()?;
            broker.kill()?;
            self.note_cut(run, from_ms)?;
            self.restore_power()?;
            self.start_kills += 1;
        }
        Ok(())
    }

    fn is_ready(&mut self, broker: Broker, since_ns: u64) {
        self.starts_ms.push((clock::now_ns() - since_ns) / 1_000_000);
        self.broker = Some(broker);
    }

    /// Prepares the next life's end, if a call is to bring it about.
    fn next_trace(&mut self) -> Option<Trace> {
        let inject = match self.plan.ending {
            Ending::Call => Inject::Kill(self.random.between(1, self.plan.calls.most)),
            Ending::FailedCall => Inject::Fail(1 + self.traced % self.plan.calls.most),
            _ => return None,
        };
        self.traced += 1;
        let file = self.plan.directory.join("trace");
        Some(Trace { calls: self.plan.calls.clone(), inject, file })
    }

    fn cut_power(&self) -> io::Result<()> {
        self.plan.power.as_ref().map_or(Ok(()), |power| shell(&power.cut))
    }

    /// Notes an end that came with the loss of power, if the plan has any.
    fn note_cut(&self, run: &Path, from_ms: u64) -> io::Result<()> {
        note_end(run, End { from_ms, to_ms: clock::now_ms(), power: self.plan.power.is_some() })
    }

    fn restore_power(&self) -> Result<(), CrashError> {
        Ok(self.plan.power.as_ref().map_or(Ok(()), |power| shell(&power.restore))?)
    }

    fn log(&self) -> PathBuf {
        self.plan.directory.join("broker.log")
    }
}

/// Waits until some client has been told that the broker ends.
fn wait_for_forced(signals: &Signals, before: u64) -> Result<(), CrashError> {
    let since_ms = clock::now_ms();
    while signals.forced.load(Relaxed) == before {
        if clock::now_ms() - since_ms > 2_000 {
            let text = "no client was told that the broker stops (320)".to_owned();
            return Err(CrashError::Breach(text));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs a shell command that must succeed.
fn shell(command: &str) -> io::Result<()> {
    let status = Command::new("sh").arg("-c").arg(command).status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command}: {status}")))
}
