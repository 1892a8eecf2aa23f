//! A broker and its connections, driven by a check as the edge drives them: bytes in, bytes out,
//! wake-ups, deadlines, and a clock that moves when the check says so.
//!
//! Everything that is written to a client is read: it must be what a server may send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leveret::broker::logins::Source;
use leveret::broker::outbox::Wake;
use leveret::broker::{Broker, BrokerSettings, Now};
use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic, channel, connection};
use leveret::protocol::table::RawTable;
use leveret::session::{Connection, PeerAddress, SessionSettings};
use leveret::store::Store;
use leveret::store::memory::MemoryStore;

use super::client::Reader;
use super::passing;

/// Turns after one input before the connections must have come to rest.
const TURNS_MAX: usize = 20_000;
/// Pieces in which what a client sends at once arrives.
const PIECES_MAX: usize = 256;

/// A broker with connections.
pub struct Node {
    pub broker: Arc<Broker>,
    pub store: Arc<MemoryStore>,
    pub now: Now,
    session: Arc<SessionSettings>,
    pub links: Vec<Link>,
}

/// A connection and what is under way to and from it.
pub struct Link {
    connection: Connection,
    woken: Arc<Waker>,
    to_server: Vec<u8>,
    /// What the client has read.
    pub reader: Reader,
    /// Bytes handed over at once, at most.
    pub piece_bytes: usize,
    /// Whether the client takes what is written.
    pub reads: bool,
    pub closed: bool,
}

#[derive(Default)]
struct Waker(AtomicBool);

impl Wake for Waker {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Node {
    /// A fresh node with little memory for its queues.
    pub fn new(queue_memory_bytes: u64) -> Self {
        let settings = BrokerSettings { queue_memory_bytes, ..BrokerSettings::default() };
        let now = Now { mono_ms: 1_000, unix_ms: 1_795_000_000_000 };
        Self::on(Arc::new(MemoryStore::new()), settings, now)
    }

    fn on(store: Arc<MemoryStore>, settings: BrokerSettings, now: Now) -> Self {
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let broker = Broker::open(settings, shared, entropy(), now).expect("a store of our own");
        Self { broker, store, now, session: Arc::default(), links: Vec::new() }
    }

    /// With settings of its own for connections.
    pub fn with_session(mut self, settings: SessionSettings) -> Self {
        self.session = Arc::new(settings);
        self
    }

    /// The same node after it was killed: what was kept must be understood.
    pub fn restarted(self) -> Self {
        let settings = self.broker.settings().clone();
        Self::on(Arc::new(self.store.restarted()), settings, self.now)
    }

    /// A connection that nothing was sent over yet.
    pub fn connect(&mut self) -> usize {
        let woken = Arc::new(Waker::default());
        let port = 50_000 + u16::try_from(self.links.len()).expect("few connections");
        let peer = PeerAddress {
            peer: ("127.0.0.1".into(), port),
            host: ("127.0.0.1".into(), 5672),
            is_loopback: true,
            source: Source(0x7f00_0001),
            tls: None,
        };
        let connection = Connection::new(
            Arc::clone(&self.broker),
            Arc::clone(&self.session),
            peer,
            Arc::clone(&woken) as Arc<dyn Wake>,
            self.now,
        );
        self.links.push(Link {
            connection,
            woken,
            to_server: Vec::new(),
            reader: Reader::default(),
            piece_bytes: usize::MAX,
            reads: true,
            closed: false,
        });
        self.links.len() - 1
    }

    /// A connection of guest's with channel 1 open.
    pub fn log_in(&mut self) -> usize {
        let link = self.connect();
        self.send(link, &handshake(u32::from(u16::MAX), 0));
        let mut open = Vec::new();
        frame::method(&mut open, 1, &Method::ChannelOpen(channel::Open));
        self.send(link, &open);
        link
    }

    /// A client sends bytes, and everything that follows from them happens.
    pub fn send(&mut self, link: usize, bytes: &[u8]) {
        self.links[link].to_server.extend_from_slice(bytes);
        self.pump();
    }

    /// A client is gone without a word.
    pub fn lose(&mut self, link: usize) {
        let link = &mut self.links[link];
        link.connection.abort("connection reset by peer", self.now);
        link.closed = true;
        self.pump();
    }

    /// Time passes, from deadline to deadline.
    pub fn advance(&mut self, ms: u64) {
        let target = self.now.mono_ms + ms;
        // A deadline that stays where it is would never let time pass.
        for _ in 0..TURNS_MAX {
            let Some(due) = self.next_deadline().filter(|due| *due <= target) else {
                return self.set_time(target);
            };
            self.set_time(due);
        }
        panic!("the deadlines never end");
    }

    fn next_deadline(&self) -> Option<u64> {
        let open = self.links.iter().filter(|link| !link.closed);
        passing::next_deadline(&self.broker, open.map(|link| &link.connection), self.now)
    }

    fn set_time(&mut self, mono_ms: u64) {
        let open = self.links.iter_mut().filter(|link| !link.closed);
        passing::pass(&mut self.now, mono_ms, open.map(|link| &mut link.connection));
        self.pump();
    }

    /// Lets everything happen that is under way.
    pub fn pump(&mut self) {
        for _ in 0..TURNS_MAX {
            let now = self.now;
            let open = self.links.iter_mut().filter(|link| !link.closed);
            let worked = open.map(|link| link.turn(now)).filter(|worked| *worked).count();
            let is_due = self.broker.timers().next().is_some_and(|at_ms| at_ms <= now.unix_ms);
            if is_due {
                self.broker.handle_deadlines(now);
            } else if worked == 0 && !self.broker.read_back(now) {
                return;
            }
        }
        panic!("the connections never come to rest");
    }
}

impl Link {
    fn turn(&mut self, now: Now) -> bool {
        let mut worked = self.write(now);
        if self.connection.is_finished() {
            self.closed = true;
            return true;
        }
        if self.connection.has_more_output() && self.connection.output().is_empty() {
            self.connection.handle_events(now);
            worked = true;
        }
        if self.woken.0.swap(false, Ordering::SeqCst) {
            self.connection.handle_events(now);
            worked = true;
        }
        // What was not used stays in front, as in the edge's buffer, and more comes behind it. Of
        // very much the pieces are larger: it is cut at enough places.
        let piece = self.piece_bytes.max(self.to_server.len() / PIECES_MAX);
        let mut shown = 0;
        while self.connection.wants_input() && shown < self.to_server.len() {
            shown = shown.saturating_add(piece).min(self.to_server.len());
            let used = self.connection.handle_input(&self.to_server[..shown], now);
            assert!(used <= shown, "no more is used than there is");
            self.to_server.drain(..used);
            shown -= used;
            worked |= used > 0;
        }
        worked | self.write(now)
    }

    fn write(&mut self, now: Now) -> bool {
        let mut worked = false;
        while self.reads && !self.connection.output().is_empty() {
            let mut slices = Vec::new();
            self.connection.output().slices(&mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            assert!(!bytes.is_empty(), "output that is not empty has something to write");
            self.reader.read(&bytes);
            self.connection.handle_written(bytes.len(), now);
            worked = true;
        }
        worked
    }
}

/// Everything that a client sends before its first channel.
pub fn handshake(frame_max: u32, heartbeat: u16) -> Vec<u8> {
    let properties = RawTable::parse(&[]).expect("an empty table");
    let start_ok = connection::StartOk {
        client_properties: properties,
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    let tune_ok = connection::TuneOk { channel_max: 16, frame_max, heartbeat };
    let mut bytes = b"AMQP\0\0\x09\x01".to_vec();
    frame::method(&mut bytes, 0, &Method::ConnectionStartOk(start_ok));
    frame::method(&mut bytes, 0, &Method::ConnectionTuneOk(tune_ok));
    let open = connection::Open { virtual_host: "/" };
    frame::method(&mut bytes, 0, &Method::ConnectionOpen(open));
    bytes
}

/// basic.publish without its content.
pub fn publish(out: &mut Vec<u8>, channel: u16, exchange: &[u8], key: &[u8], mandatory: bool) {
    let publish = basic::Publish { exchange, routing_key: key, mandatory, immediate: false };
    frame::method(out, channel, &Method::BasicPublish(publish));
}

/// The same "random" bytes in every run.
pub fn entropy() -> leveret::broker::Entropy {
    let drawn = AtomicU64::new(0);
    Box::new(move |bytes: &mut [u8]| {
        for byte in bytes {
            let n = drawn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = n.to_be_bytes()[0] ^ n.to_be_bytes()[3];
        }
    })
}
