//! What a whole message costs between two sockets, without them: a connection that publishes, the
//! broker, and a connection that consumes. And what of it is spent on looking whether its user may.
//!
//! With `-- --count NAME MESSAGES` one case handles so many messages without reading a clock: under
//! an instruction counter two runs, one of them with 0 messages, differ by the work itself
//! (`benches/instructions` does that). Without arguments every case prints nanoseconds.
//!
//! A verdict stands with the route that was found under it, so a publish whose exchange and key are
//! known costs no check at all. What is left is a look, once in a turn, whether any right has
//! changed (`rights-turn`); a new key asks for the verdict on its exchange, which is known
//! (`rights-known`); a new exchange asks the pattern (`rights-new`).

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "it prints its figures")]

mod counted;

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use leveret::broker::access::{Candidate, Permission, Resource, Right, Rights};
use leveret::broker::logins::Source;
use leveret::broker::outbox::Wake;
use leveret::broker::{Broker, BrokerSettings, Now};
use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic, channel, connection, queue};
use leveret::protocol::table::RawTable;
use leveret::session::{Connection, PeerAddress, SessionSettings};
use leveret::store::memory::MemoryStore;

use counted::{Case, counted};

/// Messages that a busy connection handles in a turn: about what a read of 64 KiB holds.
const TURN_MESSAGES: usize = 500;
const MESSAGES: usize = 350_000;
const NOW: Now = Now { mono_ms: 1_000, unix_ms: 1_795_000_000_000 };

const CASES: &[Case] = &[
    Case { name: "message-16", run: |n| messages(n, TURN_MESSAGES, 1) },
    Case { name: "message-16-alone", run: |n| messages(n, 1, 1) },
    Case { name: "message-16-keys", run: |n| messages(n, TURN_MESSAGES, 100_000) },
    Case { name: "rights-turn", run: rights_in_a_turn },
    Case { name: "rights-known", run: rights_known },
    Case { name: "rights-new", run: rights_new },
];

fn main() {
    if counted(CASES) {
        return;
    }
    for case in CASES {
        let begun = Instant::now();
        (case.run)(MESSAGES);
        let ns = begun.elapsed().as_secs_f64() * 1e9 / MESSAGES as f64;
        println!("{:<18}{ns:>8.1} ns", case.name);
    }
}

// ---- messages --------------------------------------------------------------------------------

struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

/// `n` transient messages of 16 B, `turn` at once, with so many routing keys in turn, published to
/// amq.topic and consumed from one queue without acknowledgements.
fn messages(n: usize, turn: usize, keys: usize) {
    let broker = broker();
    let mut consumer = client(&broker);
    let mut publisher = client(&broker);
    let none = RawTable::parse(&[]).expect("an empty table");
    let mut wire = Vec::new();
    frame::method(&mut wire, 1, &Method::QueueDeclare(queue::Declare { queue: "q", ..declare() }));
    let bind = queue::Bind {
        queue: "q",
        exchange: "amq.topic",
        routing_key: "#",
        nowait: true,
        arguments: none,
    };
    frame::method(&mut wire, 1, &Method::QueueBind(bind));
    let consume = basic::Consume {
        queue: "q",
        consumer_tag: "c",
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: true,
        arguments: none,
    };
    frame::method(&mut wire, 1, &Method::BasicConsume(consume));
    give(&mut consumer, &wire);

    // Written once: a turn for each set of keys.
    let turns: Vec<Vec<u8>> = (0..keys.div_ceil(turn)).map(|t| written(t, turn, keys)).collect();
    let mut delivered = 0;
    for at in 0..n / turn {
        give(&mut publisher, &turns[at % turns.len()]);
        consumer.handle_events(NOW);
        delivered += written_out(&mut consumer);
    }
    black_box(delivered);
}

fn written(t: usize, turn: usize, keys: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for message in 0..turn {
        let key = format!("orders.{:06}", (t * turn + message) % keys);
        let publish = basic::Publish {
            exchange: b"amq.topic",
            routing_key: key.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        frame::method(&mut wire, 1, &Method::BasicPublish(publish));
        frame::content_header(&mut wire, 1, 60, 16, &[0, 0]);
        frame::body(&mut wire, 1, &[7; 16]);
    }
    wire
}

fn broker() -> Arc<Broker> {
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let store = Arc::new(MemoryStore::new());
    Broker::open(BrokerSettings::default(), store, entropy, NOW).expect("an empty store")
}

/// A connection of guest's, whose permissions are `.*`, with channel 1 open.
fn client(broker: &Arc<Broker>) -> Connection {
    let peer = PeerAddress {
        peer: ("127.0.0.1".into(), 50_000),
        host: ("127.0.0.1".into(), 5672),
        is_loopback: true,
        source: Source(0x7f00_0001),
        tls: None,
    };
    let settings = Arc::new(SessionSettings::default());
    let mut client = Connection::new(Arc::clone(broker), settings, peer, Arc::new(NoWaker), NOW);
    let start_ok = connection::StartOk {
        client_properties: RawTable::parse(&[]).expect("an empty table"),
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    let tune_ok = connection::TuneOk { channel_max: 1, frame_max: 131_072, heartbeat: 0 };
    let open = connection::Open { virtual_host: "/" };
    let mut wire = b"AMQP\0\0\x09\x01".to_vec();
    frame::method(&mut wire, 0, &Method::ConnectionStartOk(start_ok));
    frame::method(&mut wire, 0, &Method::ConnectionTuneOk(tune_ok));
    frame::method(&mut wire, 0, &Method::ConnectionOpen(open));
    frame::method(&mut wire, 1, &Method::ChannelOpen(channel::Open));
    give(&mut client, &wire);
    client
}

fn declare() -> queue::Declare<'static> {
    queue::Declare {
        queue: "",
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: true,
        arguments: RawTable::parse(&[]).expect("an empty table"),
    }
}

/// Everything is taken, and what is answered is read.
fn give(client: &mut Connection, mut wire: &[u8]) {
    while !wire.is_empty() {
        let used = client.handle_input(wire, NOW);
        assert!(used > 0, "{:?}", client.ended_because());
        wire = &wire[used..];
        written_out(client);
    }
}

fn written_out(client: &mut Connection) -> usize {
    let mut all = 0;
    while !client.output().is_empty() || client.has_more_output() {
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        client.output().slices(&mut slices);
        let bytes = slices.iter().map(|slice| black_box(slice).len()).sum();
        client.handle_written(bytes, NOW);
        all += bytes;
        if client.has_more_output() {
            client.handle_events(NOW);
        }
    }
    all
}

// ---- rights ----------------------------------------------------------------------------------

fn with_rights(work: impl FnOnce(&Broker, &mut Rights)) {
    let broker = broker();
    let who = Candidate { name: "guest", from_loopback: true };
    let identity = broker.access().log_in(who, b"guest").expect("the default user");
    let mut rights = Rights::new(broker.access(), identity, "/".into(), NOW);
    work(&broker, &mut rights);
}

fn rights_in_a_turn(n: usize) {
    with_rights(|broker, rights| {
        for _ in 0..n {
            black_box(rights.refresh(black_box(broker.access()), NOW));
        }
    });
}

fn rights_known(n: usize) {
    with_rights(|_, rights| {
        for _ in 0..n {
            let exchange = Resource::Exchange(black_box("amq.topic"));
            rights.check(Right::Write, exchange).expect("guest may do everything");
        }
    });
}

fn rights_new(n: usize) {
    let permission = Permission::full();
    for _ in 0..n {
        assert!(permission.allows(Right::Write, black_box("amq.topic")));
    }
}
