//! Opening and closing over and over: connections, channels, queues, bindings.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::clock::{self, seconds_between};
use crate::connection::{AckMode, ClientError, Connection, Options, QueueOptions, Target};
use crate::engine::{WatchPlan, joined, seconds_ns};
use crate::latency::Latency;
use crate::report::{BrokerReport, Flow, Report, load_average};
use crate::shared::{Gauge, Shared, totals};
use crate::wire::{Arguments, Value, method, put_content, put_method};

/// The flag of a message's headers.
const HEADERS: u16 = 1 << 13;
/// Every peer takes frames of this size.
const FRAME_BYTES_MIN: usize = 4_096;

/// What is opened and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// A connection with one channel.
    Connection,
    /// A channel on a connection that stays.
    Channel,
    /// A transient queue: declare and delete.
    Queue,
    /// A durable queue: declare and delete.
    DurableQueue,
    /// A binding of a queue that stays to `amq.topic`.
    Binding,
    /// A queue, a binding key, a consumer tag, a routing key and a header with names that were
    /// never used before.
    Name,
}

/// A load of openings and closings.
pub(crate) struct Churn {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The broker.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) watch: WatchPlan,
    /// What is opened and closed.
    pub(crate) subject: Subject,
    /// How many do it at the same time.
    pub(crate) workers: usize,
    /// What names begin with.
    pub(crate) prefix: String,
    /// How long, in seconds.
    pub(crate) measured: f64,
}

/// Runs a churn. One operation is an opening with its closing.
pub(crate) fn run(churn: &Churn) -> Result<Report, ClientError> {
    let shared = Shared::default();
    let gauges: Vec<Gauge> = (0..churn.workers).map(|_| Gauge::default()).collect();
    let watch = churn.watch.start();
    let cost = || watch.as_ref().map(|watch| watch.cost());
    let (from, begin_cpu_ns, begin_ns) = (cost(), clock::own_cpu_ns(), clock::now_ns());
    let mut latency = Latency::default();
    thread::scope(|scope| {
        let threads: Vec<_> = gauges
            .iter()
            .enumerate()
            .map(|(worker, gauge)| {
                let shared = &shared;
                scope.spawn(move || {
                    let result = work(churn, worker, shared, gauge);
                    if result.is_err() {
                        shared.fail();
                    }
                    result
                })
            })
            .collect();
        let until_ns = begin_ns + seconds_ns(churn.measured);
        while clock::now_ns() < until_ns && !shared.failed.load(Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        shared.stop_publishing.store(true, Relaxed);
        for thread in threads {
            latency.add(&joined(thread)?);
        }
        Ok::<_, ClientError>(())
    })?;
    let done = totals(&gauges);
    let generator_cpu_s = seconds_between(begin_cpu_ns, clock::own_cpu_ns());
    let broker = watch.as_ref().zip(from.zip(cost())).map(|(watch, (from, to))| {
        BrokerReport::new(from, to, watch.memory(), done.count, generator_cpu_s)
    });
    Ok(Report {
        workload: churn.name.clone(),
        operations: Some(Flow::new(done.count, seconds_between(begin_ns, done.last_ns))),
        latency: latency.summary(),
        broker,
        generator_cpu_s,
        generator_cpu_us: generator_cpu_s * 1e6 / done.count.max(1) as f64,
        load_average: load_average(),
        ..Report::default()
    })
}

fn work(
    churn: &Churn,
    worker: usize,
    shared: &Shared,
    gauge: &Gauge,
) -> Result<Latency, ClientError> {
    let mut latency = Latency::default();
    let mut connection = Connection::open(&churn.target, small())?;
    let queue = format!("{}.churn{worker}", churn.prefix);
    let durable = churn.subject == Subject::DurableQueue;
    let options = QueueOptions { durable, auto_delete: false, arguments: Vec::new() };
    if churn.subject == Subject::Binding {
        connection.declare_queue(&queue, &options)?;
    }
    let mut turn = 0_u64;
    while !shared.stop_publishing.load(Relaxed) {
        let begin_ns = clock::now_ns();
        match churn.subject {
            Subject::Connection => Connection::open(&churn.target, small())?.close()?,
            Subject::Channel => {
                connection.open_channel(2)?;
                connection.close_channel(2)?;
            }
            Subject::Queue | Subject::DurableQueue => {
                connection.declare_queue(&queue, &options)?;
                connection.delete_queue(&queue)?;
            }
            Subject::Binding => {
                let key = format!("churn.{worker}.{turn}");
                connection.bind(&queue, "amq.topic", &key)?;
                connection.unbind(&queue, "amq.topic", &key)?;
            }
            Subject::Name => {
                let name = format!("{queue}.{turn}");
                connection.declare_queue(&name, &options)?;
                connection.bind(&name, "amq.topic", &name)?;
                connection.send_consume(&name, &name, AckMode::Auto)?;
                connection.send(&named(&name))?;
                connection.delete_queue(&name)?;
            }
        }
        turn += 1;
        let end_ns = clock::now_ns();
        latency.record(end_ns - begin_ns);
        gauge.moved(1, end_ns);
    }
    if churn.subject == Subject::Binding {
        connection.delete_queue(&queue)?;
    }
    connection.close()?;
    Ok(latency)
}

/// A message with this routing key and a header of this name.
fn named(name: &str) -> Vec<u8> {
    let (mut message, mut properties) = (Vec::new(), Vec::new());
    put_method(&mut message, 1, method::BASIC_PUBLISH, |arguments| {
        arguments.short(0).short_string("amq.topic").short_string(name).octet(0);
    });
    let headers = [(name.to_owned(), Value::Bool(true))];
    Arguments::new(&mut properties).short(HEADERS).table(&headers);
    put_content(&mut message, 1, &properties, b"x", FRAME_BYTES_MIN);
    message
}

fn small() -> Options {
    Options { inbound_bytes: 16 * 1024, ..Options::default() }
}
