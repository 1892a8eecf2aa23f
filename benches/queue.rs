//! What a message costs at a queue: published, delivered into a consumer's outbox, acknowledged.
//! In memory, on disk, and in a queue that is longer than its memory.
//!
//! With `-- --count NAME MESSAGES` one case handles so many messages without reading a clock: under
//! an instruction counter two runs, one of them with 0 messages, differ by the work itself
//! (`benches/instructions` does that). Without arguments every case prints nanoseconds.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop where it stands")]

mod counted;
mod disk;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use leveret::broker::message::Message;
use leveret::broker::outbox::{ConnectionId, ConsumerId, Item, Outbox, Wake};
use leveret::broker::policy::AppliedPolicy;
use leveret::broker::queue::{
    Acks, ConsumerSpec, Effects, Limiter, Publisher, Queue, QueueArgs, QueueSpec, Settled, Turn,
};
use leveret::broker::{Broker, BrokerSettings, Now};
use leveret::protocol::table::Table;
use leveret::store::memory::MemoryStore;
use leveret::store::rocks::{Options, RocksStore};
use leveret::store::{QueueKey, Store};

use counted::{Case, counted};
use disk::{body, message, wait_for};

const BODY_BYTES: usize = 100;
/// Messages that a publisher brings in a turn: a part of a window, as many as a read holds.
const TURN_MESSAGES: usize = 500;
const PREFETCH: u16 = 1_000;
/// Memory for queues that are to be longer than it: a few hundred messages.
const LITTLE_MEMORY_BYTES: u64 = 256 << 10;
const MESSAGES: usize = 200_000;
const CONSUMER: ConsumerId = ConsumerId(1);
const NOW: Now = Now { mono_ms: 1_000, unix_ms: 1_795_000_000_000 };

const CASES: &[Case] = &[
    Case { name: "queue-memory", run: in_memory },
    Case { name: "queue-disk", run: on_disk },
    Case { name: "queue-cold", run: longer_than_memory },
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

fn in_memory(n: usize) {
    let mut flow = Flow::new(Arc::new(MemoryStore::new()), BrokerSettings::default(), Kept::Memory);
    flow.consume();
    for _ in 0..n / TURN_MESSAGES {
        flow.publish();
        flow.deliver();
    }
    flow.end(n);
}

/// Each turn is on disk before the next one.
fn on_disk(n: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut flow = Flow::new(on(dir.path()), BrokerSettings::default(), Kept::Disk);
    flow.consume();
    for _ in 0..n / TURN_MESSAGES {
        flow.publish();
        flow.deliver();
    }
    flow.end(n);
}

/// All are published before the first is consumed: most come back from the disk.
fn longer_than_memory(n: usize) {
    let dir = tempfile::tempdir().unwrap();
    let settings = BrokerSettings { queue_memory_bytes: LITTLE_MEMORY_BYTES, ..Default::default() };
    let mut flow = Flow::new(on(dir.path()), settings, Kept::Disk);
    for _ in 0..n / TURN_MESSAGES {
        flow.publish();
    }
    flow.consume();
    while flow.delivered < n {
        while flow.broker.read_back(NOW) {}
        flow.deliver();
        flow.turn();
    }
    flow.end(n);
}

fn on(dir: &Path) -> Arc<dyn Store> {
    Arc::new(RocksStore::open(dir, Options::default()).unwrap())
}

/// Where a queue keeps its messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Memory,
    Disk,
}

struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

/// A queue, with a publisher before it and a consumer behind it.
struct Flow {
    broker: Arc<Broker>,
    queue: Arc<Queue>,
    outbox: Arc<Outbox>,
    inbox: VecDeque<Item>,
    body: Vec<u8>,
    publishes: Vec<Message>,
    /// Delivered, and acknowledged in the next turn.
    acknowledged: Vec<Settled>,
    effects: Effects,
    delivered: usize,
}

impl Flow {
    fn new(store: Arc<dyn Store>, settings: BrokerSettings, kept: Kept) -> Self {
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let broker = Broker::open(settings, Arc::clone(&store), entropy, NOW).unwrap();
        let spec = QueueSpec {
            key: QueueKey { shard: 0, queue: 1 << 32 },
            vhost: "/".into(),
            name: "q".into(),
            durable: kept == Kept::Disk,
            auto_delete: false,
            owner: None,
            arguments: Table::new(),
            args: QueueArgs::default(),
            delays_for: None,
        };
        let paging = Arc::clone(broker.paging());
        let queue = Arc::new(Queue::new(spec, (store, paging), AppliedPolicy::default(), NOW));
        Self {
            broker,
            queue,
            outbox: Arc::new(Outbox::new(ConnectionId(1), Arc::new(NoWaker))),
            inbox: VecDeque::new(),
            body: body(BODY_BYTES),
            publishes: Vec::new(),
            acknowledged: Vec::new(),
            effects: Effects::default(),
            delivered: 0,
        }
    }

    fn consume(&mut self) {
        let spec = ConsumerSpec {
            id: CONSUMER,
            tag: "c".into(),
            channel: 1,
            outbox: Arc::clone(&self.outbox),
            connection_name: "bench".into(),
            acks: Acks::Manual,
            exclusive: false,
            priority: 0,
            prefetch: PREFETCH,
            limiter: Arc::new(Limiter::default()),
            obeys_limiter: true,
            arguments: Table::new(),
        };
        self.queue.add_consumer(spec, NOW, &mut self.effects).unwrap();
        self.broker.finish(&mut self.effects, NOW);
    }

    /// A turn's messages, and the acknowledgements that wait; until they are on disk.
    fn publish(&mut self) {
        self.publishes.extend((0..TURN_MESSAGES).map(|_| message(&self.body)));
        self.turn();
    }

    fn turn(&mut self) {
        let turn = Turn {
            settled: &self.acknowledged,
            publishes: &mut self.publishes,
            publisher: Publisher::Waits,
        };
        let progress = self.queue.take_turn(turn, NOW, &mut self.effects);
        self.acknowledged.clear();
        self.broker.finish(&mut self.effects, NOW);
        wait_for(&**self.broker.store(), progress.synced);
    }

    /// What a connection does with its outbox, but for writing.
    fn deliver(&mut self) {
        self.outbox.drain(&mut self.inbox);
        let (mut items, mut bytes) = (0, 0);
        for item in self.inbox.drain(..) {
            let Item::Deliver(delivery) = item else { continue };
            items += 1;
            bytes += delivery.entry.message.memory_bytes();
            self.acknowledged.push(Settled::of(&delivery.entry, CONSUMER, Acks::Manual));
        }
        self.delivered += items;
        if self.outbox.release(items, bytes) {
            self.queue.resume(&[CONSUMER], NOW, &mut self.effects);
            self.broker.finish(&mut self.effects, NOW);
        }
    }

    /// Everything has arrived and is acknowledged.
    fn end(mut self, published: usize) {
        self.turn();
        assert_eq!(self.delivered, published / TURN_MESSAGES * TURN_MESSAGES);
        assert_eq!(self.queue.counts().0, 0);
        self.broker.store().close().unwrap();
    }
}
