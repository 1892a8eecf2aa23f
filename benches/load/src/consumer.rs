//! One consuming connection: reads as much as there is, walks the frame heads in place, counts,
//! and writes the acknowledgements of a whole read at once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use crate::batch::Stamp;
use crate::clock;
use crate::connection::{AckMode, CHANNEL, ClientError, Connection, refuse_close};
use crate::latency::Latency;
use crate::shared::{Gauge, Shared};
use crate::verify::Seen;
use crate::wire::{Covers, FRAME_BODY, FRAME_HEADER, FRAME_METHOD, Fields, Frame, method, put_ack};

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerPlan {
    /// The queues, each with its number.
    pub(crate) queues: Vec<(usize, String)>,
    /// How it acknowledges.
    pub(crate) acks: AckMode,
    /// The limit of unacknowledged deliveries; 0 is none.
    pub(crate) prefetch: u16,
    /// How many publishers to check the messages of; `None` is no check.
    pub(crate) verify_publishers: Option<usize>,
}

/// What a consumer saw.
#[derive(Debug, Default)]
pub(crate) struct ConsumerOutcome {
    /// From send, or intended send, to arrival.
    pub(crate) latency: Latency,
    /// For each queue's number, what came from it.
    pub(crate) seen: Vec<(usize, Seen)>,
}

/// A consuming connection.
pub(crate) struct Consumer<'a> {
    connection: Connection,
    plan: ConsumerPlan,
    shared: &'a Shared,
    gauge: &'a Gauge,
    latency: Latency,
    seen: BTreeMap<Vec<u8>, (usize, Seen)>,
    current: Delivery,
    unacked: u32,
    delivered: u64,
    out: Vec<u8>,
}

/// The delivery whose frames are being read.
#[derive(Debug, Default)]
struct Delivery {
    tag: u64,
    redelivered: bool,
    consumer_tag: Vec<u8>,
    body_left: u64,
    body_begun: bool,
}

impl<'a> Consumer<'a> {
    /// Prepares the channel and asks for the consumers.
    pub(crate) fn new(
        mut connection: Connection,
        plan: ConsumerPlan,
        shared: &'a Shared,
        gauge: &'a Gauge,
    ) -> Result<Self, ClientError> {
        connection.qos(plan.prefetch)?;
        let mut seen = BTreeMap::new();
        for (number, queue) in &plan.queues {
            let tag = format!("c{number}");
            if let Some(publishers) = plan.verify_publishers {
                seen.insert(tag.clone().into_bytes(), (*number, Seen::new(publishers)));
            }
            connection.send_consume(queue, &tag, plan.acks)?;
        }
        Ok(Self {
            connection,
            plan,
            shared,
            gauge,
            latency: Latency::default(),
            seen,
            current: Delivery::default(),
            unacked: 0,
            delivered: 0,
            out: Vec::new(),
        })
    }

    /// Consumes until told to stop and nothing more arrives.
    pub(crate) fn run(mut self) -> Result<ConsumerOutcome, ClientError> {
        loop {
            if self.connection.fill()? == 0 {
                self.ack_rest();
                self.flush()?;
                if self.shared.stop_consuming.load(Relaxed) {
                    break;
                }
                continue;
            }
            self.handle_frames()?;
            self.flush()?;
        }
        self.connection.close()?;
        Ok(ConsumerOutcome { latency: self.latency, seen: self.seen.into_values().collect() })
    }

    fn handle_frames(&mut self) -> Result<(), ClientError> {
        let now_ns = clock::now_ns();
        let measure_from_ns = self.shared.measure_from_ns.load(Relaxed).max(1);
        self.delivered = 0;
        // The buffer is taken out so that frames may borrow it while the state changes.
        let mut inbound = std::mem::take(&mut self.connection.inbound);
        let mut result = Ok(());
        while result.is_ok() {
            result = match inbound.next() {
                Ok(Some(frame)) => self.handle_frame(&frame, now_ns, measure_from_ns),
                Ok(None) => break,
                Err(error) => Err(error.into()),
            };
        }
        self.connection.inbound = inbound;
        if self.delivered > 0 {
            self.gauge.moved(self.delivered, now_ns);
        }
        result
    }

    fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        now_ns: u64,
        measure_from_ns: u64,
    ) -> Result<(), ClientError> {
        match frame.kind {
            FRAME_METHOD => {
                let (id, fields) = frame.method()?;
                match id {
                    method::BASIC_DELIVER => self.on_deliver(fields)?,
                    method::BASIC_CONSUME_OK => {
                        self.shared.consumers_ready.fetch_add(1, Relaxed);
                    }
                    method::BASIC_CANCEL => {
                        return Err(ClientError::Unexpected("the queue went away".to_owned()));
                    }
                    _ => refuse_close(id, frame.payload)?,
                }
            }
            FRAME_HEADER => {
                let mut fields = Fields::new(frame.payload);
                fields.long()?;
                self.current.body_left = fields.longlong()?;
                self.current.body_begun = false;
                if self.current.body_left == 0 {
                    self.on_body_end();
                }
            }
            FRAME_BODY => {
                if !self.current.body_begun {
                    self.current.body_begun = true;
                    self.on_body_start(frame.payload, now_ns, measure_from_ns);
                }
                let arrived = frame.payload_bytes as u64;
                let left = self.current.body_left.checked_sub(arrived);
                let message = "a body longer than announced";
                self.current.body_left =
                    left.ok_or_else(|| ClientError::Unexpected(message.to_owned()))?;
                if self.current.body_left == 0 {
                    self.on_body_end();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn on_deliver(&mut self, mut fields: Fields<'_>) -> Result<(), ClientError> {
        let consumer_tag = fields.short_string()?;
        if self.plan.verify_publishers.is_some() && self.current.consumer_tag != consumer_tag {
            self.current.consumer_tag = consumer_tag.to_vec();
        }
        self.current.tag = fields.longlong()?;
        self.current.redelivered = fields.octet()? & 1 == 1;
        Ok(())
    }

    fn on_body_start(&mut self, body: &[u8], now_ns: u64, measure_from_ns: u64) {
        let stamp = Stamp::read(body);
        if let Some(stamp) = stamp
            && stamp.sent_ns >= measure_from_ns
        {
            self.latency.record(now_ns.saturating_sub(stamp.sent_ns));
        }
        if self.plan.verify_publishers.is_some()
            && let Some((_, seen)) = self.seen.get_mut(&self.current.consumer_tag)
        {
            seen.delivered(stamp, self.current.redelivered);
        }
    }

    fn on_body_end(&mut self) {
        self.delivered += 1;
        match self.plan.acks {
            AckMode::Auto => {}
            AckMode::Each => put_ack(&mut self.out, CHANNEL, self.current.tag, Covers::One),
            AckMode::Every(count) => {
                self.unacked += 1;
                if self.unacked >= count {
                    self.ack_rest();
                }
            }
        }
    }

    /// Acknowledges what a group of `Every` has so far.
    fn ack_rest(&mut self) {
        if self.unacked > 0 {
            put_ack(&mut self.out, CHANNEL, self.current.tag, Covers::UpTo);
            self.unacked = 0;
        }
    }

    fn flush(&mut self) -> Result<(), ClientError> {
        if !self.out.is_empty() {
            self.connection.send(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}
