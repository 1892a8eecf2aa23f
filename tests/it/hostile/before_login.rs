//! Before login: guessing, malformed credentials, and clients that take their time.

use leveret::broker::limits::Limit;
use leveret::protocol::method::{Method, connection};
use leveret::protocol::table::{RawTable, Table};
use leveret::session::Mechanism;

use super::cost;
use crate::support::client::{PROTOCOL_HEADER, open_vhost};
use crate::support::world::Setup;
use crate::support::*;

const REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                       For details see the broker logfile.";

fn hits(world: &World, limit: Limit) -> u64 {
    world.broker().counters().limits.of(limit)
}

/// A stranger that has sent a login.
fn guess(world: &World, from: &str, password: &str) -> Client {
    let stranger = world.stranger_from(from);
    stranger.say_hello();
    stranger.start_ok(&Login { password: password.into(), ..Login::default() });
    stranger
}

// ---- guessing -----------------------------------------------------------------------------------

#[test]
fn a_refused_login_is_told_so_after_a_second_whoever_it_was() {
    let world = World::new();
    world.only_in_process("RabbitMQ answers at once");
    for (user, password) in [("guest", "wrong"), ("nobody", "wrong"), ("guest", "")] {
        let stranger = world.stranger();
        stranger.say_hello();
        let login = Login { user: user.into(), password: password.into(), ..Login::default() };
        stranger.start_ok(&login);
        world.advance(999);
        stranger.expect_nothing();
        world.advance(1);
        stranger.expect_connection_close(403, REFUSED);
        stranger.send(0, Method::ConnectionCloseOk(Default::default()));
        stranger.expect_gone();
    }
}

#[test]
fn nothing_more_is_heard_while_a_refusal_waits() {
    let world = World::new();
    let stranger = guess(&world, "127.0.0.1", "wrong");
    stranger.start_ok(&Login::default());
    stranger.send(0, open_vhost("/"));
    world.advance(1_000);
    stranger.expect_connection_close(403, REFUSED);
    stranger.expect_nothing();
    assert_eq!(
        world.broker().counters().auth_succeeded.load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[test]
fn after_twenty_failures_in_a_minute_logins_from_there_wait_the_right_ones_too() {
    let world = World::new();
    world.only_in_process("RabbitMQ lets everyone guess");
    for _ in 0..20 {
        guess(&world, "127.0.0.1", "wrong").vanish();
    }
    assert_eq!(hits(&world, Limit::LoginFailuresPerMinute), 0);
    let (wrong, right) = (guess(&world, "127.0.0.1", "wrong"), guess(&world, "127.0.0.1", "guest"));
    assert_eq!(hits(&world, Limit::LoginFailuresPerMinute), 2);
    // Others are not bothered.
    let elsewhere = guess(&world, "127.0.0.2", "guest");
    assert!(matches!(elsewhere.take(0).method(), Method::ConnectionTune(_)));
    world.advance(4_999);
    right.expect_nothing();
    world.advance(1);
    assert!(matches!(right.take(0).method(), Method::ConnectionTune(_)));
    wrong.expect_nothing();
    world.advance(1_000);
    wrong.expect_connection_close(403, REFUSED);
    // The allowance comes back.
    world.advance(60_000);
    let later = guess(&world, "127.0.0.1", "guest");
    assert!(matches!(later.take(0).method(), Method::ConnectionTune(_)));
}

#[test]
fn a_login_that_waits_keeps_to_the_time_for_its_handshake() {
    let mut setup = Setup::default();
    setup.session.login_rests_ms = 60_000;
    let world = World::with(setup);
    (0..20).for_each(|_| guess(&world, "127.0.0.1", "wrong").vanish());
    let stranger = guess(&world, "127.0.0.1", "guest");
    world.advance(10_000);
    stranger.expect_gone();
}

// ---- credentials --------------------------------------------------------------------------------

#[test]
fn malformed_credentials_end_in_silence_and_cost_nothing() {
    let world = World::new();
    world.only_in_process("each case takes three seconds");
    let mut wrong_types = Vec::new();
    Table::new().with("LOGIN", 7).with("PASSWORD", true).encode_body(&mut wrong_types);
    let mut no_password = Vec::new();
    Table::new().with("LOGIN", "guest").encode_body(&mut no_password);
    let cases: [(&str, Vec<u8>); 9] = [
        ("PLAIN", b"guest".to_vec()),
        ("PLAIN", b"\0guest".to_vec()),
        ("PLAIN", b"\0a\0b\0c".to_vec()),
        ("PLAIN", b"\0\xff\xfe\0guest".to_vec()),
        ("PLAIN", vec![0; 8_000]),
        ("PLAIN", vec![b'x'; 8_000]),
        ("AMQPLAIN", wrong_types),
        ("AMQPLAIN", no_password),
        ("AMQPLAIN", b"\x05LOGINS\xff\xff\xff\xff".to_vec()),
    ];
    for (mechanism, response) in cases {
        let stranger = world.stranger();
        stranger.say_hello();
        let login = Login { mechanism: mechanism.into(), response, ..Login::default() };
        let (bytes, _) = cost(|| stranger.start_ok(&login));
        assert!(bytes < 64 * 1024, "{bytes} bytes");
        stranger.expect_nothing();
        world.advance(3_000);
        stranger.expect_gone();
    }
    world.client();
}

#[test]
fn a_mechanism_that_is_not_configured_lets_nobody_in() {
    for offered in [vec![Mechanism::Plain], vec![Mechanism::AmqPlain], vec![]] {
        let mut setup = Setup::default();
        setup.session.mechanisms = offered.clone();
        setup.session.anonymous_user = Some("guest".into());
        let world = World::with(setup);
        for mechanism in ["PLAIN", "AMQPLAIN", "ANONYMOUS", "EXTERNAL", "RABBIT-CR-DEMO", ""] {
            if offered.iter().any(|offered| offered.name() == mechanism) {
                continue;
            }
            let stranger = world.stranger();
            stranger.say_hello();
            let response = b"\0guest\0guest".to_vec();
            let login = Login { mechanism: mechanism.into(), response, ..Login::default() };
            stranger.start_ok(&login);
            stranger.expect_nothing();
            world.advance(3_000);
            stranger.expect_gone();
        }
    }
}

#[test]
fn many_small_client_properties_of_a_stranger_are_not_copied() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.say_hello();
    let properties = b"\x01kV".repeat(2_600);
    let start_ok = connection::StartOk {
        client_properties: RawTable::parse(&properties).unwrap(),
        mechanism: "PLAIN",
        response: b"\0guest\0wrong",
        locale: "en_US",
    };
    let (bytes, _) = cost(|| stranger.send(0, Method::ConnectionStartOk(start_ok)));
    // The frame itself, in the test's own buffers, is most of it.
    assert!(bytes < 4 * 8_192, "{bytes} bytes for a frame of 8 KiB");
}

// ---- time ---------------------------------------------------------------------------------------

#[test]
fn a_client_that_sends_a_byte_now_and_then_is_cut_off_like_any_other() {
    for (every_ms, at_once) in [(1_000, 1), (9_000, 1), (100, 50)] {
        let world = World::new();
        world.only_in_process("RabbitMQ's clock starts later");
        let slow = world.stranger();
        let mut login = PROTOCOL_HEADER.to_vec();
        login.extend(b"\x01\0\0\0\0\x20\0\0\x0a\0\x0b");
        login.extend([0; 8_000]);
        let mut elapsed_ms = 0;
        for piece in login.chunks(at_once) {
            slow.send_bytes(piece);
            for _ in 0..every_ms / 100 {
                if !slow.is_gone() {
                    world.advance(100);
                    elapsed_ms += 100;
                }
            }
        }
        assert!(slow.is_gone() && elapsed_ms <= 11_000, "{elapsed_ms} ms");
        assert_eq!(hits(&world, Limit::HandshakeTimeout), 1);
    }
}

#[test]
fn a_client_that_is_refused_late_is_gone_soon_after_the_time_for_its_handshake() {
    let world = World::new();
    world.only_in_process("RabbitMQ lets it stay for three seconds more");
    let (told, untold) = (world.stranger(), world.stranger());
    for stranger in [&told, &untold] {
        stranger.say_hello();
    }
    world.advance(9_900);
    told.start_ok(&Login { password: "wrong".into(), ..Login::default() });
    untold.start_ok(&Login { mechanism: "NONE".into(), ..Login::default() });
    world.advance(100);
    told.expect_connection_close(403, REFUSED);
    world.advance(900);
    told.expect_gone();
    untold.expect_gone();
}

#[test]
fn a_frame_over_the_limit_before_login_is_counted_by_its_key() {
    let world = World::new();
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.send_bytes(b"\x01\0\0\0\0\x20\x01");
    assert_eq!(hits(&world, Limit::InitialFrameMax), 1);
    let client = world.client();
    client.send_bytes(b"\x01\0\x01\xff\xff\xff\xff");
    assert_eq!(hits(&world, Limit::FrameMax), 1);
}
