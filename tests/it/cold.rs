//! Queues that are longer than their memory: what is left to the store, and read back. That no
//! order, count or promise changes by it is what the other tests show when they are run with
//! `LEVERET_TEST_QUEUE_MEMORY=1` (two of them count on messages being in memory: how many a lease
//! takes, and how many move in a batch), and `model` in any case.

use leveret::broker::queue::Queue;
use leveret::broker::views::QueueView;
use leveret::protocol::method::Method;
use leveret::store::Store;
use leveret::store::faulty::Faults;

use crate::support::*;

/// Enough for a few dozen short messages in one queue.
const LITTLE: u64 = 20_000;

fn queue_of(world: &World, name: &str) -> std::sync::Arc<Queue> {
    world.broker().vhost("/").unwrap().queue(name.as_bytes()).unwrap()
}

fn view(world: &World, name: &str) -> QueueView {
    queue_of(world, name).view()
}

fn fill(client: &Client, name: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    let bodies: Vec<String> = numbers.map(|n| format!("{n:05}")).collect();
    for some in bodies.chunks(100) {
        let publishes: Vec<Publish> =
            some.iter().map(|body| publish("", name, body).with(props().persistent())).collect();
        let requests: Vec<&dyn Request> = publishes.iter().map(|it| it as &dyn Request).collect();
        client.send_at_once(1, &requests);
    }
    bodies
}

#[test]
fn a_long_queue_takes_little_memory_and_leaves_in_its_order() {
    let world = World::with_queue_memory(LITTLE);
    let client = world.client();
    client.declare(1, queue("q").durable());
    let bodies = fill(&client, "q", 0..5_000);
    let long = view(&world, "q");
    assert_eq!((long.messages_ready, long.bytes_ready), (5_000, 25_000));
    assert_eq!((long.messages_persistent, long.bytes_persistent), (5_000, 25_000));
    assert!(long.messages_paged_out > 4_900, "{}", long.messages_paged_out);
    assert_eq!(long.bytes_paged_out, 5 * long.messages_paged_out);
    assert_eq!(long.messages_in_memory(), 5_000 - long.messages_paged_out);
    assert!(world.broker().paging().held_bytes() <= LITTLE / 4);
    assert_eq!(client.drain(1, "q"), bodies);
    assert_eq!(world.broker().paging().held_bytes(), 0);
    let empty = view(&world, "q");
    assert_eq!((empty.messages_paged_out, empty.bytes_ready, empty.bytes_paged_out), (0, 0, 0));
}

#[test]
fn many_long_queues_share_the_memory() {
    let world = World::with_queue_memory(LITTLE);
    let client = world.client();
    let names: Vec<String> = (0..20).map(|n| format!("q{n}")).collect();
    for name in &names {
        client.declare(1, queue(name).durable());
        fill(&client, name, 0..200);
        let held = world.broker().paging().held_bytes();
        assert!(held <= LITTLE, "{held} bytes after {name}");
    }
    for name in &names {
        let bodies: Vec<String> = (0..200).map(|n| format!("{n:05}")).collect();
        assert_eq!(client.drain(1, name), bodies, "{name}");
    }
}

#[test]
fn a_start_reads_counts_and_no_messages() {
    let world = World::with_queue_memory(LITTLE);
    let client = world.client();
    client.declare(1, queue("q").durable().arg("x-max-priority", 3));
    fill(&client, "q", 0..1_000);
    client.send(1, publish("", "q", "first").with(props().persistent().priority(2)));
    assert_eq!(client.fetch(1, "q").text(), "first");
    let world = world.restarted(0);
    let start = view(&world, "q");
    assert_eq!((start.messages_ready, start.bytes_ready), (1_001, 5_005));
    world.pump();
    let glanced = view(&world, "q");
    assert!((1..100).contains(&glanced.messages_in_memory()), "{}", glanced.messages_in_memory());
    let client = world.client();
    let first = client.fetch(1, "q");
    assert_eq!((first.text(), first.redelivered), ("first", true));
    assert_eq!(client.drain(1, "q").len(), 1_000);
}

#[test]
fn a_get_that_comes_too_early_is_answered_once_its_message_is_there() {
    let world = World::with_queue_memory(1);
    let (client, other) = (world.client(), world.client());
    client.declare(1, queue("q").durable());
    fill(&client, "q", 0..3);
    world.hold_reads(true);
    assert_eq!(client.fetch(1, "q").text(), "00000");
    client.send(1, get("q").no_ack());
    client.send(1, get("q").no_ack());
    client.expect_nothing();
    assert!(!client.is_listened_to(), "its turn is not over");
    assert_eq!(other.depth(1, "q"), 2);
    world.hold_reads(false);
    let contents = client.all_messages(1);
    let answers: Vec<&str> = contents.iter().map(Content::text).collect();
    assert_eq!(answers, ["00001", "00002"]);
    assert!(client.is_listened_to());
}

#[test]
fn a_get_waits_no_longer_when_the_queue_is_purged_or_deleted() {
    let world = World::with_queue_memory(1);
    let (client, other) = (world.client(), world.client());
    client.declare(1, queue("q").durable());
    fill(&client, "q", 0..3);
    world.hold_reads(true);
    client.fetch(1, "q");
    client.send(1, get("q").no_ack());
    client.expect_nothing();
    other.ok(1, purge("q"));
    assert!(matches!(client.take(1).method(), Method::BasicGetEmpty(_)));
    fill(&client, "q", 0..3);
    client.ok(1, get("q").no_ack());
    client.send(1, get("q").no_ack());
    client.expect_nothing();
    other.ok(1, delete_queue("q"));
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'q' in vhost '/'");
    world.hold_reads(false);
}

#[test]
fn a_lower_priority_does_not_overtake_one_that_is_being_read() {
    let world = World::with_queue_memory(1);
    let (client, consumer) = (world.client(), world.client());
    client.declare(1, queue("q").durable().arg("x-max-priority", 1));
    for (body, priority) in [("low", 0), ("high 1", 1), ("high 2", 1)] {
        client.send(1, publish("", "q", body).with(props().persistent().priority(priority)));
    }
    world.hold_reads(true);
    assert_eq!(client.fetch(1, "q").text(), "high 1");
    consumer.ok(1, consume("q", "c").no_ack());
    consumer.expect_nothing();
    world.hold_reads(false);
    consumer.messages(1, ["high 2", "low"]);
}

#[test]
fn a_purge_or_a_deletion_of_many_is_a_few_operations_whoever_holds_some() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    client.take(1);
    fill(&client, "q", 0..3_000);
    client.send_at_once(1, &[&get("q"), &get("q"), &get("q")]);
    assert_eq!(client.all_messages(1).len(), 3);
    client.send(1, nack(2, Then::Requeue));
    let before = disk.counters().ops;
    client.send(1, purge("q"));
    assert_eq!(disk.counters().ops - before, 2, "what came back, and a range");
    disk.sync();
    world.pump();
    client.take(1);
    assert_eq!(view(&world, "q").messages_persistent, 2);
    client.send(1, nack(1, Then::Requeue));
    assert_eq!(client.depth(1, "q"), 1);
    let before = disk.counters().ops;
    client.send(1, delete_queue("q"));
    assert!(disk.counters().ops - before <= 2);
}

#[test]
fn dead_letters_from_the_store_move_and_expire_as_others_do() {
    let world = World::with_queue_memory(LITTLE);
    let client = world.client();
    client.declare(1, queue("dead").durable());
    let origin = queue("q")
        .durable()
        .arg("x-dead-letter-exchange", "")
        .arg("x-dead-letter-routing-key", "dead")
        .arg("x-message-ttl", 1_000)
        .arg("x-max-length", 2_000);
    client.declare(1, origin);
    let bodies = fill(&client, "q", 0..3_000);
    assert_eq!(client.depth(1, "q"), 2_000);
    assert_eq!(client.depth(1, "dead"), 1_000);
    world.advance(1_000);
    assert_eq!(client.depth(1, "q"), 0);
    assert_eq!(client.drain(1, "dead"), bodies);
}

#[test]
fn transient_messages_keep_their_place_among_those_on_disk() {
    let world = World::with_queue_memory(1);
    let client = world.client();
    client.declare(1, queue("q").durable());
    let mut bodies = Vec::new();
    for n in 0..60 {
        let properties = if n % 3 == 0 { props() } else { props().persistent() };
        bodies.push(n.to_string());
        client.send(1, publish("", "q", n.to_string()).with(properties));
    }
    assert_eq!(view(&world, "q").messages_persistent, 40);
    assert_eq!(client.drain(1, "q"), bodies);
}

#[test]
fn the_first_messages_timestamp_is_shown() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "x").with(props().timestamp(1_795_000_007_u64)));
    assert_eq!(view(&world, "q").head_timestamp_s, Some(1_795_000_007));
    client.fetch(1, "q");
    assert_eq!(view(&world, "q").head_timestamp_s, None);
}

#[test]
fn what_does_not_fit_beside_the_first_message_is_not_read_over_and_over() {
    let world = World::with_queue_memory(LITTLE);
    let client = world.client();
    client.declare(1, queue("q").durable());
    let bodies = ["first".to_owned(), "second".to_owned(), "x".repeat(10_000), "last".to_owned()];
    client.send(1, prefetch(1));
    client.send(1, consume("q", "c"));
    for body in &bodies {
        client.send(1, publish("", "q", body).with(props().persistent()));
    }
    let (broker, now) = (world.broker(), world.now());
    let reads = (0..100).filter(|_| broker.read_back(now)).count();
    assert!(reads < 10, "{reads} reads while nothing is taken");
}
