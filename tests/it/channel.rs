//! Channels: opening, closing, what follows an error, and that others are untouched.

use std::sync::Arc;

use leveret::covers;
use leveret::protocol::method::{Method, access, channel, connection};

use crate::support::world::Setup;
use crate::support::*;

const NO_QUEUE: &str = "NOT_FOUND - no queue 'nowhere' in vhost '/'";

#[test]
fn a_closed_channels_number_can_be_used_again_at_once() {
    let world = World::new();
    let client = world.client();
    client.send_at_once(1, &[&close_channel(), &Method::ChannelOpen(Default::default())]);
    client.expect(1, Method::ChannelCloseOk(Default::default()));
    client.expect(1, Method::ChannelOpenOk(Default::default()));
    client.declare(1, queue("q"));
}

#[test]
fn channels_are_independent() {
    let world = World::new();
    let client = world.client();
    client.open(7);
    client.open(65_535);
    client.declare(7, queue("q"));
    client.send(65_535, publish("", "q", "x"));
    client.send(1, consume("nowhere", "c"));
    client.expect_channel_close(1, 404, NO_QUEUE);
    assert_eq!(client.fetch(7, "q").text(), "x");
}

#[test]
fn closing_a_channel_gives_its_unacknowledged_messages_back() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    client.send(2, publish("", "q", "x"));
    client.fetch(2, "q");
    assert_eq!(client.depth(1, "q"), 0);
    client.send(2, close_channel());
    client.expect(2, Method::ChannelCloseOk(Default::default()));
    let again = client.fetch(1, "q");
    assert_eq!((again.text(), again.redelivered), ("x", true));
}

#[test]
fn a_method_on_a_channel_that_is_not_open_closes_the_connection() {
    covers!("channel.not-open");
    let world = World::new();
    let client = world.client();
    client.send(2, queue("q"));
    let text = "CHANNEL_ERROR - expected 'channel.open'";
    assert_eq!(client.expect_connection_close(504, text), (50, 10));
}

#[test]
fn closing_a_channel_that_is_not_open_closes_the_connection() {
    let world = World::new();
    let client = world.client();
    client.send(2, close_channel());
    let text = "CHANNEL_ERROR - expected 'channel.open'";
    assert_eq!(client.expect_connection_close(504, text), (20, 40));
    let client = world.client();
    client.send(2, Method::ChannelCloseOk(Default::default()));
    assert_eq!(client.expect_connection_close(504, text), (20, 41));
}

#[test]
fn opening_a_channel_twice_closes_the_connection() {
    covers!("channel.already-open");
    let world = World::new();
    let client = world.client();
    client.send(1, Method::ChannelOpen(Default::default()));
    let text = "CHANNEL_ERROR - second 'channel.open' seen";
    assert_eq!(client.expect_connection_close(504, text), (20, 10));
}

#[test]
fn the_number_of_channels_is_limited_not_their_numbers() {
    covers!("channel.max-reached");
    let world = World::new();
    let text = "NOT_ALLOWED - number of channels opened (2) has reached the negotiated \
                channel_max (2)";
    // Whatever comes on a number without a channel would be one more.
    for method in [Method::ChannelOpen(Default::default()), close_channel()] {
        let client = world.client_as(&Login { channel_max: 2, ..Login::default() });
        client.open(900);
        client.send(2, method);
        assert_eq!(client.expect_connection_close(530, text), (0, 0));
    }
}

#[test]
fn a_closed_channel_makes_room_for_another() {
    let world = World::new();
    let client = world.client_as(&Login { channel_max: 2, ..Login::default() });
    client.open(2);
    client.send(1, close_channel());
    client.expect(1, Method::ChannelCloseOk(Default::default()));
    client.open(3);
}

#[test]
fn after_an_error_a_channel_ignores_everything_but_its_close() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    client.send(2, get("nowhere"));
    client.send(2, publish("", "q", "lost"));
    client.send(2, queue("never-declared"));
    client.expect_channel_close(2, 404, NO_QUEUE);
    assert_eq!(client.depth(1, "q"), 0);
    let text = "NOT_FOUND - no queue 'never-declared' in vhost '/'";
    client.refused(1, queue("never-declared").passive(), 404, text);
}

#[test]
fn opening_a_channel_again_that_failed_is_ignored_too() {
    let world = World::new();
    let client = world.client();
    client.send_at_once(1, &[&get("nowhere"), &Method::ChannelOpen(Default::default())]);
    client.expect_channel_close(1, 404, NO_QUEUE);
}

#[test]
fn a_close_that_crosses_the_servers_is_answered() {
    let world = World::new();
    let client = world.client();
    client.send(1, get("nowhere"));
    client.send(1, close_channel());
    assert!(matches!(client.take(1).method(), Method::ChannelClose(_)));
    client.expect(1, Method::ChannelCloseOk(Default::default()));
    client.send(1, Method::ChannelCloseOk(Default::default()));
    client.open(1);
}

#[test]
fn what_was_published_before_an_error_counts() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    let (first, wrong, second) =
        (publish("", "q", "before"), get("nowhere"), publish("", "q", "after"));
    client.send_at_once(2, &[&first, &wrong, &second]);
    client.expect_channel_close(2, 404, NO_QUEUE);
    assert_eq!(client.drain(1, "q"), ["before"]);
}

#[test]
fn a_channel_error_releases_consumers_and_messages_before_the_client_agrees() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    client.ok(2, consume("q", "c"));
    client.send(1, publish("", "q", "x"));
    client.messages(2, ["x"]);
    client.send(2, get("nowhere"));
    assert!(matches!(client.take(2).method(), Method::ChannelClose(_)));
    assert_eq!(client.declare(1, queue("q").passive()), ("q".into(), 1, 0));
}

#[test]
fn a_channel_that_uses_a_queue_per_request_keeps_none_of_them() {
    let world = World::new();
    let client = world.client();
    let vhost = world.broker().vhost("/").unwrap();
    let mut queues = Vec::new();
    for tag in 0..300_u64 {
        let name = tag.to_string();
        let declaration = queue(&name).exclusive().auto_delete();
        client.declare(1, declaration);
        queues.push(Arc::downgrade(&vhost.queue(name.as_bytes()).unwrap()));
        client.send(1, publish("", &name, "reply"));
        assert_eq!(client.fetch(1, &name).text(), "reply");
        client.send(1, ack(tag + 1));
        client.ok(1, consume(&name, "c"));
        client.ok(1, cancel("c"));
    }
    // Apart from what the connection remembers for a while, as routes to publish by.
    let kept = queues.iter().filter(|queue| queue.strong_count() > 0).count();
    assert!(kept <= 100, "{kept} queues are still there");
}

#[test]
fn requests_may_be_sent_without_waiting_for_answers() {
    let world = World::new();
    let client = world.stranger();
    client.log_in(&Login::default());
    let open = Method::ChannelOpen(Default::default());
    client.send_at_once(
        1,
        &[
            &open,
            &exchange("x", "fanout"),
            &queue("q"),
            &bind("q", "x", ""),
            &consume("q", "c").no_ack(),
            &publish("x", "", "x"),
            &close_channel(),
        ],
    );
    client.expect(1, Method::ChannelOpenOk(Default::default()));
    client.expect(1, Method::ExchangeDeclareOk(Default::default()));
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
    client.expect(1, Method::QueueBindOk(Default::default()));
    assert!(matches!(client.take(1).method(), Method::BasicConsumeOk(_)));
    let rest: Vec<_> = std::iter::from_fn(|| client.next(1)).collect();
    let closed = Method::ChannelCloseOk(Default::default());
    assert_eq!(rest.last().unwrap().method(), closed, "{rest:?}");
}

#[test]
fn flow_is_agreed_to_but_cannot_be_stopped() {
    covers!("channel.flow-inactive");
    let world = World::new();
    let client = world.client();
    client.send(1, Method::ChannelFlow(channel::Flow { active: true }));
    client.expect(1, Method::ChannelFlowOk(channel::FlowOk { active: true }));
    client.send(1, Method::ChannelFlow(channel::Flow { active: false }));
    let text = "NOT_IMPLEMENTED - active=false";
    assert_eq!(client.expect_connection_close(540, text), (20, 20));
}

#[test]
fn access_is_granted_to_whoever_asks() {
    let world = World::new();
    let client = world.client();
    client.send(1, Method::AccessRequest(access::Request::default()));
    client.expect(1, Method::AccessRequestOk(access::RequestOk { ticket: 1 }));
}

#[test]
fn a_method_that_only_servers_send_is_not_implemented() {
    covers!("method.unimplemented");
    let world = World::new();
    for method in [
        Method::ChannelOpenOk(Default::default()),
        Method::QueueDeclareOk(Default::default()),
        Method::ConnectionClose(connection::Close::default()),
    ] {
        let client = world.client();
        client.send(1, method);
        let text = "COMMAND_INVALID - unimplemented method";
        assert_eq!(client.expect_connection_close(503, text), method.id());
    }
}

#[test]
fn a_hard_error_on_one_channel_ends_the_whole_connection_and_no_other() {
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    client.open(2);
    client.declare(2, queue("mine").exclusive());
    client.declare(2, queue("ours"));
    client.ok(2, consume("ours", "c"));
    other.ok(1, consume("ours", "d"));
    other.send(1, publish("", "ours", "first"));
    other.send(1, publish("", "ours", "second"));
    client.messages(2, ["first"]);
    other.messages(1, ["second"]);
    client.send(1, Method::ChannelFlow(channel::Flow { active: false }));
    client.expect_connection_close(540, "NOT_IMPLEMENTED - active=false");
    let back = &other.messages(1, ["first"])[0];
    assert!(back.redelivered);
    other.send(1, ack_up_to(0));
    other.refused(1, queue("mine").passive(), 404, "NOT_FOUND - no queue 'mine' in vhost '/'");
}

#[test]
fn a_consumer_limit_closes_the_connection_of_who_passes_it() {
    covers!("basic.consumer-max");
    let mut setup = Setup::default();
    setup.session.consumers_per_channel_max = 2;
    let world = World::with(setup);
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, consume("q", "a"));
    client.ok(1, consume("q", "b"));
    client.ok(1, cancel("a"));
    client.ok(1, consume("q", "c"));
    let other = world.client();
    other.ok(1, consume("q", "a"));
    other.ok(1, consume("q", "b"));
    let text = "NOT_ALLOWED - reached maximum (2) of consumers per channel";
    // Replies are no exception.
    for (client, queue) in [(client, "q"), (other, "amq.rabbitmq.reply-to")] {
        client.send(1, consume(queue, "d").no_ack());
        assert_eq!(client.expect_connection_close(530, text), (60, 20));
    }
}

#[test]
fn a_connection_lost_to_a_panic_leaves_nothing_behind() {
    let world = World::new();
    let (victim, bystander) = (world.client(), world.client());
    bystander.declare(1, queue("q"));
    victim.declare(1, queue("mine").exclusive());
    victim.ok(1, consume("q", "c"));
    bystander.send(1, publish("", "q", "x"));
    victim.messages(1, ["x"]);
    victim.is_lost_to_a_panic();
    assert_eq!(bystander.declare(1, queue("q").passive()), ("q".into(), 1, 0));
    assert!(bystander.fetch(1, "q").redelivered);
    let text = "NOT_FOUND - no queue 'mine' in vhost '/'";
    bystander.refused(1, queue("mine").passive(), 404, text);
    assert_eq!(world.connection_count(), 1);
}
