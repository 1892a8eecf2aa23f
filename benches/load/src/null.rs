//! A broker that does as little as one can: it shows what the generator itself costs.
//!
//! It counts publishes without looking at them, confirms them once per read, and delivers as many
//! messages of the same size to whoever consumes. No queues, no routing: a run against it measures
//! the generator and the loopback interface, and is the ceiling of every other run.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::connection::{CHANNEL, ClientError, send_all};
use crate::wire::{
    BodyView, Covers, FRAME_HEADER, FRAME_METHOD, Fields, Inbound, MethodId, PROTOCOL_HEADER,
    method, put_ack, put_content, put_method,
};

const FRAME_BYTES_MAX: u32 = 131_072;
/// Bytes of deliveries per write, as far as whole messages allow.
const WRITE_BYTES: usize = 64 * 1024;
const IDLE_WAIT: Duration = Duration::from_micros(50);

/// What all connections share.
#[derive(Debug, Default)]
struct Counts {
    published: AtomicU64,
    delivered: AtomicU64,
    body_bytes: AtomicUsize,
}

/// Serves every connection that comes, until the process ends.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    let counts = Arc::new(Counts::default());
    for stream in listener.incoming() {
        let (stream, counts) = (stream?, Arc::clone(&counts));
        // A connection that fails ends; there is nobody to tell.
        thread::spawn(move || Peer::new(stream, counts).and_then(|mut peer| peer.serve()));
    }
    Ok(())
}

struct Peer {
    stream: TcpStream,
    inbound: Inbound,
    counts: Arc<Counts>,
    closed: Arc<AtomicBool>,
    confirms: bool,
    tag: u64,
    out: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream, counts: Arc<Counts>) -> Result<Self, ClientError> {
        stream.set_nodelay(true)?;
        let inbound = Inbound::with_capacity(256 * 1024, BodyView::Start(0));
        let closed = Arc::new(AtomicBool::new(false));
        Ok(Self { stream, inbound, counts, closed, confirms: false, tag: 0, out: Vec::new() })
    }

    fn serve(&mut self) -> Result<(), ClientError> {
        let mut header = [0; 8];
        io::Read::read_exact(&mut self.stream, &mut header)?;
        if &header != PROTOCOL_HEADER {
            return Ok(());
        }
        put_method(&mut self.out, 0, method::CONNECTION_START, |arguments| {
            arguments.octet(0).octet(9).table(&[]);
            arguments.long_string(b"PLAIN").long_string(b"en_US");
        });
        put_method(&mut self.out, 0, method::CONNECTION_TUNE, |arguments| {
            arguments.short(2047).long(FRAME_BYTES_MAX).short(60);
        });
        let served = self.turns();
        self.closed.store(true, Relaxed);
        served
    }

    fn turns(&mut self) -> Result<(), ClientError> {
        loop {
            send_all(&mut self.stream, &self.out)?;
            self.out.clear();
            if self.closed.load(Relaxed) || self.inbound.fill(&mut self.stream)? == 0 {
                return Ok(());
            }
            let before = self.tag;
            let mut inbound = std::mem::take(&mut self.inbound);
            while let Some(frame) = inbound.next()? {
                match frame.kind {
                    FRAME_METHOD => {
                        let (id, fields) = frame.method()?;
                        self.on_method(frame.channel, id, fields)?;
                    }
                    FRAME_HEADER => {
                        let mut fields = Fields::new(frame.payload);
                        fields.long()?;
                        let bytes = usize::try_from(fields.longlong()?).unwrap_or(0);
                        self.counts.body_bytes.store(bytes, Relaxed);
                    }
                    _ => {}
                }
            }
            self.inbound = inbound;
            self.counts.published.fetch_add(self.tag - before, Relaxed);
            if self.confirms && self.tag > before {
                put_ack(&mut self.out, CHANNEL, self.tag, Covers::UpTo);
            }
        }
    }

    fn on_method(
        &mut self,
        channel: u16,
        id: MethodId,
        mut fields: Fields<'_>,
    ) -> Result<(), ClientError> {
        match id {
            method::BASIC_PUBLISH => self.tag += 1,
            method::BASIC_ACK | method::CONNECTION_START_OK | method::CONNECTION_TUNE_OK => {}
            method::QUEUE_DECLARE => {
                fields.short()?;
                let name = String::from_utf8_lossy(fields.short_string()?).into_owned();
                put_method(&mut self.out, channel, method::QUEUE_DECLARE_OK, |arguments| {
                    arguments.short_string(&name).long(0).long(0);
                });
            }
            method::QUEUE_DELETE => {
                put_method(&mut self.out, channel, method::QUEUE_DELETE_OK, |arguments| {
                    arguments.long(0);
                });
            }
            method::BASIC_CONSUME => self.on_consume(channel, fields)?,
            method::CONNECTION_OPEN => {
                put_method(&mut self.out, channel, method::CONNECTION_OPEN_OK, |arguments| {
                    arguments.short_string("");
                });
            }
            method::CHANNEL_OPEN => {
                put_method(&mut self.out, channel, method::CHANNEL_OPEN_OK, |arguments| {
                    arguments.long_string(b"");
                });
            }
            // All others are answered by the method that follows them, without arguments.
            (class, number) => {
                self.confirms |= id == method::CONFIRM_SELECT;
                put_method(&mut self.out, channel, (class, number + 1), |_| ());
                self.closed.fetch_or(id == method::CONNECTION_CLOSE, Relaxed);
            }
        }
        Ok(())
    }

    fn on_consume(&mut self, channel: u16, mut fields: Fields<'_>) -> Result<(), ClientError> {
        fields.short()?;
        fields.short_string()?;
        let tag = String::from_utf8_lossy(fields.short_string()?).into_owned();
        put_method(&mut self.out, channel, method::BASIC_CONSUME_OK, |arguments| {
            arguments.short_string(&tag);
        });
        let stream = self.stream.try_clone()?;
        let (counts, closed) = (Arc::clone(&self.counts), Arc::clone(&self.closed));
        // The answer goes first.
        send_all(&mut self.stream, &self.out)?;
        self.out.clear();
        thread::spawn(move || deliver(stream, &tag, &counts, &closed));
        Ok(())
    }
}

/// Delivers one message for each that was published.
fn deliver(
    mut stream: TcpStream,
    consumer_tag: &str,
    counts: &Counts,
    closed: &AtomicBool,
) -> Result<(), ClientError> {
    let (mut bytes, mut each) = (Vec::new(), 0);
    while !closed.load(Relaxed) {
        let delivered = counts.delivered.load(Relaxed);
        let owed = counts.published.load(Relaxed).saturating_sub(delivered);
        if owed == 0 {
            thread::sleep(IDLE_WAIT);
            continue;
        }
        while bytes.len() < WRITE_BYTES {
            put_method(&mut bytes, CHANNEL, method::BASIC_DELIVER, |arguments| {
                arguments.short_string(consumer_tag).longlong(1).octet(0);
                arguments.short_string("").short_string("leveret-load.q0");
            });
            let body = vec![0; counts.body_bytes.load(Relaxed)];
            put_content(&mut bytes, CHANNEL, &[0, 0], &body, FRAME_BYTES_MAX as usize);
            each = if each == 0 { bytes.len() } else { each };
        }
        let count = usize::try_from(owed).unwrap_or(usize::MAX).min(bytes.len() / each);
        let taken = delivered + count as u64;
        if counts.delivered.compare_exchange(delivered, taken, Relaxed, Relaxed).is_ok() {
            send_all(&mut stream, &bytes[..count * each])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::AckMode;
    use crate::engine::{self, WatchPlan};
    use crate::report::Report;
    use crate::workload::{Shape, pubsub};

    fn through_it(change: impl FnOnce(&mut Shape)) -> Report {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("amqp://{}", listener.local_addr().unwrap()).parse().unwrap();
        thread::spawn(move || serve(&listener));
        let mut shape = Shape {
            name: "null".to_owned(),
            target,
            watch: WatchPlan::default(),
            prefix: "test".to_owned(),
            timeout_s: 30.0,
            publishers: 2,
            consumers: 2,
            queues: 1,
            body_bytes: 100,
            persistent: false,
            durable: false,
            auto_delete: false,
            priorities: 0,
            arguments: Vec::new(),
            acks: AckMode::Auto,
            prefetch: 0,
            window: 0,
            burst: usize::MAX,
            rate: None,
            count: Some(5000),
            warm_up: 0.0,
            measured: 0.0,
            verify: false,
        };
        change(&mut shape);
        engine::run(&pubsub(shape)).unwrap()
    }

    #[test]
    fn every_publish_is_counted_and_every_delivery_awaited() {
        let report = through_it(|_| ());
        assert_eq!(report.published.unwrap().count, 10_000);
        assert_eq!(report.delivered.unwrap().count, 10_000);
        assert_eq!(report.missing, Some(0));
        assert!(report.confirmed.is_none());
    }

    #[test]
    fn a_window_is_confirmed_whole_and_timed() {
        let report = through_it(|shape| {
            shape.window = 10;
            shape.acks = AckMode::Every(7);
        });
        assert_eq!(report.confirmed.unwrap().count, 10_000);
        assert_eq!(report.confirm_latency.unwrap().samples, 10_000);
    }

    #[test]
    fn a_fixed_rate_is_kept() {
        let report = through_it(|shape| {
            shape.rate = Some(20_000.0);
            shape.window = 1000;
        });
        let flow = report.published.unwrap();
        assert!((0.24..0.6).contains(&flow.seconds), "5,000 at 20,000/s took {}", flow.seconds);
    }

    #[test]
    fn bodies_of_many_frames_pass() {
        let report = through_it(|shape| {
            shape.body_bytes = 300_000;
            shape.count = Some(20);
        });
        assert_eq!(report.delivered.unwrap().count, 40);
    }
}
