//! Deduplication: what a queue or an exchange was given before is confirmed and dropped.

use leveret::covers;
use leveret::protocol::table::Value;
use leveret::store::faulty::Faults;

use crate::support::*;

fn unique() -> QueueDeclare {
    queue("q").durable().arg("x-message-deduplication", true)
}

fn with_id(id: &str) -> Props {
    props().persistent().header("x-deduplication-header", id)
}

fn from(publisher: &str, sequence: i64) -> Props {
    let properties = props().persistent().header("x-publisher-name", publisher);
    properties.header("x-publisher-sequence", sequence)
}

#[test]
fn a_value_is_taken_as_long_as_a_message_with_it_is_in_the_queue() {
    covers!("queue.x-message-deduplication");
    let world = World::new();
    let client = world.client();
    client.declare(1, unique());
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "1").with(with_id("a")));
    client.expect(1, ack(1));
    client.send(1, publish("", "q", "2").with(with_id("a")).mandatory());
    client.expect(1, ack(2));
    client.send(1, publish("", "q", "3").with(with_id("b")));
    client.expect(1, ack(3));
    client.send(1, publish("", "q", "no value").with(props()));
    client.expect(1, ack(4));
    assert_eq!(client.depth(1, "q"), 3);
    let held = client.fetch(1, "q");
    client.send(1, publish("", "q", "while unacknowledged").with(with_id("a")));
    client.expect(1, ack(5));
    client.send(1, ack(held.delivery_tag));
    client.send(1, publish("", "q", "again").with(with_id("a")));
    client.expect(1, ack(6));
    assert_eq!(client.drain(1, "q"), ["3", "no value", "again"]);
}

#[test]
fn with_a_cache_values_are_remembered_by_number_and_time_whatever_became_of_them() {
    covers!("queue.x-cache-size");
    covers!("queue.x-cache-ttl");
    covers!("queue.x-deduplication-header");
    let world = World::new();
    let client = world.client();
    let declaration = unique().arg("x-cache-size", 2).arg("x-cache-ttl", 1_000);
    client.declare(1, declaration.arg("x-deduplication-header", "id"));
    let send = |id: &str| client.send(1, publish("", "q", id).with(props().header("id", id)));
    send("a");
    assert_eq!(client.drain(1, "q"), ["a"]);
    send("a");
    assert_eq!(client.depth(1, "q"), 0, "it left, but is remembered");
    send("b");
    send("c");
    send("a");
    assert_eq!(client.drain(1, "q"), ["b", "c", "a"], "a had been pushed out by b and c");
    world.advance(1_000);
    send("a");
    assert_eq!(client.drain(1, "q"), ["a"]);
    let own_time = props().header("id", "d").header("x-cache-ttl", 5_000);
    client.send(1, publish("", "q", "d").with(own_time));
    world.advance(4_999);
    send("d");
    assert_eq!(client.drain(1, "q"), ["d"]);
}

#[test]
fn a_duplicate_is_confirmed_no_sooner_than_its_original() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.send(1, unique());
    disk.sync();
    world.pump();
    client.take(1);
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "1").with(with_id("a")));
    client.send(1, publish("", "q", "2").with(with_id("a")));
    client.expect_nothing();
    disk.sync();
    world.pump();
    client.expect(1, ack_up_to(2));
}

#[test]
fn what_a_full_queue_refused_is_not_taken_for_a_duplicate_later() {
    let world = World::new();
    let client = world.client();
    client.declare(1, unique().arg("x-max-length", 1).arg("x-overflow", "reject-publish"));
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "1").with(with_id("a")));
    client.expect(1, ack(1));
    client.send(1, publish("", "q", "2").with(with_id("b")));
    assert!(format!("{:?}", client.take(1).method()).contains("Nack"));
    assert_eq!(client.drain(1, "q"), ["1"]);
    client.send(1, publish("", "q", "2").with(with_id("b")));
    client.expect(1, ack(3));
    assert_eq!(client.depth(1, "q"), 1);
}

#[test]
fn values_that_wait_in_the_queue_are_known_after_a_restart() {
    let world = World::new();
    let client = world.client();
    client.declare(1, unique());
    client.send(1, publish("", "q", "1").with(with_id("a")));
    let world = world.restarted(0);
    let client = world.client();
    client.send(1, publish("", "q", "2").with(with_id("a")));
    assert_eq!(client.drain(1, "q"), ["1"]);
}

#[test]
fn a_publisher_that_repeats_itself_after_a_reconnect_is_confirmed_and_nothing_is_doubled() {
    covers!("message.x-publisher-sequence");
    let world = World::new();
    let client = world.client();
    client.declare(1, unique());
    client.ok(1, confirm_select());
    for sequence in 1..=3 {
        let message = publish("", "q", sequence.to_string()).with(from("billing", sequence));
        client.send(1, message);
        client.expect(1, ack(sequence as u64));
    }
    client.vanish();
    let client = world.client();
    client.ok(1, confirm_select());
    for (tag, sequence) in [(1, 2), (2, 3), (3, 4)] {
        client.send(1, publish("", "q", sequence.to_string()).with(from("billing", sequence)));
        client.expect(1, ack(tag));
    }
    client.send(1, publish("", "q", "another's 1").with(from("shipping", 1)));
    client.expect(1, ack(4));
    assert_eq!(client.drain(1, "q"), ["1", "2", "3", "4", "another's 1"]);
}

#[test]
fn a_publishers_highest_number_survives_restarts_and_goes_with_the_queue() {
    let world = World::new();
    let client = world.client();
    client.declare(1, unique());
    client.send(1, publish("", "q", "5").with(from("billing", 5)));
    assert_eq!(client.drain(1, "q"), ["5"]);
    let world = world.restarted(0).restarted(0);
    let client = world.client();
    client.send(1, publish("", "q", "4").with(from("billing", 4)));
    client.send(1, publish("", "q", "5").with(from("billing", 5)));
    client.send(1, publish("", "q", "6").with(from("billing", 6)));
    assert_eq!(client.drain(1, "q"), ["6"]);
    client.ok(1, delete_queue("q"));
    let world = world.restarted(0);
    let client = world.client();
    client.declare(1, unique());
    client.send(1, publish("", "q", "1").with(from("billing", 1)));
    assert_eq!(client.drain(1, "q"), ["1"]);
}

#[test]
fn bad_arguments_are_refused() {
    let world = World::new();
    let client = world.client();
    for (at, (argument, value, reason)) in [
        ("x-message-deduplication", Value::from("yes"), "{unacceptable_type,longstr}"),
        ("x-cache-size", Value::I32(0), "{value_zero,0}"),
        ("x-cache-size", Value::I32(-1), "{value_negative,-1}"),
        ("x-cache-size", Value::I64(10_000_001), "{value_too_large,10000001}"),
        ("x-cache-ttl", Value::from("1s"), "\"expected integer, got longstr\""),
        ("x-deduplication-header", Value::I32(1), "{unacceptable_type,signedint}"),
    ]
    .into_iter()
    .enumerate()
    {
        let channel = 2 + u16::try_from(at).unwrap();
        client.open(channel);
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{argument}' for queue 'q' in vhost '/': {reason}"
        );
        client.refused(channel, unique().arg(argument, value), 406, &text);
    }
}

// ---- exchanges ----------------------------------------------------------------------------------

#[test]
fn an_exchange_of_any_type_drops_and_confirms_what_it_was_given_before() {
    covers!("exchange.x-message-deduplication");
    let world = World::new();
    let client = world.client();
    let declaration = exchange("once", "topic").arg("x-message-deduplication", true);
    client.ok(1, declaration.arg("x-cache-size", 2).arg("x-cache-ttl", 1_000));
    client.declare(1, queue("q"));
    client.declare(1, queue("r"));
    client.ok(1, bind("q", "once", "#"));
    client.ok(1, bind("r", "once", "#"));
    client.ok(1, confirm_select());
    for (tag, id) in [(1, "a"), (2, "a"), (3, "b")] {
        client.send(1, publish("once", "k", id).with(with_id(id)).mandatory());
        client.expect(1, ack(tag));
    }
    client.send(1, publish("once", "k", "no value").with(props()));
    client.expect(1, ack(4));
    client.expect_nothing();
    assert_eq!(client.drain(1, "q"), ["a", "b", "no value"]);
    assert_eq!(client.drain(1, "r"), ["a", "b", "no value"]);
    world.advance(1_000);
    client.send(1, publish("once", "k", "again").with(with_id("a")));
    client.expect(1, ack(5));
    assert_eq!(client.drain(1, "q"), ["again"]);
}

#[test]
fn the_type_of_rabbitmqs_plugin_is_a_fanout_with_a_cache() {
    covers!("exchange.invalid-cache-size");
    covers!("exchange.invalid-cache-ttl");
    let world = World::new();
    let client = world.client();
    let plain = || exchange("once", "x-message-deduplication");
    // Some clients write numbers as text, and the plugin takes them.
    client.ok(1, plain().arg("x-cache-size", "5"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "once", "ignored"));
    for id in ["a", "b", "a"] {
        client.send(1, publish("once", "", id).with(with_id(id)));
    }
    assert_eq!(client.drain(1, "q"), ["a", "b"]);
    let other = || exchange("other", "x-message-deduplication");
    let size = "PRECONDITION_FAILED - Missing or invalid argument, 'x-cache-size' must be an \
                integer greater than 0";
    client.refused(1, other(), 406, size);
    client.open(2);
    client.refused(2, other().arg("x-cache-size", 0), 406, size);
    client.open(3);
    let ttl = "PRECONDITION_FAILED - Invalid argument, 'x-cache-ttl' must be an integer greater \
               than 0";
    client.refused(3, other().arg("x-cache-size", 5).arg("x-cache-ttl", -1), 406, ttl);
}

#[test]
fn what_no_queue_took_may_come_again() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("front", "fanout"));
    client.ok(1, exchange("once", "fanout").arg("x-message-deduplication", true));
    client.ok(1, bind_exchange("once", "front", ""));
    client.declare(1, queue("q").arg("x-max-length", 1).arg("x-overflow", "reject-publish"));
    client.ok(1, bind("q", "once", ""));
    client.ok(1, confirm_select());
    client.send(1, publish("front", "", "1").with(with_id("a")));
    client.expect(1, ack(1));
    client.send(1, publish("front", "", "2").with(with_id("b")));
    assert!(format!("{:?}", client.take(1).method()).contains("Nack"));
    assert_eq!(client.drain(1, "q"), ["1"]);
    client.send(1, publish("front", "", "2").with(with_id("b")));
    client.expect(1, ack(3));
    assert_eq!(client.drain(1, "q"), ["2"]);
}

#[test]
fn what_a_transaction_takes_back_may_come_again() {
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    client.ok(1, exchange("once", "fanout").arg("x-message-deduplication", true));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "once", ""));
    client.ok(1, tx_select());
    client.send(1, publish("once", "", "rolled back").with(with_id("a")));
    client.ok(1, tx_rollback());
    client.send(1, publish("once", "", "abandoned").with(with_id("a")));
    client.vanish();
    other.send(1, publish("once", "", "x").with(with_id("a")));
    other.send(1, publish("once", "", "twice").with(with_id("a")));
    assert_eq!(other.drain(1, "q"), ["x"]);
}

#[test]
fn a_duplicate_that_an_exchange_drops_is_confirmed_no_sooner_than_its_original() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    let once = exchange("once", "fanout").durable().arg("x-message-deduplication", true);
    for request in [&once as &dyn Request, &queue("q").durable(), &bind("q", "once", "")] {
        client.send_at_once(1, &[request]);
        disk.sync();
        world.pump();
        client.take(1);
    }
    client.ok(1, confirm_select());
    client.send(1, publish("once", "", "1").with(with_id("a")));
    client.send(1, publish("once", "", "2").with(with_id("a")));
    client.expect_nothing();
    disk.sync();
    world.pump();
    client.expect(1, ack_up_to(2));
}
