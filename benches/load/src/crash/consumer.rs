//! A consuming client of a crash test. It settles only what it has journalled.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::body::{self, Random};
use super::clients::{ClientPlan, RETRY_EVERY, Signals, reconnect};
use super::journal::{Consumed, Journal, Leaving};
use crate::clock::{self, seconds_between};
use crate::connection::{AckMode, CHANNEL, ClientError, Connection, refuse_close};
use crate::wire::{
    Covers, FRAME_BODY, FRAME_HEADER, FRAME_METHOD, Fields, method, put_ack, put_heartbeat,
    put_method,
};

/// The flag of a nack that gives a message back.
const REQUEUE: u8 = 0b10;

/// A consuming client.
pub(crate) struct CrashConsumer<'a> {
    plan: &'a ClientPlan,
    queue: String,
    /// Whether what it rejects becomes a dead letter.
    rejects: bool,
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
            queue: plan.queue(plan.run.queue_of(number)),
            rejects: plan.run.leaving(plan.run.queue_of(number)) == Some(Leaving::Rejected),
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
            if self.signals.hold_consuming.load(Relaxed) {
                thread::sleep(RETRY_EVERY);
                continue;
            }
            let connected = reconnect(self.plan, self.signals, &self.signals.stop_consuming)?;
            let Some((mut connection, asked_ms)) = connected else { break };
            self.journal.consumed(Consumed::Channel)?;
            self.journal.consumed(Consumed::Time(asked_ms))?;
            self.noted_ms = asked_ms;
            self.unsettled = 0;
            self.out.clear();
            let served = self.consume(&mut connection);
            self.signals.note_end(&served);
            match served {
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
                put_heartbeat(&mut self.out);
                self.send(connection)?;
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
            self.send(connection)?;
            if self.plan.linger_ms > 0 && !self.signals.stop_publishing.load(Relaxed) {
                thread::sleep(Duration::from_millis(self.plan.linger_ms));
            }
        }
    }

    fn send(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        self.journal.flush()?;
        connection.send(&self.out)?;
        self.out.clear();
        Ok(self.note_time()?)
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
        // The nack of one tag; the cumulative ack that follows does not touch it any more.
        let event = match body::decode(&arriving.body) {
            None => Consumed::Corrupt,
            Some(id) if id.run != self.plan.run.run => Consumed::Foreign,
            Some(id) if self.lot(self.plan.requeue_percent) => {
                self.nack(arriving.tag, REQUEUE);
                return self.journal.consumed(Consumed::Requeued(id.publisher, id.seq, again));
            }
            Some(id) if self.rejects && self.lot(self.plan.reject_percent) => {
                self.nack(arriving.tag, 0);
                return self.journal.consumed(Consumed::Rejected(id.publisher, id.seq, again));
            }
            Some(id) => Consumed::Delivered(id.publisher, id.seq, again),
        };
        self.journal.consumed(event)?;
        self.last_tag = arriving.tag;
        self.unsettled += 1;
        if self.unsettled >= self.plan.ack_every { self.settle() } else { Ok(()) }
    }

    /// Whether a lot falls that does in so many cases of 100.
    fn lot(&mut self, percent: u64) -> bool {
        percent > 0 && self.random.between(1, 100) <= percent
    }

    fn nack(&mut self, tag: u64, flags: u8) {
        put_method(&mut self.out, CHANNEL, method::BASIC_NACK, |arguments| {
            arguments.longlong(tag).octet(flags);
        });
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
