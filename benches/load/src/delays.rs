//! Messages that leave at a time of their own, while many others wait for theirs: by a
//! delayed-message exchange, or by expiring from a queue to its dead-letter exchange.
//!
//! Each probe's stamp holds the moment at which it is due, so what is measured is how late it is.

use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::batch::{STAMP_BYTES, Stamp};
use crate::clock::{self, SECOND_NS, seconds_between};
use crate::connection::{
    AckMode, CHANNEL, ClientError, Connection, Options, QueueOptions, STALL_NS_MAX, Target,
    refuse_close,
};
use crate::engine::{WatchPlan, joined};
use crate::latency::Latency;
use crate::report::{BrokerReport, Flow, Report, load_average};
use crate::wire::{Arguments, FRAME_BODY, FRAME_METHOD, Value, method, put_content, put_method};

/// What makes the messages leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// An exchange of type x-delayed-message.
    Delayed,
    /// A time to live, and a dead-letter exchange.
    Expiring,
}

/// A load of delays.
pub(crate) struct Delays {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The broker.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) watch: WatchPlan,
    /// What names of queues and exchanges begin with.
    pub(crate) prefix: String,
    /// What makes the messages leave.
    pub(crate) by: By,
    /// Messages that wait for [`FAR_MS`] meanwhile.
    pub(crate) pending: u64,
    /// Messages whose lateness is measured.
    pub(crate) probes: u64,
    /// How long a probe waits, in milliseconds.
    pub(crate) delay_ms: u64,
    /// Over how long the probes are spread, in milliseconds.
    pub(crate) spread_ms: u64,
    /// The size of each body, in bytes.
    pub(crate) body_bytes: usize,
}

/// How long those that only wait are to wait, in milliseconds.
const FAR_MS: u64 = 3_600_000;
/// Publishes that may be unconfirmed.
const WINDOW: u64 = 5_000;
/// Publishes that are written at once while the many are sent.
const BURST: u64 = 500;
/// The shortest pause between two probes.
const PAUSE_MIN: Duration = Duration::from_micros(100);

/// Property flags (AMQP 0-9-1, 4.2.6.1).
const FLAG_HEADERS: u16 = 1 << 13;
const FLAG_DELIVERY_MODE: u16 = 1 << 12;
const FLAG_EXPIRATION: u16 = 1 << 8;

/// Runs a load of delays.
pub(crate) fn run(delays: &Delays) -> Result<Report, ClientError> {
    if delays.body_bytes < STAMP_BYTES {
        return Err(ClientError::Unexpected("--size below 16".to_owned()));
    }
    let mut connection = Connection::open(&delays.target, Options::default())?;
    delays.set_up(&mut connection)?;
    let report = measure(delays, &mut connection)?;
    delays.delete(&mut connection)?;
    connection.close()?;
    Ok(report)
}

impl Delays {
    fn named(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    /// Where messages arrive.
    fn arrivals(&self) -> String {
        self.named("arrivals")
    }

    fn set_up(&self, connection: &mut Connection) -> Result<(), ClientError> {
        self.delete(connection)?;
        let plain = QueueOptions { durable: true, auto_delete: false, arguments: Vec::new() };
        connection.declare_queue(&self.arrivals(), &plain)?;
        match self.by {
            By::Delayed => {
                let exchange = self.named("delayed");
                let kind = vec![("x-delayed-type".to_owned(), Value::Text("direct".to_owned()))];
                connection.declare_exchange(&exchange, "x-delayed-message", true, &kind)?;
                connection.bind(&self.arrivals(), &exchange, &self.arrivals())?;
            }
            By::Expiring => {
                for queue in ["far", "near"] {
                    let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
                    let arguments = vec![
                        text("x-dead-letter-exchange", String::new()),
                        text("x-dead-letter-routing-key", self.arrivals()),
                    ];
                    let options = QueueOptions { durable: true, auto_delete: false, arguments };
                    connection.declare_queue(&self.named(queue), &options)?;
                }
            }
        }
        Ok(())
    }

    fn delete(&self, connection: &mut Connection) -> Result<(), ClientError> {
        for queue in [self.arrivals(), self.named("far"), self.named("near")] {
            connection.delete_queue(&queue)?;
        }
        connection.delete_exchange(&self.named("delayed"))
    }

    /// Encodes a publish that is to leave `ms` after it has come.
    fn put(&self, out: &mut Vec<u8>, ms: u64, body: &[u8], frame_bytes_max: usize) {
        let mut properties = Vec::new();
        let (exchange, key) = match self.by {
            By::Delayed => {
                properties.extend_from_slice(&(FLAG_HEADERS | FLAG_DELIVERY_MODE).to_be_bytes());
                let ms = i64::try_from(ms).unwrap_or(i64::MAX);
                Arguments::new(&mut properties).table(&[("x-delay".to_owned(), Value::Int(ms))]);
                properties.push(2);
                (self.named("delayed"), self.arrivals())
            }
            By::Expiring => {
                properties.extend_from_slice(&(FLAG_DELIVERY_MODE | FLAG_EXPIRATION).to_be_bytes());
                properties.push(2);
                Arguments::new(&mut properties).short_string(&ms.to_string());
                (String::new(), self.named(if ms == FAR_MS { "far" } else { "near" }))
            }
        };
        put_method(out, CHANNEL, method::BASIC_PUBLISH, |arguments| {
            arguments.short(0).short_string(&exchange).short_string(&key).octet(0);
        });
        put_content(out, CHANNEL, &properties, body, frame_bytes_max);
    }
}

fn measure(delays: &Delays, connection: &mut Connection) -> Result<Report, ClientError> {
    let watch = delays.watch.start();
    let cost = || watch.as_ref().map(|watch| watch.cost());
    connection.select_confirms()?;
    let filling = (clock::now_ns(), clock::own_cpu_ns(), cost());
    fill(delays, connection)?;
    let filled_ns = clock::now_ns();
    let memory = watch.as_ref().map(|watch| watch.memory());
    let latency = thread::scope(|scope| {
        let consumer = scope.spawn(|| consume(delays));
        probe(delays, connection)?;
        joined(consumer)
    })?;
    let messages = delays.pending + delays.probes;
    let generator_cpu_s = seconds_between(filling.1, clock::own_cpu_ns());
    let broker =
        filling.2.zip(cost()).zip(memory).map(|((from, to), memory)| {
            BrokerReport::new(from, to, memory, messages, generator_cpu_s)
        });
    Ok(Report {
        workload: delays.name.clone(),
        confirmed: Some(Flow::new(delays.pending, seconds_between(filling.0, filled_ns))),
        operations: Some(Flow::new(delays.probes, seconds_between(filled_ns, clock::now_ns()))),
        latency: latency.summary(),
        broker,
        generator_cpu_s,
        generator_cpu_us: generator_cpu_s * 1e6 / messages.max(1) as f64,
        load_average: load_average(),
        ..Report::default()
    })
}

/// Publishes those that only wait, and returns once all are confirmed.
fn fill(delays: &Delays, connection: &mut Connection) -> Result<(), ClientError> {
    let body = vec![b'w'; delays.body_bytes];
    let (mut sent, mut out) = (0, Vec::new());
    let mut confirmed = 0;
    while sent < delays.pending {
        out.clear();
        let burst = BURST.min(delays.pending - sent);
        (0..burst).for_each(|_| delays.put(&mut out, FAR_MS, &body, connection.frame_bytes_max));
        connection.send(&out)?;
        sent += burst;
        await_confirms(connection, &mut confirmed, sent.saturating_sub(WINDOW))?;
    }
    await_confirms(connection, &mut confirmed, sent)
}

/// Reads until so many publishes are confirmed.
fn await_confirms(
    connection: &mut Connection,
    confirmed: &mut u64,
    wanted: u64,
) -> Result<(), ClientError> {
    let mut moved_ns = clock::now_ns();
    while *confirmed < wanted {
        let arrived = connection.fill()?;
        while let Some(frame) = connection.inbound.next()? {
            if frame.kind != FRAME_METHOD {
                continue;
            }
            let (id, mut fields) = frame.method()?;
            if id == method::BASIC_ACK {
                let tag = fields.longlong()?;
                *confirmed = if fields.octet()? == 0 { *confirmed + 1 } else { tag };
            } else {
                refuse_close(id, frame.payload)?;
            }
        }
        if arrived > 0 {
            moved_ns = clock::now_ns();
        } else if clock::now_ns() - moved_ns > STALL_NS_MAX {
            return Err(ClientError::Stalled(STALL_NS_MAX / SECOND_NS, "confirms"));
        }
    }
    Ok(())
}

/// Publishes the probes, evenly over their time.
fn probe(delays: &Delays, connection: &mut Connection) -> Result<(), ClientError> {
    let mut body = vec![b'p'; delays.body_bytes];
    let mut out = Vec::new();
    let begin_ns = clock::now_ns();
    let step_ns = delays.spread_ms * 1_000_000 / delays.probes.max(1);
    for seq in 0..delays.probes {
        let at_ns = begin_ns + seq * step_ns;
        while clock::now_ns() < at_ns {
            let left = Duration::from_nanos(at_ns.saturating_sub(clock::now_ns()));
            thread::sleep(left.max(PAUSE_MIN));
        }
        let due_ns = clock::now_ns() + delays.delay_ms * 1_000_000;
        if let Some(start) = body.first_chunk_mut::<STAMP_BYTES>() {
            Stamp { publisher: 0, seq, sent_ns: due_ns }.write(start);
        }
        out.clear();
        delays.put(&mut out, delays.delay_ms, &body, connection.frame_bytes_max);
        connection.send(&out)?;
    }
    Ok(())
}

/// Takes every probe and notes how late it is.
fn consume(delays: &Delays) -> Result<Latency, ClientError> {
    let mut connection = Connection::open(&delays.target, Options::default())?;
    connection.send_consume(&delays.arrivals(), "probes", AckMode::Auto)?;
    let mut lateness = Latency::default();
    let (mut taken, mut moved_ns) = (0, clock::now_ns());
    while taken < delays.probes {
        let arrived = connection.fill()?;
        let now_ns = clock::now_ns();
        while let Some(frame) = connection.inbound.next()? {
            match frame.kind {
                FRAME_METHOD => refuse_close(frame.method()?.0, frame.payload)?,
                FRAME_BODY => {
                    if let Some(stamp) = Stamp::read(frame.payload) {
                        lateness.record(now_ns.saturating_sub(stamp.sent_ns));
                        taken += 1;
                    }
                }
                _ => {}
            }
        }
        if arrived > 0 {
            moved_ns = now_ns;
        } else if now_ns - moved_ns > STALL_NS_MAX + delays.delay_ms * 1_000_000 {
            return Err(ClientError::Stalled(STALL_NS_MAX / SECOND_NS, "messages that are due"));
        }
    }
    connection.close()?;
    Ok(lateness)
}
