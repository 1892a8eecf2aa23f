//! From the protocol header to open-ok, and what keeps or ends a connection afterwards.

use leveret::broker::inspect::Inspect;
use leveret::covers;
use leveret::protocol::method::{Method, connection};
use leveret::protocol::refusal;
use leveret::protocol::table::{Table, Value};

use crate::support::client::{PROTOCOL_HEADER, close_connection, open_vhost, text};
use crate::support::world::Setup;
use crate::support::*;

const LOGIN_REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism \
                             PLAIN. For details see the broker logfile.";

// ---- the protocol header ------------------------------------------------------------------------

#[test]
fn start_says_what_client_libraries_branch_on() {
    let world = World::new();
    let properties = world.stranger().say_hello();
    assert_eq!(properties.get("product").and_then(Value::as_str), Some("RabbitMQ"));
    let version = properties.get("version").and_then(Value::as_str).unwrap();
    assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    let cluster = properties.get("cluster_name").and_then(Value::as_str).unwrap();
    assert!(cluster.contains('@'), "{cluster}");
    let capabilities = properties.get("capabilities").and_then(Value::as_table).unwrap();
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(capabilities.get(capability), Some(&Value::Bool(true)), "{capability}");
    }
}

#[test]
fn start_offers_plain_and_amqplain_in_english() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.send_bytes(PROTOCOL_HEADER);
    let start = stranger.take(0);
    let Method::ConnectionStart(start) = start.method() else { panic!("{start:?}") };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    let mechanisms = String::from_utf8(start.mechanisms.to_vec()).unwrap();
    let offered: Vec<&str> = mechanisms.split(' ').collect();
    assert!(offered.contains(&"PLAIN") && offered.contains(&"AMQPLAIN"), "{mechanisms}");
    assert_eq!(start.locales, b"en_US");
}

/// A peer that begins like this is told what is spoken here, and the transport dropped.
#[track_caller]
fn is_told(world: &World, header: &[u8], answer: &[u8; 8]) {
    let stranger = world.stranger();
    stranger.send_bytes(&header[..7]);
    assert_eq!(stranger.raw_bytes(), b"", "nothing is decided before eight bytes");
    stranger.send_bytes(&header[7..]);
    assert_eq!(stranger.raw_bytes(), answer, "{header:?}");
    stranger.expect_gone();
}

#[test]
fn a_peer_that_speaks_another_0_9_is_told_which_is_spoken_and_closed() {
    let world = World::new();
    is_told(&world, b"AMQP\x00\x00\x09\x02", b"AMQP\x00\x00\x09\x01");
}

#[test]
fn a_peer_that_speaks_something_else_is_told_what_is_spoken_and_closed() {
    let world = World::new();
    let cases: [&[u8]; 5] = [
        b"AMQP\x01\x01\x08\x00",
        b"AMQP\x00\x01\x00\x00",
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0",
    ];
    for header in cases {
        is_told(&world, header, b"AMQP\x03\x01\x00\x00");
    }
}

#[test]
fn the_older_spelling_of_0_9_1_is_taken() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.send_bytes(b"AMQP\x01\x01\x00\x09");
    assert!(matches!(stranger.take(0).method(), Method::ConnectionStart(_)));
}

#[test]
fn everything_may_arrive_byte_by_byte() {
    let world = World::new();
    let client = world.client();
    let mut bytes = Vec::new();
    queue("q").write(1, &mut bytes);
    publish("", "q", "in pieces").with(props().persistent()).write(1, &mut bytes);
    get("q").no_ack().write(1, &mut bytes);
    bytes.iter().for_each(|byte| client.send_bytes(&[*byte]));
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
    assert_eq!(client.message(1).text(), "in pieces");
}

// ---- logging in ---------------------------------------------------------------------------------

#[test]
fn a_client_logs_in_with_plain() {
    let world = World::new();
    let client = world.client();
    assert_eq!(world.connection_count(), 1);
    client.close();
    assert_eq!(world.connection_count(), 0);
}

#[test]
fn a_client_logs_in_with_amqplain() {
    let world = World::new();
    let mut response = Vec::new();
    Table::new()
        .with("LOGIN", text("guest"))
        .with("PASSWORD", text("guest"))
        .encode_body(&mut response);
    world.client_as(&Login { mechanism: "AMQPLAIN".into(), response, ..Login::default() });
}

#[test]
fn a_refused_login_is_told_to_clients_that_understand() {
    covers!("connection.login-refused");
    let world = World::new();
    for (user, password) in [("guest", "Guest"), ("guest", ""), ("nobody", "guest")] {
        let stranger = world.stranger();
        stranger.say_hello();
        let login = Login { user: user.into(), password: password.into(), ..Login::default() };
        stranger.start_ok(&login);
        world.advance(1_000);
        assert_eq!(stranger.expect_connection_close(403, LOGIN_REFUSED), (0, 0));
    }
}

#[test]
fn a_refused_login_names_the_mechanism() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.say_hello();
    let mut response = Vec::new();
    Table::new()
        .with("LOGIN", text("guest"))
        .with("PASSWORD", text("wrong"))
        .encode_body(&mut response);
    let login = Login { mechanism: "AMQPLAIN".into(), response, ..Login::default() };
    stranger.start_ok(&login);
    world.advance(1_000);
    stranger.expect_connection_close(403, &LOGIN_REFUSED.replace("PLAIN", "AMQPLAIN"));
}

#[test]
fn a_refused_login_ends_in_silence_for_clients_that_do_not_understand() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.say_hello();
    let login = Login { password: "wrong".into(), capabilities: vec![], ..Login::default() };
    stranger.start_ok(&login);
    ends_in_silence(&world, &stranger);
}

#[test]
fn a_mechanism_that_was_not_offered_or_a_malformed_response_ends_in_silence() {
    let world = World::new();
    let cases: [(&str, &[u8]); 5] = [
        ("CRAM-MD5", b"\0guest\0guest"),
        ("plain", b"\0guest\0guest"),
        ("PLAIN", b"guest\0guest"),
        ("PLAIN", b"admin\0guest\0guest"),
        ("AMQPLAIN", b"nonsense"),
    ];
    for (mechanism, response) in cases {
        let stranger = world.stranger();
        stranger.say_hello();
        let mechanism = mechanism.into();
        let login = Login { mechanism, response: response.to_vec(), ..Login::default() };
        stranger.start_ok(&login);
        ends_in_silence(&world, &stranger);
    }
}

#[test]
fn the_first_user_comes_from_a_loopback_address_only() {
    let world = World::new();
    let stranger = world.stranger_from("192.0.2.7");
    stranger.say_hello();
    stranger.start_ok(&Login::default());
    world.advance(1_000);
    stranger.expect_connection_close(403, LOGIN_REFUSED);
}

// ---- tuning -------------------------------------------------------------------------------------

#[test]
fn tune_offers_the_limits() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&Login::default());
    let offered = connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    stranger.expect(0, Method::ConnectionTune(offered));
}

#[test]
fn limits_outside_the_offered_ones_end_in_silence() {
    let world = World::new();
    for (channel_max, frame_max) in
        [(2048, 131_072), (2047, 131_073), (2047, 4095), (2047, 1), (0, 131_072), (2047, 0)]
    {
        let login = Login { channel_max, frame_max, ..Login::default() };
        let stranger = tuned(&world, &login);
        stranger.send(0, open_vhost("/"));
        ends_in_silence(&world, &stranger);
    }
}

#[test]
fn a_frame_size_of_4096_is_taken() {
    let world = World::new();
    world.client_as(&Login { frame_max: 4096, ..Login::default() }).declare(1, queue("q"));
}

#[test]
fn bodies_are_cut_to_the_frame_size_that_the_client_chose() {
    let world = World::new();
    let login = Login { frame_max: 8192, ..Login::default() };
    let client = world.client_as(&login);
    client.declare(1, queue("q"));
    let body: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    world.client().send(1, publish("", "q", &body));
    client.send(1, get("q").no_ack());
    let bytes = client.raw_bytes();
    let mut sizes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let size = u32::from_be_bytes([bytes[at + 3], bytes[at + 4], bytes[at + 5], bytes[at + 6]]);
        sizes.push(size as usize + 8);
        at += size as usize + 8;
    }
    assert!(sizes.iter().all(|size| *size <= 8192), "{sizes:?}");
    assert_eq!(sizes.iter().filter(|size| **size == 8192).count(), 100_000 / 8184, "{sizes:?}");
}

// ---- opening ------------------------------------------------------------------------------------

#[test]
fn a_vhost_that_does_not_exist_is_refused() {
    covers!("connection.vhost-not-found");
    let world = World::new();
    let stranger = tuned(&world, &Login::default());
    stranger.send(0, open_vhost("nowhere"));
    let text = "NOT_ALLOWED - vhost nowhere not found";
    assert_eq!(stranger.expect_connection_close(530, text), (10, 40));
}

#[test]
fn a_vhost_that_the_user_may_not_enter_is_refused() {
    covers!("connection.vhost-refused");
    let world = World::new();
    world.put_user("app", &[]);
    let login = Login { user: "app".into(), password: "secret".into(), ..Login::default() };
    let stranger = tuned(&world, &login);
    stranger.send(0, open_vhost("/"));
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'app'";
    assert_eq!(stranger.expect_connection_close(530, text), (10, 40));
}

/// A node that holds so many connections at most.
fn world_for(connections_max: usize) -> World {
    let mut setup = Setup::default();
    setup.broker.connections_max = connections_max;
    World::with(setup)
}

#[test]
fn a_node_that_has_all_the_connections_it_takes_says_so_before_anything_else() {
    covers!("connection.node-limit");
    let world = world_for(2);
    let (first, _second) = (world.client(), world.client());
    let text = "NOT_ALLOWED - connection refused: node connection limit (2) is reached";
    for vhost in ["/", "nowhere"] {
        let third = tuned(&world, &Login::default());
        third.send(0, open_vhost(vhost));
        assert_eq!(third.expect_connection_close(530, text), (10, 40));
    }
    // Whoever leaves makes room; whoever is refused for another reason takes none.
    first.close();
    let lost = tuned(&world, &Login::default());
    lost.send(0, open_vhost("nowhere"));
    lost.expect_connection_close(530, "NOT_ALLOWED - vhost nowhere not found");
    let third = world.client();
    let fourth = tuned(&world, &Login::default());
    fourth.send(0, open_vhost("/"));
    fourth.expect_connection_close(530, text);
    third.vanish();
    world.client().declare(1, queue("q"));
}

#[test]
fn places_are_not_given_twice_to_those_who_ask_at_once() {
    let broker = world_for(5).broker();
    let ask = || (0..100).filter_map(|_| broker.take_connection_place().ok()).collect::<Vec<_>>();
    let places: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(places.len(), 5);
    drop(places);
    assert_eq!(ask().len(), 5);
}

#[test]
fn methods_out_of_order_end_in_silence() {
    let world = World::new();
    let early_open = world.stranger();
    early_open.say_hello();
    early_open.send(0, open_vhost("/"));
    ends_in_silence(&world, &early_open);

    let early_tune = world.stranger();
    early_tune.say_hello();
    let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
    early_tune.send(0, Method::ConnectionTuneOk(tune_ok));
    ends_in_silence(&world, &early_tune);
}

#[test]
fn even_a_close_is_out_of_order_before_the_client_is_tuned() {
    let world = World::new();
    for stranger in [world.stranger(), world.stranger()] {
        stranger.say_hello();
        stranger.send(0, close_connection());
        ends_in_silence(&world, &stranger);
    }
}

#[test]
fn between_tune_ok_and_open_mistakes_are_told() {
    let world = World::new();
    let unexpected = "CHANNEL_ERROR - unexpected method in connection state opening";
    let close_ok = Method::ConnectionCloseOk(Default::default());
    let update = connection::UpdateSecret { new_secret: b"token", reason: "expired" };
    for (method, id) in [
        (close_connection(), (10, 50)),
        (close_ok, (10, 51)),
        (Method::ConnectionUpdateSecret(update), (10, 70)),
        (Method::BasicAck(Default::default()), (60, 80)),
    ] {
        let stranger = tuned(&world, &Login::default());
        stranger.send(0, method);
        assert_eq!(stranger.expect_connection_close(504, unexpected), id);
    }
    for (kind, channel, payload, code, text) in [
        (1, 1, &[0, 20, 0, 10, 0][..], 505, "type 1, all octets = <<0,20,0,10,0>>"),
        (3, 0, b"x", 505, "type 3, all octets = <<\"x\">>"),
        (8, 1, b"", 505, "type 8, all octets = <<>>"),
        (8, 0, b"x", 501, "type 8, all octets = <<\"x\">>: unknown_frame"),
        (9, 0, b"ab", 501, "type 9, all octets = <<\"ab\">>: unknown_frame"),
        (1, 0, &[0, 10], 501, "type 1, all octets = <<0,10>>: unknown_frame"),
    ] {
        let stranger = tuned(&world, &Login::default());
        stranger.send_frame(kind, channel, payload);
        let name = if code == 505 { "UNEXPECTED_FRAME" } else { "FRAME_ERROR" };
        assert_eq!(stranger.expect_connection_close(code, &format!("{name} - {text}")), (0, 0));
    }
    let stranger = tuned(&world, &Login::default());
    stranger.send_frame(1, 0, b"\0\x0a\0\x28\x02\xc3\x28\0\0");
    let malformed = "FRAME_ERROR - Malformed UTF-8 in shortstr";
    assert_eq!(stranger.expect_connection_close(501, malformed), (10, 40));
    // But for what cannot be read at all.
    let stranger = tuned(&world, &Login::default());
    stranger.send_frame(1, 0, b"\0\x0a\0\x28\x05");
    ends_in_silence(&world, &stranger);
}

#[test]
fn a_refused_open_waits_for_its_close_ok_as_long_as_a_heartbeat() {
    let world = World::new();
    let stranger = tuned(&world, &Login { heartbeat_s: 7, ..Login::default() });
    stranger.send(0, open_vhost("nowhere"));
    assert!(matches!(stranger.take(0).method(), Method::ConnectionClose(_)));
    world.advance(6_999);
    assert!(!stranger.is_gone());
    world.advance(1);
    stranger.expect_gone();
}

#[test]
fn heartbeats_during_the_handshake_are_ignored() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.send_frame(8, 0, b"");
    stranger.start_ok(&Login::default());
    stranger.tune_ok(&Login::default());
    stranger.send_frame(8, 0, b"");
    stranger.send(0, open_vhost("/"));
    stranger.expect(0, Method::ConnectionOpenOk(Default::default()));
}

#[test]
fn a_handshake_that_takes_longer_than_ten_seconds_is_cut_off() {
    let world = World::new();
    let silent = world.stranger();
    let greeted = world.stranger();
    greeted.say_hello();
    let logged_in = tuned(&world, &Login::default());
    let open = world.client();
    world.advance(9_999);
    for stranger in [&silent, &greeted, &logged_in] {
        assert!(!stranger.is_gone());
    }
    world.advance(1);
    for stranger in [&silent, &greeted, &logged_in] {
        stranger.expect_gone();
    }
    assert!(!open.is_gone());
}

// ---- heartbeats ---------------------------------------------------------------------------------

#[test]
fn a_quiet_server_sends_a_heartbeat_every_half_interval() {
    let world = World::new();
    let client = world.client_as(&Login { heartbeat_s: 10, ..Login::default() });
    for beat in 1..=4 {
        world.advance(4_999);
        client.send_frame(8, 0, b"");
        assert_eq!(client.heartbeats(), beat - 1);
        world.advance(1);
        assert_eq!(client.heartbeats(), beat);
    }
}

#[test]
fn a_server_that_writes_needs_no_heartbeat() {
    let world = World::new();
    let client = world.client_as(&Login { heartbeat_s: 10, ..Login::default() });
    for _ in 0..8 {
        world.advance(4_000);
        client.declare(1, queue("q"));
    }
    assert_eq!(client.heartbeats(), 0);
}

#[test]
fn a_client_that_says_nothing_for_two_intervals_is_dropped_without_a_word() {
    let world = World::new();
    let client = world.client_as(&Login { heartbeat_s: 10, ..Login::default() });
    client.declare(1, queue("mine").exclusive());
    world.advance(19_999);
    assert!(!client.is_gone());
    world.advance(10_001);
    client.expect_gone();
    world.client().declare(1, queue("mine").exclusive());
}

#[test]
fn any_byte_from_the_client_counts_as_a_sign_of_life() {
    let world = World::new();
    let client = world.client_as(&Login { heartbeat_s: 10, ..Login::default() });
    let mut bytes = Vec::new();
    queue("q").write(1, &mut bytes);
    for byte in &bytes[..6] {
        world.advance(9_000);
        client.send_bytes(&[*byte]);
    }
    client.send_bytes(&bytes[6..]);
    assert!(matches!(client.take(1).method(), Method::QueueDeclareOk(_)));
}

#[test]
fn without_an_interval_nothing_is_sent_and_nobody_dropped() {
    let world = World::new();
    let client = world.client();
    world.advance(24 * 60 * 60 * 1_000);
    assert_eq!(client.heartbeats(), 0);
    client.declare(1, queue("q"));
}

// ---- the open connection ------------------------------------------------------------------------

#[test]
fn a_new_secret_is_taken() {
    let world = World::new();
    let client = world.client();
    let update = connection::UpdateSecret { new_secret: b"token", reason: "expired" };
    client.send(0, Method::ConnectionUpdateSecret(update));
    client.expect(0, Method::ConnectionUpdateSecretOk(Default::default()));
    client.declare(1, queue("q"));
}

#[test]
fn a_handshake_method_on_an_open_connection_is_refused() {
    covers!("connection.unexpected-method");
    let world = World::new();
    let close_ok = Method::ConnectionCloseOk(Default::default());
    for (method, id) in [(open_vhost("/"), (10, 40)), (close_ok, (10, 51))] {
        let client = world.client();
        client.send(0, method);
        let text = "CHANNEL_ERROR - unexpected method in connection state running";
        assert_eq!(client.expect_connection_close(504, text), id);
    }
}

#[test]
fn a_stopping_node_tells_its_clients() {
    covers!("connection.forced");
    let world = World::new();
    let client = world.client();
    world.broker().close_connections(&refusal::connection_forced("shutdown"));
    world.pump();
    let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    assert_eq!(client.expect_connection_close(320, text), (0, 0));
    let late = tuned(&world, &Login::default());
    late.send(0, open_vhost("/"));
    late.expect_connection_close(320, text);
}

#[test]
fn an_operator_closes_a_connection_with_words_of_their_own() {
    covers!("connection.closed-by-operator");
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    let name = world.broker().connections().iter().map(|view| view.name.clone()).min().unwrap();
    assert_eq!(name, "127.0.0.1:50000 -> 127.0.0.1:5672");
    assert!(world.broker().close_connection(&name, "Closed via management plugin"));
    world.pump();
    client.expect_connection_close(320, "CONNECTION_FORCED - Closed via management plugin");
    other.declare(1, queue("still-there"));
}

#[test]
fn a_close_overtakes_what_a_client_has_not_read() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let slow = world.client();
    slow.ok(1, consume("q", "c"));
    slow.stop_reading();
    for _ in 0..20 {
        client.send(1, publish("", "q", vec![b'x'; 100_000]));
    }
    world.broker().close_connections(&refusal::connection_forced("shutdown"));
    world.pump();
    // It holds nothing any more, and its messages are for others.
    assert_eq!(world.connection_count(), 0);
    slow.go_on_reading();
    let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    let before = std::iter::from_fn(|| slow.next(1)).count();
    assert!(before < 20, "{before}");
    slow.expect_connection_close(320, text);
    let _ = client.take(0);
}

#[test]
fn a_client_that_does_not_answer_a_close_is_dropped_after_half_a_minute() {
    let world = World::new();
    let client = world.client();
    client.send(0, open_vhost("/"));
    assert!(matches!(client.take(0).method(), Method::ConnectionClose(_)));
    client.send(1, queue("ignored"));
    client.send(1, publish("", "ignored", "x"));
    client.expect_nothing();
    world.advance(29_999);
    assert!(!client.is_gone());
    world.advance(1);
    client.expect_gone();
    let other = world.client();
    other.refused(
        1,
        queue("ignored").passive(),
        404,
        "NOT_FOUND - no queue 'ignored' in vhost '/'",
    );
}

/// A stranger up to tune-ok.
fn tuned(world: &World, login: &Login) -> Client {
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(login);
    stranger.tune_ok(login);
    stranger
}

/// The server says nothing more, ignores everything, and drops the transport after three seconds.
#[track_caller]
fn ends_in_silence(world: &World, client: &Client) {
    client.expect_nothing();
    client.send_frame(8, 0, b"");
    client.send(0, open_vhost("/"));
    client.expect_nothing();
    assert!(!client.is_gone(), "the pause is RabbitMQ's brake on guessing");
    world.advance(3_000);
    client.expect_gone();
}

#[test]
fn a_client_that_takes_its_leave_without_reading_is_gone_after_half_a_minute() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let rude = world.client();
    rude.ok(1, consume("q", "c").no_ack());
    rude.stop_reading();
    client.send(1, publish("", "q", vec![b'x'; 500_000]));
    rude.send(0, close_connection());
    world.advance(29_000);
    assert!(!rude.is_gone(), "it may still read");
    world.advance(1_000);
    assert!(rude.is_gone());
}

#[test]
fn a_client_that_agrees_to_a_close_unread_is_gone_at_once() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let rude = world.client();
    rude.ok(1, consume("q", "c").no_ack());
    rude.stop_reading();
    client.send(1, publish("", "q", vec![b'x'; 500_000]));
    rude.send(1, Method::ChannelOpen(Default::default()));
    rude.send(0, Method::ConnectionCloseOk(Default::default()));
    assert!(rude.is_gone());
}

#[test]
fn a_client_that_stops_reading_is_missed_however_much_waits_for_it() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let stopped = world.client_as(&Login { heartbeat_s: 10, ..Login::default() });
    stopped.ok(1, consume("q", "c"));
    stopped.stop_reading();
    client.send(1, publish("", "q", vec![b'x'; 5_000_000]));
    world.advance(20_000);
    assert!(stopped.is_gone());
    assert_eq!(client.depth(1, "q"), 1);
}
