//! The clients of a simulation: what each does next, and what it makes of what it sees.
//!
//! Invariant: a client asks only for what a server must grant, for the judge takes every refusal
//! for a mistake of the broker's. It settles only what it holds, waits for an answer before it uses
//! a channel that it has closed, and only one channel of one client declares and deletes what is
//! not in the plan.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leveret::protocol::method::Method;

use super::judge::{Asked, Sent, Settling};
use super::message;
use super::plan::{DIRECT, FANOUT, LATER, Plan};
use super::random::Random;
use crate::support::client::close_connection;
use crate::support::received::Received;
use crate::support::*;

/// Publishes, confirmed.
pub(super) const PUBLISHING: u16 = 1;
/// Consumes.
const CONSUMING: u16 = 2;
/// Publishes and consumes in transactions.
const TRANSACTING: u16 = 3;
/// Declares, deletes, purges.
const DECLARING: u16 = 4;
/// Publishes that a client does not wait for the confirms of.
const WINDOW_MAX: usize = 12;
const CONSUMERS_MAX: usize = 4;
/// How long a delayed message waits at most.
pub(super) const DELAY_MS_MAX: u64 = 900;
/// Names for what comes and goes.
const NAMES: u64 = 3;

/// What the clients of one simulation share: numbers that are never used twice.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    messages: u32,
    tags: u64,
    origins: u64,
}

impl Numbers {
    fn next(number: &mut u64) -> u64 {
        *number += 1;
        *number
    }
}

/// Something a client sends.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) channel: u16,
    pub(super) bytes: Vec<u8>,
    pub(super) asked: Asked,
    /// The message, if it is one.
    pub(super) sent: Option<(u32, Sent)>,
    /// Whether it opens the channel: in transaction mode, or not.
    pub(super) opens: Option<bool>,
}

/// A client with a connection.
#[derive(Debug)]
pub(super) struct Client {
    number: u64,
    origins: BTreeMap<u16, u64>,
    held: BTreeMap<u16, BTreeSet<u64>>,
    /// Acknowledged or refused in the transaction that is under way.
    uncommitted: BTreeSet<u64>,
    consumers: Vec<(u16, String)>,
    /// Consumers that do not acknowledge, those included that were cancelled.
    automatic: BTreeSet<String>,
    /// Whether what is fetched is to be acknowledged, by channel.
    gets: BTreeMap<u16, VecDeque<bool>>,
    /// Channels that wait for an answer before they are used again.
    waiting: BTreeSet<u16>,
    /// What it has declared, as far as it has asked for it.
    defined: BTreeSet<String>,
    is_done: bool,
}

fn request(channel: u16, what: &dyn crate::support::Request, asked: Asked) -> Request {
    let mut bytes = Vec::new();
    what.write(channel, &mut bytes);
    Request { channel, bytes, asked, sent: None, opens: None }
}

impl Client {
    /// A client that has just connected, and the requests that open its channels.
    pub(super) fn new(number: u64, numbers: &mut Numbers) -> (Self, Vec<Request>) {
        let mut client = Self {
            number,
            origins: BTreeMap::new(),
            held: BTreeMap::new(),
            uncommitted: BTreeSet::new(),
            consumers: Vec::new(),
            automatic: BTreeSet::new(),
            gets: BTreeMap::new(),
            waiting: BTreeSet::new(),
            defined: BTreeSet::new(),
            is_done: false,
        };
        let channels = [PUBLISHING, CONSUMING, TRANSACTING, DECLARING];
        let opened =
            channels.into_iter().flat_map(|channel| client.open(channel, numbers)).collect();
        (client, opened)
    }

    fn open(&mut self, channel: u16, numbers: &mut Numbers) -> Vec<Request> {
        self.origins.insert(channel, Numbers::next(&mut numbers.origins));
        self.held.insert(channel, BTreeSet::new());
        let open = Method::ChannelOpen(Default::default());
        let mut requests = vec![request(channel, &open, Asked::Other)];
        requests[0].opens = Some(channel == TRANSACTING);
        match channel {
            PUBLISHING => requests.push(request(channel, &confirm_select(), Asked::Other)),
            TRANSACTING => requests.push(request(channel, &tx_select(), Asked::Other)),
            _ => {}
        }
        requests
    }

    /// What the broker has after a crash of what this client has declared.
    pub(super) fn defined_are(&mut self, is_there: impl Fn(&str) -> bool) {
        self.defined = (0..NAMES)
            .flat_map(|n| [self.queue_name(n), self.exchange_name(n), self.binding_name(n)])
            .filter(|what| is_there(what))
            .collect();
    }

    fn queue_name(&self, n: u64) -> String {
        format!("queue v{}-{n}", self.number)
    }

    fn exchange_name(&self, n: u64) -> String {
        format!("exchange x{}-{n}", self.number)
    }

    fn binding_name(&self, n: u64) -> String {
        format!("binding v{}-{n}", self.number)
    }

    /// What it does next; nothing when it would have to wait.
    pub(super) fn act(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        numbers: &mut Numbers,
        unconfirmed: usize,
    ) -> Vec<Request> {
        if self.is_done {
            return Vec::new();
        }
        let one = |request: Option<Request>| request.into_iter().collect();
        match random.below(100) {
            0..30 if unconfirmed < WINDOW_MAX => {
                let burst = 1 + random.below(6);
                (0..burst).filter_map(|_| self.publish(PUBLISHING, plan, random, numbers)).collect()
            }
            0..38 => one(self.consume(plan, random, numbers)),
            38..40 => one(self.cancel(random)),
            40..48 => one(self.get(plan, random)),
            48..72 => one(self.settle(CONSUMING, random)),
            72..88 => self.transact(plan, random, numbers),
            88..96 => one(self.define(plan, random)),
            96 => one(self.recover()),
            97 => one(self.close(random)),
            98 if random.one_in(4) => {
                self.is_done = true;
                vec![request(0, &close_connection(), Asked::CloseConnection)]
            }
            _ => Vec::new(),
        }
    }

    fn publish(
        &mut self,
        channel: u16,
        plan: &Plan,
        random: &mut Random,
        numbers: &mut Numbers,
    ) -> Option<Request> {
        if self.waiting.contains(&channel) {
            return None;
        }
        let is_transactional = channel == TRANSACTING;
        let any = |random: &mut Random| plan.queues[random.index(plan.queues.len())].name.clone();
        let (exchange, key) = match random.below(10) {
            0..6 => ("", any(random)),
            6..8 => (FANOUT, String::new()),
            8 => (LATER, String::new()),
            _ => (DIRECT, format!("v{}-{}", self.number, random.below(NAMES))),
        };
        let homes = plan.homes(exchange, &key);
        if is_transactional && homes.iter().any(|home| plan.queues[*home].rejects) {
            return None;
        }
        let id = numbers.messages;
        numbers.messages += 1;
        let sent = Sent {
            exchange,
            homes,
            persistent: !random.one_in(5),
            mandatory: exchange != DIRECT && random.one_in(8),
            ttl_ms: random.perhaps(10, &[0, 20, 400]),
            priority: u8::try_from(random.below(5)).unwrap(),
            delay_ms: (exchange == LATER)
                .then(|| random.perhaps(2, &[1, 80, DELAY_MS_MAX]))
                .flatten(),
            group: random.perhaps(2, &[0, 1, 2]),
            origin: self.origins[&channel],
            ..Sent::default()
        };
        let mut properties = props().priority(sent.priority);
        if sent.persistent {
            properties = properties.persistent();
        }
        if let Some(ms) = sent.ttl_ms {
            properties = properties.expiration(ms.to_string());
        }
        if let Some(ms) = sent.delay_ms {
            properties = properties.header("x-delay", i64::try_from(ms).unwrap());
        }
        if let Some(group) = sent.group {
            properties = properties.header("x-group-id", i32::from(group));
        }
        let mut what = publish(exchange, &key, message::body(id, random)).with(properties);
        if sent.mandatory {
            what = what.mandatory();
        }
        let sent = Some((id, sent));
        Some(Request { sent, ..request(channel, &what, Asked::Publish(id)) })
    }

    fn consume(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        numbers: &mut Numbers,
    ) -> Option<Request> {
        let channel = if random.one_in(3) { TRANSACTING } else { CONSUMING };
        if self.consumers.len() >= CONSUMERS_MAX || self.waiting.contains(&channel) {
            return None;
        }
        let queue = random.index(plan.queues.len());
        let tag = format!("t{}", Numbers::next(&mut numbers.tags));
        let (no_ack, limit) = (random.one_in(8), random.pick(&[0, 1, 2, 5, 20]));
        self.consumers.push((channel, tag.clone()));
        if no_ack {
            self.automatic.insert(tag.clone());
        }
        let what = consume(&plan.queues[queue].name, &tag);
        let what = if no_ack { what.no_ack() } else { what };
        let mut bytes = request(channel, &prefetch(limit), Asked::Other).bytes;
        let asked = Asked::Consume { tag, queue, no_ack, prefetch: limit };
        let consume = request(channel, &what, asked);
        bytes.extend_from_slice(&consume.bytes);
        Some(Request { bytes, ..consume })
    }

    fn cancel(&mut self, random: &mut Random) -> Option<Request> {
        if self.consumers.is_empty() {
            return None;
        }
        let (channel, tag) = self.consumers.swap_remove(random.index(self.consumers.len()));
        Some(request(channel, &cancel(&tag), Asked::Cancel))
    }

    fn get(&mut self, plan: &Plan, random: &mut Random) -> Option<Request> {
        let channel = if random.one_in(4) { TRANSACTING } else { CONSUMING };
        if self.waiting.contains(&channel) {
            return None;
        }
        let (queue, no_ack) = (random.index(plan.queues.len()), random.one_in(6));
        if plan.queues[queue].quorum && plan.queues[queue].single_active {
            return None;
        }
        let what = get(&plan.queues[queue].name);
        let what = if no_ack { what.no_ack() } else { what };
        self.gets.entry(channel).or_default().push_back(!no_ack);
        Some(request(channel, &what, Asked::Get { queue, no_ack }))
    }

    fn settle(&mut self, channel: u16, random: &mut Random) -> Option<Request> {
        let held = self.held.get_mut(&channel)?;
        if held.is_empty() || self.waiting.contains(&channel) {
            return None;
        }
        let tag = *held.iter().nth(random.index(held.len())).unwrap();
        let multiple = random.one_in(3);
        let settled: Vec<u64> =
            if multiple { held.range(..=tag).copied().collect() } else { vec![tag] };
        for tag in settled {
            held.remove(&tag);
            if channel == TRANSACTING {
                self.uncommitted.insert(tag);
            }
        }
        let then = if random.one_in(2) { Then::Requeue } else { Then::Discard };
        let (what, how) = match (random.one_in(3), multiple) {
            (true, true) => (nack_up_to(tag, then), Settling::Refuse(then)),
            (true, false) if random.one_in(2) => (reject(tag, then), Settling::Refuse(then)),
            (true, false) => (nack(tag, then), Settling::Refuse(then)),
            (false, true) => (ack_up_to(tag), Settling::Ack),
            (false, false) => (ack(tag), Settling::Ack),
        };
        Some(request(channel, &what, Asked::Settle { tag, multiple, how }))
    }

    fn transact(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        numbers: &mut Numbers,
    ) -> Vec<Request> {
        if self.waiting.contains(&TRANSACTING) {
            return Vec::new();
        }
        let mut requests = Vec::new();
        for _ in 0..=random.below(3) {
            requests.extend(match random.below(6) {
                0..2 => self.publish(TRANSACTING, plan, random, numbers),
                2..4 => self.settle(TRANSACTING, random),
                4 => {
                    self.uncommitted.clear();
                    Some(request(TRANSACTING, &tx_commit(), Asked::Commit))
                }
                _ if random.one_in(4) => {
                    let undone = std::mem::take(&mut self.uncommitted);
                    self.held.entry(TRANSACTING).or_default().extend(undone);
                    Some(request(TRANSACTING, &tx_rollback(), Asked::Rollback))
                }
                _ => None,
            });
        }
        requests
    }

    /// Declares, binds or deletes something of its own, or purges a queue.
    fn define(&mut self, plan: &Plan, random: &mut Random) -> Option<Request> {
        if !self.waiting.insert(DECLARING) {
            return None;
        }
        let n = random.below(NAMES);
        let name = format!("v{}-{n}", self.number);
        let (of_queue, of_exchange) = (self.queue_name(n), self.exchange_name(n));
        let binding = self.binding_name(n);
        let define = |what: &String, exists, takes: &[&String]| Asked::Define {
            what: what.clone(),
            exists,
            takes: takes.iter().map(|what| (*what).clone()).collect(),
        };
        Some(match random.below(8) {
            0..3 => {
                self.defined.insert(of_queue.clone());
                let what = queue(&name).durable();
                request(DECLARING, &what, define(&of_queue, true, &[]))
            }
            3..5 if self.defined.contains(&of_queue) => {
                self.defined.insert(binding.clone());
                let what = bind(&name, DIRECT, &name);
                request(DECLARING, &what, define(&binding, true, &[]))
            }
            5 if self.defined.contains(&binding) => {
                self.defined.remove(&binding);
                let what = unbind(&name, DIRECT, &name);
                request(DECLARING, &what, define(&binding, false, &[]))
            }
            5 | 6 if self.defined.remove(&of_queue) => {
                self.defined.remove(&binding);
                let what = delete_queue(&name);
                request(DECLARING, &what, define(&of_queue, false, &[&binding]))
            }
            7 if random.one_in(4) => {
                let queue = random.index(plan.queues.len());
                let what = purge(&plan.queues[queue].name);
                request(DECLARING, &what, Asked::Purge { queue })
            }
            _ if self.defined.remove(&of_exchange) => {
                let what = delete_exchange(&format!("x{}-{n}", self.number));
                request(DECLARING, &what, define(&of_exchange, false, &[]))
            }
            _ => {
                self.defined.insert(of_exchange.clone());
                let what = exchange(&format!("x{}-{n}", self.number), "topic").durable();
                request(DECLARING, &what, define(&of_exchange, true, &[]))
            }
        })
    }

    fn recover(&mut self) -> Option<Request> {
        if !self.waiting.insert(CONSUMING) {
            return None;
        }
        self.held.insert(CONSUMING, BTreeSet::new());
        Some(request(CONSUMING, &recover(), Asked::Recover))
    }

    fn close(&mut self, random: &mut Random) -> Option<Request> {
        let channel = random.pick(&[PUBLISHING, CONSUMING, TRANSACTING]);
        if !self.waiting.insert(channel) {
            return None;
        }
        self.consumers.retain(|(at, _)| *at != channel);
        self.held.remove(&channel);
        self.gets.remove(&channel);
        if channel == TRANSACTING {
            self.uncommitted.clear();
        }
        Some(request(channel, &close_channel(), Asked::CloseChannel))
    }

    /// Looks at something that has come; what it asks for in return.
    pub(super) fn sees(&mut self, received: &Received, numbers: &mut Numbers) -> Vec<Request> {
        let channel = received.channel;
        match received.method() {
            Method::BasicDeliver(deliver) => {
                let tag = std::str::from_utf8(deliver.consumer_tag).unwrap();
                if !self.automatic.contains(tag) {
                    self.hold(channel, deliver.delivery_tag);
                }
            }
            Method::BasicGetOk(ok) => {
                let is_to_be_settled = self.fetched(channel);
                if is_to_be_settled {
                    self.hold(channel, ok.delivery_tag);
                }
            }
            Method::BasicGetEmpty(_) => {
                self.fetched(channel);
            }
            Method::BasicRecoverOk(_) => {
                self.waiting.remove(&channel);
            }
            Method::ChannelCloseOk(_) => {
                self.waiting.remove(&channel);
                return self.open(channel, numbers);
            }
            Method::QueueDeclareOk(_)
            | Method::QueueDeleteOk(_)
            | Method::QueueBindOk(_)
            | Method::QueueUnbindOk(_)
            | Method::QueuePurgeOk(_)
            | Method::ExchangeDeclareOk(_)
            | Method::ExchangeDeleteOk(_) => {
                self.waiting.remove(&DECLARING);
            }
            Method::ConnectionClose(_) => {
                self.is_done = true;
                let ok = Method::ConnectionCloseOk(Default::default());
                return vec![request(0, &ok, Asked::Other)];
            }
            _ => {}
        }
        Vec::new()
    }

    /// A basic.get is answered. True when its message is to be acknowledged.
    fn fetched(&mut self, channel: u16) -> bool {
        self.gets.get_mut(&channel).and_then(VecDeque::pop_front).unwrap_or(false)
    }

    /// A delivery that is to be settled, unless it is of no use by now.
    fn hold(&mut self, channel: u16, delivery_tag: u64) {
        if !self.waiting.contains(&channel)
            && let Some(held) = self.held.get_mut(&channel)
        {
            held.insert(delivery_tag);
        }
    }
}
