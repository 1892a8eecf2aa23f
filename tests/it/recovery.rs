//! What is there after a restart, and that nothing is promised before it is on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret::broker::definitions::{DefinitionKey, Record};
use leveret::broker::message::{Envelope, Message};
use leveret::broker::queue::QueueKind;
use leveret::broker::{Broker, Now};
use leveret::covers;
use leveret::protocol::method::{Method, basic, connection};
use leveret::protocol::table::{ENTRIES_MAX, NESTING_MAX, Table, Value};
use leveret::store::faulty::{Faults, FaultyStore, Syncing};
use leveret::store::memory::MemoryStore;
use leveret::store::{Batch, DurableWaker, Lsn, Op, QueueKey, QueueSeq, Store};

use crate::support::world::Setup;
use crate::support::*;

const PERSISTENT: &[u8] = &[0x10, 0, 2];

fn persistent(exchange: &str, key: &str, body: impl AsRef<[u8]>) -> Publish {
    publish(exchange, key, body).with_bytes(PERSISTENT)
}

fn no_queue(name: &str) -> String {
    format!("NOT_FOUND - no queue '{name}' in vhost '/'")
}

fn no_exchange(name: &str) -> String {
    format!("NOT_FOUND - no exchange '{name}' in vhost '/'")
}

// ---- definitions --------------------------------------------------------------------------------

#[test]
fn durable_exchanges_queues_and_bindings_are_back() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "topic").durable().arg("alternate-exchange", "rest"));
    client.ok(1, exchange("rest", "fanout").durable());
    client.declare(1, queue("q").durable().arg("x-max-length", 2));
    client.declare(1, queue("others").durable());
    client.ok(1, bind("q", "x", "a.*"));
    client.ok(1, bind("q", "amq.headers", "").arg("x-match", "any").arg("n", 1));
    client.ok(1, bind("others", "rest", ""));
    client.ok(1, bind_exchange("rest", "x", "a.b"));
    let world = world.restarted(0);
    let client = world.client();
    let declaration = exchange("x", "topic").durable().arg("alternate-exchange", "rest");
    client.ok(1, declaration);
    client.declare(1, queue("q").durable().arg("x-max-length", 2));
    client.send(1, publish("x", "a.b", "both"));
    client.send(1, publish("x", "z", "alternate"));
    client.send(1, publish("amq.headers", "", "headers").with(props().header("n", 1)));
    assert_eq!(client.drain(1, "q"), ["both", "headers"]);
    assert_eq!(client.drain(1, "others"), ["both", "alternate"]);
}

#[test]
fn what_is_not_durable_is_gone() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("transient", "fanout"));
    client.declare(1, queue("transient"));
    client.declare(1, queue("kept").durable());
    client.declare(1, queue("mine").durable().exclusive());
    client.ok(1, bind("kept", "transient", ""));
    client.ok(1, bind("transient", "amq.fanout", ""));
    client.send(1, persistent("", "transient", "persistent all the same"));
    let client = world.restarted(0).client();
    client.refused(1, exchange("transient", "").passive(), 404, &no_exchange("transient"));
    client.refused(1, queue("transient").passive(), 404, &no_queue("transient"));
    client.refused(1, queue("mine").passive(), 404, &no_queue("mine"));
    client.send(1, publish("amq.fanout", "", "nobody").mandatory());
    assert_eq!(client.message(1).text(), "nobody");
    client.ok(1, exchange("transient", "fanout"));
    client.send(1, publish("transient", "", "x"));
    assert_eq!(client.depth(1, "kept"), 0);
}

#[test]
fn what_was_deleted_stays_deleted() {
    let world = World::new();
    let client = world.client();
    for name in ["kept", "gone"] {
        client.ok(1, exchange(name, "fanout").durable());
        client.declare(1, queue(name).durable());
        client.ok(1, bind("kept", name, ""));
        client.send(1, persistent("", name, "x"));
    }
    client.ok(1, bind("kept", "amq.direct", "k"));
    client.ok(1, unbind("kept", "amq.direct", "k"));
    client.ok(1, delete_exchange("gone"));
    client.ok(1, delete_queue("gone"));
    client.ok(1, exchange("auto", "fanout").durable().auto_delete());
    client.ok(1, bind("kept", "auto", ""));
    client.ok(1, unbind("kept", "auto", ""));
    client.ok(1, purge("kept"));
    let client = world.restarted(0).client();
    client.refused(1, queue("gone").passive(), 404, &no_queue("gone"));
    for name in ["gone", "auto"] {
        client.refused(1, exchange(name, "").passive(), 404, &no_exchange(name));
    }
    assert_eq!(client.depth(1, "kept"), 0);
    client.send(1, publish("amq.direct", "k", "x"));
    assert_eq!(client.depth(1, "kept"), 0);
    client.declare(1, queue("gone").durable());
    assert_eq!(client.depth(1, "gone"), 0, "another queue of that name");
}

#[test]
fn a_durable_auto_delete_queue_is_back_until_its_last_consumer_goes() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable().auto_delete());
    client.ok(1, consume("q", "c"));
    let client = world.restarted(0).client();
    client.declare(1, queue("q").durable().auto_delete());
    client.ok(1, consume("q", "c"));
    client.ok(1, cancel("c"));
    client.refused(1, queue("q").passive(), 404, &no_queue("q"));
}

/// Arguments as deep and as many as the codec takes.
fn arguments_at_the_limits() -> [(&'static str, Table); 2] {
    let levels = 2..NESTING_MAX;
    let innermost = Table::new().with("x", 1_i32);
    let deep = levels.fold(innermost, |table, _| Table::new().with("x", Value::Table(table)));
    let many = (0..ENTRIES_MAX).map(|n| (format!("x{n}").as_str().into(), Value::Void)).collect();
    [("deep", deep), ("many", many)]
}

#[test]
fn whatever_arguments_a_declaration_may_have_a_restart_takes_them() {
    let mut setup = Setup::default();
    setup.broker.default_queue_kind = QueueKind::Quorum;
    let disk = Arc::new(MemoryStore::new());
    let world = World::over(Arc::clone(&disk) as Arc<_>, setup, 0);
    let client = world.client();
    for (name, arguments) in arguments_at_the_limits() {
        let mut declaration = exchange(name, "fanout").durable();
        let mut binding = bind(name, name, "");
        let mut queue = queue(name).durable();
        for (key, value) in arguments.iter() {
            let key = key.as_str().unwrap();
            declaration = declaration.arg(key, value.clone());
            binding = binding.arg(key, value.clone());
            queue = queue.arg(key, value.clone());
        }
        client.ok(1, declaration);
        client.declare(1, queue);
        client.ok(1, binding);
    }
    let views = |world: &World| {
        let vhost = world.broker().vhost("/").unwrap();
        let queues = vhost.queue_views().into_iter().map(|it| (it.name, it.arguments));
        let exchanges = vhost.exchange_views().into_iter().map(|it| (it.name, it.arguments));
        let bindings = vhost.binding_views().into_iter().map(|it| (it.source, it.arguments));
        let mut views: Vec<_> = queues.chain(exchanges).chain(bindings).collect();
        views.sort_by_key(|(name, arguments)| (name.clone(), arguments.len()));
        views
    };
    let before = views(&world);
    let again = World::over(Arc::new(disk.restarted()), Setup::default(), 0);
    assert_eq!(views(&again), before);
}

fn refused_start(ops: Vec<Op>) -> String {
    let disk = MemoryStore::new();
    disk.submit(Batch { ops, awaited: true });
    let now = Now { mono_ms: 0, unix_ms: 0 };
    let opened = Broker::open(Setup::default().broker, Arc::new(disk), Box::new(|_| {}), now);
    opened.unwrap_err().to_string()
}

#[test]
fn a_definition_that_cannot_be_read_stops_the_start_and_is_named() {
    let vhost = DefinitionKey::Vhost { name: "/".into() }.put(Record::default());
    let queue = DefinitionKey::Queue { vhost: "/".into(), name: "jobs".into() };
    let record = Record::default()
        .with("id", Value::I64(7))
        .with("auto_delete", Value::Bool(false))
        .with("arguments", Value::LongStr(b"\x05cut".to_vec()));
    assert_eq!(
        refused_start(vec![vhost, queue.put(record)]),
        "memory: damaged: queue 'jobs' in vhost '/': unreadable arguments: \
         field table is cut short"
    );
}

#[test]
fn a_message_without_its_queue_stops_the_start() {
    let vhost = DefinitionKey::Vhost { name: "/".into() }.put(Record::default());
    let envelope = Envelope {
        exchange: b"",
        routing_key: b"q",
        properties: PERSISTENT,
        persistent: true,
        hides_bcc: false,
        published_ms: 0,
    };
    let message = Message::new(&envelope, b"x");
    let queue = QueueKey { shard: 0, queue: 7 };
    let enqueue = Op::Enqueue { queue, seq: QueueSeq(3), message };
    assert_eq!(
        refused_start(vec![vhost, enqueue]),
        "memory: damaged: 1 messages of queue 7, which is not defined"
    );
}

/// Looks for a queue as the store takes a batch.
struct Lookout {
    broker: Arc<Broker>,
    seen: AtomicBool,
}

impl DurableWaker for Lookout {
    fn wake(&self) {
        let found = self.broker.vhost("/").unwrap().queue(b"q").is_some();
        self.seen.store(found, Ordering::SeqCst);
    }
}

#[test]
fn nobody_can_publish_to_a_queue_before_the_store_has_its_definition() {
    let faults = Faults { syncing: Syncing::OneIn(1), ..Faults::default() };
    let (world, disk) = World::on_disk(faults);
    let client = world.client();
    let lookout = Arc::new(Lookout { broker: world.broker(), seen: AtomicBool::new(true) });
    let next = Lsn(disk.durable().0 + 1);
    disk.notify(next, Arc::clone(&lookout) as Arc<_>);
    client.declare(1, queue("q").durable());
    assert!(disk.durable() >= next);
    assert!(!lookout.seen.load(Ordering::SeqCst));
}

#[test]
fn a_restart_counts_as_use_for_a_queue_that_expires() {
    let world = World::new();
    world.client().declare(1, queue("q").durable().arg("x-expires", 1_000));
    let world = world.restarted(60_000);
    world.advance(999);
    assert!(world.broker().vhost("/").unwrap().queue(b"q").is_some());
    world.advance(1);
    world.client().refused(1, queue("q").passive(), 404, &no_queue("q"));
}

// ---- messages -----------------------------------------------------------------------------------

#[test]
fn persistent_messages_in_durable_queues_are_back_in_order() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    let properties = props().persistent().header("n", 1).message_id("m");
    client.send(1, publish("", "q", "0").with(properties.clone()));
    for n in 1..20 {
        let message = publish("", "q", n.to_string());
        client.send(1, if n % 2 == 0 { message.with_bytes(PERSISTENT) } else { message });
    }
    client.send(1, persistent("amq.direct", "unbound", "x"));
    let client = world.restarted(0).client();
    assert_eq!(client.depth(1, "q"), 10);
    let first = client.fetch(1, "q");
    assert_eq!((first.text(), first.raw_properties.clone()), ("0", properties.encode()));
    let rest: Vec<String> = (1..20).filter(|n| n % 2 == 0).map(|n| n.to_string()).collect();
    assert_eq!(client.drain(1, "q"), rest);
}

#[test]
fn quorum_queues_keep_every_message() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable().arg("x-queue-type", "quorum"));
    client.send(1, publish("", "q", "transient"));
    client.send(1, persistent("", "q", "persistent"));
    let client = world.restarted(0).client();
    assert_eq!(client.drain(1, "q"), ["transient", "persistent"]);
}

#[test]
fn a_restart_is_no_delivery() {
    let world = World::new();
    let declaration = queue("q").durable().arg("x-queue-type", "quorum").arg("x-delivery-limit", 1);
    let client = world.client();
    client.declare(1, declaration);
    client.send(1, publish("", "q", "x"));
    let client = world.restarted(0).client();
    let counts = [1, 2].map(|tag| {
        let message = client.fetch(1, "q");
        assert!(message.redelivered, "nobody knows");
        client.send(1, nack(tag, Then::Requeue));
        message.header("x-delivery-count")
    });
    assert_eq!(counts, [None, Some(Value::I64(1))]);
    assert_eq!(client.depth(1, "q"), 0, "it came back twice");
}

#[test]
fn acknowledged_messages_stay_gone_and_the_others_come_back() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    for body in ["a", "b", "c", "d", "e", "f"] {
        client.send(1, persistent("", "q", body));
    }
    client.ok(1, prefetch(5));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a", "b", "c", "d", "e"]);
    client.send(1, ack(2));
    client.send(1, reject(4, Then::Discard));
    client.send(1, reject(5, Then::Requeue));
    let client = world.restarted(0).client();
    let held = client.fetch(1, "q");
    assert_eq!((held.text(), held.redelivered), ("a", true));
    assert_eq!(client.drain(1, "q"), ["c", "e", "f"]);
}

#[test]
fn what_was_fetched_or_consumed_without_acknowledgement_stays_gone() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    client.send(1, persistent("", "q", "a"));
    client.send(1, persistent("", "q", "b"));
    client.ok(1, get("q").no_ack());
    client.ok(1, consume("q", "c").no_ack());
    client.messages(1, ["b"]);
    assert_eq!(world.restarted(0).client().depth(1, "q"), 0);
}

#[test]
fn a_message_in_several_queues_is_back_in_each_that_was_not_done_with_it() {
    let world = World::new();
    let client = world.client();
    for name in ["a", "b", "c"] {
        client.declare(1, queue(name).durable());
        client.ok(1, bind(name, "amq.fanout", ""));
    }
    let body = vec![9; 100_000];
    client.send(1, persistent("amq.fanout", "", &body));
    client.ok(1, get("b").no_ack());
    let client = world.restarted(0).client();
    assert_eq!(client.fetch(1, "a").body, body);
    assert_eq!(client.depth(1, "b"), 0);
    assert_eq!(client.fetch(1, "c").body, body);
}

#[test]
fn new_messages_stand_behind_recovered_ones() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    for body in ["a", "b"] {
        client.send(1, persistent("", "q", body));
    }
    client.ok(1, get("q").no_ack());
    let world = world.restarted(0);
    world.client().send(1, persistent("", "q", "c"));
    let world = world.restarted(0);
    world.client().send(1, persistent("", "q", "d"));
    let client = world.restarted(0).client();
    assert_eq!(client.drain(1, "q"), ["b", "c", "d"]);
}

#[test]
fn priorities_and_times_to_live_go_on() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable().arg("x-max-priority", 5));
    let message = |body: &str, properties: Props| {
        client.send(1, publish("", "q", body).with(properties.persistent()));
    };
    message("low", props());
    message("dead by then", props().expiration("1000").priority(5));
    message("high", props().priority(3));
    message("short", props().expiration("6000").priority(1));
    let world = world.restarted(5_000);
    let client = world.client();
    assert_eq!(client.depth(1, "q"), 3);
    world.advance(1_000);
    assert_eq!(client.drain(1, "q"), ["high", "low"]);
}

#[test]
fn dead_lettered_messages_are_back_where_they_went() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("dead").durable());
    let declaration = queue("q")
        .durable()
        .arg("x-dead-letter-exchange", "")
        .arg("x-dead-letter-routing-key", "dead");
    client.declare(1, declaration);
    client.send(1, persistent("", "q", "x"));
    client.fetch(1, "q");
    client.send(1, reject(1, Then::Discard));
    let client = world.restarted(0).client();
    assert_eq!(client.depth(1, "q"), 0);
    let dead = client.fetch(1, "dead");
    assert_eq!(dead.text(), "x");
    assert!(dead.header("x-death").is_some());
}

#[test]
fn a_transaction_that_was_not_committed_never_was() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    client.send(1, persistent("", "q", "a"));
    client.ok(1, tx_select());
    client.fetch(1, "q");
    client.send(1, ack(1));
    client.send(1, persistent("", "q", "b"));
    assert_eq!(world.restarted(0).client().drain(1, "q"), ["a"]);
}

// ---- not before it is on disk -------------------------------------------------------------------

#[test]
fn durable_changes_are_answered_once_they_are_on_disk() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    let requests: [&dyn Request; 8] = [
        &queue("q").durable(),
        &exchange("x", "fanout").durable(),
        &bind("q", "x", ""),
        &bind_exchange("x", "amq.fanout", ""),
        &unbind_exchange("x", "amq.fanout", ""),
        &unbind("q", "x", ""),
        &delete_exchange("x"),
        &delete_queue("q"),
    ];
    for request in requests {
        client.send_at_once(1, &[request]);
        client.expect_nothing();
        assert_eq!(disk.unsynced(), 1);
        disk.sync();
        world.pump();
        client.take(1);
    }
}

#[test]
fn what_is_not_durable_is_answered_at_once() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, exchange("x", "fanout"));
    client.ok(1, bind("q", "x", ""));
    client.declare(1, queue("mine").durable().exclusive());
    client.ok(1, delete_queue("q"));
    assert_eq!(disk.unsynced(), 0);
}

#[test]
fn answers_stay_in_order_behind_one_that_waits() {
    let (world, disk) = World::on_disk(Faults::default());
    let (client, other) = (world.client(), world.client());
    client.open(2);
    client.send(1, queue("q").durable());
    client.send(2, queue("transient"));
    client.send(0, Method::ConnectionUpdateSecret(connection::UpdateSecret::default()));
    client.expect_nothing();
    other.declare(1, queue("another's"));
    disk.sync();
    world.pump();
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
    assert!(matches!(client.take(2).method(), Method::QueueDeclareOk(_)));
    assert!(matches!(client.take(0).method(), Method::ConnectionUpdateSecretOk(_)));
}

#[test]
fn a_repeated_declaration_waits_for_the_first_to_be_on_disk() {
    let (world, disk) = World::on_disk(Faults::default());
    let (first, second) = (world.client(), world.client());
    first.send(1, queue("q").durable());
    first.send(1, exchange("x", "fanout").durable());
    second.send(1, queue("q").durable());
    first.expect_nothing();
    second.expect_nothing();
    disk.sync();
    world.pump();
    assert!(matches!(first.take(1).method(), Method::QueueDeclareOk(_)));
    assert!(matches!(second.take(1).method(), Method::QueueDeclareOk(_)));
}

#[test]
fn what_someone_else_changed_is_told_once_it_is_on_disk() {
    let (world, disk) = World::on_disk(Faults::default());
    let (first, second) = (world.client(), world.client());
    let at_once = |request: &dyn Request| {
        first.send_at_once(1, &[request]);
        disk.sync();
        world.pump();
        first.take(1);
    };
    let told_with = |change: &dyn Request, request: &dyn Request| {
        first.send_at_once(1, &[change]);
        second.send_at_once(1, &[request]);
        second.expect_nothing();
        disk.sync();
        world.pump();
        first.take(1);
        second.take(1);
    };
    told_with(&queue("q").durable(), &queue("q").passive());
    told_with(&exchange("x", "fanout").durable(), &exchange("x", "").passive());
    at_once(&bind("q", "x", ""));
    told_with(&unbind("q", "x", ""), &unbind("q", "x", ""));
    told_with(&delete_exchange("x"), &delete_exchange("x"));
    told_with(&delete_queue("q"), &delete_queue("q"));
}

#[test]
fn deliveries_go_on_while_an_answer_waits() {
    let (world, disk) = World::on_disk(Faults::default());
    let (client, publisher) = (world.client(), world.client());
    client.open(2);
    client.declare(2, queue("q"));
    client.ok(2, consume("q", "c"));
    client.send(1, queue("slow").durable());
    publisher.send(1, publish("", "q", "x"));
    client.messages(2, ["x"]);
    client.expect_nothing();
    disk.sync();
    world.pump();
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
}

#[test]
fn a_client_that_rests_for_the_disk_does_not_miss_its_heartbeats() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client_as(&Login { heartbeat_s: 10, ..Login::default() });
    client.send(1, queue("q").durable());
    for _ in 0..20 {
        world.advance(5_000);
        client.send_frame(8, 0, b"");
    }
    assert!(!client.is_gone(), "{:?}", client.ended_because());
    disk.sync();
    world.pump();
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
}

#[test]
fn publishers_rest_when_the_disk_does_not_keep_up() {
    let mut setup = Setup::default();
    setup.session.store_backlog_bytes_max = 100_000;
    let disk = Arc::new(FaultyStore::new(Faults::default()));
    let world = World::over(Arc::clone(&disk) as Arc<_>, setup, 0);
    disk.sync();
    let client = world.client();
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    client.take(1);
    let body = vec![0; 10_000];
    for _ in 0..50 {
        client.send(1, persistent("", "q", &body));
    }
    assert!(!client.is_listened_to());
    assert!(client.unheard_bytes() > 300_000, "{}", client.unheard_bytes());
    for _ in 0..10 {
        disk.sync();
        world.pump();
    }
    assert!(client.is_listened_to());
    assert_eq!(client.unheard_bytes(), 0);
    assert_eq!(client.depth(1, "q"), 50);
}

// ---- crashes ------------------------------------------------------------------------------------

/// Messages published with confirms, some of them synced; after a crash: those there, and those
/// confirmed before it.
fn crash_while_publishing(seed: u64) -> (Vec<u64>, u64) {
    let (world, disk) = World::on_disk(Faults { seed, ..Faults::default() });
    let client = world.client();
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    client.take(1);
    client.ok(1, confirm_select());
    let mut confirmed = 0;
    for n in 1..=20_u64 {
        client.send(1, persistent("", "q", n.to_string()));
        if (n + seed).is_multiple_of(4) {
            disk.sync_first(1 + usize::try_from(seed % 3).unwrap());
            world.pump();
        }
        while let Some(received) = client.next(1) {
            let Method::BasicAck(basic::Ack { delivery_tag, .. }) = received.method() else {
                panic!("{received:?}")
            };
            confirmed = delivery_tag;
        }
    }
    let disk = Arc::new(disk.crash(Faults { seed, ..Faults::default() }));
    let world = World::over(disk, Setup::default(), 1_000);
    let found = world.client().drain(1, "q");
    (found.iter().map(|body| body.parse().unwrap()).collect(), confirmed)
}

#[test]
fn what_was_confirmed_survives_a_crash() {
    let mut lost = 0;
    for seed in 0..100 {
        let (found, confirmed) = crash_while_publishing(seed);
        let prefix: Vec<u64> = (1..=found.len() as u64).collect();
        assert_eq!(found, prefix, "seed {seed}: in order and without gaps");
        assert!(found.len() as u64 >= confirmed, "seed {seed}: {confirmed} were confirmed");
        lost += 20 - found.len();
    }
    assert!(lost > 0, "some crash loses what was not confirmed, or this test shows nothing");
}

/// Crashes after messages were published to `amq.fanout`, behind which three such queues are bound.
fn check_that_fanouts_are_whole_or_absent(declaration: fn(&str) -> QueueDeclare) {
    let mut found = [false; 2];
    for seed in 0..40 {
        let (world, disk) = World::on_disk(Faults { seed, ..Faults::default() });
        let client = world.client();
        for name in ["c", "a", "b"] {
            client.send(1, declaration(name).durable());
            disk.sync();
            world.pump();
            client.take(1);
            client.send(1, bind(name, "amq.fanout", ""));
            disk.sync();
            world.pump();
            client.take(1);
        }
        for n in 1..=3 {
            client.send(1, persistent("amq.fanout", "", n.to_string()));
        }
        let disk = Arc::new(disk.crash(Faults { seed, ..Faults::default() }));
        let client = World::over(disk, Setup::default(), 0).client();
        let there = client.drain(1, "a");
        assert_eq!(client.drain(1, "b"), there, "seed {seed}");
        assert_eq!(client.drain(1, "c"), there, "seed {seed}");
        found[usize::from(there.len() == 3)] = true;
    }
    assert_eq!(found, [true; 2], "some crashes lose a message, some do not");
}

#[test]
fn a_fanout_is_whole_or_absent_after_a_crash() {
    check_that_fanouts_are_whole_or_absent(queue);
    check_that_fanouts_are_whole_or_absent(|name| {
        queue(name).arg("x-max-length", 10).arg("x-overflow", "reject-publish")
    });
}

#[test]
fn what_a_turn_settles_and_publishes_in_a_queue_is_one_batch() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.send(1, queue("q").durable());
    client.send(1, persistent("", "q", "a"));
    disk.sync();
    world.pump();
    client.take(1);
    assert_eq!(client.fetch(1, "q").text(), "a");
    disk.sync();
    client.send_at_once(1, &[&ack(1), &persistent("", "q", "b"), &persistent("", "q", "c")]);
    assert_eq!(disk.unsynced(), 1);
    assert_eq!(client.drain(1, "q"), ["b", "c"]);
}

#[test]
fn messages_that_die_at_once_move_in_few_batches() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    let origin = queue("q")
        .durable()
        .arg("x-dead-letter-exchange", "")
        .arg("x-dead-letter-routing-key", "dead")
        .arg("x-message-ttl", 100);
    for declaration in [queue("dead").durable(), origin] {
        client.send(1, declaration);
        disk.sync();
        world.pump();
        client.take(1);
    }
    for n in 0..1_000 {
        client.send(1, persistent("", "q", n.to_string()));
    }
    disk.sync();
    world.advance(100);
    assert_eq!(disk.unsynced(), 4, "256 messages a batch");
    let due: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!(client.drain(1, "dead"), due);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn a_crash_keeps_all_of_a_transaction_or_nothing() {
    let mut outcomes = [false; 2];
    for seed in 0..40 {
        let (world, disk) = World::on_disk(Faults { seed, ..Faults::default() });
        let client = world.client();
        for name in ["a", "b"] {
            client.send(1, queue(name).durable());
            disk.sync();
            world.pump();
            client.take(1);
        }
        client.send(1, persistent("", "a", "taken"));
        disk.sync();
        world.pump();
        client.ok(1, tx_select());
        client.fetch(1, "a");
        client.send(1, ack(1));
        client.send(1, persistent("", "b", "given"));
        client.send(1, tx_commit());
        client.expect_nothing();
        let disk = Arc::new(disk.crash(Faults { seed, ..Faults::default() }));
        let client = World::over(disk, Setup::default(), 0).client();
        let (a, b) = (client.depth(1, "a"), client.depth(1, "b"));
        assert_eq!(a + b, 1, "seed {seed}: moved or not, never both or neither");
        outcomes[usize::from(b == 1)] = true;
    }
    assert_eq!(outcomes, [true; 2], "crashes before and after the commit were tried");
}

// ---- a disk that fails --------------------------------------------------------------------------

#[test]
fn a_failed_disk_confirms_nothing_and_closes_who_waits() {
    covers!("connection.internal-error");
    let (world, disk) = World::on_disk(Faults { failing_sync: Some(3), ..Faults::default() });
    let (publisher, declarer) = (world.client(), world.client());
    publisher.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    publisher.take(1);
    publisher.ok(1, confirm_select());
    publisher.send(1, persistent("", "q", "x"));
    declarer.send(1, queue("r").durable());
    publisher.expect_nothing();
    disk.sync();
    world.pump();
    publisher.expect_connection_close(541, "INTERNAL_ERROR");
    declarer.expect_connection_close(541, "INTERNAL_ERROR");
}

#[test]
fn after_a_failure_nothing_more_is_promised() {
    let (world, disk) = World::on_disk(Faults { failing_sync: Some(3), ..Faults::default() });
    let client = world.client();
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    client.take(1);
    client.ok(1, confirm_select());
    let late = world.client();
    disk.sync();
    world.pump();
    client.send(1, persistent("", "q", "x"));
    client.expect_connection_close(541, "INTERNAL_ERROR");
    late.send(1, queue("r").durable());
    late.expect_connection_close(541, "INTERNAL_ERROR");
}
