//! What limits a message's stay: its time to live, the queue's length, its priority, its attempts.

use leveret::covers;
use leveret::protocol::table::Value;

use crate::support::*;

/// A world whose queue `q` was declared like this, and a client.
fn world_with(declaration: QueueDeclare) -> (World, Client) {
    let world = World::new();
    let client = world.client();
    client.declare(1, declaration);
    (world, client)
}

fn quorum() -> QueueDeclare {
    queue("q").durable().arg("x-queue-type", "quorum")
}

// ---- time to live -------------------------------------------------------------------------------

#[test]
fn a_queues_ttl_ends_the_stay_of_its_messages() {
    covers!("queue.x-message-ttl");
    let (world, client) = world_with(queue("q").arg("x-message-ttl", 1_000));
    client.send(1, publish("", "q", "a"));
    world.advance(500);
    client.send(1, publish("", "q", "b"));
    world.advance(499);
    assert_eq!(client.depth(1, "q"), 2);
    world.advance(1);
    assert_eq!(client.depth(1, "q"), 1);
    world.advance(500);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn a_messages_own_ttl_ends_its_stay() {
    let (world, client) = world_with(queue("q"));
    client.send(1, publish("", "q", "x").with(props().expiration("1000")));
    world.advance(999);
    assert_eq!(client.depth(1, "q"), 1);
    world.advance(1);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn the_lower_of_both_ttls_counts() {
    let (world, client) = world_with(queue("q").arg("x-message-ttl", 1_000));
    client.send(1, publish("", "q", "own").with(props().expiration("500")));
    client.send(1, publish("", "q", "queue's").with(props().expiration("5000")));
    world.advance(500);
    assert_eq!(client.depth(1, "q"), 1);
    world.advance(500);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn a_queue_ttl_of_nothing_delivers_at_once_or_not_at_all() {
    let (world, client) = world_with(queue("q").arg("x-message-ttl", 0));
    client.send(1, publish("", "q", "nobody waits"));
    assert_eq!(client.depth(1, "q"), 0);
    let consumer = world.client();
    consumer.ok(1, prefetch(1));
    consumer.ok(1, consume("q", "c"));
    client.send(1, publish("", "q", "someone waits"));
    consumer.messages(1, ["someone waits"]);
    client.send(1, publish("", "q", "busy"));
    consumer.send(1, ack(1));
    consumer.expect_nothing();
}

#[test]
fn a_message_ttl_of_nothing_delivers_at_once_or_not_at_all() {
    let (_world, client) = world_with(queue("q"));
    let now_or_never = |body: &str| publish("", "q", body).with(props().expiration("0"));
    client.send(1, now_or_never("nobody waits"));
    assert_eq!(client.depth(1, "q"), 0);
    client.open(2);
    client.ok(2, consume("q", "c"));
    client.send(1, now_or_never("someone waits"));
    client.messages(2, ["someone waits"]);
}

#[test]
fn a_message_behind_one_that_lives_longer_waits_for_its_turn_to_expire() {
    let (world, client) = world_with(queue("q"));
    client.send(1, publish("", "q", "long"));
    client.send(1, publish("", "q", "short").with(props().expiration("100")));
    world.advance(200);
    assert_eq!(client.depth(1, "q"), 2);
    assert_eq!(client.drain(1, "q"), ["long"], "expired messages are not delivered");
}

#[test]
fn a_message_that_comes_to_the_head_expires_in_time_whoever_made_way() {
    let (world, client) = world_with(queue("q"));
    let publish_two = || {
        client.send(1, publish("", "q", "long"));
        client.send(1, publish("", "q", "short").with(props().expiration("100")));
    };
    // The one before it is held by a channel that fetched it.
    publish_two();
    client.open(2);
    assert_eq!(client.fetch(2, "q").text(), "long");
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 0);
    client.send(2, ack(1));
    // It was fetched without acknowledgement.
    publish_two();
    client.ok(2, get("q").no_ack());
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 0);
    // It was consumed.
    publish_two();
    client.ok(2, prefetch(1));
    client.ok(2, consume("q", "c"));
    client.messages(2, ["long"]);
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn an_unacknowledged_message_expires_when_it_comes_back() {
    let (world, client) = world_with(queue("q").arg("x-message-ttl", 1_000));
    client.open(2);
    client.send(1, publish("", "q", "x"));
    client.fetch(2, "q");
    world.advance(5_000);
    client.send(2, nack(1, Then::Requeue));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn coming_back_does_not_lengthen_a_life() {
    let (world, client) = world_with(queue("q").arg("x-message-ttl", 1_000));
    client.open(2);
    client.send(1, publish("", "q", "x"));
    world.advance(600);
    client.fetch(2, "q");
    client.send(2, nack(1, Then::Requeue));
    world.advance(399);
    assert_eq!(client.depth(1, "q"), 1);
    world.advance(1);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn an_expired_message_is_not_delivered_to_a_consumer_that_comes_late() {
    let (world, client) = world_with(queue("q"));
    client.send(1, publish("", "q", "dead").with(props().expiration("10")));
    client.send(1, publish("", "q", "alive"));
    world.advance(10);
    client.open(2);
    client.ok(2, consume("q", "c"));
    client.messages(2, ["alive"]);
    client.expect_nothing();
}

#[test]
fn ttls_of_many_queues_each_fire_in_time() {
    let world = World::new();
    world.only_in_process("looking at all of them takes as long as they live");
    let client = world.client();
    for n in 1..=20 {
        let name = format!("q{n}");
        client.declare(1, queue(&name).arg("x-message-ttl", n * 100));
        client.send(1, publish("", &name, "x"));
    }
    for n in 1..=20 {
        world.advance(100);
        let left = (1..=20).filter(|n| client.depth(1, &format!("q{n}")) == 1).count();
        assert_eq!(left, 20 - n);
    }
}

// ---- length -------------------------------------------------------------------------------------

#[test]
fn a_queue_that_is_too_long_drops_its_oldest_messages() {
    covers!("queue.x-max-length");
    let (_world, client) = world_with(queue("q").arg("x-max-length", 2));
    for body in ["a", "b", "c", "d"] {
        client.send(1, publish("", "q", body));
    }
    assert_eq!(client.depth(1, "q"), 2);
    assert_eq!(client.drain(1, "q"), ["c", "d"]);
}

#[test]
fn a_burst_leaves_the_newest() {
    let (_world, client) = world_with(queue("q").arg("x-max-length", 3));
    let burst: Vec<Publish> = (0..10).map(|n| publish("", "q", n.to_string())).collect();
    let requests: Vec<&dyn Request> = burst.iter().map(|it| it as &dyn Request).collect();
    client.send_at_once(1, &requests);
    assert_eq!(client.drain(1, "q"), ["7", "8", "9"]);
}

#[test]
fn the_length_in_bytes_counts_bodies() {
    covers!("queue.x-max-length-bytes");
    let (_world, client) = world_with(queue("q").arg("x-max-length-bytes", 10));
    let headers = props().header("padding", "x".repeat(100));
    client.send(1, publish("", "q", "aaaaa").with(headers));
    client.send(1, publish("", "q", "bbbbb"));
    assert_eq!(client.depth(1, "q"), 2);
    client.send(1, publish("", "q", "c"));
    assert_eq!(client.drain(1, "q"), ["bbbbb", "c"]);
    client.send(1, publish("", "q", "eleven byte"));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn both_lengths_hold() {
    let declaration = queue("q").arg("x-max-length", 3).arg("x-max-length-bytes", 10);
    let (_world, client) = world_with(declaration);
    for body in ["1", "2", "3", "4"] {
        client.send(1, publish("", "q", body));
    }
    client.send(1, publish("", "q", "5555555"));
    client.send(1, publish("", "q", "66"));
    assert_eq!(client.drain(1, "q"), ["4", "5555555", "66"]);
}

#[test]
fn a_length_of_nothing_passes_messages_to_those_who_wait() {
    let (_world, client) = world_with(queue("q").arg("x-max-length", 0));
    client.send(1, publish("", "q", "nobody waits"));
    assert_eq!(client.depth(1, "q"), 0);
    client.open(2);
    client.ok(2, consume("q", "c"));
    client.send(1, publish("", "q", "someone waits"));
    client.messages(2, ["someone waits"]);
}

#[test]
fn unacknowledged_messages_do_not_count_until_they_come_back() {
    let (_world, client) = world_with(queue("q").arg("x-max-length", 2));
    client.open(2);
    for body in ["a", "b"] {
        client.send(1, publish("", "q", body));
        client.fetch(2, "q");
    }
    for body in ["c", "d"] {
        client.send(1, publish("", "q", body));
    }
    assert_eq!(client.depth(1, "q"), 2);
    client.send(2, nack(2, Then::Requeue));
    assert_eq!(client.drain(1, "q"), ["c", "d"], "the one that came back is the oldest");
}

#[test]
fn a_queue_that_refuses_keeps_what_it_has() {
    covers!("queue.x-overflow");
    let declaration = queue("q").arg("x-max-length-bytes", 10).arg("x-overflow", "reject-publish");
    let (_world, client) = world_with(declaration);
    for body in ["aaaaaa", "bbbbb", "cccc", "d"] {
        client.send(1, publish("", "q", body));
    }
    assert_eq!(client.drain(1, "q"), ["aaaaaa", "cccc"]);
}

// ---- priorities ---------------------------------------------------------------------------------

#[test]
fn messages_of_higher_priority_leave_first() {
    covers!("queue.x-max-priority");
    let (_world, client) = world_with(queue("q").arg("x-max-priority", 5));
    for (body, priority) in [
        ("none", None),
        ("low", Some(1)),
        ("high", Some(5)),
        ("nine", Some(9)),
        ("high too", Some(5)),
        ("zero", Some(0)),
    ] {
        let properties = priority.map_or_else(props, |priority: u8| props().priority(priority));
        client.send(1, publish("", "q", body).with(properties));
    }
    assert_eq!(client.drain(1, "q"), ["high", "nine", "high too", "low", "none", "zero"]);
}

#[test]
fn without_priorities_the_property_means_nothing() {
    let (_world, client) = world_with(queue("q"));
    for (body, priority) in [("a", 1_u8), ("b", 9)] {
        client.send(1, publish("", "q", body).with(props().priority(priority)));
    }
    assert_eq!(client.drain(1, "q"), ["a", "b"]);
}

#[test]
fn a_returned_message_keeps_its_place_among_its_equals() {
    let (_world, client) = world_with(queue("q").arg("x-max-priority", 2));
    client.open(2);
    for (body, priority) in [("low", 0_u8), ("high 1", 2), ("high 2", 2)] {
        client.send(1, publish("", "q", body).with(props().priority(priority)));
    }
    for body in ["high 1", "high 2", "low"] {
        assert_eq!(client.fetch(2, "q").text(), body);
    }
    client.send(2, nack_up_to(3, Then::Requeue));
    assert_eq!(client.drain(1, "q"), ["high 1", "high 2", "low"]);
}

#[test]
fn a_priority_queue_that_is_too_long_drops_from_its_head() {
    // RabbitMQ's documentation warns of it: higher priorities make way for lower ones.
    let (_world, client) = world_with(queue("q").arg("x-max-priority", 2).arg("x-max-length", 2));
    for (body, priority) in [("high", 2_u8), ("low 1", 0), ("low 2", 0)] {
        client.send(1, publish("", "q", body).with(props().priority(priority)));
    }
    assert_eq!(client.drain(1, "q"), ["low 1", "low 2"]);
}

#[test]
fn every_priority_expires_at_its_own_head() {
    let (world, client) = world_with(queue("q").arg("x-max-priority", 1));
    client.send(1, publish("", "q", "high").with(props().priority(1)));
    client.send(1, publish("", "q", "low").with(props().expiration("100")));
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 1);
    assert_eq!(client.drain(1, "q"), ["high"]);
}

// ---- attempts -----------------------------------------------------------------------------------

#[test]
fn a_quorum_queue_gives_a_message_up_after_too_many_attempts() {
    covers!("queue.x-delivery-limit");
    let (_world, client) = world_with(quorum().arg("x-delivery-limit", 2));
    client.send(1, publish("", "q", "poison"));
    client.send(1, publish("", "q", "fine"));
    for attempt in 0..3 {
        let message = client.fetch(1, "q");
        assert_eq!((message.text(), message.redelivered), ("poison", attempt > 0));
        client.send(1, nack(attempt + 1, Then::Requeue));
    }
    assert_eq!(client.drain(1, "q"), ["fine"]);
}

#[test]
fn twenty_attempts_may_fail_by_default() {
    let (world, client) = world_with(quorum());
    client.send(1, publish("", "q", "poison"));
    for attempt in 0..21 {
        let victim = world.client();
        assert_eq!(victim.fetch(1, "q").text(), "poison", "attempt {attempt}");
        victim.vanish();
    }
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn classic_queues_have_no_limit() {
    can_be_tried_for_ever(queue("q"));
}

#[test]
fn a_negative_limit_is_none() {
    can_be_tried_for_ever(quorum().arg("x-delivery-limit", -1));
}

fn can_be_tried_for_ever(declaration: QueueDeclare) {
    let (_world, client) = world_with(declaration);
    client.send(1, publish("", "q", "again"));
    for tag in 1..=50 {
        assert_eq!(client.fetch(1, "q").text(), "again");
        client.send(1, reject(tag, Then::Requeue));
    }
    assert_eq!(client.depth(1, "q"), 1);
}

#[test]
fn a_quorum_queue_tells_how_often_it_was_tried() {
    let (_world, client) = world_with(quorum());
    client.send(1, publish("", "q", "x").with(props().header("own", 1)));
    assert_eq!(client.fetch(1, "q").header("x-delivery-count"), None);
    client.send(1, nack(1, Then::Requeue));
    for attempt in 1..=3_u64 {
        let message = client.fetch(1, "q");
        let count = i64::try_from(attempt).unwrap();
        assert_eq!(message.header("x-delivery-count"), Some(Value::I64(count)));
        assert_eq!(message.header("own"), Some(Value::I32(1)));
        client.send(1, nack(attempt + 1, Then::Requeue));
    }
}
