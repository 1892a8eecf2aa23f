//! Dead-lettering: which messages move on, where to, and the history they carry.

use leveret::covers;
use leveret::protocol::method::{Method, basic};
use leveret::protocol::table::{Table, Value};

use crate::support::properties::array;
use crate::support::*;

/// A queue `q` whose messages die to `dlx`, behind which `dead` takes everything.
fn world_with(declaration: QueueDeclare) -> (World, Client) {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("dlx", "fanout"));
    client.declare(1, queue("dead"));
    client.ok(1, bind("dead", "dlx", ""));
    client.declare(1, declaration);
    (world, client)
}

/// A queue `q` whose messages die to `dlx`.
fn mortal() -> QueueDeclare {
    queue("q").arg("x-dead-letter-exchange", "dlx")
}

/// Fetches from `q` and rejects for good.
fn reject_one(client: &Client) -> Content {
    let message = client.fetch(1, "q");
    client.send(1, reject(message.delivery_tag, Then::Discard));
    message
}

/// The entries of x-death as (queue, reason, count).
fn deaths(message: &Content) -> Vec<(String, String, i64)> {
    let Some(Value::Array(entries)) = message.header("x-death") else { panic!("{message:?}") };
    let text = |entry: &Table, name: &str| entry.get(name).unwrap().as_str().unwrap().to_owned();
    let read = |entry: &Value| {
        let entry = entry.as_table().unwrap();
        let count = entry.get("count").unwrap().as_integer().unwrap();
        (text(entry, "queue"), text(entry, "reason"), count)
    };
    entries.iter().map(read).collect()
}

fn text_header(message: &Content, name: &str) -> String {
    message.header(name).unwrap().as_str().unwrap().to_owned()
}

// ---- reasons ------------------------------------------------------------------------------------

#[test]
fn a_rejected_message_goes_to_the_dead_letter_exchange() {
    covers!("queue.x-dead-letter-exchange");
    let (world, client) = world_with(mortal());
    client.ok(1, bind("q", "amq.topic", "#"));
    let properties = props().persistent().message_id("m1").header("own", 7);
    client.send(1, publish("amq.topic", "kern.crit", "x").with(properties));
    reject_one(&client);
    assert_eq!(client.depth(1, "q"), 0);
    let dead = client.fetch(1, "dead");
    assert_eq!((dead.text(), dead.redelivered), ("x", false));
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("dlx", "kern.crit"));
    assert_eq!(dead.properties().message_id, Some(&b"m1"[..]));
    assert_eq!(dead.properties().delivery_mode, Some(2));
    assert_eq!(dead.header("own"), Some(Value::I32(7)));
    let Some(Value::Array(entries)) = dead.header("x-death") else { panic!("{dead:?}") };
    let [Value::Table(entry)] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.len(), 6);
    assert_eq!(entry.get("count"), Some(&Value::I64(1)));
    assert_eq!(entry.get("reason"), Some(&Value::from("rejected")));
    assert_eq!(entry.get("queue"), Some(&Value::from("q")));
    assert_eq!(entry.get("exchange"), Some(&Value::from("amq.topic")));
    assert_eq!(entry.get("time"), Some(&Value::Timestamp(world.unix_s())));
    assert_eq!(entry.get("routing-keys"), Some(&array(["kern.crit"])));
    for (name, value) in [
        ("x-first-death-queue", "q"),
        ("x-first-death-reason", "rejected"),
        ("x-first-death-exchange", "amq.topic"),
        ("x-last-death-queue", "q"),
        ("x-last-death-reason", "rejected"),
        ("x-last-death-exchange", "amq.topic"),
    ] {
        assert_eq!(text_header(&dead, name), value, "{name}");
    }
}

#[test]
fn nack_and_reject_kill_alike_and_in_order() {
    let (_world, client) = world_with(mortal());
    for body in ["a", "b", "c"] {
        client.send(1, publish("", "q", body));
        client.fetch(1, "q");
    }
    client.send(1, nack_up_to(3, Then::Discard));
    assert_eq!(client.drain(1, "dead"), ["a", "b", "c"]);
}

#[test]
fn an_expired_message_dies_without_its_expiration() {
    let (world, client) = world_with(mortal());
    client.send(1, publish("", "q", "x").with(props().expiration("100").priority(3)));
    world.advance(100);
    let dead = client.fetch(1, "dead");
    assert_eq!(deaths(&dead), [("q".into(), "expired".into(), 1)]);
    assert_eq!((dead.properties().expiration, dead.properties().priority), (None, Some(3)));
    let Some(Value::Array(entries)) = dead.header("x-death") else { panic!("{dead:?}") };
    let entry = entries[0].as_table().unwrap();
    assert_eq!(entry.get("original-expiration"), Some(&Value::from("100")));
}

#[test]
fn a_message_that_a_queues_ttl_ends_has_no_original_expiration() {
    let (world, client) = world_with(mortal().arg("x-message-ttl", 100));
    client.send(1, publish("", "q", "x"));
    world.advance(100);
    let dead = client.fetch(1, "dead");
    assert_eq!(deaths(&dead), [("q".into(), "expired".into(), 1)]);
    let Some(Value::Array(entries)) = dead.header("x-death") else { panic!("{dead:?}") };
    assert_eq!(entries[0].as_table().unwrap().get("original-expiration"), None);
}

#[test]
fn a_message_that_makes_way_dies_of_the_length() {
    let (_world, client) = world_with(mortal().arg("x-max-length", 1));
    for body in ["a", "b", "c"] {
        client.send(1, publish("", "q", body));
    }
    for body in ["a", "b"] {
        let dead = client.fetch(1, "dead");
        assert_eq!(dead.text(), body);
        assert_eq!(deaths(&dead), [("q".into(), "maxlen".into(), 1)]);
    }
    assert_eq!(client.drain(1, "q"), ["c"]);
}

#[test]
fn a_message_that_a_full_queue_refuses_can_die_too() {
    covers!("queue.x-overflow");
    let declaration = mortal().arg("x-max-length", 1).arg("x-overflow", "reject-publish-dlx");
    let (_world, client) = world_with(declaration);
    client.ok(1, confirm_select());
    for body in ["a", "b"] {
        client.send(1, publish("", "q", body));
    }
    client.expect(1, Method::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    // RabbitMQ says sometimes that this is all up to 2, of which only 2 is left.
    let nack = client.take(1);
    assert!(matches!(nack.method(), Method::BasicNack(basic::Nack { delivery_tag: 2, .. })));
    let dead = client.fetch(1, "dead");
    assert_eq!(dead.text(), "b");
    assert_eq!(deaths(&dead), [("q".into(), "maxlen".into(), 1)]);
    assert_eq!(client.drain(1, "q"), ["a"]);
}

#[test]
fn a_message_that_was_tried_too_often_dies_of_it() {
    let declaration = mortal().durable().arg("x-queue-type", "quorum").arg("x-delivery-limit", 1);
    let (_world, client) = world_with(declaration);
    client.send(1, publish("", "q", "poison"));
    for tag in 1..=2 {
        client.fetch(1, "q");
        client.send(1, nack(tag, Then::Requeue));
    }
    let dead = client.fetch(1, "dead");
    assert_eq!(deaths(&dead), [("q".into(), "delivery_limit".into(), 1)]);
}

#[test]
fn what_dies_with_a_connection_dies_then_and_not_when_the_connection_was_last_heard_of() {
    let quorum = mortal().durable().arg("x-queue-type", "quorum").arg("x-delivery-limit", 0);
    let (world, client) = world_with(quorum);
    client.declare(1, queue("late").arg("x-message-ttl", 500));
    client.ok(1, bind("late", "dlx", ""));
    let taker = world.client();
    client.send(1, publish("", "q", "x"));
    taker.fetch(1, "q");
    world.advance(1_000);
    taker.vanish();
    world.advance(400);
    assert_eq!(client.depth(1, "late"), 1);
    world.advance(100);
    assert_eq!(client.depth(1, "late"), 0);
}

#[test]
fn acknowledged_purged_and_deleted_messages_do_not_die() {
    let (world, client) = world_with(mortal().arg("x-expires", 1_000));
    for _ in 0..3 {
        client.send(1, publish("", "q", "x"));
    }
    client.fetch(1, "q");
    client.send(1, ack(1));
    client.ok(1, purge("q"));
    client.send(1, publish("", "q", "x"));
    world.advance(1_000);
    client.declare(1, mortal());
    client.send(1, publish("", "q", "x"));
    client.ok(1, delete_queue("q"));
    client.declare(1, mortal().auto_delete());
    client.send(1, publish("", "q", "x"));
    client.send(1, publish("", "q", "x"));
    client.open(2);
    client.ok(2, prefetch(1));
    client.ok(2, consume("q", "c"));
    client.messages(2, ["x"]);
    client.ok(2, cancel("c"));
    assert_eq!(client.depth(1, "dead"), 0);
}

// ---- where to -----------------------------------------------------------------------------------

#[test]
fn a_dead_letter_routing_key_replaces_the_messages_own() {
    covers!("queue.x-dead-letter-routing-key");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("dead"));
    let declaration =
        queue("q").arg("x-dead-letter-exchange", "").arg("x-dead-letter-routing-key", "dead");
    client.declare(1, declaration);
    client.send(1, publish("", "q", "x"));
    reject_one(&client);
    let dead = client.fetch(1, "dead");
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("", "dead"));
    let Some(Value::Array(entries)) = dead.header("x-death") else { panic!("{dead:?}") };
    assert_eq!(entries[0].as_table().unwrap().get("routing-keys"), Some(&array(["q"])));
}

#[test]
fn without_an_exchange_or_a_route_dead_messages_are_gone() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-dead-letter-exchange", "missing"));
    client.send(1, publish("", "q", "x"));
    reject_one(&client);
    client.declare(1, queue("r").arg("x-dead-letter-exchange", "amq.direct"));
    client.send(1, publish("", "r", "x"));
    client.fetch(1, "r");
    client.send(1, reject(2, Then::Discard));
    client.expect_nothing();
    for name in ["q", "r"] {
        assert_eq!(client.depth(1, name), 0);
    }
}

#[test]
fn a_dead_letter_routing_key_that_no_message_can_carry_leads_nowhere() {
    for length in [255, 256, 300] {
        let (world, client) =
            world_with(mortal().arg("x-dead-letter-routing-key", "k".repeat(length)));
        client.send(1, publish("", "q", "rejected"));
        reject_one(&client);
        client.send(1, publish("", "q", "expired").with(props().expiration("100")));
        world.advance(100);
        assert_eq!(client.depth(1, "q"), 0);
        let dead = client.drain(1, "dead");
        assert_eq!(dead.len(), if length == 255 { 2 } else { 0 }, "{length} bytes");
    }
}

#[test]
fn a_copy_key_that_no_message_can_carry_does_not_hold_up_the_message() {
    let (_world, client) = world_with(mortal());
    let copies = props().header("CC", array(["c".repeat(300).as_str()]));
    client.send(1, publish("", "q", "x").with(copies));
    reject_one(&client);
    assert_eq!(client.drain(1, "dead"), ["x"]);
}

#[test]
fn an_alternate_exchange_takes_dead_messages_too() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("rest", "fanout"));
    client.ok(1, exchange("dlx", "direct").arg("alternate-exchange", "rest"));
    client.declare(1, queue("dead"));
    client.ok(1, bind("dead", "rest", ""));
    client.declare(1, mortal());
    client.send(1, publish("", "q", "x"));
    reject_one(&client);
    assert_eq!(client.drain(1, "dead"), ["x"]);
}

#[test]
fn dead_messages_reach_waiting_consumers_and_many_queues() {
    let (world, client) = world_with(mortal());
    let consumer = world.client();
    client.declare(1, queue("dead too"));
    client.ok(1, bind("dead too", "dlx", ""));
    consumer.ok(1, consume("dead", "c"));
    client.send(1, publish("", "q", "x"));
    reject_one(&client);
    consumer.messages(1, ["x"]);
    assert_eq!(client.drain(1, "dead too"), ["x"]);
}

#[test]
fn a_full_queue_that_refuses_takes_no_dead_messages() {
    let (_world, client) = world_with(mortal());
    client.declare(1, queue("full").arg("x-max-length", 0).arg("x-overflow", "reject-publish"));
    client.ok(1, bind("full", "dlx", ""));
    client.send(1, publish("", "q", "x"));
    reject_one(&client);
    assert_eq!(client.depth(1, "full"), 0);
    assert_eq!(client.depth(1, "dead"), 1);
}

#[test]
fn copies_are_routed_by_all_keys_and_bcc_is_not_told() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-dead-letter-exchange", "amq.direct"));
    for name in ["by key", "by cc", "by bcc"] {
        client.declare(1, queue(name));
    }
    client.ok(1, bind("by key", "amq.direct", "q"));
    client.ok(1, bind("by cc", "amq.direct", "copy"));
    client.ok(1, bind("by bcc", "amq.direct", "blind"));
    let copies = props().header("CC", array(["copy"])).header("BCC", array(["blind"]));
    client.send(1, publish("", "q", "x").with(copies));
    reject_one(&client);
    for name in ["by key", "by cc"] {
        let dead = client.fetch(1, name);
        let Some(Value::Array(entries)) = dead.header("x-death") else { panic!("{dead:?}") };
        let keys = entries[0].as_table().unwrap().get("routing-keys");
        assert_eq!(keys, Some(&array(["q", "copy"])), "{name}");
    }
    assert_eq!(client.drain(1, "by bcc"), ["x"]);
}

#[test]
fn after_a_dead_letter_routing_key_copies_are_forgotten() {
    let world = World::new();
    let client = world.client();
    let first =
        queue("q").arg("x-dead-letter-exchange", "").arg("x-dead-letter-routing-key", "second");
    client.declare(1, first);
    client.declare(1, queue("second").arg("x-dead-letter-exchange", "amq.direct"));
    client.declare(1, queue("by key"));
    client.declare(1, queue("by cc"));
    client.ok(1, bind("by key", "amq.direct", "second"));
    client.ok(1, bind("by cc", "amq.direct", "copy"));
    client.send(1, publish("", "q", "x").with(props().header("CC", array(["copy"]))));
    reject_one(&client);
    let message = client.fetch(1, "second");
    client.send(1, reject(message.delivery_tag, Then::Discard));
    let dead = client.fetch(1, "by key");
    let Some(Value::Array(entries)) = dead.header("x-death") else { panic!("{dead:?}") };
    let keys = |at: usize| entries[at].as_table().unwrap().get("routing-keys").cloned().unwrap();
    assert_eq!((keys(0), keys(1)), (array(["second"]), array(["q", "copy"])));
    assert_eq!(client.depth(1, "by cc"), 0);
}

// ---- history ------------------------------------------------------------------------------------

#[test]
fn dying_again_in_the_same_way_raises_the_count() {
    let world = World::new();
    let client = world.client();
    let q = queue("q").arg("x-dead-letter-exchange", "").arg("x-dead-letter-routing-key", "wait");
    let wait = queue("wait")
        .arg("x-dead-letter-exchange", "")
        .arg("x-dead-letter-routing-key", "q")
        .arg("x-message-ttl", 1_000);
    client.declare(1, q);
    client.declare(1, wait);
    client.send(1, publish("", "q", "retry"));
    let began = world.unix_s();
    for round in 1..=3 {
        reject_one(&client);
        world.advance(1_000);
        let count = i64::from(round);
        assert_eq!(client.depth(1, "q"), 1, "rejections break the cycle");
        let message = client.fetch(1, "q");
        assert_eq!(
            deaths(&message),
            [("wait".into(), "expired".into(), count), ("q".into(), "rejected".into(), count),]
        );
        assert_eq!(text_header(&message, "x-first-death-queue"), "q");
        assert_eq!(text_header(&message, "x-first-death-reason"), "rejected");
        assert_eq!(text_header(&message, "x-last-death-queue"), "wait");
        assert_eq!(text_header(&message, "x-last-death-reason"), "expired");
        let Some(Value::Array(entries)) = message.header("x-death") else { panic!("{message:?}") };
        let times: Vec<_> =
            entries.iter().map(|it| it.as_table().unwrap().get("time").cloned()).collect();
        let first = [began + 1, began].map(|second| Some(Value::Timestamp(second)));
        assert_eq!(times, first, "the time stays that of the first such death");
        client.send(1, nack(message.delivery_tag, Then::Requeue));
    }
}

#[test]
fn a_message_does_not_go_round_by_itself_for_ever() {
    let world = World::new();
    let client = world.client();
    let declaration = queue("q")
        .arg("x-dead-letter-exchange", "")
        .arg("x-dead-letter-routing-key", "q")
        .arg("x-message-ttl", 100);
    client.declare(1, declaration);
    client.send(1, publish("", "q", "round"));
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 0);
    client.send(1, publish("", "q", "rejected"));
    reject_one(&client);
    assert_eq!(client.depth(1, "q"), 1, "what a client decided may repeat");
}

#[test]
fn a_longer_way_round_ends_too() {
    let world = World::new();
    let client = world.client();
    for (name, next) in [("a", "b"), ("b", "a")] {
        let declaration = queue(name)
            .arg("x-dead-letter-exchange", "")
            .arg("x-dead-letter-routing-key", next)
            .arg("x-message-ttl", 100);
        client.declare(1, declaration);
    }
    client.send(1, publish("", "a", "round"));
    world.advance(100);
    assert_eq!((client.depth(1, "a"), client.depth(1, "b")), (0, 1));
    world.advance(1_000);
    assert_eq!((client.depth(1, "a"), client.depth(1, "b")), (0, 0));
}

#[test]
fn a_history_that_a_publisher_made_up_is_replaced() {
    let (_world, client) = world_with(mortal());
    let made_up = Value::Array(vec![Value::Table(
        Table::new().with("queue", "q").with("reason", "rejected").with("count", 99_i64),
    )]);
    client.send(1, publish("", "q", "x").with(props().header("x-death", made_up.clone())));
    let message = client.fetch(1, "q");
    assert_eq!(message.header("x-death"), Some(made_up), "until then it is a header as any other");
    client.send(1, reject(message.delivery_tag, Then::Discard));
    assert_eq!(deaths(&client.fetch(1, "dead")), [("q".into(), "rejected".into(), 1)]);
}

#[test]
fn a_message_may_die_in_many_queues() {
    let world = World::new();
    let client = world.client();
    for n in 0..10 {
        let declaration = queue(&format!("q{n}"))
            .arg("x-dead-letter-exchange", "")
            .arg("x-dead-letter-routing-key", format!("q{}", n + 1))
            .arg("x-message-ttl", 100);
        client.declare(1, declaration);
    }
    client.declare(1, queue("q10"));
    client.send(1, publish("", "q0", "x"));
    world.advance(2_000);
    let dead = client.fetch(1, "q10");
    let queues: Vec<String> = deaths(&dead).into_iter().map(|(queue, ..)| queue).collect();
    assert_eq!(queues, (0..10).rev().map(|n| format!("q{n}")).collect::<Vec<_>>());
    assert_eq!(text_header(&dead, "x-first-death-queue"), "q0");
    assert_eq!(text_header(&dead, "x-last-death-queue"), "q9");
}

// ---- at least once ------------------------------------------------------------------------------

fn careful() -> QueueDeclare {
    let quorum = mortal().durable().arg("x-queue-type", "quorum");
    quorum.arg("x-dead-letter-strategy", "at-least-once").arg("x-overflow", "reject-publish")
}

#[test]
fn a_dead_letter_that_reaches_no_queue_waits_for_one_where_it_must_arrive_once_at_least() {
    covers!("queue.x-dead-letter-strategy");
    let world = World::new();
    let client = world.client();
    client.declare(1, careful());
    for body in ["1", "2"] {
        client.send(1, publish("", "q", body));
        reject_one(&client);
    }
    world.advance(60_000);
    client.ok(1, exchange("dlx", "fanout"));
    client.declare(1, queue("dead"));
    client.ok(1, bind("dead", "dlx", ""));
    world.advance(5_000);
    let first = client.fetch(1, "dead");
    assert_eq!((first.text(), deaths(&first)), ("1", vec![("q".into(), "rejected".into(), 1)]));
    assert_eq!(client.drain(1, "dead"), ["2"]);
    world.advance(60_000);
    assert_eq!((client.depth(1, "q"), client.depth(1, "dead")), (0, 0));
}

#[test]
fn a_dead_letter_that_must_arrive_waits_for_room_and_survives_a_restart() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("dlx", "fanout").durable());
    let small = queue("dead").durable().arg("x-max-length", 1).arg("x-overflow", "reject-publish");
    client.declare(1, small);
    client.ok(1, bind("dead", "dlx", ""));
    client.declare(1, careful().arg("x-message-ttl", 100));
    for body in ["1", "2"] {
        client.send(1, publish("", "q", body).with(props().persistent()));
    }
    world.advance(100);
    assert_eq!(client.depth(1, "dead"), 1);
    let world = world.restarted(0);
    let client = world.client();
    world.advance(10_000);
    assert_eq!(client.drain(1, "dead"), ["1"]);
    world.advance(5_000);
    assert_eq!(client.drain(1, "dead"), ["2"]);
}

#[test]
fn dead_letters_are_not_kept_where_nobody_asked_or_where_they_would_go_round() {
    let world = World::new();
    let client = world.client();
    let quorum = mortal().durable().arg("x-queue-type", "quorum");
    client.declare(1, quorum.arg("x-dead-letter-strategy", "at-least-once"));
    client.send(1, publish("", "q", "without reject-publish"));
    reject_one(&client);
    client.ok(1, exchange("dlx", "fanout"));
    client.ok(1, bind("q", "dlx", ""));
    world.advance(10_000);
    assert_eq!(client.depth(1, "q"), 0);
    client.ok(1, delete_queue("q"));
    client.declare(1, careful().arg("x-message-ttl", 100));
    client.ok(1, bind("q", "dlx", ""));
    client.send(1, publish("", "q", "round"));
    world.advance(60_000);
    assert_eq!(client.depth(1, "q"), 0);
    let bad = queue("r").durable().arg("x-queue-type", "quorum");
    let text = "PRECONDITION_FAILED - invalid arg 'x-dead-letter-strategy' for queue 'r' in vhost \
                '/': invalid_dlx_strategy";
    client.refused(1, bad.arg("x-dead-letter-strategy", "twice"), 406, text);
}
