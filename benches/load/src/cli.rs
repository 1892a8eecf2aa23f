//! The command line. Every workload is bounded in time or in number without being asked.

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::churn::{self, Churn, Subject};
use crate::connection::{AckMode, ClientError, Target};
use crate::crash::args::CrashCommand;
use crate::crowd::{self, Crowd};
use crate::delays::{self, By, Delays};
use crate::engine::{self, WatchPlan};
use crate::idle::{self, Idle};
use crate::logins::{self, Logins};
use crate::null;
use crate::queues::{self, Queues};
use crate::report::Report;
use crate::rpc::{self, Calls};
use crate::wire::Value;
use crate::workload::{self, Shape};

/// A load generator and crash checker for AMQP 0-9-1 brokers.
#[derive(Parser)]
#[command(name = "leveret-load", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publishers and consumers at the same time.
    Pubsub {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Publishers only; the queues stay, with their messages.
    Fill {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Consumers only, until the queues of an earlier `fill` are empty; deletes them.
    Drain {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// A fanout exchange to every queue.
    Fanout {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// A topic exchange with many bindings, each key matching one of them.
    Topic {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        load: LoadArgs,
        /// Bindings, spread over the queues.
        #[arg(long, default_value_t = 1000)]
        bindings: usize,
        /// Routing keys, taken in turn; no more than bindings.
        #[arg(long, default_value_t = 100)]
        keys: usize,
    },
    /// Calls by direct reply-to.
    Rpc {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        rpc: RpcArgs,
    },
    /// Messages that leave at a time of their own: how late they are, and what they cost.
    Delays {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        delays: DelayArgs,
    },
    /// Opening and closing over and over.
    Churn {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        churn: ChurnArgs,
    },
    /// Many queues, declared over a few connections; they stay.
    Queues {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        queues: QueuesArgs,
    },
    /// Connections that only stay open.
    Idle {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        idle: IdleArgs,
    },
    /// A flow of messages, alone and while a crowd of connections stands around that never logs in.
    Crowd {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        load: LoadArgs,
        /// How many stand around.
        #[arg(long, default_value_t = 5_000)]
        connections: usize,
        /// From how many loopback addresses.
        #[arg(long, default_value_t = 100)]
        addresses: u32,
        /// Those that the broker drops come back at once.
        #[arg(long)]
        returns: bool,
    },
    /// Refused logins: whether their time says if the user exists.
    Logins {
        #[command(flatten)]
        common: Common,
        /// How many.
        #[arg(long, default_value_t = 2_000)]
        count: usize,
        /// How many at the same time.
        #[arg(long, default_value_t = 1)]
        workers: u32,
    },
    /// A broker that only counts: what the generator itself costs.
    Null {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:5699")]
        listen: String,
    },
    #[command(flatten)]
    Crash(CrashCommand),
}

#[derive(Args, Clone)]
struct Common {
    /// The broker: amqp://user:password@host:port/vhost, or amqps://...?cacertfile=FILE.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672")]
    url: Target,
    /// The broker's process, for its CPU, memory and disk figures.
    #[arg(long)]
    broker_pid: Option<u32>,
    /// A Prometheus page that counts leveret_store_syncs_total, http://host:port/metrics.
    #[arg(long)]
    metrics: Option<String>,
    /// Writes one JSON object instead of a line.
    #[arg(long)]
    json: bool,
    /// What names of queues and exchanges begin with.
    #[arg(long, default_value = "leveret-load")]
    prefix: String,
    /// What the load is called in the report.
    #[arg(long)]
    label: Option<String>,
    /// The limit of the whole run, in seconds.
    #[arg(long, default_value_t = 300.0)]
    timeout: f64,
}

impl Common {
    fn watch(&self) -> WatchPlan {
        WatchPlan { pid: self.broker_pid, metrics: self.metrics.clone() }
    }

    fn name(&self, otherwise: impl FnOnce() -> String) -> String {
        self.label.clone().unwrap_or_else(otherwise)
    }
}

#[derive(Args, Clone)]
struct LoadArgs {
    /// Publishing connections.
    #[arg(short = 'x', long, default_value_t = 1)]
    publishers: u16,
    /// Consuming connections.
    #[arg(short = 'y', long, default_value_t = 1)]
    consumers: usize,
    /// Queues.
    #[arg(short, long, default_value_t = 1)]
    queues: usize,
    /// Body size in bytes, at least 16.
    #[arg(short, long, default_value_t = 16)]
    size: usize,
    /// Persistent messages in durable queues.
    #[arg(long)]
    persistent: bool,
    /// Durable queues, whatever the messages.
    #[arg(long)]
    durable: bool,
    /// Auto-delete queues.
    #[arg(long)]
    auto_delete: bool,
    /// Priorities that messages carry, from 0, in turn; queues want --arg x-max-priority.
    #[arg(long, default_value_t = 0)]
    priorities: u8,
    /// An argument of the queues, name=value; may be repeated.
    #[arg(long = "arg", value_parser = argument)]
    arguments: Vec<(String, Value)>,
    /// auto, each, or a number: acknowledge every so many with multiple.
    #[arg(long, default_value = "auto", value_parser = ack_mode)]
    ack: AckMode,
    /// Unacknowledged deliveries per consumer; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    prefetch: u16,
    /// Unconfirmed messages per publisher; 0 is without confirms.
    #[arg(short, long, default_value_t = 0)]
    window: usize,
    /// The most messages per write; 0 is as many as fit. Stock clients write each by itself.
    #[arg(long, default_value_t = 0)]
    burst: usize,
    /// Messages per second and publisher; latencies then count from the intended time.
    #[arg(long)]
    rate: Option<f64>,
    /// Messages per publisher, instead of a time.
    #[arg(long)]
    count: Option<u64>,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Checks that every message arrives once and in order.
    #[arg(long)]
    verify: bool,
}

impl LoadArgs {
    fn shape(self, common: &Common, name: &str) -> Result<Shape, ClientError> {
        let refuse = |text: &str| Err(ClientError::Unexpected(text.to_owned()));
        if self.size < crate::batch::STAMP_BYTES {
            return refuse("--size below 16");
        }
        if let AckMode::Every(count) = self.ack
            && self.prefetch > 0
            && count > u32::from(self.prefetch)
        {
            return refuse("--ack above --prefetch would never acknowledge");
        }
        Ok(Shape {
            name: common.name(|| name.to_owned()),
            target: common.url.clone(),
            watch: common.watch(),
            prefix: common.prefix.clone(),
            timeout_s: common.timeout,
            publishers: self.publishers,
            consumers: self.consumers,
            queues: self.queues,
            body_bytes: self.size,
            persistent: self.persistent,
            durable: self.durable || self.persistent,
            auto_delete: self.auto_delete,
            priorities: self.priorities,
            arguments: self.arguments,
            acks: self.ack,
            prefetch: self.prefetch,
            window: self.window,
            burst: if self.burst == 0 { usize::MAX } else { self.burst },
            rate: self.rate,
            count: self.count,
            warm_up: self.warm_up,
            measured: self.seconds,
            verify: self.verify,
        })
    }
}

#[derive(Args, Clone)]
struct RpcArgs {
    /// Connections that call, one request at a time each.
    #[arg(long, default_value_t = 1)]
    callers: usize,
    /// Connections that answer.
    #[arg(long, default_value_t = 1)]
    servers: usize,
    /// The size of request and answer in bytes, at least 16.
    #[arg(short, long, default_value_t = 16)]
    size: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
}

#[derive(Args, Clone)]
struct DelayArgs {
    /// A delayed-message exchange, or queues whose messages expire to another.
    #[arg(long, value_enum, default_value = "delayed")]
    by: By,
    /// Messages that wait for an hour meanwhile.
    #[arg(long, default_value_t = 100_000)]
    pending: u64,
    /// Messages whose lateness is measured.
    #[arg(long, default_value_t = 2_000)]
    probes: u64,
    /// How long a probe waits, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    delay_ms: u64,
    /// Over how long the probes are spread, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    spread_ms: u64,
    /// Body size in bytes, at least 16.
    #[arg(short, long, default_value_t = 100)]
    size: usize,
}

#[derive(Args, Clone)]
struct ChurnArgs {
    /// What is opened and closed.
    #[arg(long, value_enum, default_value = "connection")]
    subject: Subject,
    /// How many do it at the same time.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How long, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Args, Clone)]
struct QueuesArgs {
    /// How many.
    #[arg(long, default_value_t = 100_000)]
    count: usize,
    /// Over how many connections.
    #[arg(short, long, default_value_t = 4)]
    connections: usize,
    /// Queues that do not survive a restart.
    #[arg(long)]
    transient: bool,
    /// Looks whether the queues of an earlier run are there, and declares none.
    #[arg(long)]
    existing: bool,
}

#[derive(Args, Clone)]
struct IdleArgs {
    /// How many.
    #[arg(short, long, default_value_t = 1000)]
    connections: usize,
    /// Channels on each.
    #[arg(long, default_value_t = 1)]
    channels: u16,
    /// The heartbeat in seconds; 0 is none.
    #[arg(long, default_value_t = 10)]
    heartbeat: u16,
    /// How long to keep them, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

impl Cli {
    /// Runs the command. Success means that nothing was missing or wrong.
    pub(crate) fn run(self) -> ExitCode {
        let _ = raise_file_limit();
        match self.command {
            Command::Pubsub { common, load } => {
                finish(&common, load.shape(&common, "pubsub").map(workload::pubsub))
            }
            Command::Fill { common, load } => {
                finish(&common, load.shape(&common, "fill").map(workload::fill))
            }
            Command::Drain { common, load } => {
                finish(&common, load.shape(&common, "drain").map(workload::drain))
            }
            Command::Fanout { common, load } => {
                finish(&common, load.shape(&common, "fanout").map(workload::fanout))
            }
            Command::Topic { common, load, bindings, keys } => {
                let shape = load.shape(&common, "topic");
                finish(&common, shape.map(|shape| workload::topic(shape, bindings, keys)))
            }
            Command::Rpc { common, rpc } => print(&common, rpc::run(&calls(&common, &rpc))),
            Command::Delays { common, delays } => {
                let delays = Delays {
                    name: common.name(|| format!("delays, {:?}", delays.by).to_lowercase()),
                    target: common.url.clone(),
                    watch: common.watch(),
                    prefix: common.prefix.clone(),
                    by: delays.by,
                    pending: delays.pending,
                    probes: delays.probes,
                    delay_ms: delays.delay_ms,
                    spread_ms: delays.spread_ms,
                    body_bytes: delays.size,
                };
                print(&common, delays::run(&delays))
            }
            Command::Churn { common, churn } => {
                let churn = Churn {
                    name: common.name(|| "churn".to_owned()),
                    target: common.url.clone(),
                    watch: common.watch(),
                    subject: churn.subject,
                    workers: churn.workers,
                    prefix: common.prefix.clone(),
                    measured: churn.seconds,
                };
                print(&common, churn::run(&churn))
            }
            Command::Queues { common, queues } => {
                let queues = Queues {
                    name: common.name(|| "queues".to_owned()),
                    target: common.url.clone(),
                    watch: common.watch(),
                    prefix: common.prefix.clone(),
                    count: queues.count,
                    connections: queues.connections,
                    durable: !queues.transient,
                    existing: queues.existing,
                };
                print(&common, queues::run(&queues))
            }
            Command::Idle { common, idle } => {
                let idle = Idle {
                    name: common.name(|| "idle".to_owned()),
                    target: common.url.clone(),
                    watch: common.watch(),
                    connections: idle.connections,
                    channels: idle.channels,
                    heartbeat_s: idle.heartbeat,
                    hold: idle.seconds,
                };
                print(&common, idle::run(&idle))
            }
            Command::Crowd { common, load, connections, addresses, returns } => {
                let shape = load.shape(&common, "crowd");
                let crowd = shape.map(|shape| Crowd {
                    load: workload::pubsub(shape),
                    connections,
                    addresses,
                    returns,
                });
                print(&common, crowd.and_then(|crowd| crowd::run(&crowd)))
            }
            Command::Logins { common, count, workers } => {
                let name = common.name(|| "logins".to_owned());
                let logins = Logins { name, target: common.url.clone(), count, workers };
                print(&common, logins::run(&logins))
            }
            Command::Null { listen } => {
                match TcpListener::bind(&listen).and_then(|listener| null::serve(&listener)) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => {
                        say(&mut io::stderr(), &format!("leveret-load: {listen}: {error}"));
                        ExitCode::from(2)
                    }
                }
            }
            Command::Crash(command) => command.run(),
        }
    }
}

fn calls(common: &Common, rpc: &RpcArgs) -> Calls {
    Calls {
        name: common.name(|| "rpc".to_owned()),
        target: common.url.clone(),
        watch: common.watch(),
        topology: workload::request_queue(&common.prefix),
        callers: rpc.callers,
        servers: rpc.servers,
        body_bytes: rpc.size.max(crate::batch::STAMP_BYTES),
        warm_up: rpc.warm_up,
        measured: rpc.seconds,
    }
}

fn finish(common: &Common, load: Result<engine::Load, ClientError>) -> ExitCode {
    print(common, load.and_then(|load| engine::run(&load)))
}

fn print(common: &Common, result: Result<Report, ClientError>) -> ExitCode {
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            say(&mut io::stderr(), &format!("leveret-load: {error}"));
            return ExitCode::from(2);
        }
    };
    let text = if common.json {
        serde_json::to_string(&report).expect("invariant: a report has only plain fields")
    } else {
        report.line()
    };
    say(&mut io::stdout(), &text);
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Writes a line; a closed pipe is nobody's business.
pub(crate) fn say(to: &mut impl Write, line: &str) {
    let _ = writeln!(to, "{line}");
}

fn ack_mode(text: &str) -> Result<AckMode, String> {
    match text {
        "auto" => Ok(AckMode::Auto),
        "each" => Ok(AckMode::Each),
        number => match number.parse() {
            Ok(count) if count > 0 => Ok(AckMode::Every(count)),
            _ => Err("expected auto, each or a number above 0".to_owned()),
        },
    }
}

fn argument(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=value")?;
    let value = match (value, value.parse()) {
        ("true", _) => Value::Bool(true),
        ("false", _) => Value::Bool(false),
        (_, Ok(number)) => Value::Int(number),
        (text, Err(_)) => Value::Text(text.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// As many open files as the system allows: idle connections need one each.
fn raise_file_limit() -> rustix::io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn queue_arguments_have_the_type_they_look_like() {
        assert_eq!(argument("a=1").unwrap().1, Value::Int(1));
        assert_eq!(argument("a=true").unwrap().1, Value::Bool(true));
        assert_eq!(argument("a=quorum").unwrap().1, Value::Text("quorum".to_owned()));
        assert!(argument("a").is_err());
    }
}
