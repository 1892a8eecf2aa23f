//! The clients of a crash test: they journal everything, and come back when the broker does.
//!
//! A publisher never sends a message again: one whose fate is unknown stays unknown, and the check
//! allows either. A consumer settles only what it has journalled.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::body::{self, MessageId, Random};
use super::journal::{Consumed, Journal, Published, RunPlan};
use crate::batch::properties;
use crate::clock::{self, SECOND_NS, seconds_between};
use crate::connection::{AckMode, CHANNEL, ClientError, Connection, Options, Target, refuse_close};
use crate::publisher::floor;
use crate::window::Window;
use crate::wire::{
    BodyView, Covers, FRAME_BODY, FRAME_HEADER, FRAME_METHOD, Fields, method, put_ack, put_content,
    put_method,
};

/// Messages per write of a publisher.
const BURST_MAX: usize = 64;
/// How often a lost connection is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(10);

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
    /// Deliveries in 100 that are given back instead of acknowledged.
    pub(crate) requeue_percent: u64,
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
}

/// Opens a connection, again and again until it works, the time is up or `stop` is set. Answers
/// with the time of the attempt, too: a broker that was gone then is another one.
fn reconnect(
    plan: &ClientPlan,
    stop: &AtomicBool,
) -> Result<Option<(Connection, u64)>, ClientError> {
    let since_ns = clock::now_ns();
    let options = Options { body_view: BodyView::Whole, ..Options::default() };
    loop {
        let asked_ms = clock::now_ms();
        match Connection::open(&plan.target, options) {
            Ok(connection) => return Ok(Some((connection, asked_ms))),
            Err(_) if stop.load(Relaxed) => return Ok(None),
            Err(error) if seconds_between(since_ns, clock::now_ns()) > plan.reconnect_s => {
                return Err(error);
            }
            Err(_) => thread::sleep(RETRY_EVERY),
        }
    }
}

/// A publishing client.
pub(crate) struct CrashPublisher<'a> {
    plan: &'a ClientPlan,
    number: u32,
    signals: &'a Signals,
    journal: Journal,
    random: Random,
    exchange: String,
    keys: Vec<String>,
    next_seq: u64,
    started_seq: u64,
    started_ns: u64,
    body: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> CrashPublisher<'a> {
    /// Starts its journal.
    pub(crate) fn new(plan: &'a ClientPlan, number: u32, signals: &'a Signals) -> io::Result<Self> {
        Ok(Self {
            plan,
            number,
            signals,
            journal: Journal::publisher(&plan.directory, number as usize)?,
            random: Random::new(plan.seed ^ u64::from(number) << 32),
            exchange: plan.exchange(),
            keys: if plan.run.fanout {
                vec![String::new()]
            } else {
                (0..plan.run.queues).map(|queue| plan.queue(queue)).collect()
            },
            next_seq: 0,
            started_seq: 0,
            started_ns: 0,
            body: Vec::new(),
            out: Vec::new(),
        })
    }

    /// Publishes until told to stop. Fails only when the broker does not come back.
    pub(crate) fn run(mut self) -> Result<(), ClientError> {
        while !self.signals.stop_publishing.load(Relaxed) {
            let connected = reconnect(self.plan, &self.signals.stop_publishing)?;
            let Some((mut connection, asked_ms)) = connected else { break };
            self.journal.published(Published::Channel(self.next_seq))?;
            self.journal.published(Published::Time(asked_ms))?;
            self.out.clear();
            // What the rate missed while the broker was away is not made up for.
            (self.started_ns, self.started_seq) = (clock::now_ns(), self.next_seq);
            let served = if self.plan.tx > 0 {
                self.publish_transactions(&mut connection)
            } else {
                self.publish_confirmed(&mut connection)
            };
            if served.is_ok() {
                let _ = connection.close();
            }
            self.journal.flush()?;
        }
        Ok(self.journal.flush()?)
    }

    fn publish_confirmed(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        connection.select_confirms()?;
        let mut window = Window::new(self.plan.window);
        loop {
            let stopping = self.signals.stop_publishing.load(Relaxed);
            if stopping && window.outstanding() == 0 {
                return Ok(());
            }
            let room = if stopping { 0 } else { window.room().min(self.due()).min(BURST_MAX) };
            if room > 0 {
                let first = self.next_seq;
                self.journal.published(Published::Attempted(first, first + room as u64 - 1))?;
                for _ in 0..room {
                    // The window keeps each message's number in the place of its time.
                    window.sent(self.next_seq + 1);
                    self.encode_next(connection.frame_bytes_max);
                }
                connection.send(&self.out)?;
                self.out.clear();
                connection.fill_now()?;
            } else if window.outstanding() > 0 {
                connection.fill()?;
            } else {
                thread::sleep(Duration::from_millis(1));
            }
            self.take_confirms(connection, &mut window)?;
        }
    }

    fn take_confirms(
        &mut self,
        connection: &mut Connection,
        window: &mut Window,
    ) -> Result<(), ClientError> {
        while let Some(frame) = connection.inbound.next()? {
            if frame.kind != FRAME_METHOD {
                continue;
            }
            let (id, mut fields) = frame.method()?;
            if id != method::BASIC_ACK && id != method::BASIC_NACK {
                refuse_close(id, frame.payload)?;
                continue;
            }
            let tag = fields.longlong()?;
            let covers = if fields.octet()? & 1 == 1 { Covers::UpTo } else { Covers::One };
            let mut ranges: Vec<(u64, u64)> = Vec::new();
            let count = window.settle(tag, covers, |number| match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number - 1 => *last += 1,
                _ => ranges.push((number - 1, number - 1)),
            })?;
            for (first, last) in ranges {
                let refused = id == method::BASIC_NACK;
                let event = if refused { Published::Refused } else { Published::Confirmed };
                self.journal.published(event(first, last))?;
            }
            self.signals.confirmed.fetch_add(count, Relaxed);
        }
        Ok(())
    }

    fn publish_transactions(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        connection.select_tx()?;
        while !self.signals.stop_publishing.load(Relaxed) {
            if self.due() < self.plan.tx {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let (first, last) = (self.next_seq, self.next_seq + self.plan.tx as u64 - 1);
            self.journal.published(Published::Transaction(first, last))?;
            self.journal.published(Published::Attempted(first, last))?;
            for _ in 0..self.plan.tx {
                self.encode_next(connection.frame_bytes_max);
            }
            connection.send(&self.out)?;
            self.out.clear();
            connection.commit_tx()?;
            self.journal.published(Published::Confirmed(first, last))?;
            self.signals.confirmed.fetch_add(last - first + 1, Relaxed);
        }
        Ok(())
    }

    /// How many messages the rate allows now.
    fn due(&self) -> usize {
        if self.plan.rate <= 0.0 {
            return usize::MAX;
        }
        let elapsed_ns = clock::now_ns() - self.started_ns;
        let allowed = floor(elapsed_ns as f64 * self.plan.rate / SECOND_NS as f64);
        let due = (self.started_seq + allowed).saturating_sub(self.next_seq);
        usize::try_from(due).unwrap_or(usize::MAX)
    }

    /// Encodes the next message; the caller has journalled it.
    fn encode_next(&mut self, frame_bytes_max: usize) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let id = MessageId { run: self.plan.run.run, publisher: self.number, seq };
        let bytes = self.body_bytes();
        body::encode(id, bytes, &mut self.body);
        let turn = usize::try_from(seq).unwrap_or(0) % self.keys.len();
        let (exchange, key) = (&self.exchange, &self.keys[turn]);
        put_method(&mut self.out, CHANNEL, method::BASIC_PUBLISH, |arguments| {
            arguments.short(0).short_string(exchange).short_string(key).octet(0);
        });
        put_content(
            &mut self.out,
            CHANNEL,
            &properties(true, None, None),
            &self.body,
            frame_bytes_max,
        );
    }

    /// Sizes whose logarithms are spread evenly: small ones are common, large ones occur.
    fn body_bytes(&mut self) -> usize {
        let (smallest, largest) = self.plan.body_bytes;
        let doublings = (largest / smallest.max(1)).max(1).ilog2();
        let shift = self.random.between(0, u64::from(doublings));
        let high = (smallest << shift).saturating_mul(2).min(largest);
        let size = self.random.between(smallest as u64, high as u64);
        usize::try_from(size).unwrap_or(smallest)
    }
}

/// A consuming client.
pub(crate) struct CrashConsumer<'a> {
    plan: &'a ClientPlan,
    queue: String,
    signals: &'a Signals,
    journal: Journal,
    random: Random,
    unsettled: usize,
    /// What the journal's last line of time says; 0 when something was settled after it.
    noted_ms: u64,
    last_tag: u64,
    missing_since_ns: Option<u64>,
    out: Vec<u8>,
}

/// The delivery whose frames are being read.
#[derive(Default)]
struct Arriving {
    tag: u64,
    redelivered: bool,
    body: Vec<u8>,
    left: u64,
}

impl<'a> CrashConsumer<'a> {
    /// Starts its journal.
    pub(crate) fn new(
        plan: &'a ClientPlan,
        number: usize,
        signals: &'a Signals,
    ) -> io::Result<Self> {
        Ok(Self {
            plan,
            queue: plan.queue(number % plan.run.queues),
            signals,
            journal: Journal::consumer(&plan.directory, number)?,
            random: Random::new(plan.seed ^ (number as u64) << 48),
            unsettled: 0,
            noted_ms: 0,
            last_tag: 0,
            missing_since_ns: None,
            out: Vec::new(),
        })
    }

    /// Consumes until told to stop. Fails only when the broker does not come back.
    pub(crate) fn run(mut self) -> Result<(), ClientError> {
        while !self.signals.stop_consuming.load(Relaxed) {
            let connected = reconnect(self.plan, &self.signals.stop_consuming)?;
            let Some((mut connection, asked_ms)) = connected else { break };
            self.journal.consumed(Consumed::Channel)?;
            self.journal.consumed(Consumed::Time(asked_ms))?;
            self.noted_ms = asked_ms;
            self.unsettled = 0;
            self.out.clear();
            match self.consume(&mut connection) {
                Ok(()) => {
                    let _ = connection.close();
                }
                Err(ClientError::Closed { code: 404, text }) => self.missing(text)?,
                Err(_) => thread::sleep(RETRY_EVERY),
            }
            self.journal.flush()?;
        }
        Ok(self.journal.flush()?)
    }

    /// A durable queue may be away while a broker recovers, but not for good.
    fn missing(&mut self, text: String) -> Result<(), ClientError> {
        let now_ns = clock::now_ns();
        let since_ns = *self.missing_since_ns.get_or_insert(now_ns);
        if seconds_between(since_ns, now_ns) > self.plan.reconnect_s {
            return Err(ClientError::Closed { code: 404, text });
        }
        thread::sleep(10 * RETRY_EVERY);
        Ok(())
    }

    fn consume(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        connection.qos(self.plan.prefetch)?;
        connection.send_consume(&self.queue, "crash", AckMode::Each)?;
        let mut arriving = Arriving::default();
        loop {
            if connection.fill()? == 0 {
                self.settle()?;
                connection.send(&self.out)?;
                self.out.clear();
                self.note_time()?;
                if self.signals.stop_consuming.load(Relaxed) {
                    return Ok(());
                }
                continue;
            }
            self.note_time()?;
            while let Some(frame) = connection.inbound.next()? {
                match frame.kind {
                    FRAME_METHOD => {
                        let (id, mut fields) = frame.method()?;
                        if id == method::BASIC_DELIVER {
                            fields.short_string()?;
                            arriving.tag = fields.longlong()?;
                            arriving.redelivered = fields.octet()? & 1 == 1;
                        } else {
                            refuse_close(id, frame.payload)?;
                        }
                        continue;
                    }
                    FRAME_HEADER => {
                        let mut fields = Fields::new(frame.payload);
                        fields.long()?;
                        arriving.left = fields.longlong()?;
                        arriving.body.clear();
                    }
                    FRAME_BODY => {
                        arriving.body.extend_from_slice(frame.payload);
                        let arrived = frame.payload_bytes as u64;
                        arriving.left = arriving.left.saturating_sub(arrived);
                    }
                    _ => continue,
                }
                if arriving.left == 0 {
                    self.delivered(&arriving)?;
                }
            }
            connection.send(&self.out)?;
            self.out.clear();
            self.note_time()?;
        }
    }

    fn note_time(&mut self) -> io::Result<()> {
        let now_ms = clock::now_ms();
        if now_ms == self.noted_ms {
            return Ok(());
        }
        self.noted_ms = now_ms;
        self.journal.consumed(Consumed::Time(now_ms))
    }

    fn delivered(&mut self, arriving: &Arriving) -> io::Result<()> {
        self.signals.delivered.fetch_add(1, Relaxed);
        self.missing_since_ns = None;
        let again = arriving.redelivered;
        let requeue = self.plan.requeue_percent > 0
            && self.random.between(1, 100) <= self.plan.requeue_percent;
        let event = match body::decode(&arriving.body) {
            None => Consumed::Corrupt,
            Some(id) if id.run != self.plan.run.run => Consumed::Foreign,
            Some(id) if requeue => {
                // A nack of one tag; the cumulative ack that follows does not touch it any more.
                put_method(&mut self.out, CHANNEL, method::BASIC_NACK, |arguments| {
                    arguments.longlong(arriving.tag).octet(0b10);
                });
                return self.journal.consumed(Consumed::Requeued(id.publisher, id.seq, again));
            }
            Some(id) => Consumed::Delivered(id.publisher, id.seq, again),
        };
        self.journal.consumed(event)?;
        self.last_tag = arriving.tag;
        self.unsettled += 1;
        if self.unsettled >= self.plan.ack_every { self.settle() } else { Ok(()) }
    }

    /// Acknowledges everything of this channel so far.
    fn settle(&mut self) -> io::Result<()> {
        if self.unsettled > 0 {
            self.journal.consumed(Consumed::Settled)?;
            self.noted_ms = 0;
            put_ack(&mut self.out, CHANNEL, self.last_tag, Covers::UpTo);
            self.unsettled = 0;
        }
        Ok(())
    }
}

/// Declares the durable queues of a run, and its exchange. `fresh` deletes what was there.
pub(crate) fn declare(plan: &ClientPlan, fresh: Fresh) -> Result<(), ClientError> {
    let mut connection = Connection::open(&plan.target, Options::default())?;
    let durable = true;
    let options =
        crate::connection::QueueOptions { durable, auto_delete: false, arguments: Vec::new() };
    if plan.run.fanout {
        connection.declare_exchange(&plan.exchange(), "fanout", durable, &[])?;
    }
    for number in 0..plan.run.queues {
        let queue = plan.queue(number);
        if fresh == Fresh::Yes {
            connection.delete_queue(&queue)?;
        }
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
    for number in 0..plan.run.queues {
        ready += u64::from(connection.ready_in(&plan.queue(number))?);
    }
    connection.close()?;
    Ok(ready)
}

/// Deletes what a run declared.
pub(crate) fn delete(plan: &ClientPlan) -> Result<(), ClientError> {
    let mut connection = Connection::open(&plan.target, Options::default())?;
    for number in 0..plan.run.queues {
        connection.delete_queue(&plan.queue(number))?;
    }
    if plan.run.fanout {
        connection.delete_exchange(&plan.exchange())?;
    }
    connection.close()
}
