//! Consuming, fetching, acknowledging: who gets which message, and what becomes of it.

use leveret::covers;
use leveret::protocol::method::{Method, basic};

use crate::support::*;

/// A queue `q` holding these messages, and a client.
fn queue_with<const N: usize>(bodies: [&str; N]) -> (World, Client) {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    bodies.iter().for_each(|body| client.send(1, publish("", "q", body)));
    (world, client)
}

fn deliver(tag: u64, consumer_tag: &'static str) -> Method<'static> {
    Method::BasicDeliver(basic::Deliver {
        consumer_tag: consumer_tag.as_bytes(),
        delivery_tag: tag,
        redelivered: false,
        exchange: b"",
        routing_key: b"q",
    })
}

// ---- consuming ----------------------------------------------------------------------------------

#[test]
fn messages_come_after_consume_ok_in_order_and_numbered_per_channel() {
    let (_world, client) = queue_with(["a", "b"]);
    client.open(2);
    client.declare(2, queue("other"));
    client.send(2, consume("q", "c"));
    client.expect(2, Method::BasicConsumeOk(basic::ConsumeOk { consumer_tag: "c" }));
    for (tag, body) in [(1, "a"), (2, "b")] {
        let received = client.take(2);
        assert_eq!(received.method(), deliver(tag, "c"));
        assert_eq!(received.content().unwrap().text(), body);
    }
    client.send(1, publish("", "other", "fetched"));
    assert_eq!(client.fetch(2, "other").delivery_tag, 3);
    client.send(1, publish("", "other", "fetched"));
    assert_eq!(client.fetch(1, "other").delivery_tag, 1);
}

#[test]
fn a_message_is_delivered_as_it_was_published() {
    let (_world, client) = queue_with([]);
    client.ok(1, consume("q", "c").no_ack());
    let properties = props()
        .content_type("text/plain")
        .header("n", 1_i64)
        .delivery_mode(1)
        .priority(3)
        .correlation_id("c1")
        .reply_to("somewhere")
        .message_id("m1")
        .timestamp(1_795_000_000_u64)
        .user_id("guest");
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 253) as u8).collect();
    client.send(1, publish("", "q", &body).with(properties.clone()));
    client.send(1, publish("", "q", ""));
    let message = client.message(1);
    assert_eq!(message.raw_properties, properties.encode());
    assert_eq!(message.body, body);
    let empty = client.message(1);
    assert_eq!((empty.raw_properties.as_slice(), empty.body.len()), (&[0, 0][..], 0));
}

#[test]
fn the_server_makes_up_consumer_tags() {
    let (_world, client) = queue_with([]);
    let mut tags = Vec::new();
    for _ in 0..2 {
        let ok = client.ok(1, consume("q", ""));
        let Method::BasicConsumeOk(ok) = ok.method() else { panic!("{ok:?}") };
        assert!(ok.consumer_tag.starts_with("amq.ctag-"), "{}", ok.consumer_tag);
        assert_eq!(ok.consumer_tag.len(), "amq.ctag-".len() + 22);
        tags.push(ok.consumer_tag.to_owned());
    }
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn a_consumer_tag_is_used_once_per_channel() {
    covers!("basic.consumer-tag-reuse");
    let (_world, client) = queue_with([]);
    client.ok(1, consume("q", "c"));
    client.open(2);
    client.ok(2, consume("q", "c"));
    client.ok(1, cancel("c"));
    client.ok(1, consume("q", "c"));
    client.send(1, consume("q", "c"));
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'c'";
    assert_eq!(client.expect_connection_close(530, text), (60, 20));
}

#[test]
fn consumers_take_turns() {
    let (world, first) = queue_with([]);
    let (second, publisher) = (world.client(), world.client());
    first.ok(1, consume("q", "a").no_ack());
    first.ok(1, consume("q", "b").no_ack());
    second.ok(1, consume("q", "c").no_ack());
    for n in 0..9 {
        publisher.send(1, publish("", "q", n.to_string()));
    }
    let seen = |client: &Client| -> Vec<(String, String)> {
        let messages = client.all_messages(1).into_iter();
        messages.map(|m| (m.consumer_tag.clone(), m.text().to_owned())).collect()
    };
    let mut all = seen(&first);
    all.extend(seen(&second));
    for tag in ["a", "b", "c"] {
        let own: Vec<u32> =
            all.iter().filter(|(t, _)| t == tag).map(|(_, n)| n.parse().unwrap()).collect();
        assert_eq!(own.len(), 3, "{all:?}");
        assert!(own.windows(2).all(|pair| pair[1] == pair[0] + 3), "{all:?}");
    }
}

#[test]
fn a_burst_is_shared_out_in_turns() {
    let (world, client) = queue_with([]);
    let other = world.client();
    client.ok(1, consume("q", "a"));
    other.ok(1, consume("q", "b"));
    let burst: Vec<Publish> = (0..6).map(|n| publish("", "q", n.to_string())).collect();
    let requests: Vec<&dyn Request> = burst.iter().map(|it| it as &dyn Request).collect();
    client.send_at_once(1, &requests);
    client.messages(1, ["0", "2", "4"]);
    other.messages(1, ["1", "3", "5"]);
}

#[test]
fn a_higher_priority_gets_everything_it_can_take() {
    covers!("consumer.x-priority");
    let (world, low) = queue_with([]);
    let high = world.client();
    low.ok(1, consume("q", "low"));
    high.ok(1, prefetch(2));
    high.ok(1, consume("q", "high").arg("x-priority", 5));
    low.ok(1, consume("q", "lowest").arg("x-priority", -5));
    for body in ["a", "b", "c"] {
        low.send(1, publish("", "q", body));
    }
    high.messages(1, ["a", "b"]);
    assert_eq!(low.message(1).consumer_tag, "low");
    high.send(1, ack(1));
    low.send(1, publish("", "q", "d"));
    high.messages(1, ["d"]);
    low.expect_nothing();
}

#[test]
fn equal_priorities_take_turns() {
    let (_world, client) = queue_with([]);
    client.ok(1, consume("q", "a").arg("x-priority", 1));
    client.ok(1, consume("q", "b").arg("x-priority", 1_i64));
    for n in 0..4 {
        client.send(1, publish("", "q", n.to_string()));
    }
    let messages = client.messages(1, ["0", "1", "2", "3"]);
    let tags: Vec<&str> = messages.iter().map(|it| it.consumer_tag.as_str()).collect();
    assert_eq!(tags, ["a", "b", "a", "b"]);
}

#[test]
fn a_burst_for_two_consumers_of_a_connection_arrives_in_its_order() {
    let (_world, client) = queue_with([]);
    client.open(2);
    client.ok(1, consume("q", "a"));
    client.ok(1, consume("q", "b"));
    client.ok(2, consume("q", "c"));
    let burst: Vec<Publish> = (0..6).map(|n| publish("", "q", n.to_string())).collect();
    let burst: Vec<&dyn Request> = burst.iter().map(|it| it as &dyn Request).collect();
    client.send_at_once(1, &burst);
    let messages = client.messages(1, ["0", "1", "3", "4"]);
    let tags: Vec<&str> = messages.iter().map(|it| it.consumer_tag.as_str()).collect();
    assert_eq!(tags, ["a", "b", "a", "b"]);
    client.messages(2, ["2", "5"]);
}

#[test]
fn a_priority_is_an_integer() {
    covers!("basic.invalid-consume-arg");
    let (_world, client) = queue_with([]);
    let text = "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \
                \"expected integer, got longstr\"";
    client.send(1, consume("q", "c").arg("x-priority", "high"));
    assert_eq!(client.expect_channel_close(1, 406, text), (60, 20));
}

#[test]
fn an_exclusive_consumer_has_the_queue_to_itself() {
    covers!("queue.exclusive-consumer");
    let (world, holder) = queue_with([]);
    let other = world.client();
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    other.ok(1, consume("q", "there first"));
    holder.refused(1, consume("q", "c").exclusive(), 403, text);
    other.ok(1, cancel("there first"));
    holder.ok(1, consume("q", "c").exclusive());
    other.refused(1, consume("q", "d"), 403, text);
    other.refused(1, consume("q", "d").exclusive(), 403, text);
    holder.open(2);
    holder.refused(2, consume("q", "d"), 403, text);
    other.drain(1, "q");
    holder.ok(1, close_channel());
    other.ok(1, consume("q", "d"));
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next() {
    covers!("queue.x-single-active-consumer");
    let world = World::new();
    let client = world.client();
    let (first, second, third) = (world.client(), world.client(), world.client());
    client.declare(1, queue("q").arg("x-single-active-consumer", true));
    first.ok(1, consume("q", "first"));
    second.ok(1, consume("q", "second"));
    third.ok(1, consume("q", "third").arg("x-priority", 1));
    for body in ["a", "b"] {
        client.send(1, publish("", "q", body));
    }
    first.messages(1, ["a", "b"]);
    first.send(1, ack(1));
    first.vanish();
    let back = &third.messages(1, ["b"])[0];
    assert!(back.redelivered, "the highest priority follows");
    third.ok(1, cancel("third"));
    client.send(1, publish("", "q", "c"));
    second.messages(1, ["c"]);
    third.send(1, nack(1, Then::Requeue));
    second.messages(1, ["b"]);
    assert_eq!(client.declare(1, queue("q").passive()), ("q".into(), 0, 1));
}

#[test]
fn a_single_active_consumer_cannot_be_exclusive() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-single-active-consumer", true));
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    client.refused(1, consume("q", "c").exclusive(), 403, text);
}

// ---- cancelling ---------------------------------------------------------------------------------

#[test]
fn after_cancel_ok_nothing_more_comes() {
    let (_world, client) = queue_with([]);
    client.ok(1, consume("q", "c"));
    client.send(1, cancel("c"));
    client.expect(1, Method::BasicCancelOk(basic::CancelOk { consumer_tag: "c" }));
    client.send(1, publish("", "q", "x"));
    client.expect_nothing();
    assert_eq!(client.depth(1, "q"), 1);
}

#[test]
fn cancelling_what_does_not_consume_is_fine() {
    let (_world, client) = queue_with([]);
    client.send(1, cancel("nobody"));
    client.expect(1, Method::BasicCancelOk(basic::CancelOk { consumer_tag: "nobody" }));
}

#[test]
fn what_a_cancelled_consumer_holds_stays_with_its_channel() {
    let (_world, client) = queue_with(["a", "b"]);
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a", "b"]);
    client.ok(1, cancel("c"));
    assert_eq!(client.depth(1, "q"), 0);
    client.send(1, ack(1));
    client.send(1, nack(2, Then::Requeue));
    let again = client.fetch(1, "q");
    assert_eq!((again.text(), again.redelivered), ("b", true));
}

#[test]
fn what_a_cancelled_consumer_was_never_sent_goes_back_as_if_untouched() {
    let (world, client) = queue_with([]);
    let slow = world.client();
    slow.ok(1, consume("q", "c"));
    slow.stop_reading();
    let body = vec![b'x'; 100_000];
    for _ in 0..20 {
        client.send(1, publish("", "q", &body));
    }
    slow.send(1, cancel("c"));
    slow.go_on_reading();
    let sent = std::iter::from_fn(|| slow.next(1).and_then(|it| it.content())).count();
    let waiting = client.depth(1, "q");
    assert!(waiting > 0, "a client that does not read is not sent everything");
    assert_eq!(sent + waiting as usize, 20);
    let next = client.fetch(1, "q");
    assert!(!next.redelivered);
}

#[test]
fn what_a_lost_connection_was_never_sent_goes_back_as_if_untouched() {
    let (world, client) = queue_with([]);
    let slow = world.client();
    slow.ok(1, consume("q", "c"));
    slow.stop_reading();
    let body = vec![b'x'; 100_000];
    for _ in 0..20 {
        client.send(1, publish("", "q", &body));
    }
    slow.vanish();
    assert_eq!(client.depth(1, "q"), 20);
    let flags: Vec<bool> = (0..20).map(|_| client.fetch(1, "q").redelivered).collect();
    assert!(flags[0] && !flags[19], "{flags:?}");
    assert!(flags.is_sorted_by(|a, b| a >= b), "those sent stand first: {flags:?}");
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_waiting() {
    let (world, client) = queue_with([]);
    let (slow, fast) = (world.client(), world.client());
    slow.ok(1, consume("q", "slow").no_ack());
    fast.ok(1, consume("q", "fast").no_ack());
    slow.stop_reading();
    let body = vec![b'x'; 100_000];
    for _ in 0..100 {
        client.send(1, publish("", "q", &body));
    }
    let got = fast.all_messages(1).len();
    assert!(got > 60, "the fast one takes what the slow one cannot: {got}");
    slow.go_on_reading();
    assert_eq!(slow.all_messages(1).len() + got + client.drain(1, "q").len(), 100);
}

// ---- fetching -----------------------------------------------------------------------------------

#[test]
fn a_client_that_reads_in_small_pieces_sees_everything_in_order() {
    let world = World::new();
    let (publisher, consumer) = (world.client(), world.client());
    publisher.declare(1, queue("q"));
    consumer.ok(1, consume("q", "c").no_ack());
    consumer.stop_reading();
    let bodies: Vec<Vec<u8>> = (0..60_u8).map(|n| vec![n; 1_000 * usize::from(n)]).collect();
    for body in &bodies {
        publisher.send(1, publish("", "q", body));
    }
    let mut seen = Vec::new();
    while consumer.unread_bytes() > 0 {
        consumer.read_on(7_001);
        seen.extend(consumer.all_messages(1).into_iter().map(|message| message.body));
    }
    assert!(seen == bodies);
}

#[test]
fn get_ok_tells_how_many_are_left() {
    let (_world, client) = queue_with(["a", "b", "c"]);
    client.send(1, get("q"));
    let ok = basic::GetOk {
        delivery_tag: 1,
        redelivered: false,
        exchange: b"",
        routing_key: b"q",
        message_count: 2,
    };
    let received = client.take(1);
    assert_eq!(received.method(), Method::BasicGetOk(ok));
    assert_eq!(received.content().unwrap().text(), "a");
    assert_eq!(client.fetch(1, "q").message_count, 1);
}

#[test]
fn an_empty_queue_says_so() {
    let (_world, client) = queue_with([]);
    client.send(1, get("q"));
    client.expect(1, Method::BasicGetEmpty(basic::GetEmpty));
}

#[test]
fn fetching_without_acknowledgement_is_final() {
    let (_world, client) = queue_with(["a"]);
    client.open(2);
    assert_eq!(client.drain(2, "q"), ["a"]);
    client.ok(2, close_channel());
    assert_eq!(client.depth(1, "q"), 0);
}

// ---- prefetch -----------------------------------------------------------------------------------

#[test]
fn prefetch_limits_what_each_later_consumer_holds() {
    let (_world, client) = queue_with(["a", "b", "c", "d", "e", "f"]);
    client.ok(1, prefetch(2));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a", "b"]);
    client.expect_nothing();
    client.ok(1, prefetch(1));
    client.ok(1, consume("q", "d"));
    assert_eq!(client.message(1).consumer_tag, "d");
    client.expect_nothing();
    client.send(1, ack(1));
    client.messages(1, ["d"]);
    client.send(1, ack_up_to(4));
    assert_eq!(client.all_messages(1).len(), 2);
}

#[test]
fn an_earlier_consumer_keeps_its_prefetch() {
    let (_world, client) = queue_with(["a", "b", "c"]);
    client.ok(1, prefetch(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    client.ok(1, prefetch(10));
    client.expect_nothing();
}

#[test]
fn fetching_is_not_limited_by_prefetch() {
    let (_world, client) = queue_with(["a", "b", "c", "d"]);
    client.ok(1, prefetch(1));
    client.ok(1, prefetch_shared(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    assert_eq!(client.fetch(1, "q").text(), "b");
    assert_eq!(client.fetch(1, "q").text(), "c");
    client.send(1, ack(1));
    client.messages(1, ["d"]);
}

#[test]
fn prefetch_means_nothing_without_acknowledgements() {
    let (_world, client) = queue_with(["a", "b", "c"]);
    client.ok(1, prefetch(1));
    client.ok(1, prefetch_shared(1));
    client.ok(1, consume("q", "c").no_ack());
    client.messages(1, ["a", "b", "c"]);
}

#[test]
fn a_shared_prefetch_limits_the_channel_as_a_whole() {
    let (_world, client) = queue_with(["a", "b", "c", "d", "e"]);
    client.declare(1, queue("r"));
    client.ok(1, prefetch_shared(3));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a", "b", "c"]);
    client.ok(1, consume("r", "d"));
    client.send(1, publish("", "r", "r"));
    client.expect_nothing();
    client.send(1, ack_up_to(2));
    assert_eq!(client.all_messages(1).len(), 2);
    client.expect_nothing();
}

/// A client that shares a prefetch of one between consumers of `q`, which has `a`, and of `r`; it
/// holds `a`, and `r` has `r`.
fn sharing() -> (World, Client) {
    let (world, client) = queue_with(["a"]);
    client.declare(1, queue("r"));
    client.ok(1, prefetch_shared(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    client.ok(1, consume("r", "d"));
    client.send(1, publish("", "r", "r"));
    client.expect_nothing();
    (world, client)
}

#[test]
fn shared_credit_reaches_other_queues_whatever_is_asked_for_in_the_same_breath() {
    let (_world, client) = sharing();
    client.send_at_once(1, &[&ack(1), &queue("q").passive()]);
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
    client.messages(1, ["r"]);
}

#[test]
fn shared_credit_of_what_a_cancelled_consumer_was_never_sent_reaches_other_queues() {
    let (world, client) = queue_with([]);
    let publisher = world.client();
    client.declare(1, queue("r"));
    client.declare(1, queue("large"));
    client.open(2);
    client.ok(2, consume("large", "l").no_ack());
    client.ok(1, prefetch_shared(1));
    client.ok(1, consume("q", "c"));
    client.ok(1, consume("r", "d"));
    client.stop_reading();
    publisher.send(1, publish("", "large", vec![b'x'; 600_000]));
    publisher.send(1, publish("", "q", "not sent"));
    publisher.send(1, publish("", "r", "r"));
    client.send(1, cancel("c"));
    client.go_on_reading();
    client.expect(1, Method::BasicCancelOk(basic::CancelOk { consumer_tag: "c" }));
    client.messages(1, ["r"]);
    assert_eq!(publisher.depth(1, "q"), 1);
}

#[test]
fn queues_that_share_a_prefetch_take_turns() {
    let (_world, client) = sharing();
    for body in ["b", "c"] {
        client.send(1, publish("", "q", body));
    }
    client.send(1, publish("", "r", "s"));
    client.send(1, ack(1));
    let mut seen = Vec::new();
    for tag in 2..6 {
        seen.push(client.message(1).text().to_owned());
        client.expect_nothing();
        client.send(1, ack(tag));
    }
    assert!(seen == ["b", "r", "c", "s"] || seen == ["r", "b", "s", "c"], "{seen:?}");
}

#[test]
fn both_prefetch_limits_hold() {
    let (_world, client) = queue_with(["a", "b", "c", "d", "e"]);
    client.ok(1, prefetch(2));
    client.ok(1, prefetch_shared(3));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a", "b"]);
    client.ok(1, consume("q", "d"));
    client.messages(1, ["c"]);
    client.expect_nothing();
}

#[test]
fn raising_or_lifting_the_shared_prefetch_lets_messages_through() {
    let (_world, client) = queue_with(["a", "b", "c", "d", "e"]);
    client.ok(1, prefetch_shared(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    client.ok(1, prefetch_shared(2));
    client.messages(1, ["b"]);
    client.ok(1, prefetch_shared(0));
    client.messages(1, ["c", "d", "e"]);
}

#[test]
fn a_prefetch_per_consumer_lifts_the_shared_one() {
    let (_world, client) = queue_with(["a", "b", "c"]);
    client.ok(1, prefetch_shared(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    client.ok(1, prefetch(10));
    client.messages(1, ["b", "c"]);
}

#[test]
fn credit_returns_with_every_way_of_settling() {
    let (_world, client) = queue_with(["a", "b", "c", "d", "e", "f"]);
    client.ok(1, prefetch(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    client.send(1, ack(1));
    client.messages(1, ["b"]);
    client.send(1, reject(2, Then::Discard));
    client.messages(1, ["c"]);
    client.send(1, nack(3, Then::Discard));
    client.messages(1, ["d"]);
    client.send(1, nack(4, Then::Requeue));
    client.messages(1, ["d"]);
    client.send(1, reject(5, Then::Requeue));
    client.messages(1, ["d"]);
    client.send(1, recover());
    client.expect(1, Method::BasicRecoverOk(basic::RecoverOk));
    client.messages(1, ["d"]);
    client.send(1, ack_up_to(0));
    client.messages(1, ["e"]);
}

#[test]
fn shared_credit_returns_when_consumers_are_cancelled_or_queues_deleted() {
    let (_world, client) = queue_with(["a", "b"]);
    client.declare(1, queue("r"));
    client.send(1, publish("", "r", "r1"));
    client.send(1, publish("", "r", "r2"));
    client.ok(1, prefetch_shared(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    client.ok(1, consume("r", "d"));
    client.expect_nothing();
    client.ok(1, cancel("c"));
    client.ok(1, delete_queue("q"));
    client.send(1, ack(1));
    client.messages(1, ["r1"]);
    client.send(1, ack(2));
    client.messages(1, ["r2"]);
}

#[test]
fn prefetch_in_bytes_is_not_implemented() {
    covers!("basic.prefetch-size");
    let (_world, client) = queue_with([]);
    let qos = basic::Qos { prefetch_size: 4096, prefetch_count: 1, global: false };
    client.send(1, Method::BasicQos(qos));
    let text = "NOT_IMPLEMENTED - prefetch_size!=0 (4096)";
    assert_eq!(client.expect_connection_close(540, text), (60, 10));
}

// ---- acknowledging ------------------------------------------------------------------------------

#[test]
fn acknowledged_messages_are_gone_and_the_others_come_back() {
    let (world, client) = queue_with(["a", "b", "c", "d"]);
    let consumer = world.client();
    consumer.ok(1, consume("q", "c"));
    consumer.messages(1, ["a", "b", "c", "d"]);
    consumer.send(1, ack(2));
    consumer.send(1, ack(4));
    consumer.vanish();
    for body in ["a", "c"] {
        let message = client.fetch(1, "q");
        assert_eq!((message.text(), message.redelivered), (body, true));
    }
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn multiple_settles_everything_up_to_a_tag_and_zero_everything() {
    let (world, client) = queue_with(["a", "b", "c", "d", "e"]);
    let consumer = world.client();
    consumer.ok(1, consume("q", "c"));
    consumer.messages(1, ["a", "b", "c", "d", "e"]);
    consumer.send(1, ack_up_to(2));
    consumer.send(1, nack_up_to(3, Then::Discard));
    consumer.send(1, ack_up_to(0));
    consumer.send(1, ack_up_to(0));
    consumer.vanish();
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn a_tag_that_is_not_outstanding_closes_the_channel() {
    covers!("basic.unknown-delivery-tag");
    let text = "PRECONDITION_FAILED - unknown delivery tag 7";
    for (request, id) in [
        (ack(7), (60, 80)),
        (ack_up_to(7), (60, 80)),
        (nack(7, Then::Requeue), (60, 120)),
        (nack_up_to(7, Then::Discard), (60, 120)),
        (reject(7, Then::Requeue), (60, 90)),
    ] {
        let (_world, client) = queue_with(["a"]);
        client.open(2);
        client.fetch(2, "q");
        client.send(2, request);
        assert_eq!(client.expect_channel_close(2, 406, text), id);
        assert_eq!(client.depth(1, "q"), 1, "the message came back");
    }
}

#[test]
fn settling_twice_closes_the_channel() {
    let (_world, client) = queue_with(["a", "b"]);
    client.fetch(1, "q");
    client.fetch(1, "q");
    client.send(1, ack(1));
    client.send(1, ack(1));
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
    client.open(1);
    client.send(1, ack(0));
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 0");
}

#[test]
fn what_was_delivered_without_acknowledgement_cannot_be_acknowledged() {
    let (_world, client) = queue_with(["a"]);
    client.ok(1, consume("q", "c").no_ack());
    client.messages(1, ["a"]);
    client.send(1, ack(1));
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn tags_of_one_channel_mean_nothing_on_another() {
    let (_world, client) = queue_with(["a"]);
    client.fetch(1, "q");
    client.open(2);
    client.send(2, ack(1));
    client.expect_channel_close(2, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
    client.send(1, ack(1));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn requeued_messages_stand_where_they_stood() {
    let (_world, client) = queue_with(["a", "b", "c", "d"]);
    for _ in 0..3 {
        client.fetch(1, "q");
    }
    client.send(1, reject(2, Then::Requeue));
    client.send(1, nack(1, Then::Requeue));
    client.send(1, ack(3));
    let seen: Vec<(String, bool)> = (0..3)
        .map(|_| client.fetch(1, "q"))
        .map(|message| (message.text().to_owned(), message.redelivered))
        .collect();
    assert_eq!(seen, [("a".into(), true), ("b".into(), true), ("d".into(), false)]);
}

#[test]
fn a_discarded_message_is_gone() {
    let (_world, client) = queue_with(["a", "b"]);
    client.fetch(1, "q");
    client.fetch(1, "q");
    client.send(1, nack_up_to(2, Then::Discard));
    client.ok(1, close_channel());
    client.open(1);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn recover_gives_everything_back_even_what_was_fetched() {
    covers!("basic.recover-no-requeue");
    let (_world, client) = queue_with(["a", "b"]);
    client.fetch(1, "q");
    client.fetch(1, "q");
    client.send(1, recover());
    client.expect(1, Method::BasicRecoverOk(basic::RecoverOk));
    assert_eq!(client.depth(1, "q"), 2);
    client.fetch(1, "q");
    client.send(1, Method::BasicRecoverAsync(basic::RecoverAsync { requeue: true }));
    client.expect_nothing();
    assert_eq!(client.drain(1, "q"), ["a", "b"]);
    client.send(1, Method::BasicRecover(basic::Recover { requeue: false }));
    let text = "NOT_IMPLEMENTED - requeue=false";
    assert_eq!(client.expect_connection_close(540, text), (60, 110));
}

#[test]
fn recovered_messages_may_go_to_another_consumer() {
    let (world, client) = queue_with(["a"]);
    let other = world.client();
    client.ok(1, prefetch(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    other.ok(1, consume("q", "d").arg("x-priority", 10));
    client.send(1, recover());
    client.expect(1, Method::BasicRecoverOk(basic::RecoverOk));
    assert!(other.messages(1, ["a"])[0].redelivered);
    client.expect_nothing();
}

#[test]
fn a_rejected_message_may_come_back_to_the_same_consumer() {
    let (_world, client) = queue_with(["a"]);
    client.ok(1, consume("q", "c"));
    for tag in 1..=30 {
        let message = client.message(1);
        assert_eq!((message.delivery_tag, message.redelivered), (tag, tag > 1));
        client.send(1, reject(tag, Then::Requeue));
    }
}

#[test]
fn no_local_is_ignored() {
    let (_world, client) = queue_with([]);
    client.ok(1, consume("q", "c").no_local());
    client.send(1, publish("", "q", "own"));
    client.messages(1, ["own"]);
}
