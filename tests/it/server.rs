//! The edge over real sockets: one connection's or one queue's fault is nobody else's, and a busy
//! connection listens while it talks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use leveret::broker::access::Identity;
use leveret::broker::alarms::Alarms;
use leveret::broker::inspect::Inspect;
use leveret::broker::message::{Envelope, Message};
use leveret::broker::outbox::ConnectionId;
use leveret::broker::queue::{Effects, Publisher, Queue, Turn};
use leveret::broker::{Asker, Broker, BrokerSettings, Now, QueueDeclaration};
use leveret::protocol::Method;
use leveret::protocol::method::{basic, queue};
use leveret::protocol::table::Table;
use leveret::server::{self, clock::Clock};
use leveret::session::SessionSettings;
use leveret::store::memory::MemoryStore;
use leveret::store::{
    Batch, DurableWaker, Lsn, QueueKey, QueueSeq, ReadLimit, Recovery, Store, StoreCounters,
    StoreError,
};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::management::Client;

/// The longest a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store in memory in which a fault can be laid: the next batch panics.
#[derive(Default)]
struct Fragile {
    memory: MemoryStore,
    armed: AtomicBool,
}

impl Store for Fragile {
    fn submit(&self, batch: Batch) -> Lsn {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "the fault that the test has laid");
        self.memory.submit(batch)
    }

    fn durable(&self) -> Lsn {
        self.memory.durable()
    }

    fn notify(&self, lsn: Lsn, waker: Arc<dyn DurableWaker>) {
        self.memory.notify(lsn, waker);
    }

    fn backlog_bytes(&self) -> u64 {
        self.memory.backlog_bytes()
    }

    fn failure(&self) -> Option<StoreError> {
        self.memory.failure()
    }

    fn read(
        &self,
        queue: QueueKey,
        from: QueueSeq,
        limit: ReadLimit,
    ) -> Result<Vec<(QueueSeq, Message)>, StoreError> {
        self.memory.read(queue, from, limit)
    }

    fn recover(&self, visitor: &mut dyn Recovery) -> Result<(), StoreError> {
        self.memory.recover(visitor)
    }

    fn place(&self) -> String {
        self.memory.place()
    }

    fn counters(&self) -> StoreCounters {
        self.memory.counters()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.memory.close()
    }
}

/// A node with its AMQP door open.
struct Node {
    amqp: SocketAddr,
    broker: Arc<Broker>,
    store: Arc<Fragile>,
    clock: Clock,
    _stop: watch::Sender<bool>,
}

impl Node {
    async fn start() -> Self {
        let clock = Clock::start();
        let store = Arc::new(Fragile::default());
        let kept = Arc::clone(&store) as Arc<dyn Store>;
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let broker = Broker::open(BrokerSettings::default(), kept, entropy, clock.now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let amqp = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let session = Arc::new(SessionSettings::default());
        let limits = server::LobbyLimits::default();
        let hall = server::Hall::new(Arc::clone(&broker), session, limits, 1_000, clock);
        tokio::spawn(server::serve_amqp(listener, hall, stopped));
        tokio::spawn(server::watch_deadlines(Arc::clone(&broker), clock));
        Self { amqp, broker, store, clock, _stop: stop }
    }

    fn declare(&self, name: &str, arguments: Table) -> Arc<Queue> {
        let asked = QueueDeclaration {
            name,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments,
        };
        let vhost = self.broker.vhost("/").unwrap();
        let user = self.broker.access().user("guest").unwrap();
        let identity = Identity { user, authority: None };
        let by = (ConnectionId(0), "a test".into());
        let mut asker = Asker::new(&self.broker, by, identity, &vhost, self.clock.now());
        let (now, effects) = (self.clock.now(), &mut Effects::default());
        self.broker.declare_queue(&vhost, asked, &mut asker, now, effects).unwrap().0
    }

    fn publish(&self, queue: &Arc<Queue>, messages: usize, body: &[u8]) {
        let envelope = Envelope {
            exchange: b"",
            routing_key: queue.name().as_bytes(),
            properties: &[0x10, 0, 2],
            persistent: true,
            hides_bcc: false,
            published_ms: self.clock.now().unix_ms,
        };
        let mut publishes: Vec<_> = (0..messages).map(|_| Message::new(&envelope, body)).collect();
        let turn = Turn { settled: &[], publishes: &mut publishes, publisher: Publisher::GoesOn };
        let mut effects = Effects::default();
        queue.take_turn(turn, self.clock.now(), &mut effects);
        self.broker.finish(&mut effects, self.clock.now());
    }
}

/// Lets everything else go on until something has become true.
async fn until(mut is_true: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("it has become true in time");
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_gives_back_what_it_held() {
    let node = Node::start().await;
    let jobs = node.declare("jobs", Table::new());
    node.publish(&jobs, 2, b"x");
    let mut victim = Client::open(node.amqp).await;
    let mut bystander = Client::open(node.amqp).await;
    victim.send(1, &Method::BasicGet(basic::Get { queue: "jobs", no_ack: false })).await;
    until(|| jobs.view().messages_unacked == 1).await;
    node.store.armed.store(true, Ordering::SeqCst);
    victim.send(1, &Method::QueuePurge(queue::Purge { queue: "jobs", nowait: true })).await;
    until(|| jobs.view().messages_unacked == 0).await;
    assert_eq!(node.broker.connection_count(), 1);
    let declare = queue::Declare { queue: "jobs", passive: true, ..queue::Declare::default() };
    bystander.send(1, &Method::QueueDeclare(declare)).await;
    bystander.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
}

/// On one thread, so that everything has its turn in order.
#[tokio::test(flavor = "current_thread")]
async fn however_many_come_at_once_others_have_their_turns_in_between() {
    let node = Node::start().await;
    let half_open = || node.broker.counters().half_open.load(Ordering::Relaxed);
    // The kernel accepts them; the broker has had no turn yet.
    let dial = || std::net::TcpStream::connect(node.amqp).unwrap();
    let crowd: Vec<_> = (0..60).map(|_| dial()).collect();
    let (mut before, mut most) = (half_open(), 0);
    while before < crowd.len() as u64 {
        tokio::task::yield_now().await;
        let now = half_open();
        most = most.max(now - before);
        before = now;
    }
    assert!(most <= 2, "{most} were let in at once");
}

#[tokio::test]
async fn a_client_is_heard_before_everything_is_said_to_it() {
    const MESSAGES: usize = 4_000;
    let node = Node::start().await;
    let jobs = node.declare("jobs", Table::new());
    node.publish(&jobs, MESSAGES, &[b'x'; 16_000]);
    let mut client = Client::open(node.amqp).await;
    let consume = basic::Consume { queue: "jobs", consumer_tag: "c", ..basic::Consume::default() };
    let consume = basic::Consume { no_ack: true, ..consume };
    client.send(1, &Method::BasicConsume(consume)).await;
    client.expect(|method| matches!(method, Method::BasicConsumeOk(_))).await;
    let cancel = basic::Cancel { consumer_tag: "c", nowait: true };
    client.send(1, &Method::BasicCancel(cancel)).await;
    let declare = queue::Declare { queue: "jobs", passive: true, ..queue::Declare::default() };
    client.send(1, &Method::QueueDeclare(declare)).await;
    let delivered = client.count_until(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    assert!(delivered < MESSAGES, "all of it was said first");
    until(|| jobs.counts().0 as usize == MESSAGES - delivered).await;
}

#[tokio::test]
async fn a_panic_over_one_queues_deadline_leaves_the_others_theirs() {
    let node = Node::start().await;
    let soon = |ms: i64| Table::new().with("x-message-ttl", ms);
    let (first, second) = (node.declare("first", soon(10)), node.declare("second", soon(60)));
    node.publish(&first, 1, b"x");
    node.publish(&second, 1, b"x");
    node.store.armed.store(true, Ordering::SeqCst);
    until(|| second.view().messages_ready == 0).await;
    assert!(!node.store.armed.load(Ordering::SeqCst), "the fault was met");
}

#[tokio::test]
async fn a_blocked_connection_is_not_read_and_goes_on_after_the_alarm() {
    static BODY: [u8; 100_000] = [b'x'; 100_000];
    let node = Node::start().await;
    let jobs = node.declare("jobs", Table::new());
    let mut publisher = Client::open(node.amqp).await;
    node.broker.set_alarms(Alarms { memory: true, disk: false }, Now::default());
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let publishing = tokio::spawn(async move {
        for _ in 0..1_000 {
            publisher.publish(1, "", "jobs", &BODY).await;
            counter.fetch_add(1, Ordering::SeqCst);
        }
        publisher
    });
    let mut before = u64::MAX;
    while sent.load(Ordering::SeqCst) != before {
        before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 1_000, "what is not read does not fit between the two");
    assert_eq!(jobs.view().messages_ready, 0);
    node.broker.set_alarms(Alarms::NONE, Now::default());
    let mut publisher = publishing.await.unwrap();
    until(|| jobs.view().messages_ready == 1_000).await;
    let declare = queue::Declare { queue: "jobs", passive: true, ..queue::Declare::default() };
    publisher.send(1, &Method::QueueDeclare(declare)).await;
    publisher.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
}

#[tokio::test]
async fn a_blocked_connection_whose_client_is_gone_ends_by_its_heartbeats() {
    let node = Node::start().await;
    let mut publisher = Client::open_with(node.amqp, 1).await;
    node.broker.set_alarms(Alarms { memory: false, disk: true }, Now::default());
    publisher.publish(1, "", "nowhere", b"x").await;
    until(|| node.broker.connections().iter().all(|connection| connection.blocked)).await;
    drop(publisher);
    until(|| node.broker.connection_count() == 0).await;
    assert!(node.broker.alarms().any());
}

#[tokio::test]
async fn what_came_while_the_broker_was_stopped_is_a_sign_of_life() {
    let node = Node::start().await;
    let jobs = node.declare("jobs", Table::new());
    let mut client = Client::open_with(node.amqp, 1).await;
    until(|| node.broker.connection_count() == 1).await;
    // Both ends share this thread: while it stands still, so does the broker, as after SIGSTOP.
    client.publish(1, "", "jobs", b"x").await;
    std::thread::sleep(Duration::from_millis(2_500));
    until(|| jobs.view().messages_ready == 1).await;
    assert_eq!(node.broker.connection_count(), 1);
}
