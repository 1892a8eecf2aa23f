//! Whole sessions: clients that do anything at any time, on one broker.
//!
//! The bytes are a plan: who sends what, in which pieces, who is gone, how time passes. Most of
//! what is sent makes some sense, so that plans get far; frames and bytes as they come are among
//! it.

use std::collections::BTreeMap;

use leveret::broker::Broker;
use leveret::broker::access::Identity;
use leveret::broker::inspect::Inspect as _;
use leveret::broker::policy::{PolicyKind, PolicySpec};
use leveret::broker::views::QueueView;
use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic, channel, confirm, connection, exchange, queue, tx};
use leveret::protocol::table::{RawTable, Table, Value};
use leveret::protocol::{Properties, ShortString};

use super::input::Input;
use super::node::{Node, handshake, publish};

/// When the last long wait ends, on the monotonic clock.
const ENDS_MS: u64 = 2_100_000;
const STEPS_MAX: usize = 512;
const LINKS_MAX: usize = 4;
const QUEUES: [&str; 6] = ["", "a", "b", "c", "amq.rabbitmq.reply-to", "amq.some"];
const EXCHANGES: [&str; 9] = [
    "",
    "x",
    "y",
    "amq.direct",
    "amq.fanout",
    "amq.topic",
    "amq.headers",
    "amq.rabbitmq.trace",
    "amq.rabbitmq.event",
];
const KEYS: [&str; 8] = ["", "a", "b", "c", "a.b", "#", "a.*", "1"];
const TAGS: [&str; 4] = ["", "t", "u", "amq.ctag-x"];
const EXPIRATIONS: [&str; 6] = ["0", "1", "1000", "x", "-1", "99999999999999"];
const TYPES: [&str; 12] = [
    "direct",
    "fanout",
    "topic",
    "headers",
    "x-consistent-hash",
    "x-message-deduplication",
    "x-delayed-message",
    "x-local-random",
    "x-modulus-hash",
    "x-random",
    "x-recent-history",
    "x-none",
];

/// Nobody who does anything stops the broker, gets what no server may send, or leaves something
/// behind; and what was kept is understood after a restart.
pub fn session(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let queue_memory_bytes = input.pick(&[64 << 20, 0, 1_000, 100_000]);
    let mut node = Node::new(queue_memory_bytes);
    let mut at = node.log_in();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        at = step(&mut input, &mut node, at);
    }
    for link in 0..node.links.len() {
        node.links[link].reads = true;
        node.pump();
        if !node.links[link].closed {
            node.lose(link);
        }
    }
    assert_eq!(node.broker.connection_count(), 0);
    let due = left(&node.broker, |queue| queue.messages_persistent);
    let kept = left(&node.restarted().broker, |queue| queue.messages_ready);
    assert_eq!(kept, due, "what a restart keeps is there after one");
}

/// The durable queues, each with a count of its messages. Nothing of any client is left.
fn left(broker: &Broker, count: fn(&QueueView) -> u64) -> BTreeMap<String, u64> {
    let mut durable = BTreeMap::new();
    for queue in broker.queues(None) {
        assert!(queue.consumers.is_empty() && queue.owner.is_none(), "{queue:?}");
        assert_eq!((queue.messages_unacked, queue.bytes_unacked), (0, 0), "{queue:?}");
        if queue.durable {
            durable.insert(queue.name.clone(), count(&queue));
        }
    }
    durable
}

/// One step of the plan; returns who comes next.
fn step(input: &mut Input<'_>, node: &mut Node, at: usize) -> usize {
    match input.byte() {
        0..=99 => {
            let bytes = method(input);
            node.send(at, &bytes);
        }
        100..=159 => {
            let bytes = content(input);
            node.send(at, &bytes);
        }
        // Several requests in one turn.
        160..=179 => {
            let mut bytes = Vec::new();
            for _ in 0..=input.byte() % 8 {
                bytes.extend(if input.bit() { method(input) } else { content(input) });
            }
            node.send(at, &bytes);
        }
        180..=189 => {
            let ms = input.pick(&[0, 1, 10, 1_000, 5_000, 60_000, 2_000_000]);
            // Half an hour has thousands of heartbeats: one such wait is as good as several.
            let ms = ms.min(ENDS_MS.saturating_sub(node.now.mono_ms)) + u64::from(input.byte());
            node.advance(ms);
        }
        190..=199 => {
            let bytes = input.short().to_vec();
            node.send(at, &bytes);
        }
        200..=209 => {
            let (kind, channel) = (input.byte() % 10, input.u16() % 4);
            let payload = input.short();
            let mut bytes = vec![kind];
            bytes.extend(channel.to_be_bytes());
            bytes.extend(u32::try_from(payload.len()).expect("a short one").to_be_bytes());
            bytes.extend(payload);
            bytes.push(frame::FRAME_END);
            node.send(at, &bytes);
        }
        210..=219 => {
            node.links[at].piece_bytes = input.pick(&[usize::MAX, 1, 3, 8, 50, 1_000]);
        }
        220..=224 => {
            node.links[at].reads = input.bit();
            node.pump();
        }
        225..=229 => node.lose(at),
        230..=234 => policy(input, node),
        235..=239 => {
            let vhost = node.broker.vhost("/").expect("it is always there");
            vhost.set_traced(input.bit());
        }
        _ => return another(input, node),
    }
    at
}

/// The next of the connections, or a new one.
fn another(input: &mut Input<'_>, node: &mut Node) -> usize {
    let wanted = usize::from(input.byte()) % LINKS_MAX;
    if let Some(link) = node.links.get(wanted)
        && !link.closed
    {
        return wanted;
    }
    if node.links.len() > 64 {
        return wanted;
    }
    let link = node.connect();
    let frame_max = input.pick(&[0, 4096, 131_072]);
    let heartbeat = input.pick(&[0, 1, 60]);
    let hello = handshake(frame_max, heartbeat);
    let cut = match input.byte() {
        n @ 0..=31 => hello.len() * usize::from(n) / 32,
        _ => hello.len(),
    };
    node.send(link, &hello[..cut]);
    if cut == hello.len() {
        let mut open = Vec::new();
        frame::method(&mut open, 1, &Method::ChannelOpen(channel::Open));
        node.send(link, &open);
    }
    link
}

fn channel_number(input: &mut Input<'_>) -> u16 {
    match input.byte() {
        0..=199 => 1,
        n @ 200..=250 => u16::from(n % 4),
        n => u16::from(n) * 257,
    }
}

/// A method with arguments that may be there.
fn method(input: &mut Input<'_>) -> Vec<u8> {
    let channel = channel_number(input);
    let mut table = Vec::new();
    let mut bytes = Vec::new();
    let what = input.byte() % 44;
    if matches!(what, 0..=3 | 8 | 9 | 12..=15 | 17 | 18) {
        arguments(input, what < 12).encode_body(&mut table);
    }
    let Ok(arguments) = RawTable::parse(&table) else { return bytes };
    let flags = input.byte();
    let flag = |n: u8| flags >> n & 1 == 1;
    let nowait = flag(7) && flag(6);
    let method = match what {
        0..=3 => Method::QueueDeclare(queue::Declare {
            queue: input.pick(&QUEUES),
            passive: flag(0) && flag(1),
            durable: flag(2),
            exclusive: flag(3) && flag(4),
            auto_delete: flag(5),
            nowait,
            arguments,
        }),
        4 => Method::QueueDelete(queue::Delete {
            queue: input.pick(&QUEUES),
            if_unused: flag(0),
            if_empty: flag(1),
            nowait,
        }),
        5 => Method::QueuePurge(queue::Purge { queue: input.pick(&QUEUES), nowait }),
        6 => Method::ExchangeDelete(exchange::Delete {
            exchange: input.pick(&EXCHANGES),
            if_unused: flag(0),
            nowait,
        }),
        7 => Method::BasicCancel(basic::Cancel { consumer_tag: input.pick(&TAGS), nowait }),
        8 | 9 => Method::ExchangeDeclare(exchange::Declare {
            exchange: input.pick(&EXCHANGES),
            type_: input.pick(&TYPES),
            passive: flag(0) && flag(1),
            durable: flag(2),
            auto_delete: flag(3),
            internal: flag(4) && flag(5),
            nowait,
            arguments,
        }),
        10 => Method::BasicQos(basic::Qos {
            prefetch_size: u32::from(flag(0) && flag(1) && flag(2)),
            prefetch_count: u16::from(input.byte() % 4),
            global: flag(3),
        }),
        11 => Method::BasicRecover(basic::Recover { requeue: flag(0) || flag(1) }),
        12 | 13 => Method::QueueBind(queue::Bind {
            queue: input.pick(&QUEUES),
            exchange: input.pick(&EXCHANGES),
            routing_key: input.pick(&KEYS),
            nowait,
            arguments,
        }),
        14 => Method::QueueUnbind(queue::Unbind {
            queue: input.pick(&QUEUES),
            exchange: input.pick(&EXCHANGES),
            routing_key: input.pick(&KEYS),
            arguments,
        }),
        15 => Method::ExchangeBind(exchange::Bind {
            destination: input.pick(&EXCHANGES),
            source: input.pick(&EXCHANGES),
            routing_key: input.pick(&KEYS),
            nowait,
            arguments,
        }),
        16 => Method::ExchangeUnbind(exchange::Unbind {
            destination: input.pick(&EXCHANGES),
            source: input.pick(&EXCHANGES),
            routing_key: input.pick(&KEYS),
            nowait,
            arguments,
        }),
        17..=19 => Method::BasicConsume(basic::Consume {
            queue: input.pick(&QUEUES),
            consumer_tag: input.pick(&TAGS),
            no_local: flag(0),
            no_ack: flag(1),
            exclusive: flag(2) && flag(3),
            nowait,
            arguments,
        }),
        20..=22 => Method::BasicGet(basic::Get { queue: input.pick(&QUEUES), no_ack: flag(0) }),
        23 | 24 => Method::BasicAck(basic::Ack { delivery_tag: tag(input), multiple: flag(0) }),
        25 | 26 => {
            Method::BasicReject(basic::Reject { delivery_tag: tag(input), requeue: flag(0) })
        }
        27 | 28 => Method::BasicNack(basic::Nack {
            delivery_tag: tag(input),
            multiple: flag(0),
            requeue: flag(1),
        }),
        29 => Method::BasicRecoverAsync(basic::RecoverAsync { requeue: true }),
        30 => Method::TxSelect(tx::Select),
        31 => Method::TxCommit(tx::Commit),
        32 => Method::TxRollback(tx::Rollback),
        33 => Method::ConfirmSelect(confirm::Select { nowait }),
        34..=36 => Method::ChannelOpen(channel::Open),
        37 => Method::ChannelClose(channel::Close {
            reply_code: 200,
            reply_text: "done",
            class_id: 0,
            method_id: 0,
        }),
        38 | 39 => Method::ChannelCloseOk(channel::CloseOk),
        40 => Method::ChannelFlow(channel::Flow { active: flag(0) }),
        41 => Method::ConnectionUpdateSecret(connection::UpdateSecret {
            new_secret: b"guest",
            reason: "",
        }),
        42 if flag(0) && flag(1) => Method::ConnectionClose(connection::Close {
            reply_code: 200,
            reply_text: "done",
            class_id: 0,
            method_id: 0,
        }),
        43 if flag(0) && flag(1) => Method::ConnectionCloseOk(connection::CloseOk),
        // What only a server says, and what never was.
        _ => Method::BasicDeliver(basic::Deliver {
            consumer_tag: b"t",
            delivery_tag: 1,
            redelivered: false,
            exchange: b"",
            routing_key: b"",
        }),
    };
    let channel = if method.id().0 == 10 && flag(2) { 0 } else { channel };
    frame::method(&mut bytes, channel, &method);
    bytes
}

fn tag(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        n @ 0..=250 => u64::from(n % 8),
        _ => input.number(),
    }
}

/// A message, mostly whole.
fn content(input: &mut Input<'_>) -> Vec<u8> {
    let channel = channel_number(input);
    let mut bytes = Vec::new();
    let (exchange, key) = (input.pick(&EXCHANGES), input.pick(&KEYS));
    let flags = input.byte();
    let flag = |n: u8| flags >> n & 1 == 1;
    publish(&mut bytes, channel, exchange.as_bytes(), key.as_bytes(), flag(0));
    let mut table = Vec::new();
    if flag(1) {
        headers(input).encode_body(&mut table);
    }
    let properties = Properties {
        headers: flag(1).then(|| RawTable::parse(&table).expect("a table")),
        delivery_mode: flag(2).then_some(2),
        priority: flag(3).then(|| input.byte() % 12),
        expiration: flag(4).then(|| input.pick(&EXPIRATIONS).as_bytes()),
        reply_to: flag(5).then_some(b"amq.rabbitmq.reply-to"),
        user_id: (flag(6) && flag(7)).then(|| input.pick(&["guest", "other"]).as_bytes()),
        ..Properties::default()
    };
    let mut raw = Vec::new();
    properties.encode(&mut raw);
    let len = usize::from(input.byte()) << (input.byte() % 6);
    let announced = match input.byte() {
        255 => input.number(),
        _ => len as u64,
    };
    frame::content_header(&mut bytes, channel, 60, announced, &raw);
    if len > 0 {
        let body = vec![7; len];
        let (first, second) = body.split_at(len * usize::from(input.byte() % 4) / 4);
        if !first.is_empty() {
            frame::body(&mut bytes, channel, first);
        }
        frame::body(&mut bytes, channel, second);
    }
    bytes
}

/// Arguments of queues and exchanges, or of bindings and consumers.
fn arguments(input: &mut Input<'_>, declares: bool) -> Table {
    const DECLARED: [&str; 26] = [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-overflow",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-max-priority",
        "x-queue-type",
        "x-single-active-consumer",
        "x-delivery-limit",
        "x-queue-mode",
        "alternate-exchange",
        "x-delayed-type",
        "x-cache-size",
        "x-cache-ttl",
        "x-recent-history-length",
        "hash-header",
        "hash-property",
        "x-message-deduplication",
        "x-cache-persistence",
        "x-consumer-timeout",
        "x-message-groups",
        "x-deduplication-header",
        "x-unknown",
    ];
    const BOUND: [&str; 6] = ["x-match", "a", "x-priority", "x-stream-offset", "x-group", "b"];
    let mut table = Table::new();
    for _ in 0..(input.byte() % 8).saturating_sub(4) {
        let name = if declares { input.pick(&DECLARED) } else { input.pick(&BOUND) };
        table.insert(name, value(input, 0));
    }
    table
}

fn headers(input: &mut Input<'_>) -> Table {
    const NAMES: [&str; 12] = [
        "x-publisher-name",
        "x-publisher-sequence",
        "CC",
        "BCC",
        "x-delay",
        "x-deduplication-header",
        "x-cache-ttl",
        "x-death",
        "x-group-id",
        "a",
        "b",
        "x-delivery-count",
    ];
    let mut table = Table::new();
    for _ in 0..input.byte() % 4 {
        table.insert(input.pick(&NAMES), value(input, 0));
    }
    table
}

fn value(input: &mut Input<'_>, depth: u8) -> Value {
    let texts = [
        "",
        "a",
        "b",
        "c",
        "x",
        "y",
        "quorum",
        "classic",
        "stream",
        "reject-publish",
        "drop-head",
        "reject-publish-dlx",
        "at-least-once",
        "all",
        "any",
        "topic",
        "direct",
        "message_id",
        "true",
    ];
    match input.byte() % 12 {
        0..=3 => Value::from(input.pick(&texts)),
        4 | 5 => Value::I32(i32::from(input.byte() % 8)),
        6 => Value::I64(input.number().cast_signed()),
        7 => Value::Bool(input.bit()),
        8 if depth < 3 => {
            Value::Array((0..input.byte() % 4).map(|_| value(input, depth + 1)).collect())
        }
        9 if depth < 3 => {
            let name = ShortString::from(input.pick(&["queue", "reason", "count", "a"]));
            Value::Table([(name, value(input, depth + 1))].into_iter().collect())
        }
        10 => Value::Void,
        _ => Value::F64(f64::from(input.byte()) / 3.0),
    }
}

/// An operator sets or clears a policy.
fn policy(input: &mut Input<'_>, node: &mut Node) {
    const KEYS: [&str; 10] = [
        "max-length",
        "max-length-bytes",
        "message-ttl",
        "expires",
        "overflow",
        "dead-letter-exchange",
        "dead-letter-routing-key",
        "alternate-exchange",
        "delivery-limit",
        "queue-mode",
    ];
    let (broker, now) = (node.broker.clone(), node.now);
    let vhost = broker.vhost("/").expect("it is always there");
    let kind = input.pick(&[PolicyKind::User, PolicyKind::Operator]);
    let name = input.pick(&["p", "q"]);
    if input.byte().is_multiple_of(4) {
        let _ = broker.clear_policy(&vhost, kind, name, "guest", now);
    } else {
        let mut definition = Table::new();
        for _ in 0..=input.byte() % 2 {
            definition.insert(input.pick(&KEYS), value(input, 3));
        }
        let policy = PolicySpec {
            name: name.to_owned(),
            pattern: input.pick(&["", "a", "^[bc]$", "x|y"]).to_owned(),
            priority: i64::from(input.byte() % 3),
            apply_to: input.pick(&["all", "queues", "exchanges", "classic_queues"]).to_owned(),
            definition,
        };
        let Some(user) = broker.access().user("guest") else { return };
        let guest = Identity { user, authority: None };
        let _ = broker.set_policy(&vhost, kind, policy, &guest, now);
    }
    node.pump();
}
