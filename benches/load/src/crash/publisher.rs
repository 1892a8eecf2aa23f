//! A publishing client of a crash test.
//!
//! It never sends a message again: one whose fate is unknown stays unknown, and the check allows
//! either.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::body::{self, MessageId, Random};
use super::clients::{ClientPlan, Signals, reconnect};
use super::journal::{Journal, Published};
use crate::batch::properties;
use crate::clock::{self, SECOND_NS};
use crate::connection::{CHANNEL, ClientError, Connection, next_confirm};
use crate::publisher::floor;
use crate::window::Window;
use crate::wire::{method, put_content, put_method};

/// Messages per write of a publisher.
const BURST_MAX: usize = 64;

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
    /// What the journal's last line of time says.
    noted_ms: u64,
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
            noted_ms: 0,
            started_seq: 0,
            started_ns: 0,
            body: Vec::new(),
            out: Vec::new(),
        })
    }

    /// Publishes until told to stop. Fails only when the broker does not come back.
    pub(crate) fn run(mut self) -> Result<(), ClientError> {
        while !self.signals.stop_publishing.load(Relaxed) {
            let connected = reconnect(self.plan, self.signals, &self.signals.stop_publishing)?;
            let Some((mut connection, asked_ms)) = connected else { break };
            self.journal.published(Published::Channel(self.next_seq))?;
            self.journal.published(Published::Time(asked_ms))?;
            self.noted_ms = asked_ms;
            self.out.clear();
            // What the rate missed while the broker was away is not made up for.
            (self.started_ns, self.started_seq) = (clock::now_ns(), self.next_seq);
            let served = if self.plan.tx > 0 {
                self.publish_transactions(&mut connection)
            } else {
                self.publish_confirmed(&mut connection)
            };
            self.signals.note_end(&served);
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
                self.note_time()?;
                self.journal.published(Published::Attempted(first, first + room as u64 - 1))?;
                for _ in 0..room {
                    // The window keeps each message's number in the place of its time.
                    window.sent(self.next_seq + 1);
                    self.encode_next(connection.frame_bytes_max);
                }
                self.journal.flush()?;
                connection.send(&self.out)?;
                self.out.clear();
                connection.fill_now()?;
            } else if window.outstanding() > 0 {
                if connection.fill()? == 0 {
                    connection.send_heartbeat()?;
                }
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
        while let Some(confirm) = next_confirm(&mut connection.inbound)? {
            let mut ranges: Vec<(u64, u64)> = Vec::new();
            let count =
                window.settle(confirm.tag, confirm.covers, |number| match ranges.last_mut() {
                    Some((_, last)) if *last + 1 == number - 1 => *last += 1,
                    _ => ranges.push((number - 1, number - 1)),
                })?;
            for (first, last) in ranges {
                self.note_time()?;
                let event = if confirm.refused { Published::Refused } else { Published::Confirmed };
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
            self.note_time()?;
            self.journal.published(Published::Transaction(first, last))?;
            self.journal.published(Published::Attempted(first, last))?;
            for _ in 0..self.plan.tx {
                self.encode_next(connection.frame_bytes_max);
            }
            self.journal.flush()?;
            connection.send(&self.out)?;
            self.out.clear();
            connection.commit_tx()?;
            self.note_time()?;
            self.journal.published(Published::Confirmed(first, last))?;
            self.signals.confirmed.fetch_add(last - first + 1, Relaxed);
        }
        Ok(())
    }

    fn note_time(&mut self) -> io::Result<()> {
        let now_ms = clock::now_ms();
        if now_ms == self.noted_ms {
            return Ok(());
        }
        self.noted_ms = now_ms;
        self.journal.published(Published::Time(now_ms))
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
