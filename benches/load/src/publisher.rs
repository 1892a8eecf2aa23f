//! One publishing connection: writes parts of its [`Batch`], keeps a window of unconfirmed
//! messages, or a fixed rate.
//!
//! One thread does both directions. While there is room it writes, looking for confirms after
//! each write without waiting; with a full window it waits for confirms; at a fixed rate it waits
//! for whichever comes first, a confirm or the next message's time.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::batch::{Batch, Content, Stamp};
use crate::clock::{self, SECOND_NS};
use crate::connection::{CHANNEL, ClientError, Connection, STALL_NS_MAX, next_confirm};
use crate::latency::Latency;
use crate::shared::{Gauge, Shared};
use crate::window::Window;

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub(crate) struct PublisherPlan {
    /// Its number, which stamps carry.
    pub(crate) publisher: u16,
    /// The most messages unconfirmed at a time; 0 is without confirms.
    pub(crate) window: usize,
    /// The most messages per write.
    pub(crate) burst: usize,
    /// Messages per second; `None` is as fast as the broker takes them.
    pub(crate) rate: Option<f64>,
    /// When to end; `None` is when told to.
    pub(crate) count: Option<u64>,
    /// One in so many messages carries its time.
    pub(crate) sample_every: u64,
}

/// What a publisher did.
#[derive(Debug, Default)]
pub(crate) struct PublisherOutcome {
    /// Messages written.
    pub(crate) published: u64,
    /// Messages refused by the broker (`Basic.Nack`).
    pub(crate) nacked: u64,
    /// From send, or intended send, to confirm.
    pub(crate) confirm_latency: Latency,
}

/// A publishing connection.
pub(crate) struct Publisher<'a> {
    connection: Connection,
    batch: Batch,
    plan: PublisherPlan,
    window: Window,
    shared: &'a Shared,
    gauge: &'a Gauge,
    outcome: PublisherOutcome,
    started_ns: u64,
    moved_ns: u64,
}

impl<'a> Publisher<'a> {
    /// Prepares the channel and encodes the messages.
    pub(crate) fn new(
        mut connection: Connection,
        content: &Content,
        plan: PublisherPlan,
        shared: &'a Shared,
        gauge: &'a Gauge,
    ) -> Result<Self, ClientError> {
        if plan.window > 0 {
            connection.select_confirms()?;
        }
        let content = Content { frame_bytes_max: connection.frame_bytes_max, ..content.clone() };
        Ok(Self {
            connection,
            batch: Batch::new(&content),
            window: Window::new(plan.window),
            plan,
            shared,
            gauge,
            outcome: PublisherOutcome::default(),
            started_ns: 0,
            moved_ns: 0,
        })
    }

    /// Publishes until the plan or the coordinator ends it and all is confirmed.
    pub(crate) fn run(mut self) -> Result<PublisherOutcome, ClientError> {
        // Sleeps end when they should and not up to 50 us later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        self.started_ns = clock::now_ns();
        self.moved_ns = self.started_ns;
        loop {
            let ending = self.shared.stop_publishing.load(Relaxed)
                || self.plan.count.is_some_and(|count| self.outcome.published >= count);
            if ending && self.window.outstanding() == 0 {
                break;
            }
            let now_ns = clock::now_ns();
            let wanted = if ending { 0 } else { self.wanted(now_ns) };
            let room = wanted.min(self.window.room());
            if room > 0 {
                self.write(room, now_ns)?;
            } else {
                self.wait(wanted, now_ns)?;
            }
        }
        self.connection.close_channel(CHANNEL)?;
        self.gauge.moved(0, clock::now_ns());
        self.connection.close()?;
        Ok(self.outcome)
    }

    /// How many messages there are to send now.
    fn wanted(&self, now_ns: u64) -> usize {
        let published = self.outcome.published;
        let left = self.plan.count.map_or(u64::MAX, |count| count - published);
        let due = match self.plan.rate {
            None => u64::MAX,
            Some(_) if self.due_ns(published) > now_ns => 0,
            Some(rate) => {
                let meant = floor(clock::seconds_between(self.started_ns, now_ns) * rate) + 1;
                meant.saturating_sub(published).max(1)
            }
        };
        usize::try_from(left.min(due)).unwrap_or(usize::MAX)
    }

    /// When a message of the fixed rate is meant to be sent.
    fn due_ns(&self, seq: u64) -> u64 {
        let rate = self.plan.rate.unwrap_or(f64::INFINITY);
        self.started_ns + floor(seq as f64 * SECOND_NS as f64 / rate)
    }

    fn write(&mut self, room: usize, now_ns: u64) -> Result<(), ClientError> {
        let first = self.outcome.published;
        let (started_ns, plan) = (self.started_ns, &self.plan);
        let window = &mut self.window;
        let stamp = |at: usize| {
            let seq = first + at as u64;
            let sent_ns = match plan.rate {
                Some(rate) => started_ns + floor(seq as f64 * SECOND_NS as f64 / rate),
                None if seq.is_multiple_of(plan.sample_every) => now_ns,
                None => 0,
            };
            if plan.window > 0 {
                window.sent(sent_ns);
            }
            Stamp { publisher: plan.publisher, seq, sent_ns }
        };
        let (count, bytes) = self.batch.take(room.min(plan.burst), stamp);
        self.connection.send(bytes)?;
        self.outcome.published += count as u64;
        self.gauge.moved(count as u64, now_ns);
        self.moved_ns = now_ns;
        if self.plan.window > 0 { self.receive_now() } else { Ok(()) }
    }

    /// Waits for a confirm or for the next message's time.
    fn wait(&mut self, wanted: usize, now_ns: u64) -> Result<(), ClientError> {
        let due_ns = if wanted == 0 && self.plan.rate.is_some() {
            self.due_ns(self.outcome.published).saturating_sub(now_ns).min(SECOND_NS / 10)
        } else {
            SECOND_NS / 10
        };
        if self.window.outstanding() == 0 {
            thread::sleep(Duration::from_nanos(due_ns));
            return Ok(());
        }
        if self.plan.rate.is_some() {
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(due_ns).unwrap_or(0) };
            let mut wait = [PollFd::new(self.connection.stream.socket(), PollFlags::IN)];
            match poll(&mut wait, Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => return Ok(()),
                Ok(_) => return self.receive_now(),
                Err(error) => return Err(ClientError::Io(error.into())),
            }
        }
        if self.connection.fill()? > 0 {
            return self.handle_frames();
        }
        if now_ns.saturating_sub(self.moved_ns) > STALL_NS_MAX {
            return Err(ClientError::Stalled(STALL_NS_MAX / SECOND_NS, "confirms"));
        }
        Ok(())
    }

    fn receive_now(&mut self) -> Result<(), ClientError> {
        if self.connection.fill_now()? > 0 { self.handle_frames() } else { Ok(()) }
    }

    fn handle_frames(&mut self) -> Result<(), ClientError> {
        let now_ns = clock::now_ns();
        let measure_from_ns = self.shared.measure_from_ns.load(Relaxed).max(2);
        let outcome = &mut self.outcome;
        let mut settled = 0;
        while let Some(confirm) = next_confirm(&mut self.connection.inbound)? {
            let count = self.window.settle(confirm.tag, confirm.covers, |sent_ns| {
                if sent_ns >= measure_from_ns {
                    outcome.confirm_latency.record(now_ns.saturating_sub(sent_ns));
                }
            })?;
            if confirm.refused {
                outcome.nacked += count;
            } else {
                settled += count;
            }
        }
        self.gauge.confirmed.fetch_add(settled, Relaxed);
        self.moved_ns = now_ns;
        Ok(())
    }
}

/// The whole part of a number that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times and counts")]
pub(crate) fn floor(value: f64) -> u64 {
    value as u64
}
