//! The command lines of the crash tests.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::body::BODY_BYTES_MIN;
use super::clients::{ClientPlan, Fresh};
use super::counts::Allowed;
use super::cycles::{self, Cycles};
use super::http::Api;
use super::journal::RunPlan;
use super::lives::{Ending, LifePlan, Power};
use super::pressure::{self, Pressure};
use super::traced::Calls;
use super::{CrashError, definitions, run_clients};
use crate::cli::say;
use crate::clock;
use crate::connection::Target;
use crate::engine;

/// What is tested.
#[derive(Subcommand)]
pub(crate) enum CrashCommand {
    /// Clients that journal everything and survive the broker, whatever happens to it.
    Crash {
        #[command(flatten)]
        clients: ClientArgs,
        /// How long to publish, in seconds.
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Takes the queues as they are instead of deleting them first.
        #[arg(long)]
        existing: bool,
        #[command(flatten)]
        allowed: AllowedArgs,
    },
    /// Checks the journals that `crash` wrote.
    Check {
        /// The directory of the run.
        directory: PathBuf,
        #[command(flatten)]
        allowed: AllowedArgs,
    },
    /// Starts a broker, ends it under load over and over, and checks.
    CrashCycles(CycleArgs),
    /// The same, with definitions that change instead of messages.
    CrashDefinitions {
        #[command(flatten)]
        cycles: CycleArgs,
        /// The management API: host and port.
        #[arg(long)]
        api: String,
        /// Who calls it.
        #[arg(long, default_value = "guest:guest")]
        login: String,
    },
    /// Starts a broker and presses it hard, over and over, and checks.
    CrashPressure {
        #[command(flatten)]
        cycles: CycleArgs,
        /// What presses.
        #[arg(long, value_enum)]
        by: By,
        /// What it needs: a file on the disk to be filled, or the clock's file.
        #[arg(long, required_if_eq_any([("by", "disk"), ("by", "clock")]))]
        file: Option<PathBuf>,
        /// Bytes of that file on the disk, or of the backlog.
        #[arg(long, default_value_t = 64 << 20)]
        bytes: u64,
    },
}

/// What a broker is pressed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// A full disk.
    Disk,
    /// More messages than memory.
    Memory,
    /// A clock that jumps.
    Clock,
}

impl CrashCommand {
    /// Runs it. Success means that every promise was kept; 1 that one was broken, 2 that the test
    /// did not take place.
    pub(crate) fn run(self) -> ExitCode {
        let mut out = io::stdout();
        verdict(match self {
            Self::Crash { clients, seconds, existing, allowed } => {
                crash(&clients.plan(), seconds, existing, &allowed.plan())
            }
            Self::Check { directory, allowed } => {
                cycles::check_only(&directory, &allowed.plan(), &mut out).map_err(CrashError::from)
            }
            Self::CrashCycles(cycles) => cycles::run(&cycles.plan(), &mut out),
            Self::CrashDefinitions { cycles, api, login } => {
                definitions::run(&cycles.plan(), &Api { address: api, login }, &mut out)
            }
            Self::CrashPressure { cycles, by, file, bytes } => {
                let file = file.unwrap_or_default();
                let pressure = match by {
                    By::Disk => Pressure::Disk { ballast: file, bytes },
                    By::Memory => Pressure::Memory { bytes },
                    By::Clock => Pressure::Clock { file },
                };
                pressure::run(&cycles.plan(), &pressure, &mut out)
            }
        })
    }
}

/// Runs the crash clients for a time and checks their journals.
fn crash(
    plan: &ClientPlan,
    seconds: f64,
    existing: bool,
    allowed: &Allowed,
) -> Result<bool, CrashError> {
    say(&mut io::stdout(), &format!("seed {}", plan.seed));
    let fresh = if existing { Fresh::No } else { Fresh::Yes };
    run_clients(plan, fresh, |signals| {
        let until_ns = clock::now_ns() + engine::seconds_ns(seconds);
        while clock::now_ns() < until_ns && !signals.failed.load(Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    })?;
    Ok(cycles::check_only(&plan.directory, allowed, &mut io::stdout())?)
}

fn verdict(result: Result<bool, CrashError>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            say(&mut io::stderr(), &format!("leveret-load: {error}"));
            ExitCode::from(if error.is_violation() { 1 } else { 2 })
        }
    }
}

#[derive(Args, Clone)]
pub(crate) struct ClientArgs {
    /// The broker: amqp://user:password@host:port/vhost, or amqps://...?cacertfile=FILE.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672")]
    url: Target,
    /// Where the journals go; not onto a disk that is made to fail.
    #[arg(long)]
    directory: PathBuf,
    /// What names of queues and exchanges begin with.
    #[arg(long, default_value = "leveret-load")]
    prefix: String,
    /// Publishing connections.
    #[arg(short = 'x', long, default_value_t = 2)]
    publishers: usize,
    /// Consuming connections; at least one for each queue.
    #[arg(short = 'y', long, default_value_t = 1)]
    consumers: usize,
    /// Durable queues.
    #[arg(short, long, default_value_t = 1)]
    queues: usize,
    /// Every queue gets every message, by a fanout exchange.
    #[arg(long)]
    fanout: bool,
    /// Unconfirmed messages per publisher.
    #[arg(short, long, default_value_t = 1000)]
    window: usize,
    /// Messages per transaction, instead of confirms; 0 is confirms.
    #[arg(long, default_value_t = 0)]
    tx: usize,
    /// Messages per second and publisher; 0 is no limit.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// The smallest body in bytes.
    #[arg(long, default_value_t = 20)]
    size_min: usize,
    /// The largest body in bytes.
    #[arg(long, default_value_t = 8192)]
    size_max: usize,
    /// Unacknowledged deliveries per consumer.
    #[arg(long, default_value_t = 500)]
    prefetch: u16,
    /// Deliveries per acknowledgement.
    #[arg(long, default_value_t = 50)]
    ack_every: usize,
    /// Queues, of the first ones, that are content with the operating system's word.
    #[arg(long, default_value_t = 0, conflicts_with = "dead_letters")]
    os_queues: usize,
    /// How long a consumer rests after each turn while publishers go on, in milliseconds.
    #[arg(long, default_value_t = 0)]
    linger: u64,
    /// Deliveries in 100 that are given back instead of acknowledged.
    #[arg(long, default_value_t = 0)]
    requeue_percent: u64,
    /// Each queue has dead letters: consumers reject some messages, or they expire, or are dropped.
    #[arg(long, conflicts_with = "fanout")]
    dead_letters: bool,
    /// Deliveries in 100 that are rejected where that makes dead letters of them.
    #[arg(long, default_value_t = 2)]
    reject_percent: u64,
    /// After how long messages expire, in milliseconds; 0 is never.
    #[arg(long, default_value_t = 0)]
    expiry_ms: i64,
    /// The heartbeat that clients ask for and keep, in seconds; 0 is none.
    #[arg(long, default_value_t = 0)]
    heartbeat: u16,
    /// How long clients try to come back, in seconds.
    #[arg(long, default_value_t = 30.0)]
    reconnect: f64,
    /// What decides everything random; 0 takes one from the clock.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl ClientArgs {
    fn plan(self) -> ClientPlan {
        let now_ns = clock::now_ns();
        let mut run = RunPlan {
            run: u32::try_from(now_ns / clock::SECOND_NS).unwrap_or(0),
            publishers: self.publishers,
            consumers: 0,
            queues: self.queues.max(1),
            fanout: self.fanout,
            dead_letters: self.dead_letters,
            os_queues: self.os_queues,
        };
        run.consumers = self.consumers.max(run.consumed().len());
        ClientPlan {
            target: self.url,
            directory: self.directory,
            run,
            prefix: self.prefix,
            window: self.window.max(1),
            tx: self.tx,
            rate: self.rate,
            body_bytes: (self.size_min.max(BODY_BYTES_MIN), self.size_max),
            prefetch: self.prefetch,
            ack_every: self.ack_every.clamp(1, usize::from(self.prefetch).max(1)),
            linger_ms: self.linger,
            requeue_percent: self.requeue_percent,
            reject_percent: self.reject_percent,
            expiry_ms: self.expiry_ms,
            heartbeat_s: self.heartbeat,
            holds: false,
            reconnect_s: self.reconnect,
            seed: if self.seed == 0 { now_ns } else { self.seed },
        }
    }
}

#[derive(Args, Clone)]
pub(crate) struct CycleArgs {
    #[command(flatten)]
    clients: ClientArgs,
    /// The shell command that starts the broker, on its port and data directory.
    #[arg(long)]
    broker: String,
    /// How many times it is ended under load.
    #[arg(short = 'n', long, default_value_t = 20)]
    cycles: u64,
    /// After how many of them the queues are drained and the journals checked.
    #[arg(long, default_value_t = 5)]
    check_every: u64,
    /// The shortest time from ready to the end, in milliseconds.
    #[arg(long, default_value_t = 20)]
    kill_min: u64,
    /// The longest.
    #[arg(long, default_value_t = 1500)]
    kill_max: u64,
    /// Starts in 100 that are killed too.
    #[arg(long, default_value_t = 10)]
    start_kill_percent: u64,
    /// How it is ended.
    #[arg(long, value_enum, default_value = "kill")]
    ending: Ending,
    /// How long a pause is, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    pause: u64,
    /// A shell command that makes the broker's disk forget what was not synced, and fail.
    #[arg(long, requires = "restore")]
    cut: Option<String>,
    /// The one that makes the disk usable again.
    #[arg(long, requires = "cut")]
    restore: Option<String>,
    /// The system call that ends the broker, or fails.
    #[arg(long, default_value = "fdatasync")]
    call: String,
    /// Only calls about this file.
    #[arg(long)]
    call_path: Option<PathBuf>,
    /// The highest count at which it does.
    #[arg(long, default_value_t = 200)]
    call_max: u64,
    /// How long a start may take, in seconds.
    #[arg(long, default_value_t = 60.0)]
    start_limit: f64,
    /// Keeps the journals of good runs too.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    allowed: AllowedArgs,
}

impl CycleArgs {
    fn plan(self) -> Cycles {
        let clients = self.clients.plan();
        let calls = Calls { name: self.call, path: self.call_path, most: self.call_max.max(1) };
        let power = self.cut.zip(self.restore).map(|(cut, restore)| Power { cut, restore });
        let lives = LifePlan {
            command: self.broker,
            target: clients.target.clone(),
            directory: clients.directory.clone(),
            ending: self.ending,
            life_ms: (self.kill_min, self.kill_max),
            pause_ms: self.pause,
            power,
            calls,
            start_kill_percent: self.start_kill_percent.min(90),
            start_s: self.start_limit,
        };
        Cycles {
            lives,
            cycles: self.cycles,
            check_every: self.check_every.max(1),
            clients,
            allowed: self.allowed.plan(),
            keep: self.keep,
        }
    }
}

#[derive(Args, Clone, Copy)]
pub(crate) struct AllowedArgs {
    /// The broker does not promise a fanout or a transaction to be whole after a crash.
    #[arg(long)]
    allow_torn: bool,
    /// The broker does not promise the redelivered flag after a crash.
    #[arg(long)]
    allow_unflagged: bool,
    /// How old a confirm may be that the operating system's word was enough for, and its message
    /// be lost with the power, in milliseconds.
    #[arg(long, default_value_t = 200)]
    allow_unsynced: u64,
}

impl AllowedArgs {
    fn plan(self) -> Allowed {
        Allowed {
            torn: self.allow_torn,
            unflagged: self.allow_unflagged,
            unsynced_ms: self.allow_unsynced,
        }
    }
}
