//! Ordered message groups: one message of a group at a time, in order; other groups go on.

use leveret::covers;
use leveret::protocol::method::Method;
use leveret::protocol::table::Value;

use crate::support::*;

fn grouped() -> QueueDeclare {
    queue("q").durable().arg("x-message-groups", true)
}

fn send(client: &Client, group: impl Into<Value>, body: &str) {
    let properties = props().persistent().header("x-group-id", group);
    client.send(1, publish("", "q", body).with(properties));
}

fn bodies(messages: &[Content]) -> Vec<&str> {
    messages.iter().map(Content::text).collect()
}

#[test]
fn a_groups_next_message_leaves_once_the_one_before_is_settled() {
    covers!("queue.x-message-groups");
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    for (group, body) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")] {
        send(&client, group, body);
    }
    client.ok(1, consume("q", "c"));
    let first = client.messages(1, ["a1", "b1"]);
    client.expect_nothing();
    client.send(1, ack(first[1].delivery_tag));
    client.messages(1, ["b2"]);
    client.expect_nothing();
    client.send(1, ack(first[0].delivery_tag));
    let [second] = client.messages(1, ["a2"]).try_into().unwrap();
    client.send(1, ack(second.delivery_tag));
    client.messages(1, ["a3"]);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn groups_go_to_consumers_side_by_side_and_a_group_to_one_at_a_time() {
    let world = World::new();
    let client = world.client();
    let workers = [world.client(), world.client(), world.client()];
    client.declare(1, grouped());
    for worker in &workers {
        worker.send(1, prefetch(1));
        worker.take(1);
        worker.ok(1, consume("q", "c"));
    }
    for n in 1..=3 {
        for group in ["a", "b"] {
            send(&client, group, &format!("{group}{n}"));
        }
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let taken: Vec<(usize, Content)> = workers
            .iter()
            .enumerate()
            .flat_map(|(at, worker)| worker.all_messages(1).into_iter().map(move |m| (at, m)))
            .collect();
        assert_eq!(taken.len(), 2, "one of each group is out, whoever is free");
        for (at, message) in &taken {
            seen.push(message.text().to_owned());
            workers[*at].send(1, ack(message.delivery_tag));
        }
    }
    for group in ["a", "b"] {
        let of_group: Vec<&String> = seen.iter().filter(|body| body.starts_with(group)).collect();
        assert_eq!(of_group, [&format!("{group}1"), &format!("{group}2"), &format!("{group}3")]);
    }
}

#[test]
fn a_message_that_comes_back_is_the_next_of_its_group_again() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    for body in ["1", "2", "3"] {
        send(&client, "g", body);
    }
    let first = client.fetch(1, "q");
    client.send(1, get("q"));
    assert!(matches!(client.take(1).method(), Method::BasicGetEmpty(_)));
    client.send(1, reject(first.delivery_tag, Then::Requeue));
    client.ok(1, consume("q", "c"));
    let again = client.message(1);
    assert_eq!((again.text(), again.redelivered), ("1", true));
    client.send(1, ack(again.delivery_tag));
    client.messages(1, ["2"]);
}

#[test]
fn messages_without_a_group_wait_for_nobody_and_for_no_consumer_is_the_count_wrong() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    send(&client, "g", "g1");
    send(&client, "g", "g2");
    client.send(1, publish("", "q", "free 1"));
    client.send(1, publish("", "q", "free 2"));
    assert_eq!(client.depth(1, "q"), 4);
    client.ok(1, consume("q", "c"));
    client.messages(1, ["g1", "free 1", "free 2"]);
    client.expect_nothing();
    assert_eq!(client.depth(1, "q"), 1);
}

#[test]
fn a_groups_name_may_be_a_number_of_any_width() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    send(&client, Value::I32(7), "1");
    send(&client, Value::I64(7), "2");
    send(&client, Value::from("7"), "another group");
    client.ok(1, consume("q", "c"));
    client.messages(1, ["1", "another group"]);
    client.expect_nothing();
}

#[test]
fn automatic_acknowledgement_keeps_the_order_without_waiting() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    client.ok(1, consume("q", "c").no_ack());
    for n in 1..=4 {
        send(&client, "g", &n.to_string());
    }
    client.messages(1, ["1", "2", "3", "4"]);
}

#[test]
fn what_expires_is_rejected_or_dropped_lets_the_next_of_its_group_go() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped().arg("x-max-length", 3));
    send(&client, "g", "dropped");
    let short = props().header("x-group-id", "g").expiration("50");
    client.send(1, publish("", "q", "expired").with(short));
    send(&client, "g", "rejected");
    send(&client, "g", "kept");
    assert_eq!(client.depth(1, "q"), 3);
    world.advance(50);
    let rejected = client.fetch(1, "q");
    assert_eq!(rejected.text(), "rejected");
    client.send(1, reject(rejected.delivery_tag, Then::Discard));
    assert_eq!(client.fetch(1, "q").text(), "kept");
}

#[test]
fn a_consumer_that_is_lost_gives_its_group_to_another() {
    let world = World::new();
    let (client, lost) = (world.client(), world.client());
    client.declare(1, grouped());
    for body in ["1", "2"] {
        send(&client, "g", body);
    }
    lost.ok(1, consume("q", "c"));
    lost.messages(1, ["1"]);
    client.ok(1, consume("q", "c"));
    client.expect_nothing();
    lost.vanish();
    let again = client.message(1);
    assert_eq!((again.text(), again.redelivered), ("1", true));
    client.expect_nothing();
}

#[test]
fn a_purge_takes_what_stands_back_too() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    for body in ["1", "2", "3"] {
        send(&client, "g", body);
    }
    let out = client.fetch(1, "q");
    client.ok(1, purge("q"));
    assert_eq!(client.depth(1, "q"), 0);
    send(&client, "g", "4");
    client.send(1, ack(out.delivery_tag));
    assert_eq!(client.fetch(1, "q").text(), "4");
}

#[test]
fn groups_are_in_order_after_a_restart() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    client.ok(1, confirm_select());
    for (group, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send(&client, group, body);
    }
    world.pump();
    let world = world.restarted(0);
    let client = world.client();
    client.ok(1, consume("q", "c"));
    let out = client.messages(1, ["a1", "b1"]);
    client.expect_nothing();
    assert_eq!(bodies(&out), ["a1", "b1"]);
    client.send(1, ack(out[0].delivery_tag));
    client.messages(1, ["a2"]);
}

#[test]
fn a_later_declaration_must_repeat_it() {
    let world = World::new();
    let client = world.client();
    client.declare(1, grouped());
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-message-groups' for queue 'q' in vhost \
                '/': received none but current is the value 'true' of type 'bool'";
    client.refused(1, queue("q").durable(), 406, text);
    let bad = queue("r").arg("x-message-groups", "yes");
    let text = "PRECONDITION_FAILED - invalid arg 'x-message-groups' for queue 'r' in vhost '/': \
                {unacceptable_type,longstr}";
    client.open(2);
    client.refused(2, bad, 406, text);
}
