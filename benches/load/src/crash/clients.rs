//! What the clients of a crash test have in common: their plan, what they share, and the queues.
//!
//! Clients journal everything and come back when the broker does.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::journal::{Leaving, RunPlan};
use crate::clock::{self, seconds_between};
use crate::connection::{ClientError, Connection, Options, QueueOptions, Target};
use crate::wire::{BodyView, Table, Value};

/// How often a lost connection is tried again.
pub(crate) const RETRY_EVERY: Duration = Duration::from_millis(10);
/// After how long messages without a consumer expire, in milliseconds.
const EXPIRY_MS: i64 = 150;
/// The same where most are dropped before.
const DROPPED_EXPIRY_MS: i64 = 1_000;
/// How many messages a queue holds that drops the oldest.
const DROPPED_LENGTH: i64 = 50;

/// How the clients behave.
#[derive(Debug, Clone)]
pub(crate) struct ClientPlan {
    /// The broker.
    pub(crate) target: Target,
    /// Where the journals go.
    pub(crate) directory: PathBuf,
    /// Numbers of clients and queues.
    pub(crate) run: RunPlan,
    /// What names begin with.
    pub(crate) prefix: String,
    /// The most messages unconfirmed at a time.
    pub(crate) window: usize,
    /// Messages per transaction; 0 is with confirms instead.
    pub(crate) tx: usize,
    /// Messages per second of each publisher; 0 is no limit.
    pub(crate) rate: f64,
    /// The smallest and largest body, in bytes.
    pub(crate) body_bytes: (usize, usize),
    /// Unacknowledged deliveries per consumer.
    pub(crate) prefetch: u16,
    /// Deliveries per acknowledgement.
    pub(crate) ack_every: usize,
    /// How long a consumer rests after each turn while publishers go on, in milliseconds.
    pub(crate) linger_ms: u64,
    /// Deliveries in 100 that are given back instead of acknowledged.
    pub(crate) requeue_percent: u64,
    /// Deliveries in 100 that are rejected where that makes dead letters of them.
    pub(crate) reject_percent: u64,
    /// After how long messages expire, in milliseconds; 0 is never.
    pub(crate) expiry_ms: i64,
    /// The heartbeat that clients ask for and keep, in seconds; 0 is none.
    pub(crate) heartbeat_s: u16,
    /// Consumers wait until they are told to begin.
    pub(crate) holds: bool,
    /// How long to try to come back, in seconds.
    pub(crate) reconnect_s: f64,
    /// What decides sizes and requeues.
    pub(crate) seed: u64,
}

impl ClientPlan {
    /// The name of a queue.
    pub(crate) fn queue(&self, number: usize) -> String {
        format!("{}.crash{number}", self.prefix)
    }

    /// The arguments of a queue.
    fn arguments(&self, number: usize) -> Table {
        let int = |name: &str, value| (name.to_owned(), Value::Int(value));
        let text = |name: &str, value| (name.to_owned(), Value::Text(value));
        let mut table = Table::new();
        if !self.run.is_synced(number) {
            table.push(text("x-durability", "os".to_owned()));
        }
        if self.expiry_ms > 0 {
            table.push(int("x-message-ttl", self.expiry_ms));
        }
        let Some(leaving) = self.run.leaving(number) else { return table };
        table.push(text("x-dead-letter-exchange", String::new()));
        table.push(text("x-dead-letter-routing-key", self.queue(number + self.run.queues)));
        match leaving {
            Leaving::Rejected => {}
            Leaving::Expired => table.push(int("x-message-ttl", EXPIRY_MS)),
            Leaving::Dropped => {
                table.push(int("x-max-length", DROPPED_LENGTH));
                table.push(int("x-message-ttl", DROPPED_EXPIRY_MS));
            }
        }
        table
    }

    /// The fanout exchange, when there is one.
    pub(crate) fn exchange(&self) -> String {
        if self.run.fanout { format!("{}.crash", self.prefix) } else { String::new() }
    }
}

/// What the clients and their coordinator share.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Publishers end once all is confirmed.
    pub(crate) stop_publishing: AtomicBool,
    /// Consumers end.
    pub(crate) stop_consuming: AtomicBool,
    /// Some client gave up.
    pub(crate) failed: AtomicBool,
    /// Deliveries so far.
    pub(crate) delivered: AtomicU64,
    /// Confirms so far.
    pub(crate) confirmed: AtomicU64,
    /// Connections opened so far.
    pub(crate) connections: AtomicU64,
    /// Connections that the broker closed with 320 (CONNECTION_FORCED).
    pub(crate) forced: AtomicU64,
    /// Consumers do not begin yet.
    pub(crate) hold_consuming: AtomicBool,
}

impl Signals {
    /// Takes note of how a connection ended.
    pub(crate) fn note_end(&self, served: &Result<(), ClientError>) {
        if matches!(served, Err(ClientError::Closed { code: 320, .. })) {
            self.forced.fetch_add(1, Relaxed);
        }
    }
}

/// Opens a connection, again and again until it works, the time is up or `stop` is set. Answers
/// with the time of the attempt, too: a broker that was gone then is another one.
pub(crate) fn reconnect(
    plan: &ClientPlan,
    signals: &Signals,
    stop: &AtomicBool,
) -> Result<Option<(Connection, u64)>, ClientError> {
    let since_ns = clock::now_ns();
    let heartbeat_s = plan.heartbeat_s;
    let options = Options { body_view: BodyView::Whole, heartbeat_s, ..Options::default() };
    loop {
        let asked_ms = clock::now_ms();
        match Connection::open(&plan.target, options) {
            Ok(connection) => {
                signals.connections.fetch_add(1, Relaxed);
                return Ok(Some((connection, asked_ms)));
            }
            Err(_) if stop.load(Relaxed) => return Ok(None),
            Err(error) if seconds_between(since_ns, clock::now_ns()) > plan.reconnect_s => {
                return Err(error);
            }
            Err(_) => thread::sleep(RETRY_EVERY),
        }
    }
}

/// Declares the durable queues of a run, and its exchange. `fresh` deletes what was there.
pub(crate) fn declare(plan: &ClientPlan, fresh: Fresh) -> Result<(), ClientError> {
    let mut connection = Connection::open(&plan.target, Options::default())?;
    let durable = true;
    if plan.run.fanout {
        connection.declare_exchange(&plan.exchange(), "fanout", durable, &[])?;
    }
    for number in 0..plan.run.queues_all() {
        let queue = plan.queue(number);
        if fresh == Fresh::Yes {
            connection.delete_queue(&queue)?;
        }
        let arguments = plan.arguments(number);
        let options = QueueOptions { durable, auto_delete: false, arguments };
        connection.declare_queue(&queue, &options)?;
        if plan.run.fanout {
            connection.bind(&queue, &plan.exchange(), "")?;
        }
    }
    connection.close()
}

/// Whether queues of an earlier run are deleted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// Delete them.
    Yes,
    /// Take them as they are.
    No,
}

/// Messages ready in all queues of a run.
pub(crate) fn ready(plan: &ClientPlan) -> Result<u64, ClientError> {
    let mut connection = Connection::open(&plan.target, Options::default())?;
    let mut ready = 0;
    for number in 0..plan.run.queues_all() {
        ready += u64::from(connection.ready_in(&plan.queue(number))?);
    }
    connection.close()?;
    Ok(ready)
}

/// Deletes what a run declared.
pub(crate) fn delete(plan: &ClientPlan) -> Result<(), ClientError> {
    let mut connection = Connection::open(&plan.target, Options::default())?;
    for number in 0..plan.run.queues_all() {
        connection.delete_queue(&plan.queue(number))?;
    }
    if plan.run.fanout {
        connection.delete_exchange(&plan.exchange())?;
    }
    connection.close()
}
