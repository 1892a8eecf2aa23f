//! The world of a simulation: a broker on a faulty disk, clients, time; and who moves next.
//!
//! Everything is decided by one seed. A step is something small: a client sends, bytes arrive, a
//! connection turns, a write or a sync ends, time passes, a read comes back, something breaks.
//! After each the judge sees what has happened.
//!
//! | file | what is there |
//! | --- | --- |
//! | this one | lives, and steps |
//! | `world/end.rs` | rest, and the end |
//! | `world/counts.rs` | what is compared with the broker's own counts |

mod counts;
mod end;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use leveret::broker::inspect::Inspect as _;
use leveret::broker::{Broker, BrokerSettings, Now};
use leveret::protocol::method::Method;
use leveret::session::SessionSettings;
use leveret::store::Store;
use leveret::store::faulty::{Faults, FaultyStore, Writing};

use super::client::{Client, Numbers, PUBLISHING};
use super::disk::{Disk, Gate};
use super::judge::{Asked, End, Judge, Tally};
use super::link::{Done, Link};
use super::message;
use super::plan::{DIRECT, FANOUT, LATER, Plan};
use super::random::Random;
use crate::checks::node::{entropy, handshake};
use crate::checks::passing;
use crate::support::client::close_connection;
use crate::support::received::Received;
use crate::support::*;

const FRAME_BYTES_MAX: u32 = 131_072;
/// Bytes that a client leaves unheard before it stops to send.
const UNHEARD_BYTES_MAX: usize = 64 * 1024;

/// What a simulation is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) steps: u64,
    /// The disk says that it has synced, and has not.
    pub(super) disk_lies: bool,
    /// Everything that happens is written to the standard error.
    pub(super) is_told: bool,
}

/// How a simulation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Of everything that was written, submitted and done.
    pub(super) hash: u64,
    pub(super) tally: Tally,
    /// What was wrong, if anything.
    pub(super) violation: Option<String>,
}

/// Runs a simulation to its end. A panic of the broker's is a violation, too.
pub(super) fn run(settings: Settings) -> Outcome {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(settings);
        world.run(settings.steps);
        world.outcome()
    }));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Some(format!("panicked: {}", text.unwrap_or_default()));
        Outcome { hash: 0, tally: Tally::default(), violation }
    })
}

/// A read that has read, and has not come back.
struct HeldRead {
    /// What it brings back is expired, moved and dated as of then.
    since: Now,
    go_on: Sender<()>,
    thread: JoinHandle<bool>,
}

struct World {
    random: Random,
    settings: Settings,
    plan: Plan,
    judge: Judge,
    broker: Arc<Broker>,
    disk: Arc<Disk>,
    session: Arc<SessionSettings>,
    queue_memory_bytes: u64,
    now: Now,
    links: BTreeMap<usize, Link>,
    next_link: usize,
    clients: Vec<Option<(usize, Client)>>,
    numbers: Numbers,
    read: Option<HeldRead>,
    hash: u64,
}

impl World {
    fn new(settings: Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let plan = Plan::drawn(&mut random);
        let queue_memory_bytes = random.pick(&[64 << 20, 64 << 20, 0, 1_500, 40_000]);
        let clients = 2 + random.index(4);
        let now = Now { mono_ms: 1_000, unix_ms: 1_795_000_000_000 };
        let session = SessionSettings { ack_ms_max: u64::MAX / 4, ..SessionSettings::default() };
        let (writing, lies) = (Writing::Manual, settings.disk_lies);
        let faults = Faults { writing, lies, ..Faults::default() };
        let disk = Arc::new(Disk::new(FaultyStore::new(faults)));
        let broker = open(&disk, queue_memory_bytes, now).unwrap();
        let mut world = Self {
            random,
            settings,
            judge: Judge::new(plan.clone()),
            plan,
            broker,
            disk,
            session: Arc::new(session),
            queue_memory_bytes,
            now,
            links: BTreeMap::new(),
            next_link: 0,
            clients: (0..clients).map(|_| None).collect(),
            numbers: Numbers::default(),
            read: None,
            hash: 0xcbf2_9ce4_8422_2325,
        };
        world.tell(|| format!("{:#?}", world.plan));
        world.set_up();
        world
    }

    fn outcome(&self) -> Outcome {
        let violation = self.judge.violation().map(str::to_owned);
        Outcome { hash: self.hash, tally: self.judge.tally, violation }
    }

    fn run(&mut self, steps: u64) {
        for step in 0..steps {
            self.step();
            if step % 8 == 0 {
                self.check_counts();
            }
            if self.judge.violation().is_some() {
                return;
            }
        }
        self.finish();
    }

    // ---- lives -------------------------------------------------------------------------------

    /// Declares what is in the plan, if it is not there, and lets the clients in.
    fn set_up(&mut self) {
        let link = self.connect();
        let mut bytes = handshake(FRAME_BYTES_MAX, 0);
        let open = Method::ChannelOpen(Default::default());
        open.write(1, &mut bytes);
        exchange(FANOUT, "fanout").durable().write(1, &mut bytes);
        let later = exchange(LATER, "x-delayed-message").durable();
        later.arg("x-delayed-type", "fanout").write(1, &mut bytes);
        for queue in &self.plan.queues {
            queue.declaration(&self.plan.queues).write(1, &mut bytes);
        }
        for (exchange, bound) in [(FANOUT, &self.plan.fanout), (LATER, &self.plan.later)] {
            for queue in bound {
                bind(&self.plan.queues[*queue].name, exchange, "").write(1, &mut bytes);
            }
        }
        close_connection().write(0, &mut bytes);
        self.links.get_mut(&link).unwrap().send(&bytes, 0, Asked::Other);
        self.settle_down();
        let vhost = self.broker.vhost("/").unwrap();
        let mut keys = BTreeMap::new();
        for (at, queue) in self.plan.queues.iter().enumerate() {
            let found = vhost.queue(queue.name.as_bytes());
            let Some(found) = found else {
                return self.judge.fail(format!("{} could not be declared", queue.name));
            };
            keys.insert(found.key().queue, Some(at));
        }
        self.judge.know_keys(keys);
        for at in 0..self.clients.len() {
            self.reconnect(at);
        }
    }

    fn connect(&mut self) -> usize {
        let number = self.next_link;
        self.next_link += 1;
        let link = Link::new(&self.broker, &self.session, number, self.now);
        self.links.insert(number, link);
        number
    }

    fn reconnect(&mut self, at: usize) {
        let number = self.connect();
        let (mut client, requests) = Client::new(at as u64, &mut self.numbers);
        client.defined_are(|what| is_defined(&self.broker, what));
        let link = self.links.get_mut(&number).unwrap();
        link.send(&handshake(FRAME_BYTES_MAX, 0), 0, Asked::Other);
        self.clients[at] = Some((number, client));
        self.send(number, requests);
    }

    fn send(&mut self, link: usize, requests: Vec<super::client::Request>) {
        for request in requests {
            if let Some(is_transactional) = request.opens {
                self.judge.open(link, request.channel, is_transactional);
            }
            if let Some((id, sent)) = &request.sent {
                self.judge.send(*id, sent.clone());
            }
            self.links.get_mut(&link).unwrap().request(request);
        }
    }

    /// The broker ends, and a new one starts on what the disk has kept.
    fn crash(&mut self, end: End) {
        self.release_read();
        let seed = self.random.number();
        let faults = Faults {
            seed,
            writing: Writing::Manual,
            lies: self.settings.disk_lies,
            ..Faults::default()
        };
        let faulty = match end {
            End::Process => self.disk.faulty.kill(faults),
            End::Power => self.disk.faulty.crash(faults),
        };
        self.note(faulty.submitted().0);
        self.links.clear();
        self.clients.iter_mut().for_each(|client| *client = None);
        self.tell(|| format!("{end:?} ends, {:?} kept", faulty.submitted()));
        self.judge.crash(end, faulty.submitted().0);
        self.disk = Arc::new(Disk::new(faulty));
        self.pass(self.random.clone().below(3_000));
        match open(&self.disk, self.queue_memory_bytes, self.now) {
            Ok(broker) => self.broker = broker,
            Err(error) => return self.judge.fail(format!("it does not start again: {error}")),
        }
        self.judge.check_definitions(|what| is_defined(&self.broker, what));
        self.check_recovered();
        self.set_up();
    }

    // ---- steps -------------------------------------------------------------------------------

    fn step(&mut self) {
        let kind = self.random.below(1_000);
        self.note(kind);
        match kind {
            0..220 => self.act(),
            220..560 => self.turn_any(),
            560..740 => self.look(),
            740..810 => {
                let batches = 1 + self.random.below(6);
                self.disk.faulty.write_first(batches);
            }
            810..870 => {
                let batches = 1 + self.random.index(8);
                self.disk.faulty.sync_first(batches);
            }
            870..920 => {
                let ms = self.random.pick(&[0, 1, 3, 20, 60, 300, 1_500]);
                self.pass(ms);
            }
            920..945 => self.handle_deadlines(),
            945..970 => self.read_back(),
            970..985 => self.release_read(),
            985..990 => self.stall(),
            990..992 => self.vanish(),
            992..994 if self.random.one_in(4) => {
                self.disk.faulty.break_down("made to fail");
            }
            994 if self.random.one_in(8) => self.disk.fail_next_read(true),
            995..998 if self.random.one_in(3) => {
                let end = if self.random.one_in(2) { End::Process } else { End::Power };
                self.crash(end);
            }
            _ => {}
        }
        if self.disk.failure().is_some() {
            self.judge.store_has_failed();
            // The process ends as soon as it has noticed.
            if self.random.one_in(20) {
                let end = if self.random.one_in(2) { End::Process } else { End::Power };
                self.crash(end);
            }
        }
    }

    fn act(&mut self) {
        let at = self.random.index(self.clients.len());
        let Some((number, client)) = &mut self.clients[at] else { return self.reconnect(at) };
        let number = *number;
        let link = self.links.get(&number);
        let Some(link) = link else {
            self.clients[at] = None;
            return;
        };
        if link.unheard_bytes() < UNHEARD_BYTES_MAX {
            let unconfirmed = self.judge.unanswered(number, PUBLISHING);
            let (plan, random) = (&self.plan, &mut self.random);
            let requests = client.act(plan, random, &mut self.numbers, unconfirmed);
            self.send(number, requests);
        }
    }

    fn turn_any(&mut self) {
        let Some(number) = self.any_link() else { return };
        let piece = match self.random.below(6) {
            0 => self.random.index(60),
            1 => self.random.index(2_000),
            _ => usize::MAX,
        };
        self.links.get_mut(&number).unwrap().arrive(piece);
        self.turn(number);
    }

    fn any_link(&mut self) -> Option<usize> {
        let len = self.links.len();
        (len > 0).then(|| *self.links.keys().nth(self.random.index(len)).unwrap())
    }

    /// One turn of a connection. True when there was something to do.
    fn turn(&mut self, number: usize) -> bool {
        let mut worked = false;
        for part in [Link::look_after, Link::take] {
            let Some(link) = self.links.get_mut(&number) else { return worked };
            worked |= link.write(self.now);
            if link.connection.is_finished() {
                self.links.remove(&number);
                self.judge.lose(number);
                return true;
            }
            let done = part(link, self.now);
            worked |= done.worked;
            self.judge_done(number, done);
        }
        if let Some(link) = self.links.get_mut(&number) {
            worked |= link.write(self.now);
        }
        worked
    }

    /// What the judge makes of what a connection has done.
    fn judge_done(&mut self, number: usize, Done { asked, said, bytes, .. }: Done) {
        if self.disk.failure().is_some() {
            self.judge.store_has_failed();
        }
        for (channel, asked) in &asked {
            self.tell(|| format!("{number}/{channel} asks {asked:?}"));
            self.judge.taken(number, *channel, asked);
        }
        self.judge_submitted();
        self.judge_said(number, &said, bytes);
        self.judge.rest();
        let is_over =
            |received: &Received| matches!(received.method(), Method::ConnectionCloseOk(_));
        if said.iter().any(is_over)
            && let Some(mut link) = self.links.remove(&number)
        {
            link.connection.abort("closed by its client", self.now);
            self.judge_disk();
        }
    }

    fn judge_said(&mut self, number: usize, said: &[Received], bytes: Vec<u8>) {
        for received in said {
            self.tell(|| format!("{number}/{} is told {}", received.channel, shown(received)));
            self.judge.wrote(number, received, self.disk.reached());
        }
        bytes.into_iter().for_each(|byte| self.note(u64::from(byte)));
    }

    /// What was submitted in a step in which no connection has said anything.
    fn judge_disk(&mut self) {
        self.judge_submitted();
        self.judge.rest();
    }

    fn judge_submitted(&mut self) {
        let submitted = self.disk.take_submitted();
        for batch in &submitted {
            self.note(batch.lsn);
            self.note(batch.changes.len() as u64);
            self.tell(|| format!("batch {} {:?}", batch.lsn, batch.changes));
        }
        self.judge.submitted(&submitted);
    }

    /// A client looks at some of what has come.
    fn look(&mut self) {
        let at = self.random.index(self.clients.len());
        let Some((number, client)) = &mut self.clients[at] else { return };
        let number = *number;
        let Some(link) = self.links.get_mut(&number) else { return };
        let mut requests = Vec::new();
        for _ in 0..=self.random.below(6) {
            let Some(received) = link.inbox.pop_front() else { break };
            requests.extend(client.sees(&received, &mut self.numbers));
        }
        self.send(number, requests);
    }

    fn pass(&mut self, ms: u64) {
        let to_ms = self.now.mono_ms + ms;
        let links = self.links.values_mut().map(|link| &mut link.connection);
        passing::pass(&mut self.now, to_ms, links);
        self.judge.set_time(self.now.unix_ms);
        let numbers: Vec<usize> = self.links.keys().copied().collect();
        self.judge_submitted();
        for number in numbers {
            let link = self.links.get_mut(&number).unwrap();
            let Done { said, bytes, .. } = link.listen(self.now);
            self.judge_said(number, &said, bytes);
        }
        self.judge.rest();
    }

    fn handle_deadlines(&mut self) {
        self.broker.handle_deadlines(self.now);
        self.judge_disk();
    }

    /// Something is read back from the disk, at once or after a while.
    fn read_back(&mut self) {
        if self.read.is_some() || self.random.one_in(2) {
            self.broker.read_back(self.now);
            return self.judge_disk();
        }
        let (has_read, reads) = channel();
        let (go_on, goes_on) = channel();
        self.disk.hold_next_read(Gate { has_read: has_read.clone(), go_on: goes_on });
        let (broker, now) = (Arc::clone(&self.broker), self.now);
        let thread = std::thread::spawn(move || {
            let worked = catch_unwind(AssertUnwindSafe(|| broker.read_back(now)));
            let _ = has_read.send(false);
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        if reads.recv().unwrap() {
            self.judge.tally.late_reads += 1;
            self.read = Some(HeldRead { since: now, go_on, thread });
        } else {
            self.disk.hold_no_read();
            join(thread);
            self.judge_disk();
        }
    }

    fn release_read(&mut self) {
        if let Some(HeldRead { since, go_on, thread }) = self.read.take() {
            go_on.send(()).unwrap();
            join(thread);
            self.judge.set_time(since.unix_ms);
            self.judge_disk();
            self.judge.set_time(self.now.unix_ms);
        }
    }

    fn stall(&mut self) {
        if let Some(number) = self.any_link() {
            let link = self.links.get_mut(&number).unwrap();
            link.stalled = !link.stalled;
        }
    }

    /// A client is gone without a word.
    fn vanish(&mut self) {
        let Some(number) = self.any_link() else { return };
        let mut link = self.links.remove(&number).unwrap();
        self.tell(|| format!("{number} vanishes"));
        self.judge.lose(number);
        link.connection.abort("connection reset by peer", self.now);
        self.judge_disk();
    }

    // ---- notes -------------------------------------------------------------------------------

    /// Tells what happens, if anyone wants to read it.
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.settings.is_told {
            eprintln!("{} {}", self.now.unix_ms, what());
        }
    }

    fn note(&mut self, what: u64) {
        self.hash = (self.hash ^ what).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

fn open(
    disk: &Arc<Disk>,
    queue_memory_bytes: u64,
    now: Now,
) -> Result<Arc<Broker>, leveret::store::StoreError> {
    let settings = BrokerSettings { queue_memory_bytes, ..BrokerSettings::default() };
    let store = Arc::clone(disk) as Arc<dyn Store>;
    Broker::open(settings, store, entropy(), now)
}

/// Whether something is declared, by the judge's name for it.
fn is_defined(broker: &Broker, what: &str) -> bool {
    let (kind, name) = what.split_once(' ').unwrap();
    let vhost = broker.vhost("/").unwrap();
    match kind {
        "queue" => vhost.queue(name.as_bytes()).is_some(),
        "exchange" => vhost.exchange(name.as_bytes()).is_some(),
        _ => broker
            .bindings(Some("/"))
            .iter()
            .any(|binding| binding.source == DIRECT && binding.destination == name),
    }
}

/// What a client is told, short enough to read.
fn shown(received: &Received) -> String {
    match received.content() {
        Some(it) => format!(
            "{:?} {} of {:?}, redelivered {}",
            message::id(&it.body),
            it.delivery_tag,
            it.consumer_tag,
            it.redelivered
        ),
        None => format!("{:?}", received.method()),
    }
}

fn join(thread: JoinHandle<bool>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
