//! What the store suites share: batches in few words, the plain meaning of operations, and an
//! endless workload that is the same for the same seed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use leveret::broker::message::{Envelope, Message};
use leveret::store::{Backlog, Batch, DurableWaker, Lsn, Op, QueueKey, QueueSeq, Recovery, Store};

pub(super) fn queue(queue: u64) -> QueueKey {
    QueueKey { shard: 0, queue }
}

pub(super) fn message(body: &[u8]) -> Message {
    let envelope = Envelope {
        exchange: b"logs",
        routing_key: b"kern.crit",
        properties: &[0x10, 0x00, 2],
        persistent: true,
        hides_bcc: false,
        published_ms: 1_795_000_000_000,
    };
    Message::new(&envelope, body)
}

pub(super) fn enqueue(to: u64, seq: u64, body: &[u8]) -> Op {
    Op::Enqueue { queue: queue(to), seq: QueueSeq(seq), message: message(body) }
}

pub(super) fn settle(of: u64, seq: u64, body_bytes: u64) -> Op {
    Op::Settle { queue: queue(of), seq: QueueSeq(seq), body_bytes }
}

/// A purge of some messages, each with a body of so many bytes.
pub(super) fn purge(of: u64, numbers: Range<u64>, messages: u64, each_bytes: u64) -> Op {
    let (from, to) = (QueueSeq(numbers.start), QueueSeq(numbers.end));
    let body_bytes = messages * each_bytes;
    Op::Purge { queue: queue(of), from, to, except: Vec::new(), messages, body_bytes }
}

pub(super) fn drop_queue(of: u64) -> Op {
    Op::DropQueue { queue: queue(of), level_max: 0 }
}

pub(super) fn put_meta(key: &str, value: &str) -> Op {
    Op::PutMeta { key: key.into(), value: value.into() }
}

pub(super) fn del_meta(key: &str) -> Op {
    Op::DelMeta { key: key.into() }
}

pub(super) fn awaited(ops: impl IntoIterator<Item = Op>) -> Batch {
    Batch { ops: ops.into_iter().collect(), awaited: true }
}

pub(super) fn unawaited(ops: impl IntoIterator<Item = Op>) -> Batch {
    Batch { ops: ops.into_iter().collect(), awaited: false }
}

/// A waker that a test can wait for.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<u64>,
    ringing: Condvar,
}

impl Bell {
    pub(super) fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        drop(self.ringing.wait_while(rung, |rung| *rung == 0).unwrap());
    }

    pub(super) fn rung(&self) -> u64 {
        *self.rung.lock().unwrap()
    }
}

impl DurableWaker for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap() += 1;
        self.ringing.notify_all();
    }
}

/// Waits until the store has reached a place or failed.
pub(super) fn wait_for(store: &dyn Store, lsn: Lsn) {
    let bell = Arc::new(Bell::default());
    store.notify(lsn, Arc::clone(&bell) as Arc<dyn DurableWaker>);
    bell.wait();
}

/// A queue's unsettled bodies by number, and the first number that was never used.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct QueueState {
    pub(super) bodies: BTreeMap<u64, Vec<u8>>,
    pub(super) tail: u64,
}

impl std::fmt::Debug for QueueState {
    /// Numbers and sizes: bodies would bury what a failed comparison has to say.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes = self.bodies.iter().map(|(seq, body)| (seq, body.len()));
        f.debug_map().entries(sizes).finish()?;
        write!(f, " tail {}", self.tail)
    }
}

/// Everything a store keeps, said plainly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) meta: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) queues: BTreeMap<QueueKey, QueueState>,
}

impl State {
    /// What a store finds again. Checks the promised order on the way.
    pub(super) fn recovered(store: &dyn Store) -> Self {
        let mut recovered = Recovered::default();
        store.recover(&mut recovered).unwrap();
        recovered.check_counts();
        recovered.state
    }

    pub(super) fn apply(&mut self, batch: &Batch) {
        for op in &batch.ops {
            match op.clone() {
                Op::Enqueue { queue, seq, message } => {
                    let state = self.queues.entry(queue).or_default();
                    assert!(seq.0 >= state.tail);
                    state.bodies.insert(seq.0, message.body().to_vec());
                    state.tail = seq.0 + 1;
                }
                Op::Settle { queue, seq, .. } => {
                    if let Some(state) = self.queues.get_mut(&queue) {
                        state.bodies.remove(&seq.0);
                    }
                }
                Op::Purge { queue, from, to, except, .. } => {
                    if let Some(state) = self.queues.get_mut(&queue) {
                        let stays =
                            |seq: &u64| !(from.0..to.0).contains(seq) || except.contains(seq);
                        state.bodies.retain(|seq, _| stays(seq));
                    }
                }
                Op::DropQueue { queue, .. } => drop(self.queues.remove(&queue)),
                Op::PutMeta { key, value } => drop(self.meta.insert(key, value)),
                Op::DelMeta { key } => drop(self.meta.remove(&key)),
            }
        }
    }
}

#[derive(Default)]
struct Recovered {
    state: State,
    counted: Vec<Backlog>,
}

impl Recovered {
    /// What was counted must be what was there.
    fn check_counts(&self) {
        for backlog in &self.counted {
            let bodies = &self.state.queues[&backlog.queue].bodies;
            assert_eq!(backlog.messages, bodies.len() as u64);
            assert_eq!(
                backlog.body_bytes,
                bodies.values().map(|body| body.len() as u64).sum::<u64>()
            );
            assert!(bodies.first_key_value().is_none_or(|(first, _)| *first >= backlog.from.0));
        }
    }
}

impl Recovery for Recovered {
    fn meta(&mut self, key: &[u8], value: &[u8]) {
        assert!(self.state.queues.is_empty(), "a definition after a message");
        let last = self.state.meta.last_key_value();
        assert!(last.is_none_or(|(last, _)| last.as_slice() < key), "definitions out of order");
        self.state.meta.insert(key.to_vec(), value.to_vec());
    }

    fn backlog(&mut self, backlog: &Backlog) -> bool {
        let state = QueueState { tail: backlog.next, ..QueueState::default() };
        assert!(self.state.queues.insert(backlog.queue, state).is_none());
        self.counted.push(*backlog);
        true
    }

    fn message(&mut self, queue: QueueKey, seq: QueueSeq, message: Message) {
        assert!(self.counted.last().is_some_and(|last| last.queue == queue), "of another queue");
        assert_eq!(message.exchange(), b"logs");
        let state = self.state.queues.get_mut(&queue).unwrap();
        assert!(
            state.bodies.last_key_value().is_none_or(|(last, _)| *last < seq.0),
            "out of order"
        );
        assert!(seq.0 < state.tail);
        state.bodies.insert(seq.0, message.body().to_vec());
    }
}

/// What a store counts at start, without a look at any message.
pub(super) fn counts(store: &dyn Store) -> Vec<Backlog> {
    struct Counts(Vec<Backlog>);

    impl Recovery for Counts {
        fn meta(&mut self, _: &[u8], _: &[u8]) {}
        fn backlog(&mut self, backlog: &Backlog) -> bool {
            self.0.push(*backlog);
            false
        }
        fn message(&mut self, _: QueueKey, _: QueueSeq, _: Message) {
            panic!("a message nobody asked for");
        }
    }

    let mut counts = Counts(Vec::new());
    store.recover(&mut counts).unwrap();
    counts.0
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Batches without end. Each one counts itself in a definition, so that a recovered state says how
/// many there were; the state after so many is known for any seed.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    random: Random,
    pub(super) batches: u64,
    pub(super) state: State,
    /// The queues in use; a dropped one's number is never used again.
    queues: Vec<u64>,
    next_queue: u64,
}

const COUNT_KEY: &str = "batches";
const QUEUES: u64 = 6;

impl Workload {
    pub(super) fn new(seed: u64) -> Self {
        let state = State::default();
        let queues = (0..QUEUES).collect();
        Self { random: Random(seed), batches: 0, state, queues, next_queue: QUEUES }
    }

    /// The workload as it stood when a recovered state was current.
    pub(super) fn resumed(seed: u64, recovered: &State) -> Self {
        let count = recovered.meta.get(COUNT_KEY.as_bytes());
        let count = count.map_or(0, |count| String::from_utf8_lossy(count).parse().unwrap());
        let mut workload = Self::new(seed);
        while workload.batches < count {
            workload.next_batch();
        }
        workload
    }

    pub(super) fn next_batch(&mut self) -> Batch {
        self.batches += 1;
        let mut batch = awaited([put_meta(COUNT_KEY, &self.batches.to_string())]);
        batch.awaited = self.random.below(3) == 0;
        self.state.apply(&batch);
        for _ in 0..self.random.below(6) {
            let op = self.next_op();
            self.apply(&mut batch, op);
            if self.random.below(8) == 0 {
                self.fan_out(&mut batch);
            }
        }
        batch
    }

    fn apply(&mut self, batch: &mut Batch, op: Op) {
        self.state.apply(&unawaited([op.clone()]));
        batch.ops.push(op);
    }

    /// One message to several queues.
    fn fan_out(&mut self, batch: &mut Batch) {
        let (skipped, taken) = (self.random.below(QUEUES), self.random.below(QUEUES));
        let message = message(&self.body(skipped, self.batches));
        let index = |n| usize::try_from(n).unwrap();
        for of in self.queues.clone().into_iter().skip(index(skipped)).take(index(taken)) {
            let seq = QueueSeq(self.tail(of));
            let op = Op::Enqueue { queue: queue(of), seq, message: message.clone() };
            self.apply(batch, op);
        }
    }

    fn tail(&self, of: u64) -> u64 {
        self.state.queues.get(&queue(of)).map_or(0, |state| state.tail)
    }

    fn next_op(&mut self) -> Op {
        let slot = usize::try_from(self.random.below(QUEUES)).unwrap();
        let queue = self.queues[slot];
        let tail = self.tail(queue);
        match self.random.below(100) {
            0..50 => {
                let gap = if self.random.below(4) == 0 { self.random.below(3) } else { 0 };
                enqueue(queue, tail + gap, &self.body(queue, tail + gap))
            }
            50..93 => self.settle_one(queue),
            93..96 => self.purge_some(queue, tail),
            96 => {
                self.queues[slot] = self.next_queue;
                self.next_queue += 1;
                drop_queue(queue)
            }
            97 => del_meta(&format!("definition {}", self.random.below(20))),
            _ => put_meta(&format!("definition {}", self.random.below(20)), &tail.to_string()),
        }
    }

    fn settle_one(&mut self, queue: u64) -> Op {
        let at_head = self.random.below(4) > 0;
        let bodies = self.state.queues.get(&super::queue(queue)).map(|state| &state.bodies);
        let head = bodies.and_then(|bodies| bodies.keys().next().copied());
        let seq = if at_head { head } else { self.pick(queue) }.unwrap_or_default();
        settle(queue, seq, self.body_bytes(queue, seq..seq + 1).1)
    }

    fn purge_some(&mut self, queue: u64, tail: u64) -> Op {
        let from = self.random.below(tail + 1);
        let to = from + self.random.below(tail - from + 2);
        let (mut messages, mut body_bytes) = self.body_bytes(queue, from..to);
        let mut except = Vec::new();
        if self.random.below(2) > 0 && from < to {
            let stays = from + self.random.below(to - from);
            let (count, bytes) = self.body_bytes(queue, stays..stays + 1);
            (messages, body_bytes) = (messages - count, body_bytes - bytes);
            except.push(stays);
        }
        let (from, to) = (QueueSeq(from), QueueSeq(to));
        Op::Purge { queue: super::queue(queue), from, to, except, messages, body_bytes }
    }

    /// How many messages have these numbers, and how many bytes their bodies.
    fn body_bytes(&self, queue: u64, numbers: Range<u64>) -> (u64, u64) {
        let bodies = self.state.queues.get(&super::queue(queue)).map(|state| &state.bodies);
        let bodies = bodies.into_iter().flat_map(|bodies| bodies.range(numbers.clone()));
        bodies.fold((0, 0), |(n, bytes), (_, body)| (n + 1, bytes + body.len() as u64))
    }

    fn pick(&mut self, queue: u64) -> Option<u64> {
        let bodies = &self.state.queues.get(&super::queue(queue))?.bodies;
        let count = bodies.len() as u64;
        let at = self.random.below(count.max(1));
        bodies.keys().nth(usize::try_from(at).unwrap()).copied()
    }

    fn body(&mut self, queue: u64, seq: u64) -> Vec<u8> {
        let bytes = match self.random.below(60) {
            0 => 40_000,
            1..5 => 3_000,
            _ => self.random.below(300),
        };
        let stamp = format!("{queue}/{seq} ");
        stamp.bytes().cycle().take(usize::try_from(bytes).unwrap()).collect()
    }
}
