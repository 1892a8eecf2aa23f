//! Quorum queues: what they do differently from classic ones.

use leveret::covers;

use crate::support::*;

/// A world with a client, and a quorum queue `q` that holds these.
fn quorum_with<const N: usize>(bodies: [&str; N]) -> (World, Client) {
    let world = World::new();
    let client = world.client();
    client.declare(1, quorum());
    bodies.iter().for_each(|body| client.send(1, publish("", "q", *body)));
    (world, client)
}

fn quorum() -> QueueDeclare {
    queue("q").durable().arg("x-queue-type", "quorum")
}

#[test]
fn consuming_under_a_limit_that_consumers_share_is_not_supported() {
    covers!("queue.no-global-qos");
    let (world, client) = quorum_with(["a"]);
    client.ok(1, prefetch_shared(10));
    client.send(1, consume("q", "c"));
    let text = "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos";
    assert_eq!(client.expect_connection_close(540, text), (60, 20));
    // Lifted, the limit is forgotten; one's own is fine; and get knows no limits.
    let client = world.client();
    client.ok(1, prefetch_shared(10));
    client.fetch(1, "q");
    client.send(1, nack(1, Then::Requeue));
    client.ok(1, prefetch_shared(0));
    client.ok(1, prefetch(10));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
}

#[test]
fn a_shared_limit_that_comes_later_leaves_quorum_consumers_alone() {
    let (_world, client) = quorum_with([]);
    client.declare(1, queue("classic"));
    client.open(2);
    client.ok(2, consume("q", "quorum"));
    client.ok(2, consume("classic", "classic"));
    client.ok(2, prefetch_shared(1));
    for name in ["classic", "classic", "q", "q"] {
        client.send(1, publish("", name, name));
    }
    client.messages(2, ["classic", "q", "q"]);
    client.expect_nothing();
    client.send(2, ack_up_to(3));
    client.messages(2, ["classic"]);
    client.send(2, ack(4));
    for name in ["classic", "classic"] {
        client.send(1, publish("", name, name));
    }
    client.messages(2, ["classic"]);
    client.expect_nothing();
}

#[test]
fn fetching_is_not_supported_beside_a_single_active_consumer() {
    covers!("queue.get-with-single-active-consumer");
    let world = World::new();
    let client = world.client();
    client.declare(1, quorum().arg("x-single-active-consumer", true));
    client.send(1, publish("", "q", "a"));
    let text = "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. \
                basic.get operations are not supported by quorum queues with single active \
                consumer";
    client.send(1, get("q"));
    assert_eq!(client.expect_channel_close(1, 405, text), (60, 70));
    client.open(1);
    // Classic queues have nothing against it.
    client.declare(1, queue("classic").arg("x-single-active-consumer", true));
    client.send(1, publish("", "classic", "a"));
    assert_eq!(client.fetch(1, "classic").text(), "a");
}

#[test]
fn exclusive_consumers_are_consumers_like_others() {
    let (_world, client) = quorum_with([]);
    client.ok(1, consume("q", "a").exclusive().no_ack());
    client.ok(1, consume("q", "b").exclusive().no_ack());
    client.ok(1, consume("q", "c").no_ack());
    for body in ["1", "2", "3"] {
        client.send(1, publish("", "q", body));
    }
    let mut tags: Vec<String> =
        client.all_messages(1).into_iter().map(|message| message.consumer_tag).collect();
    tags.sort();
    assert_eq!(tags, ["a", "b", "c"]);
}

#[test]
fn messages_that_come_back_leave_first_in_the_order_in_which_they_came_back() {
    let (_world, client) = quorum_with(["a", "b", "c", "d"]);
    client.open(2);
    for body in ["a", "b", "c"] {
        assert_eq!(client.fetch(2, "q").text(), body);
    }
    for tag in [3, 1, 2] {
        client.send(2, nack(tag, Then::Requeue));
    }
    assert_eq!(client.drain(1, "q"), ["c", "a", "b", "d"]);
    // A classic queue puts them where they were.
    client.declare(1, queue("classic"));
    for body in ["a", "b", "c", "d"] {
        client.send(1, publish("", "classic", body));
    }
    for _ in 0..3 {
        client.fetch(2, "classic");
    }
    for tag in [6, 4, 5] {
        client.send(2, nack(tag, Then::Requeue));
    }
    assert_eq!(client.drain(1, "classic"), ["a", "b", "c", "d"]);
}

#[test]
fn a_channel_that_ends_gives_back_in_the_order_of_delivery() {
    let (world, client) = quorum_with(["a", "b"]);
    let slow = world.client();
    slow.ok(1, consume("q", "c"));
    slow.messages(1, ["a", "b"]);
    slow.stop_reading();
    // More than is written to a client that does not read.
    for _ in 0..12 {
        client.send(1, publish("", "q", vec![b'x'; 100_000]));
    }
    client.send(1, publish("", "q", "last"));
    slow.vanish();
    let bodies = client.drain(1, "q");
    assert_eq!((bodies[0].as_str(), bodies[1].as_str()), ("a", "b"));
    assert_eq!((bodies.len(), bodies[14].as_str()), (15, "last"));
}

#[test]
fn without_a_delivery_limit_a_refused_message_goes_to_the_end() {
    let world = World::new();
    let client = world.client();
    client.declare(1, quorum().arg("x-delivery-limit", -1));
    for body in ["a", "b"] {
        client.send(1, publish("", "q", body));
    }
    client.fetch(1, "q");
    client.send(1, reject(1, Then::Requeue));
    assert_eq!(client.fetch(1, "q").text(), "b");
    assert_eq!(client.fetch(1, "q").text(), "a");
    // One that its client lost does not.
    client.send(1, publish("", "q", "c"));
    client.ok(1, close_channel());
    client.open(1);
    assert_eq!(client.drain(1, "q"), ["b", "a", "c"]);
}

#[test]
fn a_single_active_consumer_makes_way_for_a_higher_priority_when_it_is_done() {
    let world = World::new();
    let client = world.client();
    client.declare(1, quorum().arg("x-single-active-consumer", true));
    let (first, second) = (world.client(), world.client());
    first.ok(1, consume("q", "a"));
    client.send(1, publish("", "q", "1"));
    first.messages(1, ["1"]);
    second.ok(1, consume("q", "b").arg("x-priority", 5));
    client.send(1, publish("", "q", "2"));
    first.expect_nothing();
    second.expect_nothing();
    first.send(1, ack(1));
    second.messages(1, ["2"]);
    // It holds nothing now: whoever comes with more takes over at once, an equal does not.
    second.send(1, ack(1));
    first.open(2);
    first.ok(2, consume("q", "equal").arg("x-priority", 5));
    client.send(1, publish("", "q", "3"));
    second.messages(1, ["3"]);
    second.send(1, ack(2));
    first.ok(2, consume("q", "higher").arg("x-priority", 6));
    client.send(1, publish("", "q", "4"));
    first.messages(2, ["4"]);
    // The one that made way takes its turn again when the others have gone.
    first.ok(2, close_channel());
    assert!(second.messages(1, ["4"])[0].redelivered);
    second.vanish();
    assert!(first.messages(1, ["4"])[0].redelivered);
}

#[test]
fn a_single_active_consumer_goes_on_when_its_successor_has_gone() {
    let world = World::new();
    let client = world.client();
    client.declare(1, quorum().arg("x-single-active-consumer", true));
    client.ok(1, consume("q", "a"));
    client.send(1, publish("", "q", "1"));
    client.messages(1, ["1"]);
    let successor = world.client();
    successor.ok(1, consume("q", "b").arg("x-priority", 5));
    client.send(1, publish("", "q", "2"));
    client.expect_nothing();
    successor.ok(1, cancel("b"));
    client.messages(1, ["2"]);
}

#[test]
fn in_a_classic_queue_the_active_consumer_stays() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-single-active-consumer", true));
    client.ok(1, consume("q", "a"));
    client.open(2);
    client.ok(2, consume("q", "b").arg("x-priority", 5));
    client.send(1, publish("", "q", "1"));
    client.messages(1, ["1"]);
    client.send(1, ack(1));
    client.send(1, publish("", "q", "2"));
    client.messages(1, ["2"]);
}
