//! Alarms: while the node runs short of something, connections that publish are not read.

use leveret::broker::alarms::Alarms;
use leveret::protocol::method::{Method, connection};

use crate::support::*;

const MEMORY: Alarms = Alarms { memory: true, disk: false };
const DISK: Alarms = Alarms { memory: false, disk: true };

/// A client that wants to hear of being blocked.
fn curious() -> Login {
    Login { capabilities: vec!["connection.blocked"], ..Login::default() }
}

fn set(world: &World, alarms: Alarms) {
    world.broker().set_alarms(alarms, world.now());
    world.pump();
}

fn blocked(reason: &str) -> Method<'_> {
    Method::ConnectionBlocked(connection::Blocked { reason })
}

fn unblocked() -> Method<'static> {
    Method::ConnectionUnblocked(connection::Unblocked)
}

#[test]
fn a_connection_that_publishes_during_an_alarm_is_blocked_until_it_is_over() {
    let world = World::new();
    let (client, other) = (world.client_as(&curious()), world.client());
    client.declare(1, queue("q"));
    set(&world, MEMORY);
    client.expect_nothing();
    client.send(1, publish("", "q", "x"));
    client.expect(0, blocked("low on memory"));
    assert!(!client.is_listened_to());
    assert_eq!(other.depth(1, "q"), 0, "the header has blocked it, the body waits");
    client.send(1, queue("q").passive());
    client.expect_nothing();
    set(&world, Alarms::NONE);
    client.expect(0, unblocked());
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
    assert_eq!(client.drain(1, "q"), ["x"]);
    client.send(1, publish("", "q", "y"));
    assert_eq!(client.drain(1, "q"), ["y"]);
    client.expect_nothing();
}

#[test]
fn a_message_without_a_body_is_whole_when_it_blocks_its_connection() {
    let world = World::new();
    let (client, other) = (world.client_as(&curious()), world.client());
    client.declare(1, queue("q"));
    set(&world, MEMORY);
    client.send(1, publish("", "q", ""));
    client.expect(0, blocked("low on memory"));
    assert_eq!(other.depth(1, "q"), 1);
}

#[test]
fn a_message_that_an_alarm_finds_half_sent_blocks_with_its_next_part() {
    let world = World::new();
    let (client, other) = (world.client_as(&curious()), world.client());
    client.declare(1, queue("q"));
    let body = "x".repeat(300_000);
    let mut bytes = Vec::new();
    publish("", "q", &body).write(1, &mut bytes);
    let (begun, rest) = bytes.split_at(150_000);
    client.send_bytes(begun);
    set(&world, DISK);
    client.expect_nothing();
    client.send_bytes(rest);
    client.expect(0, blocked("low on disk"));
    assert_eq!(other.depth(1, "q"), 0, "its last part is not read");
    set(&world, Alarms::NONE);
    client.expect(0, unblocked());
    assert_eq!(client.drain(1, "q"), [body]);
}

#[test]
fn what_a_client_did_before_the_alarm_does_not_count() {
    let world = World::new();
    let client = world.client_as(&curious());
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "before"));
    set(&world, MEMORY);
    client.ok(1, consume("q", "c"));
    client.messages(1, ["before"]);
    client.send(1, ack(1));
    client.ok(1, cancel("c"));
    assert_eq!(client.depth(1, "q"), 0);
    assert!(client.is_listened_to());
}

#[test]
fn consumers_go_on_while_publishers_wait() {
    let world = World::new();
    let (publisher, consumer) = (world.client_as(&curious()), world.client_as(&curious()));
    publisher.declare(1, queue("q"));
    for body in ["a", "b"] {
        publisher.send(1, publish("", "q", body));
    }
    set(&world, MEMORY);
    publisher.send(1, publish("", "q", "c"));
    publisher.expect(0, blocked("low on memory"));
    consumer.ok(1, prefetch(1));
    consumer.ok(1, consume("q", "c"));
    consumer.messages(1, ["a"]);
    consumer.send(1, ack(1));
    consumer.messages(1, ["b"]);
    consumer.send(1, ack(2));
    consumer.expect_nothing();
    set(&world, Alarms::NONE);
    consumer.messages(1, ["c"]);
}

#[test]
fn a_blocked_connection_gets_its_deliveries_and_its_acknowledgements_wait() {
    let world = World::new();
    let (client, other) = (world.client_as(&curious()), world.client());
    client.declare(1, queue("q"));
    other.send(1, publish("", "q", "a"));
    other.send(1, publish("", "q", "b"));
    set(&world, MEMORY);
    client.send(1, publish("", "elsewhere", "x"));
    client.expect(0, blocked("low on memory"));
    set(&world, Alarms::NONE);
    client.expect(0, unblocked());
    client.ok(1, prefetch(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    set(&world, MEMORY);
    client.send(1, publish("", "elsewhere", "x"));
    client.expect(0, blocked("low on memory"));
    client.send(1, ack(1));
    client.expect_nothing();
    set(&world, Alarms::NONE);
    client.expect(0, unblocked());
    client.messages(1, ["b"]);
}

#[test]
fn a_client_that_cannot_take_the_notice_is_blocked_without_it() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    set(&world, DISK);
    client.send(1, publish("", "q", "x"));
    client.expect_nothing();
    assert!(!client.is_listened_to());
    set(&world, Alarms::NONE);
    client.expect_nothing();
    assert_eq!(client.drain(1, "q"), ["x"]);
}

#[test]
fn both_ends_are_told_once_however_alarms_come_and_go_between() {
    let world = World::new();
    let client = world.client_as(&curious());
    let both = Alarms { memory: true, disk: true };
    for (first, reason) in
        [(MEMORY, "low on memory"), (DISK, "low on disk"), (both, "low on disk & memory")]
    {
        set(&world, first);
        client.send(1, publish("", "nowhere", "x"));
        client.expect(0, blocked(reason));
        for next in [both, DISK, MEMORY] {
            set(&world, next);
            client.expect_nothing();
            assert!(!client.is_listened_to());
        }
        set(&world, Alarms::NONE);
        client.expect(0, unblocked());
        client.expect_nothing();
    }
}

#[test]
fn a_client_that_comes_during_an_alarm_may_do_everything_but_publish() {
    let world = World::new();
    set(&world, MEMORY);
    let client = world.client_as(&curious());
    client.declare(1, queue("q"));
    client.ok(1, consume("q", "c"));
    client.expect_nothing();
    client.send(1, publish("", "q", "x"));
    client.expect(0, blocked("low on memory"));
    set(&world, Alarms::NONE);
    client.expect(0, unblocked());
    client.messages(1, ["x"]);
}

#[test]
fn a_blocked_client_may_be_silent_and_still_hears_heartbeats() {
    let world = World::new();
    let client = world.client_as(&Login { heartbeat_s: 10, ..curious() });
    set(&world, MEMORY);
    client.send(1, publish("", "nowhere", "x"));
    client.expect(0, blocked("low on memory"));
    world.advance(120_000);
    assert_eq!(client.heartbeats(), 24);
    assert!(!client.is_gone());
    set(&world, Alarms::NONE);
    client.expect(0, unblocked());
    world.advance(19_000);
    assert!(!client.is_gone(), "its silence counts from the end of the alarm");
    world.advance(2_000);
    assert_eq!(client.ended_because().as_deref(), Some("missed heartbeats from client"));
}

#[test]
fn a_blocked_connection_that_is_lost_leaves_nothing_behind() {
    let world = World::new();
    let (client, other) = (world.client_as(&curious()), world.client());
    client.declare(1, queue("own").exclusive());
    client.declare(1, queue("q"));
    other.send(1, publish("", "q", "a"));
    client.fetch(1, "q");
    set(&world, MEMORY);
    client.send(1, publish("", "q", "never whole"));
    client.expect(0, blocked("low on memory"));
    client.vanish();
    assert_eq!(world.connection_count(), 1);
    assert_eq!(other.fetch(1, "q").text(), "a");
    assert_eq!(other.depth(1, "q"), 0);
}

#[test]
fn an_operator_and_a_stop_close_blocked_connections_too() {
    use leveret::broker::inspect::Inspect;
    use leveret::protocol::refusal;

    let world = World::new();
    let (first, second) = (world.client_as(&curious()), world.client_as(&curious()));
    let node = world.broker();
    set(&world, MEMORY);
    for client in [&first, &second] {
        client.send(1, publish("", "nowhere", "x"));
        client.expect(0, blocked("low on memory"));
    }
    let mut names: Vec<_> =
        node.connections().into_iter().map(|it| (it.name, it.blocked)).collect();
    names.sort();
    assert!(names.iter().all(|(_, is_blocked)| *is_blocked));
    assert!(node.close_connection(&names[0].0, "enough"));
    world.pump();
    first.expect_connection_close(320, "CONNECTION_FORCED - enough");
    node.close_connections(&refusal::connection_forced("shutdown"));
    world.pump();
    second.expect_connection_close(
        320,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
    );
    assert_eq!(world.connection_count(), 0);
}
