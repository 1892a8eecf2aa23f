//! Publishing: what is returned, what is refused, and in which order things are checked.

use leveret::covers;
use leveret::protocol::frame;

use crate::support::requests::CLASS_BASIC;
use crate::support::world::Setup;
use crate::support::*;

// ---- returning ----------------------------------------------------------------------------------

#[test]
fn an_unroutable_message_is_dropped_in_silence() {
    let world = World::new();
    let client = world.client();
    client.send(1, publish("", "nowhere", "x"));
    client.send(1, publish("amq.topic", "nobody", "x"));
    client.expect_nothing();
    client.declare(1, queue("nowhere"));
    assert_eq!(client.depth(1, "nowhere"), 0);
}

#[test]
fn a_mandatory_message_that_is_unroutable_comes_back_whole() {
    let world = World::new();
    let client = world.client();
    let properties = props().persistent().header("n", 1).message_id("m1").encode();
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 253) as u8).collect();
    client.send(1, publish("amq.direct", "nobody", &body).mandatory().with_bytes(&properties));
    let returned = client.message(1);
    assert_eq!(returned.reply, Some((312, "NO_ROUTE".into())));
    assert_eq!(
        (returned.exchange.as_str(), returned.routing_key.as_str()),
        ("amq.direct", "nobody")
    );
    assert_eq!((returned.raw_properties, returned.body), (properties, body));
}

#[test]
fn a_mandatory_message_that_is_routed_does_not_come_back() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "x").mandatory());
    client.expect_nothing();
    assert_eq!(client.drain(1, "q"), ["x"]);
}

// ---- refusing -----------------------------------------------------------------------------------

#[test]
fn immediate_is_not_implemented() {
    covers!("basic.immediate");
    let world = World::new();
    let client = world.client();
    client.send(1, publish("", "nowhere", "x").immediate());
    let text = "NOT_IMPLEMENTED - immediate=true";
    assert_eq!(client.expect_connection_close(540, text), (60, 40));
}

#[test]
fn a_message_over_the_limit_is_read_to_its_end_and_refused() {
    covers!("basic.message-too-large");
    let mut setup = Setup::default();
    setup.session.message_bytes_max = 300_000;
    let world = World::with(setup);
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", vec![1; 300_000]));
    assert_eq!(client.depth(1, "q"), 1);
    let mut frames = Vec::new();
    publish("", "q", vec![1; 300_001]).write(1, &mut frames);
    let (most, last) = frames.split_at(frames.len() - 1);
    client.send_bytes(most);
    client.expect_nothing();
    client.send_bytes(last);
    let text = "PRECONDITION_FAILED - message size 300001 is larger than configured max size \
                300000";
    assert_eq!(client.expect_channel_close(1, 406, text), (60, 40));
}

#[test]
fn the_default_limit_is_sixteen_mebibytes() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let limit = 16 * 1024 * 1024;
    client.send(1, publish("", "q", vec![0; limit]));
    assert_eq!(client.fetch(1, "q").body.len(), limit);
    client.send(1, publish("", "q", vec![0; limit + 1]));
    let text = "PRECONDITION_FAILED - message size 16777217 is larger than configured max size \
                16777216";
    client.expect_channel_close(1, 406, text);
}

#[test]
fn a_user_id_must_be_the_users_own() {
    covers!("basic.user-id-mismatch");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "honest").with(props().user_id("guest")));
    let text = "PRECONDITION_FAILED - user_id property set to 'admin' but authenticated user was \
                'guest'";
    client.refused(1, publish("", "q", "x").with(props().user_id("admin")), 406, text);
    assert_eq!(client.drain(1, "q"), ["honest"]);
}

#[test]
fn an_expiration_is_a_number_of_milliseconds() {
    covers!("basic.invalid-expiration");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let literal = "PRECONDITION_FAILED - invalid expiration 'soon': no_integer";
    client.refused(1, publish("", "q", "x").with(props().expiration("soon")), 406, literal);
    for (expiration, reason) in [
        ("", "no_integer"),
        ("10s", "{leftover_string,\"s\"}"),
        ("1.5", "{leftover_string,\".5\"}"),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ] {
        let text = format!("PRECONDITION_FAILED - invalid expiration '{expiration}': {reason}");
        client.refused(1, publish("", "q", "x").with(props().expiration(expiration)), 406, &text);
    }
    client.send(1, publish("", "q", "ten years").with(props().expiration("315360000000")));
    assert_eq!(client.drain(1, "q"), ["ten years"]);
}

#[test]
fn the_first_mistake_in_the_order_of_rabbitmqs_checks_is_the_one_that_is_told() {
    let world = World::new();
    let client = world.client();
    let all_wrong = props()
        .reply_to("amq.rabbitmq.reply-to")
        .expiration("soon")
        .header("CC", 1)
        .user_id("admin");
    let no_exchange = "NOT_FOUND - no exchange 'nothing' in vhost '/'";
    client.refused(1, publish("nothing", "", "x").with(all_wrong.clone()), 404, no_exchange);
    let x = |properties: Props| publish("amq.direct", "", "x").with(properties);
    let no_consumer = "PRECONDITION_FAILED - fast reply consumer does not exist";
    client.refused(1, x(all_wrong), 406, no_consumer);
    let expiration = "PRECONDITION_FAILED - invalid expiration 'soon': no_integer";
    let wrong = props().expiration("soon").header("CC", 1).user_id("admin");
    client.refused(1, x(wrong), 406, expiration);
    let cc = "PRECONDITION_FAILED - invalid message: \
              {unacceptable_type_in_header,\"CC\",signedint}";
    client.refused(1, x(props().header("CC", 1).user_id("admin")), 406, cc);
}

#[test]
fn a_message_that_is_too_large_is_told_so_before_anything_else() {
    let mut setup = Setup::default();
    setup.session.message_bytes_max = 10;
    let world = World::with(setup);
    let client = world.client();
    let text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10";
    let wrong = publish("nothing", "", "eleven byte").with(props().expiration("soon"));
    client.refused(1, wrong, 406, text);
}

// ---- contents in pieces -------------------------------------------------------------------------

#[test]
fn a_body_may_come_in_pieces_of_any_length() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let mut bytes = Vec::new();
    publish("", "q", "").method().write(1, &mut bytes);
    frame::content_header(&mut bytes, 1, CLASS_BASIC, 5, &[0, 0]);
    for piece in ["", "he", "", "l", "lo"] {
        frame::body(&mut bytes, 1, piece.as_bytes());
    }
    client.send_bytes(&bytes);
    assert_eq!(client.drain(1, "q"), ["hello"]);
}

#[test]
fn contents_of_several_channels_may_be_interleaved() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    let mut bytes = Vec::new();
    for channel in [1, 2] {
        publish("", "q", "").method().write(channel, &mut bytes);
    }
    for channel in [2, 1] {
        frame::content_header(&mut bytes, channel, CLASS_BASIC, 2, &[0, 0]);
    }
    for (channel, piece) in [(1, "a"), (2, "c"), (2, "d"), (1, "b")] {
        frame::body(&mut bytes, channel, piece.as_bytes());
    }
    client.send_bytes(&bytes);
    assert_eq!(client.drain(1, "q"), ["cd", "ab"]);
}

#[test]
fn a_channel_closed_in_the_middle_of_a_content_forgets_it() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    client.send(2, publish("", "q", "").method());
    client.vanish();
    let other = world.client();
    assert_eq!(other.depth(1, "q"), 0);
}

#[test]
fn what_one_client_publishes_stays_in_order_for_each_queue() {
    let world = World::new();
    let client = world.client();
    for name in ["a", "b"] {
        client.declare(1, queue(name));
        client.ok(1, bind(name, "amq.fanout", ""));
    }
    let mut requests: Vec<Publish> = Vec::new();
    for n in 0..50 {
        let (exchange, key) = if n % 3 == 0 { ("", "a") } else { ("amq.fanout", "") };
        requests.push(publish(exchange, key, format!("{n:02}")));
    }
    let requests: Vec<&dyn Request> = requests.iter().map(|it| it as &dyn Request).collect();
    client.send_at_once(1, &requests);
    let (a, b) = (client.drain(1, "a"), client.drain(1, "b"));
    assert_eq!((a.len(), b.len()), (50, 33));
    assert!(a.is_sorted() && b.is_sorted(), "{a:?} {b:?}");
}

#[test]
fn large_messages_reach_every_queue_whole() {
    let world = World::new();
    let client = world.client();
    let body: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 255) as u8).collect();
    for name in ["a", "b"] {
        client.declare(1, queue(name));
        client.ok(1, bind(name, "amq.fanout", ""));
    }
    client.ok(1, consume("a", "c").no_ack());
    client.send(1, publish("amq.fanout", "", &body));
    assert_eq!(client.message(1).body, body);
    assert_eq!(client.fetch(1, "b").body, body);
    client.expect_nothing();
}

#[test]
fn minus_zero_is_no_time_at_all() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "x").with(props().expiration("-0")));
    client.send(1, publish("", "q", "y").with(props().expiration("+0")));
    assert_eq!(client.depth(1, "q"), 0);
}
