//! Publisher confirms: who hears what about which message, and not before it is safe.

use leveret::covers;
use leveret::protocol::method::{Method, basic};
use leveret::store::faulty::Faults;

use crate::support::*;

const PERSISTENT: &[u8] = &[0x10, 0, 2];

fn confirmed(tag: u64) -> Method<'static> {
    Method::BasicAck(basic::Ack { delivery_tag: tag, multiple: false })
}

fn confirmed_up_to(tag: u64) -> Method<'static> {
    Method::BasicAck(basic::Ack { delivery_tag: tag, multiple: true })
}

/// The publishes that a client has been told about: those confirmed and those refused.
fn answers(client: &Client, channel: u16) -> (Vec<u64>, Vec<u64>) {
    let (mut acked, mut nacked): (Vec<u64>, Vec<u64>) = Default::default();
    while let Some(received) = client.next(channel) {
        let (answered, tag, multiple) = match received.method() {
            Method::BasicAck(ack) => (&mut acked, ack.delivery_tag, ack.multiple),
            Method::BasicNack(nack) => (&mut nacked, nack.delivery_tag, nack.multiple),
            other => panic!("{other:?}"),
        };
        let first = if multiple { 1 } else { tag };
        answered.extend(first..=tag);
    }
    // A `multiple` stands for what was not answered before.
    acked.retain(|tag| !nacked.contains(tag));
    acked.sort_unstable();
    acked.dedup();
    nacked.sort_unstable();
    (acked, nacked)
}

// ---- numbering ----------------------------------------------------------------------------------

#[test]
fn publishes_are_numbered_from_the_first_after_select() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "unnumbered"));
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "first"));
    client.expect(1, confirmed(1));
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "second"));
    client.expect(1, confirmed(2));
    client.expect_nothing();
}

#[test]
fn every_channel_counts_for_itself() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    client.open(3);
    client.ok(1, confirm_select());
    client.ok(2, confirm_select());
    client.send(1, publish("", "q", "x"));
    client.expect(1, confirmed(1));
    client.send(3, publish("", "q", "x"));
    client.send(2, publish("", "q", "x"));
    client.expect(2, confirmed(1));
    client.send(1, publish("", "q", "x"));
    client.expect(1, confirmed(2));
    client.expect_nothing();
}

#[test]
fn several_at_once_are_confirmed_together() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    client.ok(1, confirm_select());
    let publish = || publish("", "q", "x").with_bytes(PERSISTENT);
    client.send_at_once(1, &[&publish(), &publish(), &publish()]);
    client.expect(1, confirmed_up_to(3));
    client.send(1, publish());
    client.expect(1, confirmed(4));
}

// ---- routed or not ------------------------------------------------------------------------------

#[test]
fn an_unroutable_message_is_confirmed() {
    let world = World::new();
    let client = world.client();
    client.ok(1, confirm_select());
    client.send(1, publish("", "nowhere", "x"));
    client.expect(1, confirmed(1));
}

#[test]
fn a_returned_message_is_confirmed_after_its_return() {
    let world = World::new();
    let client = world.client();
    client.ok(1, confirm_select());
    client.send(1, publish("", "nowhere", "x").mandatory());
    assert_eq!(client.message(1).reply, Some((312, "NO_ROUTE".into())));
    client.expect(1, confirmed(1));
}

#[test]
fn a_message_for_several_queues_is_confirmed_once() {
    let world = World::new();
    let client = world.client();
    for name in ["a", "b", "c"] {
        client.declare(1, queue(name).durable());
        client.ok(1, bind(name, "amq.fanout", ""));
    }
    client.ok(1, confirm_select());
    client.send(1, publish("amq.fanout", "", "x").with_bytes(PERSISTENT));
    client.expect(1, confirmed(1));
    client.expect_nothing();
}

#[test]
fn a_message_that_is_consumed_at_once_is_confirmed_all_the_same() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    client.ok(1, confirm_select());
    client.open(2);
    client.ok(2, consume("q", "c").no_ack());
    client.send(1, publish("", "q", "x").with_bytes(PERSISTENT));
    client.messages(2, ["x"]);
    client.expect(1, confirmed(1));
}

// ---- refused ------------------------------------------------------------------------------------

#[test]
fn a_full_queue_that_refuses_answers_with_a_nack() {
    covers!("queue.x-overflow");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-max-length", 2).arg("x-overflow", "reject-publish"));
    client.ok(1, confirm_select());
    let requests: Vec<Publish> = (0..4).map(|n| publish("", "q", n.to_string())).collect();
    let requests: Vec<&dyn Request> = requests.iter().map(|it| it as &dyn Request).collect();
    client.send_at_once(1, &requests);
    assert_eq!(answers(&client, 1), (vec![1, 2], vec![3, 4]));
    assert_eq!(client.fetch(1, "q").text(), "0");
    client.send(1, publish("", "q", "4"));
    client.expect(1, confirmed(5));
    assert_eq!(client.drain(1, "q"), ["1", "4"]);
}

#[test]
fn one_queue_that_refuses_is_enough_for_a_nack_and_the_others_keep_the_message() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("full").arg("x-max-length", 0).arg("x-overflow", "reject-publish"));
    client.declare(1, queue("free"));
    for name in ["full", "free"] {
        client.ok(1, bind(name, "amq.fanout", ""));
    }
    client.ok(1, confirm_select());
    client.send(1, publish("amq.fanout", "", "x"));
    assert_eq!(answers(&client, 1), (vec![], vec![1]));
    assert_eq!(client.drain(1, "free"), ["x"]);
}

#[test]
fn without_confirms_a_refused_message_is_dropped_in_silence() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-max-length", 1).arg("x-overflow", "reject-publish"));
    client.send(1, publish("", "q", "a").mandatory());
    client.send(1, publish("", "q", "b").mandatory());
    client.expect_nothing();
    assert_eq!(client.drain(1, "q"), ["a"]);
}

#[test]
fn dropping_the_oldest_is_no_reason_for_a_nack() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-max-length", 1));
    client.ok(1, confirm_select());
    client.send_at_once(1, &[&publish("", "q", "a"), &publish("", "q", "b")]);
    assert_eq!(answers(&client, 1), (vec![1, 2], vec![]));
}

#[test]
fn acks_and_nacks_between_plain_queues_each_find_their_publish() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("full").arg("x-max-length", 0).arg("x-overflow", "reject-publish"));
    client.declare(1, queue("q").durable());
    client.ok(1, confirm_select());
    let requests: Vec<Publish> = (1..=9)
        .map(|n| publish("", if n % 3 == 0 { "full" } else { "q" }, "x").with_bytes(PERSISTENT))
        .collect();
    let requests: Vec<&dyn Request> = requests.iter().map(|it| it as &dyn Request).collect();
    client.send_at_once(1, &requests);
    assert_eq!(answers(&client, 1), (vec![1, 2, 4, 5, 7, 8], vec![3, 6, 9]));
}

// ---- not before it is safe ----------------------------------------------------------------------

#[test]
fn a_persistent_message_in_a_durable_queue_is_confirmed_once_it_is_on_disk() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    assert!(client.next(1).is_some());
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "x").with_bytes(PERSISTENT));
    client.send(1, publish("", "q", "y").with_bytes(PERSISTENT));
    client.expect_nothing();
    disk.sync_first(1);
    world.pump();
    client.expect(1, confirmed(1));
    client.expect_nothing();
    disk.sync();
    world.pump();
    client.expect(1, confirmed(2));
}

#[test]
fn what_need_not_survive_is_confirmed_at_once() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.declare(1, queue("transient"));
    client.send(1, queue("durable").durable());
    disk.sync();
    world.pump();
    assert!(client.next(1).is_some());
    client.ok(1, confirm_select());
    client.send(1, publish("", "transient", "x").with_bytes(PERSISTENT));
    client.expect(1, confirmed(1));
    client.send(1, publish("", "durable", "x"));
    client.expect(1, confirmed(2));
}

#[test]
fn a_queue_may_be_content_with_the_operating_systems_word() {
    covers!("queue.x-durability");
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.send(1, queue("q").durable().arg("x-durability", "os"));
    client.send(1, queue("safe").durable().arg("x-durability", "fsync"));
    client.send(1, bind("q", "amq.fanout", ""));
    client.send(1, bind("safe", "amq.fanout", ""));
    for _ in 0..4 {
        disk.sync();
        world.pump();
        assert!(client.next(1).is_some());
    }
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "x").with_bytes(PERSISTENT));
    client.expect(1, confirmed(1));
    client.send(1, publish("amq.fanout", "", "y").with_bytes(PERSISTENT));
    client.send(1, publish("", "q", "z").with_bytes(PERSISTENT));
    client.expect_nothing();
    disk.sync();
    world.pump();
    client.expect(1, confirmed_up_to(3));
}

#[test]
fn a_message_for_several_queues_waits_for_all_of_them() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.declare(1, queue("a"));
    client.ok(1, bind("a", "amq.fanout", ""));
    client.send(1, queue("b").durable());
    client.send(1, bind("b", "amq.fanout", ""));
    disk.sync();
    world.pump();
    disk.sync();
    world.pump();
    assert!(client.next(1).is_some() && client.next(1).is_some());
    client.ok(1, confirm_select());
    client.send(1, publish("amq.fanout", "", "x").with_bytes(PERSISTENT));
    client.expect_nothing();
    disk.sync();
    world.pump();
    client.expect(1, confirmed(1));
}

#[test]
fn consumers_see_a_message_before_its_publisher_hears_that_it_is_safe() {
    let (world, disk) = World::on_disk(Faults::default());
    let (client, consumer) = (world.client(), world.client());
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    assert!(client.next(1).is_some());
    consumer.ok(1, consume("q", "c"));
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "x").with_bytes(PERSISTENT));
    consumer.messages(1, ["x"]);
    client.expect_nothing();
    // Acknowledged before it was written: it need never be, and is confirmed all the same.
    consumer.send(1, ack(1));
    disk.sync();
    world.pump();
    client.expect(1, confirmed(1));
}

#[test]
fn a_message_whose_queue_is_deleted_meanwhile_is_confirmed() {
    let (world, disk) = World::on_disk(Faults::default());
    let (client, other) = (world.client(), world.client());
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    assert!(client.next(1).is_some());
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "x").with_bytes(PERSISTENT));
    other.send(1, delete_queue("q"));
    disk.sync();
    world.pump();
    client.expect(1, confirmed(1));
    assert!(matches!(other.take(1).method(), Method::QueueDeleteOk(_)));
}

#[test]
fn a_closed_channel_is_confirmed_nothing() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    client.send(1, queue("q").durable());
    disk.sync();
    world.pump();
    assert!(client.next(1).is_some());
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "x").with_bytes(PERSISTENT));
    client.ok(1, close_channel());
    disk.sync();
    world.pump();
    client.expect_nothing();
    client.open(1);
    assert_eq!(client.depth(1, "q"), 1);
}

// ---- confirms and transactions ------------------------------------------------------------------

#[test]
fn a_transactional_channel_cannot_confirm() {
    covers!("confirm.on-tx-channel");
    let world = World::new();
    let client = world.client();
    client.ok(1, tx_select());
    client.send(1, confirm_select());
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!(client.expect_channel_close(1, 406, text), (85, 10));
}
