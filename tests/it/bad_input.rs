//! Input that no client should send: it ends its own connection, in RabbitMQ's words, and nothing
//! else.

use leveret::covers;
use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic, channel};
use leveret::protocol::table::NESTING_MAX;

use crate::support::client::{PROTOCOL_HEADER, open_vhost};
use crate::support::properties::array;
use crate::support::world::Setup;
use crate::support::*;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The head of a frame and nothing else.
fn head(kind: u8, channel: u16, size: u32) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(size.to_be_bytes());
    bytes
}

/// A content header's payload.
fn header(class_id: u16, weight: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(class_id.to_be_bytes());
    payload.extend(weight.to_be_bytes());
    payload.extend(body_size.to_be_bytes());
    payload.extend(properties);
    payload
}

/// A client that has sent basic.publish on channel 1 and owes the content, and a bystander.
fn publishing() -> (World, Client, Client) {
    let world = World::new();
    let (client, bystander) = (world.client(), world.client());
    bystander.declare(1, queue("q"));
    client.send(1, publish("", "q", "").method());
    (world, client, bystander)
}

// ---- frames -------------------------------------------------------------------------------------

#[test]
fn a_frame_that_is_too_large_is_refused_from_its_head_alone() {
    covers!("frame.too-large");
    let world = World::new();
    let client = world.client();
    client.send_bytes(&head(BODY, 1, 131_073));
    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}";
    assert_eq!(client.expect_connection_close(501, text), (0, 0));
    let modest = world.client_as(&Login { frame_max: 8192, ..Login::default() });
    modest.send_bytes(&head(METHOD, 1, u32::MAX));
    let text = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4294967295,8184}";
    modest.expect_connection_close(501, text);
}

#[test]
fn a_payload_may_be_as_long_as_a_whole_frame() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "").method());
    client.send_frame(HEADER, 1, &header(60, 0, 131_072, &[0, 0]));
    client.send_frame(BODY, 1, &vec![1; 131_072]);
    assert_eq!(client.fetch(1, "q").body.len(), 131_072);
}

#[test]
fn a_frame_that_does_not_end_where_it_should_is_refused() {
    covers!("frame.bad-end");
    let world = World::new();
    let client = world.client();
    let mut bytes = head(BODY, 1, 3);
    bytes.extend([1, 2, 255, 0]);
    client.send_bytes(&bytes);
    let text = "FRAME_ERROR - type 3, all octets = <<1,2,255>>: {invalid_frame_end_marker,0}";
    assert_eq!(client.expect_connection_close(501, text), (0, 0));
    let client = world.client();
    let mut bytes = head(BODY, 1, 20);
    bytes.extend(b"twenty printable byt");
    bytes.push(b'e');
    client.send_bytes(&bytes);
    let text = "FRAME_ERROR - type 3, first 16 octets = <<\"twenty printable\">>: \
                {invalid_frame_end_marker,101}";
    client.expect_connection_close(501, text);
}

#[test]
fn a_frame_of_an_unknown_type_is_refused() {
    covers!("frame.unknown-type");
    let world = World::new();
    for (kind, channel, payload, text) in [
        (9, 1, &[1, 2][..], "FRAME_ERROR - type 9, all octets = <<1,2>>: unknown_frame"),
        (0, 0, &[], "FRAME_ERROR - type 0, all octets = <<>>: unknown_frame"),
        (METHOD, 1, &[0, 50, 0], "FRAME_ERROR - type 1, all octets = <<0,50,0>>: unknown_frame"),
        (HEARTBEAT, 0, b"x", "FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame"),
        (HEARTBEAT, 1, b"x", "FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame"),
    ] {
        let client = world.client();
        client.send_frame(kind, channel, payload);
        assert_eq!(client.expect_connection_close(501, text), (0, 0));
    }
}

#[test]
fn a_frame_of_the_wrong_kind_for_its_channel_is_refused() {
    covers!("frame.unexpected");
    let world = World::new();
    for (kind, channel, payload, text) in [
        (HEARTBEAT, 1, Vec::new(), "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
        (BODY, 0, vec![7], "UNEXPECTED_FRAME - type 3, all octets = <<7>>"),
        (
            HEADER,
            0,
            header(60, 0, 1, &[0, 0]),
            "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>",
        ),
    ] {
        let client = world.client();
        client.send_frame(kind, channel, &payload);
        assert_eq!(client.expect_connection_close(505, text), (0, 0));
    }
}

#[test]
fn a_client_that_lost_its_place_between_frames_is_dropped_soon() {
    let world = World::new();
    let client = world.client();
    client.send_bytes(&head(BODY, 1, 131_073));
    assert!(matches!(client.take(0).method(), Method::ConnectionClose(_)));
    world.advance(2_999);
    assert!(!client.is_gone());
    world.advance(1);
    client.expect_gone();
}

// ---- methods ------------------------------------------------------------------------------------

#[test]
fn a_method_with_bytes_missing_or_left_over_cannot_be_decoded() {
    covers!("method.undecodable");
    let world = World::new();
    let client = world.client();
    client.send_frame(METHOD, 1, &[0, 60, 0, 80, 0, 0, 1]);
    let text = "FRAME_ERROR - cannot decode <<0,0,1>>";
    assert_eq!(client.expect_connection_close(501, text), (60, 80));
    let client = world.client();
    client.send_frame(METHOD, 1, &[0, 20, 0, 20, 1, 1]);
    let text = "FRAME_ERROR - cannot decode <<1,1>>";
    assert_eq!(client.expect_connection_close(501, text), (20, 20));
    // RabbitMQ stumbles over those that are the connection's own.
    let client = world.client();
    client.send_frame(METHOD, 0, &[0, 10, 0, 70, 0]);
    assert_eq!(client.expect_connection_close(541, "INTERNAL_ERROR"), (0, 0));
}

#[test]
fn an_unknown_method_or_a_malformed_table_cannot_be_decoded() {
    // RabbitMQ drops the transport without a word.
    let world = World::new();
    let client = world.client();
    client.send_frame(METHOD, 1, &[0, 99, 0, 1, 5]);
    let text = "FRAME_ERROR - cannot decode <<5>>";
    assert_eq!(client.expect_connection_close(501, text), (99, 1));
    let client = world.client();
    let mut declare = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    declare.extend([0, 0, 0, 3, 1, b'k', b'Z']);
    client.send_frame(METHOD, 1, &declare);
    let text = "FRAME_ERROR - cannot decode <<0,0,1,113,0,0,0,0,3,1,107,90>>";
    client.expect_connection_close(501, text);
}

#[test]
fn names_in_methods_without_content_are_utf8() {
    covers!("method.malformed-utf8");
    let world = World::new();
    let client = world.client();
    client.send_frame(METHOD, 1, &[0, 50, 0, 10, 0, 0, 2, 0xc3, 0x28, 0, 0, 0, 0, 0]);
    let text = "FRAME_ERROR - Malformed UTF-8 in shortstr";
    assert_eq!(client.expect_connection_close(501, text), (0, 0));
    let client = world.client();
    client.send_frame(METHOD, 0, b"\0\x0a\0\x28\x02\xc3\x28\0\0");
    assert_eq!(client.expect_connection_close(501, text), (10, 40));
}

#[test]
fn what_only_a_server_says_is_not_implemented_by_one() {
    let world = World::new();
    for (method, id) in [
        (Method::ChannelCloseOk(channel::CloseOk), (20, 41)),
        (Method::ChannelFlowOk(channel::FlowOk { active: true }), (20, 21)),
        (Method::BasicCancelOk(basic::CancelOk { consumer_tag: "c" }), (60, 31)),
    ] {
        let client = world.client();
        client.send(1, method);
        let text = "COMMAND_INVALID - unimplemented method";
        assert_eq!(client.expect_connection_close(503, text), id);
    }
}

#[test]
fn routing_keys_of_messages_are_any_bytes() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.fanout", ""));
    let key = [0xff, 0, 0x80];
    let publish =
        basic::Publish { exchange: b"amq.fanout", routing_key: &key, ..Default::default() };
    client.send(1, Method::BasicPublish(publish));
    client.send_frame(HEADER, 1, &header(60, 0, 0, &[0, 0]));
    client.send(1, get("q"));
    let received = client.take(1);
    let Method::BasicGetOk(ok) = received.method() else { panic!("{received:?}") };
    assert_eq!(ok.routing_key, key);
}

#[test]
fn tables_may_be_nested_but_not_without_end() {
    let world = World::new();
    let bystander = world.client();
    bystander.declare(1, queue("there"));
    // "k" holding a table holding "k" holding a table...
    let nested = |levels: usize| {
        let mut table = Vec::new();
        for _ in 0..levels {
            let inner = std::mem::take(&mut table);
            table.extend([0, b'F']);
            table.extend(u32::try_from(inner.len()).unwrap().to_be_bytes());
            table.extend(inner);
        }
        table
    };
    let declare = |table: &[u8]| {
        let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
        payload.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
        payload.extend(table);
        payload
    };
    let client = world.client();
    client.send_frame(METHOD, 1, &declare(&nested(NESTING_MAX - 1)));
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
    let deep = nested(20_000);
    assert!(deep.len() < 131_000, "it fits a frame: {}", deep.len());
    client.send_frame(METHOD, 1, &declare(&deep));
    assert!(matches!(client.take(0).method(), Method::ConnectionClose(_)));
    // The same in a message's headers.
    let client = world.client();
    client.send(1, publish("", "there", "").method());
    let mut properties = vec![0x20, 0];
    properties.extend(u32::try_from(deep.len()).unwrap().to_be_bytes());
    properties.extend(&deep);
    client.send_frame(HEADER, 1, &header(60, 0, 0, &properties));
    client.expect_connection_close(541, "INTERNAL_ERROR");
    // And before anyone has logged in.
    let stranger = world.stranger();
    stranger.say_hello();
    let mut start_ok = vec![0, 10, 0, 11];
    let small = nested(1_000);
    start_ok.extend(u32::try_from(small.len()).unwrap().to_be_bytes());
    start_ok.extend(&small);
    start_ok.extend(b"\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US");
    stranger.send_frame(METHOD, 0, &start_ok);
    ends_in_silence(&world, &stranger);
    assert_eq!(bystander.depth(1, "there"), 0);
}

// ---- contents -----------------------------------------------------------------------------------

#[test]
fn a_header_or_a_body_needs_a_method_before_it() {
    covers!("content.unexpected-header");
    let world = World::new();
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    for (kind, payload) in [(HEADER, header(60, 0, 1, &[0, 0])), (BODY, vec![1])] {
        // Whether or not the channel is open.
        for channel in [1, 5] {
            let client = world.client();
            client.send_frame(kind, channel, &payload);
            assert_eq!(client.expect_connection_close(505, text), (0, 0));
        }
    }
}

#[test]
fn after_a_publish_comes_a_header() {
    covers!("content.header-expected");
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got non content header \
                frame instead";
    let expect_refused =
        |client: &Client| assert_eq!(client.expect_connection_close(505, text), (60, 40));
    let (_world, client, _bystander) = publishing();
    client.send(1, publish("", "q", "").method());
    expect_refused(&client);
    let (_world, client, _bystander) = publishing();
    client.send_frame(BODY, 1, b"x");
    expect_refused(&client);
    for method in [close_channel(), Method::ChannelOpen(Default::default())] {
        let (_world, client, _bystander) = publishing();
        client.send(1, method);
        expect_refused(&client);
    }
    // Nobody reads what is not due.
    let (_world, client, _bystander) = publishing();
    client.send_frame(METHOD, 1, &[0, 60, 0, 80, 0]);
    expect_refused(&client);
    let (_world, client, _bystander) = publishing();
    client.send_frame(HEADER, 1, &header(60, 1, 0, &[0, 0]));
    expect_refused(&client);
}

#[test]
fn a_header_is_of_the_methods_class() {
    covers!("content.header-class-mismatch");
    let (_world, client, _bystander) = publishing();
    client.send_frame(HEADER, 1, &header(50, 0, 1, &[0, 0]));
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 \
                instead";
    client.expect_connection_close(505, text);
}

#[test]
fn after_a_header_comes_the_body() {
    covers!("content.body-expected");
    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let due = || {
        let (world, client, bystander) = publishing();
        client.send_frame(HEADER, 1, &header(60, 0, 3, &[0, 0]));
        client.send_frame(BODY, 1, b"ab");
        (world, client, bystander)
    };
    let (_world, client, bystander) = due();
    client.send(1, Method::ChannelFlow(channel::Flow { active: true }));
    assert_eq!(client.expect_connection_close(505, text), (60, 40));
    assert_eq!(bystander.depth(1, "q"), 0);
    let (_world, client, _bystander) = due();
    client.send_frame(HEADER, 1, &header(60, 0, 3, &[0, 0]));
    client.expect_connection_close(505, text);
}

#[test]
fn a_body_is_as_long_as_announced() {
    covers!("content.body-too-long");
    let (_world, client, bystander) = publishing();
    client.send_frame(HEADER, 1, &header(60, 0, 3, &[0, 0]));
    client.send_frame(BODY, 1, b"ab");
    client.send_frame(BODY, 1, b"cd");
    let text = "FRAME_ERROR - content body frame exceeds remaining content size";
    client.expect_connection_close(501, text);
    assert_eq!(bystander.depth(1, "q"), 0);
}

#[test]
fn a_body_is_at_most_half_a_gibibyte() {
    covers!("content.announced-too-large");
    let (_world, client, _bystander) = publishing();
    client.send_frame(HEADER, 1, &header(60, 0, 536_870_913, &[0, 0]));
    let text = "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912";
    client.expect_connection_close(501, text);
    let (_world, client, _bystander) = publishing();
    client.send_frame(HEADER, 1, &header(60, 0, u64::MAX, &[0, 0]));
    let text = "FRAME_ERROR - content body size 18446744073709551615 exceeds maximum allowed \
                size 536870912";
    client.expect_connection_close(501, text);
    // As much may be announced; a client that goes away meanwhile leaves nothing behind.
    let (_world, client, bystander) = publishing();
    client.send_frame(HEADER, 1, &header(60, 0, 536_870_912, &[0, 0]));
    client.send_frame(BODY, 1, &[1; 1000]);
    client.expect_nothing();
    client.vanish();
    assert_eq!(bystander.depth(1, "q"), 0);
}

#[test]
fn malformed_properties_are_an_internal_error_as_in_rabbitmq() {
    covers!("content.malformed-properties");
    for properties in [
        &[][..],
        &[0x10],
        &[0x10, 0],
        &[0x80, 0, 5, b'a'],
        &[0, 0, 1],
        &[0x20, 0, 0, 0, 0, 3, 1, b'k', b'Z'],
        &[0x20, 0, 0xff, 0xff, 0xff, 0xff],
    ] {
        let (_world, client, bystander) = publishing();
        client.send_frame(HEADER, 1, &header(60, 0, 0, properties));
        assert_eq!(client.expect_connection_close(541, "INTERNAL_ERROR"), (0, 0));
        assert_eq!(bystander.depth(1, "q"), 0);
    }
    // They are read when the exchange is known.
    let (_world, client, _bystander) = publishing();
    client.open(2);
    client.send(2, publish("nowhere", "q", "").method());
    client.send_frame(HEADER, 2, &header(60, 0, 0, &[0x10]));
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    assert_eq!(client.expect_channel_close(2, 404, text), (60, 40));
}

#[test]
fn a_header_that_is_too_short_is_no_frame_at_all() {
    let text = "FRAME_ERROR - type 2, all octets = <<0,60,0,0>>: unknown_frame";
    for channel in [0, 1, 5] {
        let (_world, client, _bystander) = publishing();
        client.send_frame(HEADER, channel, &[0, 60, 0, 0]);
        assert_eq!(client.expect_connection_close(501, text), (0, 0));
    }
}

// ---- before login -------------------------------------------------------------------------------

#[test]
fn lengths_before_login_are_not_believed() {
    let world = World::new();
    for kind in [METHOD, HEADER, BODY, HEARTBEAT, 77] {
        let stranger = world.stranger();
        stranger.say_hello();
        stranger.send_bytes(&head(kind, 0, u32::MAX));
        for _ in 0..100 {
            stranger.send_bytes(&[0; 10_000]);
        }
        assert_eq!(stranger.unheard_bytes(), 0, "what is ignored is not kept either");
        ends_in_silence(&world, &stranger);
    }
}

#[test]
fn a_frame_before_login_is_at_most_8192_bytes() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.send_bytes(&head(METHOD, 0, 8193));
    ends_in_silence(&world, &stranger);
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.send_bytes(&head(METHOD, 0, 8192));
    stranger.send_bytes(&[0; 8191]);
    assert!(stranger.unheard_bytes() <= 8199, "one frame waits, not more");
}

#[test]
fn long_lengths_inside_short_frames_end_in_silence() {
    let world = World::new();
    for payload in [
        &b"\0\x0a\0\x0b\xff\xff\xff\xff"[..],
        b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\xff\xff\xff\xff\0guest\0guest\x05en_US",
        b"\0\x0a\0\x0b\0\0\0\x07\x01aS\xff\xff\xff\xff\x05PLAIN\0\0\0\0\x05en_US",
        b"",
        b"\0",
    ] {
        let stranger = world.stranger();
        stranger.say_hello();
        stranger.send_frame(METHOD, 0, payload);
        ends_in_silence(&world, &stranger);
    }
}

// ---- anything at all ----------------------------------------------------------------------------

/// A session in bytes, from the protocol header on, with a bit of everything.
fn whole_session() -> Vec<u8> {
    let mut bytes = PROTOCOL_HEADER.to_vec();
    let start_ok = b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
    bytes.extend(head(METHOD, 0, u32::try_from(start_ok.len()).unwrap()));
    bytes.extend(start_ok);
    bytes.push(frame::FRAME_END);
    let tune_ok = leveret::protocol::method::connection::TuneOk {
        channel_max: 100,
        frame_max: 131_072,
        heartbeat: 0,
    };
    frame::method(&mut bytes, 0, &Method::ConnectionTuneOk(tune_ok));
    frame::method(&mut bytes, 0, &open_vhost("/"));
    frame::method(&mut bytes, 1, &Method::ChannelOpen(Default::default()));
    let nested = leveret::protocol::table::Table::new().with("deep", 1).with("deeper", "x");
    let requests: [&dyn Request; 15] = [
        &queue("fuzz").arg("x-max-length", 10).arg("x-message-ttl", 60_000),
        &exchange("fuzz", "topic").arg("alternate-exchange", "amq.fanout"),
        &bind("fuzz", "fuzz", "a.#"),
        &bind("fuzz", "amq.headers", "").arg("x-match", "any").arg("a", nested),
        &prefetch(3),
        &publish("fuzz", "a.b", "hello").with(props().header("CC", array(["fuzz"]))),
        &publish("", "fuzz", "world").with(props().expiration("1000").persistent()),
        &get("fuzz"),
        &get("fuzz"),
        &consume("fuzz", "c").arg("x-priority", 1),
        &ack(1),
        &nack(2, Then::Requeue),
        &recover(),
        &get("fuzz"),
        &purge("fuzz"),
    ];
    requests.iter().for_each(|request| request.write(1, &mut bytes));
    bytes
}

#[test]
fn a_spoilt_session_harms_nobody_else() {
    let good = whole_session();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(limit).unwrap()).unwrap()
    };
    let mut setup = Setup::default();
    // Many a spoilt login fails, and those that follow are not to wait for that.
    setup.broker.login_failures_max = 0;
    let world = World::with(setup);
    let bystander = world.client();
    bystander.declare(1, queue("mine").exclusive());
    for round in 0..1_500 {
        let mut bytes = good.clone();
        // Mostly behind the handshake, or few would come that far.
        for _ in 0..=below(4) {
            let at =
                if below(10) == 0 { below(bytes.len()) } else { 150 + below(bytes.len() - 150) };
            match below(4) {
                0 => bytes[at] = u8::try_from(below(256)).unwrap(),
                1 => bytes[at] ^= 1 << below(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, u8::try_from(below(256)).unwrap()),
            }
        }
        let vandal = world.stranger();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + below(rest.len()));
            vandal.send_bytes(piece);
            rest = after;
        }
        if below(2) == 0 {
            vandal.vanish();
        }
        if round % 100 == 0 {
            world.advance(5_000);
            bystander.send(1, publish("", "mine", "x"));
            assert_eq!(bystander.drain(1, "mine"), ["x"]);
        }
    }
    bystander.expect_nothing();
}

#[test]
fn the_session_that_is_spoilt_above_is_a_good_one() {
    let world = World::new();
    let client = world.stranger();
    client.send_bytes(&whole_session());
    assert!(!client.is_gone());
    let answers: Vec<_> = std::iter::from_fn(|| client.next(1)).collect();
    let last = answers.last().unwrap().method();
    assert!(matches!(last, Method::BasicDeliver(_) | Method::QueuePurgeOk(_)), "{last:?}");
    assert!(answers.iter().any(|it| matches!(it.method(), Method::BasicDeliver(_))));
}

/// The server says nothing, ignores everything, and drops the transport after three seconds.
#[track_caller]
fn ends_in_silence(world: &World, client: &Client) {
    client.expect_nothing();
    client.send(0, open_vhost("/"));
    client.expect_nothing();
    assert!(!client.is_gone());
    world.advance(3_000);
    client.expect_gone();
}
