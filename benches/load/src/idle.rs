//! Many connections that do nothing but stay open: what they cost in memory and heartbeats.

use std::thread;
use std::time::Duration;

use crate::broker_process::MEMORY_SETTLES;
use crate::clock::{self, SECOND_NS, seconds_between};
use crate::connection::{ClientError, Connection, Options, Target, refuse_close};
use crate::engine::{WatchPlan, seconds_ns};
use crate::latency::Latency;
use crate::report::{BrokerReport, Flow, Report, load_average};
use crate::wire::{FRAME_METHOD, put_heartbeat};

/// A load of idle connections.
pub(crate) struct Idle {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The broker.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) watch: WatchPlan,
    /// How many.
    pub(crate) connections: usize,
    /// Channels on each.
    pub(crate) channels: u16,
    /// The heartbeat, in seconds; 0 is none.
    pub(crate) heartbeat_s: u16,
    /// How long to keep them, in seconds.
    pub(crate) hold: f64,
}

/// Opens the connections, keeps them and closes them. CPU is that of keeping them, per connection.
pub(crate) fn run(idle: &Idle) -> Result<Report, ClientError> {
    let watch = idle.watch.start();
    let rss = || watch.as_ref().map(|watch| watch.memory().now);
    let before = rss();
    let options =
        Options { heartbeat_s: idle.heartbeat_s, inbound_bytes: 8 * 1024, ..Options::default() };
    let mut pool = Pool { connections: Vec::new(), idle, beaten_ns: clock::now_ns() };
    let mut latency = Latency::default();
    let begin_ns = clock::now_ns();
    for _ in 0..idle.connections {
        let opening_ns = clock::now_ns();
        let mut connection = Connection::open(&idle.target, options)?;
        for channel in 2..=idle.channels {
            connection.open_channel(channel)?;
        }
        latency.record(clock::now_ns() - opening_ns);
        pool.connections.push(connection);
        pool.keep()?;
    }
    let opened = Flow::new(idle.connections as u64, seconds_between(begin_ns, clock::now_ns()));
    pool.hold(MEMORY_SETTLES.as_secs_f64())?;
    let after = rss();
    let cost = || watch.as_ref().map(|watch| watch.cost());
    let (from, begin_cpu_ns) = (cost(), clock::own_cpu_ns());
    pool.hold(idle.hold)?;
    let (to, end_cpu_ns) = (cost(), clock::own_cpu_ns());
    let generator_cpu_s = seconds_between(begin_cpu_ns, end_cpu_ns);
    let broker = watch.as_ref().zip(from.zip(to)).map(|(watch, (from, to))| {
        let count = idle.connections as u64;
        BrokerReport::new(from, to, watch.memory(), count, generator_cpu_s)
    });
    for connection in pool.connections {
        connection.close()?;
    }
    let each = idle.connections.max(1) as f64;
    let kib = |(before, after): (u64, u64)| after.saturating_sub(before) as f64 / 1024.0 / each;
    Ok(Report {
        workload: idle.name.clone(),
        operations: Some(opened),
        latency: latency.summary(),
        broker,
        generator_cpu_s,
        generator_cpu_us: generator_cpu_s * 1e6 / each,
        core_percent: broker.map(|broker| 100.0 * broker.cpu_s / idle.hold.max(f64::EPSILON)),
        kib_per_connection: before.zip(after).map(kib),
        load_average: load_average(),
        ..Report::default()
    })
}

struct Pool<'a> {
    connections: Vec<Connection>,
    idle: &'a Idle,
    beaten_ns: u64,
}

impl Pool<'_> {
    /// Keeps the connections for a time.
    fn hold(&mut self, seconds: f64) -> Result<(), ClientError> {
        let until_ns = clock::now_ns() + seconds_ns(seconds);
        while clock::now_ns() < until_ns {
            self.keep()?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Twice per heartbeat: sends one on each connection and reads what has come.
    fn keep(&mut self) -> Result<(), ClientError> {
        let every_ns = u64::from(self.idle.heartbeat_s) * SECOND_NS / 2;
        let now_ns = clock::now_ns();
        if every_ns == 0 || now_ns - self.beaten_ns < every_ns {
            return Ok(());
        }
        self.beaten_ns = now_ns;
        let mut beat = Vec::new();
        put_heartbeat(&mut beat);
        for connection in &mut self.connections {
            connection.send(&beat)?;
            connection.fill_now()?;
            while let Some(frame) = connection.inbound.next()? {
                if frame.kind == FRAME_METHOD {
                    refuse_close(frame.method()?.0, frame.payload)?;
                }
            }
        }
        Ok(())
    }
}
