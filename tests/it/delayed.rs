//! Delayed messages: exchanges of type x-delayed-message keep a message for as long as it asks.

use leveret::covers;
use leveret::protocol::table::Value;
use leveret::store::faulty::Faults;

use crate::support::*;

fn delayed(kind: &str) -> ExchangeDeclare {
    exchange("later", "x-delayed-message").durable().arg("x-delayed-type", kind)
}

/// An exchange `later` that matches like a direct one, bound to `q` with the key `k`.
fn world() -> (World, Client) {
    let world = World::new();
    let client = world.client();
    client.ok(1, delayed("direct"));
    client.declare(1, queue("q").durable());
    client.ok(1, bind("q", "later", "k"));
    (world, client)
}

fn after(ms: impl Into<Value>) -> Props {
    props().persistent().header("x-delay", ms)
}

#[test]
fn a_message_arrives_when_its_delay_is_over_and_not_before() {
    covers!("exchange.x-delayed-type");
    covers!("message.x-delay");
    let (world, client) = world();
    client.send(1, publish("later", "k", "x").with(after(5_000).message_id("m")));
    world.advance(4_999);
    assert_eq!(client.depth(1, "q"), 0);
    world.advance(1);
    let message = client.fetch(1, "q");
    assert_eq!((message.text(), message.redelivered), ("x", false));
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("later", "k"));
    assert_eq!(message.header("x-delay"), Some(Value::I32(-5_000)));
    assert_eq!(message.properties().message_id, Some(&b"m"[..]));
}

#[test]
fn messages_arrive_in_the_order_of_their_times() {
    let (world, client) = world();
    for (body, ms) in [("c", 300), ("a", 100), ("d", 300), ("b", 200)] {
        client.send(1, publish("later", "k", body).with(after(ms)));
    }
    client.ok(1, consume("q", "c").no_ack());
    world.advance(150);
    client.messages(1, ["a"]);
    world.advance(150);
    client.messages(1, ["b", "c", "d"]);
}

#[test]
fn what_asks_for_no_delay_goes_at_once() {
    let (_world, client) = world();
    client.send(1, publish("later", "k", "no header"));
    for (body, value) in [
        ("zero", Value::I32(0)),
        ("negative", Value::I32(-5)),
        ("too long", Value::I64(4_294_967_296)),
        ("no number", Value::from("soon")),
    ] {
        client.send(1, publish("later", "k", body).with(after(value)));
    }
    let at_once = ["no header", "zero", "negative", "too long", "no number"];
    assert_eq!(client.drain(1, "q"), at_once);
}

#[test]
fn a_delay_may_be_text_or_a_fraction() {
    let (world, client) = world();
    client.send(1, publish("later", "k", "text").with(after("100")));
    client.send(1, publish("later", "k", "fraction").with(after(200.9_f64)));
    world.advance(100);
    assert_eq!(client.drain(1, "q"), ["text"]);
    world.advance(100);
    assert_eq!(client.drain(1, "q"), ["fraction"]);
}

#[test]
fn it_matches_like_the_type_it_was_declared_with() {
    let world = World::new();
    let client = world.client();
    client.ok(1, delayed("topic"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "later", "kern.*"));
    let copied = after(10).header("CC", properties::array(["kern.cc"]));
    client.send(1, publish("later", "kern.crit", "a").with(after(10)));
    client.send(1, publish("later", "mail", "b").with(after(10)));
    client.send(1, publish("later", "mail", "c").with(copied));
    world.advance(10);
    assert_eq!(client.drain(1, "q"), ["a", "c"]);
}

#[test]
fn bindings_count_as_they_are_when_the_delay_is_over() {
    let (world, client) = world();
    client.send(1, publish("later", "k", "x").with(after(100)));
    client.ok(1, unbind("q", "later", "k"));
    client.declare(1, queue("r"));
    client.ok(1, bind("r", "later", "k"));
    world.advance(100);
    assert_eq!((client.depth(1, "q"), client.depth(1, "r")), (0, 1));
}

#[test]
fn a_delayed_message_is_not_returned_and_an_unroutable_one_finds_the_alternate() {
    let world = World::new();
    let client = world.client();
    client.ok(1, delayed("direct").arg("alternate-exchange", "amq.fanout"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.fanout", ""));
    client.ok(1, confirm_select());
    client.send(1, publish("later", "nowhere", "x").with(after(100)).mandatory());
    client.expect(1, ack(1));
    client.expect_nothing();
    world.advance(100);
    assert_eq!(client.drain(1, "q"), ["x"]);
}

#[test]
fn a_delayed_message_is_confirmed_once_it_is_on_disk_and_survives_what_comes_then() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    let sync = || {
        disk.sync();
        world.pump();
    };
    let later = delayed("direct");
    for request in [&later as &dyn Request, &queue("q").durable(), &bind("q", "later", "k")] {
        client.send_at_once(1, &[request]);
        sync();
        client.take(1);
    }
    client.ok(1, confirm_select());
    client.send(1, publish("later", "k", "x").with(after(60_000)));
    client.expect_nothing();
    sync();
    client.expect(1, ack(1));
}

#[test]
fn delayed_messages_are_kept_over_a_restart_transient_ones_too() {
    let (world, client) = world();
    client.ok(1, confirm_select());
    client.send(1, publish("later", "k", "soon").with(after(500)));
    client.send(1, publish("later", "k", "later").with(after(120_000)));
    client.send(1, publish("later", "k", "transient").with(props().header("x-delay", 1_000)));
    (1..=3).for_each(|tag| client.expect(1, ack(tag)));
    let world = world.restarted(600);
    let client = world.client();
    world.advance(0);
    assert_eq!(client.drain(1, "q"), ["soon"], "it was due while the node was down");
    world.advance(400);
    assert_eq!(client.drain(1, "q"), ["transient"]);
    world.advance(119_000);
    let message = client.fetch(1, "q");
    assert_eq!(message.text(), "later");
    client.send(1, ack(message.delivery_tag));
    let world = world.restarted(0);
    let client = world.client();
    world.advance(200_000);
    assert_eq!(client.depth(1, "q"), 0, "what has left does not come again");
}

#[test]
fn an_exchange_that_is_not_durable_delays_as_well() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("later", "x-delayed-message").arg("x-delayed-type", "fanout"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "later", ""));
    client.send(1, publish("later", "", "x").with(after(100)));
    world.advance(100);
    assert_eq!(client.drain(1, "q"), ["x"]);
}

#[test]
fn what_waits_goes_with_its_exchange() {
    let (world, client) = world();
    client.send(1, publish("later", "k", "x").with(after(100)));
    client.ok(1, delete_exchange("later"));
    client.ok(1, delayed("direct"));
    client.ok(1, bind("q", "later", "k"));
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 0);
    let world = world.restarted(0);
    assert_eq!(world.client().depth(1, "q"), 0);
}

#[test]
fn a_message_that_comes_by_another_exchange_or_as_a_dead_letter_is_delayed_too() {
    let (world, client) = world();
    client.ok(1, exchange("front", "fanout"));
    client.ok(1, bind_exchange("later", "front", ""));
    client.send(1, publish("front", "k", "by binding").with(after(100)));
    let dying = queue("dying").arg("x-dead-letter-exchange", "later");
    client.declare(1, dying.arg("x-dead-letter-routing-key", "k"));
    client.send(1, publish("", "dying", "dead").with(after(200)));
    let dead = client.fetch(1, "dying");
    client.send(1, reject(dead.delivery_tag, Then::Discard));
    assert_eq!(client.depth(1, "q"), 0);
    world.advance(100);
    assert_eq!(client.drain(1, "q"), ["by binding"]);
    world.advance(100);
    let late = client.fetch(1, "q");
    assert_eq!((late.text(), late.header("x-delay")), ("dead", Some(Value::I32(-200))));
    assert!(late.header("x-death").is_some());
}

#[test]
fn a_delay_is_over_once_however_many_delayed_exchanges_come_after() {
    let (world, client) = world();
    client.ok(1, exchange("second", "x-delayed-message").arg("x-delayed-type", "fanout"));
    client.ok(1, bind_exchange("second", "later", "k"));
    client.declare(1, queue("r"));
    client.ok(1, bind("r", "second", ""));
    client.send(1, publish("later", "k", "x").with(after(100)));
    world.advance(100);
    assert_eq!(client.drain(1, "r"), ["x"]);
}

#[test]
fn in_a_transaction_the_delay_counts_from_the_commit() {
    let (world, client) = world();
    client.ok(1, tx_select());
    client.send(1, publish("later", "k", "x").with(after(100)));
    world.advance(1_000);
    client.ok(1, tx_commit());
    assert_eq!(client.depth(1, "q"), 0);
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 1);
}

#[test]
fn many_messages_that_are_due_at_once_all_arrive_in_order() {
    let (world, client) = world();
    let long = "x".repeat(40_000);
    for n in 0..700 {
        // More than is held in memory, so that some are read back.
        client.send(1, publish("later", "k", format!("{n} {long}")).with(after(5_000)));
    }
    world.advance(5_000);
    let order: Vec<String> = client
        .drain(1, "q")
        .iter()
        .map(|body| body.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(order, (0..700).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn operators_see_how_many_messages_wait() {
    let (world, client) = world();
    for ms in [100, 200] {
        client.send(1, publish("later", "k", "x").with(after(ms)));
    }
    let waiting = || {
        let views = world.broker().vhost("/").unwrap().exchange_views();
        views.into_iter().find(|view| view.name == "later").unwrap().messages_delayed
    };
    assert_eq!(waiting(), Some(2));
    world.advance(100);
    assert_eq!(waiting(), Some(1));
}

#[test]
fn bad_declarations_are_refused() {
    covers!("exchange.no-delayed-type");
    covers!("exchange.delayed-twice");
    let world = World::new();
    let client = world.client();
    let plain = || exchange("e", "x-delayed-message");
    let missing = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing \
                   exchange type";
    client.refused(1, plain(), 406, missing);
    client.open(2);
    client.refused(2, plain().arg("x-delayed-type", 5), 406, missing);
    client.open(3);
    let unknown = "PRECONDITION_FAILED - unknown exchange type 'moon'";
    client.refused(3, plain().arg("x-delayed-type", "moon"), 406, unknown);
    client.open(4);
    let twice = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-message' can't be used for \
                 'x-delayed-type'";
    client.refused(4, plain().arg("x-delayed-type", "x-delayed-message"), 406, twice);
}
