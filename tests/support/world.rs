//! The broker of a test, its store and its clock, and the turns of every connection.
//!
//! A world is in this process, unless the environment names an [`Oracle`] to run tests against.
//!
//! Invariants of a world in this process: time moves only in [`World::advance`] and then from one
//! deadline to the next, so that nothing fires late; after every input all connections turn until
//! none has anything left to do, so what a client has not received by then it will not receive.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leveret::broker::access::{Hashing, Identity, PasswordHash, UserChange};
use leveret::broker::logins::Source;
use leveret::broker::outbox::Wake;
use leveret::broker::policy::{PolicyKind, PolicySet, PolicySpec};
use leveret::broker::{Broker, BrokerSettings, Now};
use leveret::session::{Connection, PeerAddress, SessionSettings};
use leveret::store::Store;
use leveret::store::faulty::{Faults, FaultyStore};
use leveret::store::memory::MemoryStore;

use super::client::{Client, Login};
use super::oracle::{Oracle, skip};
use super::transport::{Patience, Transport};
use crate::checks::passing;

/// When worlds begin, in seconds of Unix time: 18 November 2026.
pub(crate) const EPOCH_S: u64 = 1_795_000_000;

/// What a test can set before its broker starts.
pub(crate) struct Setup {
    /// The node.
    pub(crate) broker: BrokerSettings,
    /// Its connections.
    pub(crate) session: SessionSettings,
}

impl Default for Setup {
    /// The broker's own defaults.
    fn default() -> Self {
        let broker = BrokerSettings {
            node_name: "rabbit@test".into(),
            cluster_name: "rabbit@test".into(),
            queue_memory_bytes: queue_memory_bytes(),
            ..BrokerSettings::default()
        };
        Self { broker, session: SessionSettings::default() }
    }
}

/// What waiting messages may take, unless a test says otherwise: with a little of it every test is
/// one of queues that are read back from the store.
fn queue_memory_bytes() -> u64 {
    match std::env::var("LEVERET_TEST_QUEUE_MEMORY") {
        Ok(bytes) => bytes.parse().unwrap(),
        Err(_) => BrokerSettings::default().queue_memory_bytes,
    }
}

/// A broker with clients.
pub(crate) struct World {
    node: Node,
    /// What is kept, unless the test keeps it.
    memory: Option<Arc<MemoryStore>>,
    /// What waiting messages may take.
    queue_memory_bytes: u64,
}

/// Where the broker is.
enum Node {
    Here(Rc<RefCell<State>>),
    Elsewhere(Rc<Oracle>),
}

/// What the world and its clients share.
struct State {
    broker: Arc<Broker>,
    session: Arc<SessionSettings>,
    now: Now,
    links: Vec<Link>,
    /// Nothing is read back from the store for now.
    holds_reads: bool,
}

/// An IPv4 address as the edge tells sources apart.
fn source(address: &str) -> Source {
    let octets = address.split('.').map(|octet| octet.parse::<u64>().unwrap());
    Source(octets.fold(0, |sum, octet| sum * 256 + octet))
}

/// A connection of a [`State`], by its index.
struct Inside {
    state: Rc<RefCell<State>>,
    link: usize,
}

/// One connection and its transport.
struct Link {
    connection: Connection,
    woken: Arc<Waker>,
    /// Sent by the client, not yet taken by the connection.
    to_server: Vec<u8>,
    /// Written by the connection, not yet looked at by the client.
    to_client: Vec<u8>,
    /// Bytes that the client will read, unless it reads everything.
    reads: Option<usize>,
    /// Whether the server has dropped the transport.
    closed: bool,
}

#[derive(Default)]
struct Waker(AtomicBool);

impl Wake for Waker {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl World {
    /// A fresh node that keeps everything in memory.
    pub(crate) fn new() -> Self {
        match Oracle::from_environment() {
            Some(oracle) => Self {
                node: Node::Elsewhere(Rc::new(oracle)),
                memory: None,
                queue_memory_bytes: queue_memory_bytes(),
            },
            None => Self::with(Setup::default()),
        }
    }

    /// A fresh node whose waiting messages may take so much memory.
    pub(crate) fn with_queue_memory(bytes: u64) -> Self {
        let mut setup = Setup::default();
        setup.broker.queue_memory_bytes = bytes;
        Self::with(setup)
    }

    /// A fresh node with settings of its own.
    pub(crate) fn with(setup: Setup) -> Self {
        Self::on_memory(MemoryStore::new(), setup, 0)
    }

    fn on_memory(store: MemoryStore, setup: Setup, elapsed_ms: u64) -> Self {
        let store = Arc::new(store);
        let world = Self::over(Arc::clone(&store) as Arc<dyn Store>, setup, elapsed_ms);
        Self { memory: Some(store), ..world }
    }

    /// The same node after it was killed and started again `pause_ms` later. The clients of this
    /// life go down with it.
    pub(crate) fn restarted(self, pause_ms: u64) -> Self {
        let elapsed_ms = self.state().borrow().now.unix_ms - EPOCH_S * 1_000 + pause_ms;
        let store = self.memory.as_ref().map(|memory| memory.restarted());
        let mut setup = Setup::default();
        setup.broker.queue_memory_bytes = self.queue_memory_bytes;
        Self::on_memory(store.expect("a node in memory"), setup, elapsed_ms)
    }

    /// A fresh node whose disk syncs when the test says so, or fails.
    pub(crate) fn on_disk(faults: Faults) -> (Self, Arc<FaultyStore>) {
        let store = Arc::new(FaultyStore::new(faults));
        let world = Self::over(Arc::clone(&store) as Arc<dyn Store>, Setup::default(), 0);
        store.sync();
        (world, store)
    }

    /// A node started on a store, `elapsed_ms` after the beginning.
    pub(crate) fn over(store: Arc<dyn Store>, setup: Setup, elapsed_ms: u64) -> Self {
        if Oracle::is_asked_for() {
            skip("the test sets up its node in a way of its own");
        }
        let now = Now { mono_ms: 1_000 + elapsed_ms, unix_ms: EPOCH_S * 1_000 + elapsed_ms };
        let random = AtomicU64::new(elapsed_ms);
        let entropy = Box::new(move |bytes: &mut [u8]| {
            for byte in bytes {
                let n = random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
                let octets = n.to_be_bytes();
                *byte = octets[0] ^ octets[3];
            }
        });
        let queue_memory_bytes = setup.broker.queue_memory_bytes;
        let broker = Broker::open(setup.broker, store, entropy, now).unwrap();
        let session = Arc::new(setup.session);
        let state = State { broker, session, now, links: Vec::new(), holds_reads: false };
        Self { node: Node::Here(Rc::new(RefCell::new(state))), memory: None, queue_memory_bytes }
    }

    /// For a test that would be no use, or too much, by way of a socket.
    pub(crate) fn only_in_process(&self, why: &str) {
        if matches!(self.node, Node::Elsewhere(_)) {
            skip(why);
        }
    }

    /// The node in this process.
    fn state(&self) -> &Rc<RefCell<State>> {
        match &self.node {
            Node::Here(state) => state,
            Node::Elsewhere(_) => skip("the test looks into its node, or restarts it"),
        }
    }

    /// The node itself, for what no client can see or do.
    pub(crate) fn broker(&self) -> Arc<Broker> {
        Arc::clone(&self.state().borrow().broker)
    }

    /// Sets a policy of the vhost "/" and lets it take effect.
    pub(crate) fn set_policy(&self, kind: PolicyKind, policy: PolicySpec) -> PolicySet {
        let (broker, now) = (self.broker(), self.state().borrow().now);
        let vhost = broker.vhost("/").unwrap();
        let set = broker.set_policy(&vhost, kind, policy, &self.guest(), now).unwrap();
        self.pump();
        set
    }

    /// Who may do everything.
    pub(crate) fn guest(&self) -> Identity {
        let user = self.broker().access().user("guest").unwrap();
        Identity { user, authority: None }
    }

    /// Takes a policy of the vhost "/" away; false when there was none.
    pub(crate) fn clear_policy(&self, kind: PolicyKind, name: &str) -> bool {
        let (broker, now) = (self.broker(), self.state().borrow().now);
        let vhost = broker.vhost("/").unwrap();
        let cleared = broker.clear_policy(&vhost, kind, name, "guest", now).is_some();
        self.pump();
        cleared
    }

    /// Adds a user with the password "secret" who may do nothing, or gives one other tags.
    pub(crate) fn put_user(&self, name: &str, tags: &[&str]) {
        let password = PasswordHash::new(Hashing::Sha256, b"secret", |salt| salt.fill(1));
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.broker().put_user(name, UserChange { password, tags });
        self.pump();
    }

    /// Switches tracing of the vhost "/" on or off.
    pub(crate) fn trace(&self, on: bool) {
        self.broker().vhost("/").unwrap().set_traced(on);
    }

    /// A client that has logged in as guest and has channel 1 open.
    pub(crate) fn client(&self) -> Client {
        self.client_as(&Login::default())
    }

    /// A client that has logged in this way and has channel 1 open.
    pub(crate) fn client_as(&self, login: &Login) -> Client {
        let client = self.stranger();
        client.log_in(login);
        client.open(1);
        client
    }

    /// A transport from the loopback address that nothing was sent over yet.
    pub(crate) fn stranger(&self) -> Client {
        self.stranger_from("127.0.0.1")
    }

    /// A transport from somewhere that nothing was sent over yet.
    pub(crate) fn stranger_from(&self, address: &str) -> Client {
        Client::new(match &self.node {
            Node::Here(state) => {
                let link = state.borrow_mut().connect(address);
                Box::new(Inside { state: Rc::clone(state), link })
            }
            Node::Elsewhere(oracle) => Box::new(oracle.connect(address)),
        })
    }

    /// Lets everything happen that is under way.
    pub(crate) fn pump(&self) {
        self.state().borrow_mut().pump();
    }

    /// Whether what queues left to the store is read back, or has to wait.
    pub(crate) fn hold_reads(&self, hold: bool) {
        self.state().borrow_mut().holds_reads = hold;
        self.pump();
    }

    /// Moves the clock, stopping at every deadline on the way.
    pub(crate) fn advance(&self, ms: u64) {
        let state = match &self.node {
            Node::Here(state) => state,
            Node::Elsewhere(oracle) => return oracle.advance(ms),
        };
        let mut state = state.borrow_mut();
        let target = state.now.mono_ms + ms;
        while let Some(due) = state.next_deadline().filter(|due| *due <= target) {
            state.set_time(due);
        }
        state.set_time(target);
    }

    /// This moment.
    pub(crate) fn now(&self) -> Now {
        self.state().borrow().now
    }

    /// Seconds of Unix time.
    pub(crate) fn unix_s(&self) -> u64 {
        match &self.node {
            Node::Here(state) => state.borrow().now.unix_ms / 1_000,
            Node::Elsewhere(oracle) => oracle.unix_s(),
        }
    }

    /// Connections that are open, as the node counts them.
    pub(crate) fn connection_count(&self) -> usize {
        self.state().borrow().broker.connection_count()
    }
}

impl State {
    fn connect(&mut self, address: &str) -> usize {
        let woken = Arc::new(Waker::default());
        let connection = self.connection(address, Arc::clone(&woken));
        self.links.push(Link {
            connection,
            woken,
            to_server: Vec::new(),
            to_client: Vec::new(),
            reads: None,
            closed: false,
        });
        self.links.len() - 1
    }

    fn connection(&self, address: &str, woken: Arc<Waker>) -> Connection {
        let port = u16::try_from(50_000 + self.links.len()).unwrap();
        let peer = PeerAddress {
            peer: (address.into(), port),
            host: ("127.0.0.1".into(), 5672),
            is_loopback: address.starts_with("127."),
            source: source(address),
            tls: None,
        };
        let (broker, session) = (Arc::clone(&self.broker), Arc::clone(&self.session));
        Connection::new(broker, session, peer, woken, self.now)
    }

    /// A client sends bytes.
    fn send(&mut self, link: usize, bytes: &[u8]) {
        self.links[link].to_server.extend_from_slice(bytes);
        self.pump();
    }

    /// A client goes away without a word.
    fn lose(&mut self, link: usize) {
        let now = self.now;
        let link = &mut self.links[link];
        link.connection.abort("connection reset by peer", now);
        link.closed = true;
        self.pump();
    }

    /// The task that drives a connection panics.
    fn crash(&mut self, link: usize) {
        let unused = self.connection("127.0.0.1", Arc::new(Waker::default()));
        let link = &mut self.links[link];
        drop(std::mem::replace(&mut link.connection, unused));
        link.closed = true;
        self.pump();
    }

    /// A client takes so many bytes more of what is written to it, or everything from now on.
    fn set_reading(&mut self, link: usize, reads: Option<usize>) {
        self.links[link].reads = reads;
        self.pump();
    }

    fn pump(&mut self) {
        let mut turns = 0;
        loop {
            let now = self.now;
            let turned = self.links.iter_mut().filter(|link| !link.closed);
            let worked = turned.map(|link| link.turn(now)).filter(|worked| *worked).count();
            let is_due = self.broker.timers().next().is_some_and(|at_ms| at_ms <= now.unix_ms);
            // Last, so that whoever can do without what is being read goes on meanwhile.
            if is_due {
                self.broker.handle_deadlines(now);
            } else if worked == 0 && (self.holds_reads || !self.broker.read_back(now)) {
                return;
            }
            turns += 1;
            assert!(turns < 100_000, "the connections never come to rest");
        }
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
}

impl Link {
    /// One turn, as the edge takes it; false when there was nothing to do.
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
        if self.connection.wants_input() && !self.to_server.is_empty() {
            let used = self.connection.handle_input(&self.to_server, now);
            self.to_server.drain(..used);
            worked |= used > 0;
        }
        worked | self.write(now)
    }

    fn write(&mut self, now: Now) -> bool {
        let mut worked = false;
        while !self.connection.output().is_empty() && self.reads != Some(0) {
            let mut slices = Vec::new();
            self.connection.output().slices(&mut slices);
            let before = self.to_client.len();
            slices.iter().for_each(|slice| self.to_client.extend_from_slice(slice));
            if let Some(left) = self.reads {
                self.to_client.truncate(before + left);
            }
            let written = self.to_client.len() - before;
            assert!(written > 0, "output that is not empty has something to write");
            self.reads = self.reads.map(|left| left - written);
            self.connection.handle_written(written, now);
            worked = true;
        }
        worked
    }
}

impl Transport for Inside {
    fn send(&self, bytes: &[u8]) {
        self.state.borrow_mut().send(self.link, bytes);
    }

    fn receive(&self, into: &mut Vec<u8>, _patience: Patience) -> bool {
        let mut state = self.state.borrow_mut();
        let bytes = &mut state.links[self.link].to_client;
        let came = !bytes.is_empty();
        into.append(bytes);
        came
    }

    fn is_closed(&self, _patience: Patience) -> bool {
        self.state.borrow().links[self.link].closed
    }

    fn lose(&self) {
        self.state.borrow_mut().lose(self.link);
    }

    fn crash(&self) {
        self.state.borrow_mut().crash(self.link);
    }

    fn set_reading(&self, reads: Option<usize>) {
        self.state.borrow_mut().set_reading(self.link, reads);
    }

    fn ended_because(&self) -> Option<String> {
        self.state.borrow().links[self.link].connection.ended_because().map(str::to_owned)
    }

    fn is_listened_to(&self) -> bool {
        self.state.borrow().links[self.link].connection.wants_input()
    }

    fn unheard_bytes(&self) -> usize {
        self.state.borrow().links[self.link].to_server.len()
    }

    fn unread_bytes(&self) -> usize {
        self.state.borrow().links[self.link].connection.output().len()
    }
}
