//! Remote calls by direct reply-to: callers publish requests that name `amq.rabbitmq.reply-to`,
//! servers answer to the name the broker put in its place. Measures whole round trips.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use crate::batch::{Batch, Content, FLAG_REPLY_TO, STAMP_BYTES, Stamp, properties};
use crate::clock::{self, SECOND_NS, seconds_between};
use crate::connection::{
    AckMode, CHANNEL, ClientError, Connection, Options, STALL_NS_MAX, Target, refuse_close,
};
use crate::engine::{WatchPlan, joined, seconds_ns};
use crate::latency::Latency;
use crate::report::{BrokerReport, Flow, Report, load_average};
use crate::shared::{Gauge, Shared, totals};
use crate::topology::Topology;
use crate::wire::{
    FRAME_BODY, FRAME_HEADER, FRAME_METHOD, Fields, method, put_content, put_method,
};

/// The pseudo-queue of RabbitMQ's direct reply-to.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A load of calls.
pub(crate) struct Calls {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The broker.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) watch: WatchPlan,
    /// The request queue.
    pub(crate) topology: Topology,
    /// Connections that call, one request at a time each.
    pub(crate) callers: usize,
    /// Connections that answer.
    pub(crate) servers: usize,
    /// The size of request and answer, in bytes.
    pub(crate) body_bytes: usize,
    /// Seconds not measured.
    pub(crate) warm_up: f64,
    /// Seconds measured.
    pub(crate) measured: f64,
}

/// Runs a load of calls.
pub(crate) fn run(calls: &Calls) -> Result<Report, ClientError> {
    calls.topology.set_up(&calls.target)?;
    let result = measure(calls);
    let torn_down = calls.topology.tear_down(&calls.target);
    let report = result?;
    torn_down?;
    Ok(report)
}

fn measure(calls: &Calls) -> Result<Report, ClientError> {
    let shared = Shared::default();
    let gauges: Vec<Gauge> = (0..calls.callers).map(|_| Gauge::default()).collect();
    let queue = &calls.topology.queues[0];
    let watch = calls.watch.start();
    let mut latency = Latency::default();
    let moment = || {
        let cost = watch.as_ref().map(|watch| watch.cost());
        (clock::now_ns(), clock::own_cpu_ns(), totals(&gauges).count, cost)
    };
    let (begin, end) = thread::scope(|scope| {
        let servers: Vec<_> = (0..calls.servers)
            .map(|_| scope.spawn(|| watched(&shared, || serve(calls, queue, &shared))))
            .collect();
        let callers: Vec<_> = gauges
            .iter()
            .map(|gauge| scope.spawn(|| watched(&shared, || call(calls, queue, &shared, gauge))))
            .collect();
        pause(&shared, calls.warm_up);
        let begin = moment();
        shared.measure_from_ns.store(begin.0, Relaxed);
        pause(&shared, calls.measured);
        let end = moment();
        shared.stop_publishing.store(true, Relaxed);
        for caller in callers {
            latency.add(&joined(caller)?);
        }
        shared.stop_consuming.store(true, Relaxed);
        for server in servers {
            joined(server)?;
        }
        Ok::<_, ClientError>((begin, end))
    })?;
    let count = end.2 - begin.2;
    let generator_cpu_s = seconds_between(begin.1, end.1);
    let broker = watch.as_ref().zip(begin.3.zip(end.3)).map(|(watch, (from, to))| {
        BrokerReport::new(from, to, watch.memory(), count, generator_cpu_s)
    });
    Ok(Report {
        workload: calls.name.clone(),
        operations: Some(Flow::new(count, seconds_between(begin.0, end.0))),
        latency: latency.summary(),
        broker,
        generator_cpu_s,
        generator_cpu_us: generator_cpu_s * 1e6 / count.max(1) as f64,
        load_average: load_average(),
        ..Report::default()
    })
}

fn pause(shared: &Shared, seconds: f64) {
    let until_ns = clock::now_ns() + seconds_ns(seconds);
    while clock::now_ns() < until_ns && !shared.failed.load(Relaxed) {
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn watched<T>(
    shared: &Shared,
    work: impl FnOnce() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let result = work();
    if result.is_err() {
        shared.fail();
    }
    result
}

/// Calls, one request after another, until told to stop.
fn call(
    calls: &Calls,
    queue: &str,
    shared: &Shared,
    gauge: &Gauge,
) -> Result<Latency, ClientError> {
    let mut connection = Connection::open(&calls.target, Options::default())?;
    connection.send_consume(REPLY_TO, "replies", AckMode::Auto)?;
    let mut batch = Batch::new(&Content {
        exchange: String::new(),
        keys: vec![queue.to_owned()],
        body_bytes: calls.body_bytes,
        persistent: false,
        priorities: 0,
        reply_to: Some(REPLY_TO.to_owned()),
        frame_bytes_max: connection.frame_bytes_max,
    });
    let mut latency = Latency::default();
    let mut seq = 0;
    while !shared.stop_publishing.load(Relaxed) {
        let sent_ns = clock::now_ns();
        let (_, bytes) = batch.take(1, |_| Stamp { publisher: 0, seq, sent_ns });
        connection.send(bytes)?;
        let answered_ns = answer(&mut connection, seq, sent_ns)?;
        if sent_ns >= shared.measure_from_ns.load(Relaxed) {
            latency.record(answered_ns - sent_ns);
        }
        gauge.moved(1, answered_ns);
        seq += 1;
    }
    connection.close()?;
    Ok(latency)
}

/// Waits for the answer to request `seq`, which carries the request's stamp.
fn answer(connection: &mut Connection, seq: u64, sent_ns: u64) -> Result<u64, ClientError> {
    loop {
        let arrived = connection.fill()?;
        let now_ns = clock::now_ns();
        while let Some(frame) = connection.inbound.next()? {
            match frame.kind {
                FRAME_METHOD => refuse_close(frame.method()?.0, frame.payload)?,
                FRAME_BODY => match Stamp::read(frame.payload) {
                    Some(stamp) if stamp.seq == seq => return Ok(now_ns),
                    _ => return Err(ClientError::Unexpected("another call's answer".to_owned())),
                },
                _ => {}
            }
        }
        if arrived == 0 && now_ns - sent_ns > STALL_NS_MAX {
            return Err(ClientError::Stalled(STALL_NS_MAX / SECOND_NS, "an answer"));
        }
    }
}

/// Answers requests until told to stop.
fn serve(calls: &Calls, queue: &str, shared: &Shared) -> Result<(), ClientError> {
    let mut connection = Connection::open(&calls.target, Options::default())?;
    connection.send_consume(queue, "requests", AckMode::Auto)?;
    let properties = properties(false, None, None);
    let mut body = vec![b'r'; calls.body_bytes];
    let (mut out, mut reply_to) = (Vec::new(), String::new());
    loop {
        if connection.fill()? == 0 && shared.stop_consuming.load(Relaxed) {
            return connection.close();
        }
        let frame_bytes_max = connection.frame_bytes_max;
        while let Some(frame) = connection.inbound.next()? {
            match frame.kind {
                FRAME_METHOD => refuse_close(frame.method()?.0, frame.payload)?,
                FRAME_HEADER => reply_to = reply_address(frame.payload)?,
                FRAME_BODY => {
                    let start = frame.payload.len().min(STAMP_BYTES);
                    body[..start].copy_from_slice(&frame.payload[..start]);
                    put_method(&mut out, CHANNEL, method::BASIC_PUBLISH, |arguments| {
                        arguments.short(0).short_string("").short_string(&reply_to).octet(0);
                    });
                    put_content(&mut out, CHANNEL, &properties, &body, frame_bytes_max);
                }
                _ => {}
            }
        }
        if !out.is_empty() {
            connection.send(&out)?;
            out.clear();
        }
    }
}

/// The `reply_to` of a request of ours, which sets no other property.
fn reply_address(header: &[u8]) -> Result<String, ClientError> {
    let mut fields = Fields::new(header);
    fields.take(12)?;
    if fields.short()? != FLAG_REPLY_TO {
        return Err(ClientError::Unexpected("other properties than reply_to".to_owned()));
    }
    Ok(String::from_utf8_lossy(fields.short_string()?).into_owned())
}
