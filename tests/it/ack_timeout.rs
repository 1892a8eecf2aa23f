//! Deliveries that nobody acknowledges: after a while their channel is closed.

use leveret::covers;
use leveret::protocol::method::Method;

use crate::support::*;

/// A queue `q` holding these messages, and a client.
fn queue_with<const N: usize>(bodies: [&str; N]) -> (World, Client) {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    bodies.iter().for_each(|body| client.send(1, publish("", "q", body)));
    (world, client)
}

#[test]
fn a_message_that_is_not_acknowledged_for_half_an_hour_closes_its_channel() {
    covers!("basic.ack-timeout");
    let (world, client) = queue_with(["a", "b"]);
    client.open(2);
    client.ok(2, prefetch(1));
    client.ok(2, consume("q", "c"));
    client.messages(2, ["a"]);
    world.advance(1_700_000);
    client.send(2, ack(1));
    client.messages(2, ["b"]);
    world.advance(1_700_000);
    client.expect_nothing();
    world.advance(200_000);
    let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout \
                value used: 1800000 ms. This timeout value can be configured, see consumers doc \
                guide to learn more";
    assert_eq!(client.expect_channel_close(2, 406, text), (0, 0));
    let back = client.fetch(1, "q");
    assert_eq!((back.text(), back.redelivered), ("b", true));
}

#[test]
fn a_queue_may_allow_another_time_than_the_node() {
    covers!("queue.x-consumer-timeout");
    let world = World::new();
    let client = world.client();
    let timeout = |ms: i64| {
        format!(
            "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout value \
             used: {ms} ms. This timeout value can be configured, see consumers doc guide to \
             learn more"
        )
    };
    for (name, kind, ms) in
        [("brief", "classic", 90_000_i64), ("long", "classic", 2_400_000), ("q", "quorum", 90_000)]
    {
        let declaration = queue(name).durable().arg("x-queue-type", kind);
        client.declare(1, declaration.arg("x-consumer-timeout", ms));
        client.send(1, publish("", name, "x"));
        client.open(2);
        client.fetch(2, name);
        world.advance(u64::try_from(ms).unwrap());
        client.expect_nothing();
        world.advance(60_000);
        assert_eq!(client.expect_channel_close(2, 406, &timeout(ms)), (0, 0));
    }
    // What is no number is no limit. Nor is it compared, as little as by RabbitMQ.
    client.declare(1, queue("any").arg("x-consumer-timeout", "never"));
    client.declare(1, queue("any"));
    client.send(1, publish("", "any", "x"));
    client.open(2);
    client.fetch(2, "any");
    world.advance(100_000_000);
    client.expect_nothing();
    // The oldest delivery of a channel is the one that counts.
    client.send(1, publish("", "brief", "x"));
    client.fetch(2, "brief");
    world.advance(1_000_000);
    client.expect_nothing();
    client.send(2, ack(1));
    world.advance(60_000);
    client.expect_channel_close(2, 406, &timeout(90_000));
}

#[test]
fn fetched_messages_are_timed_too() {
    let (world, client) = queue_with(["a"]);
    client.fetch(1, "q");
    world.advance(1_900_000);
    let received = client.take(1);
    assert!(matches!(received.method(), Method::ChannelClose(close) if close.reply_code == 406));
}
