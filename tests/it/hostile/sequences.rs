//! Every method of the specification in every state of a connection and a channel: what is in order
//! is listed, everything else ends as RabbitMQ ends it, and nothing has happened.

use leveret::protocol::Method;

use super::cost;
use crate::spec::{Kind, Protocol};
use crate::support::client::open_vhost;
use crate::support::received::Received;
use crate::support::*;

/// A method with empty arguments, as a frame's payload.
struct Sample {
    name: String,
    payload: Vec<u8>,
    content: bool,
}

/// All 66 of them.
fn every_method() -> Vec<Sample> {
    let protocol = Protocol::read();
    let mut samples = Vec::new();
    for class in &protocol.classes {
        for method in &class.methods {
            let mut payload = [class.id.to_be_bytes(), method.id.to_be_bytes()].concat();
            let mut bits = 0;
            for field in &method.fields {
                let kind = protocol.kind(field);
                let bytes = match kind {
                    Kind::Bit => usize::from(bits % 8 == 0),
                    Kind::Octet | Kind::ShortStr => 1,
                    Kind::Short => 2,
                    Kind::Long | Kind::LongStr | Kind::Table => 4,
                    Kind::LongLong | Kind::Timestamp => 8,
                };
                bits = if kind == Kind::Bit { bits + 1 } else { 0 };
                payload.extend(vec![0; bytes]);
            }
            assert!(Method::decode(&payload).is_ok(), "{}.{}", class.name, method.name);
            let name = format!("{}.{}", class.name, method.name);
            samples.push(Sample { name, payload, content: method.content });
        }
    }
    assert_eq!(samples.len(), 66);
    samples
}

/// Sends every method on a channel, each to a client of its own that `prepare` brought into the
/// state, and has `judge` look at what becomes of it. A bystander sees nothing of it all.
fn in_state(
    channel: u16,
    prepare: impl Fn(&World) -> Client,
    judge: impl Fn(&World, &Client, &Sample),
) {
    let world = World::new();
    world.only_in_process("hundreds of connections, some of which end in silence");
    let bystander = world.client();
    bystander.declare(1, queue("mine").exclusive());
    for sample in every_method() {
        let client = prepare(&world);
        client.send_frame(1, channel, &sample.payload);
        judge(&world, &client, &sample);
        client.vanish();
    }
    assert_eq!(world.connection_count(), 1);
    bystander.expect_nothing();
    assert_eq!(bystander.depth(1, "mine"), 0);
}

fn greeted(world: &World) -> Client {
    let stranger = world.stranger();
    stranger.say_hello();
    stranger
}

fn logged_in(world: &World) -> Client {
    let stranger = greeted(world);
    stranger.start_ok(&Login::default());
    assert!(matches!(stranger.take(0).method(), Method::ConnectionTune(_)));
    stranger
}

fn tuned(world: &World) -> Client {
    let stranger = greeted(world);
    stranger.start_ok(&Login::default());
    stranger.tune_ok(&Login::default());
    stranger
}

/// Nothing is said, and what follows is ignored until the socket closes.
#[track_caller]
fn ends_in_silence(world: &World, client: &Client, sample: &Sample) {
    client.send(0, open_vhost("/"));
    assert!(client.next(0).is_none(), "{} was answered", sample.name);
    world.advance(3_000);
    assert!(client.is_gone(), "{}", sample.name);
}

/// The code of the connection.close that a client was sent.
#[track_caller]
fn refused_with(client: &Client, sample: &Sample) -> u16 {
    let answer = client.take(0);
    let Method::ConnectionClose(close) = answer.method() else {
        panic!("{}: {answer:?}", sample.name);
    };
    close.reply_code
}

#[test]
fn before_the_login_only_start_ok_is_in_order() {
    for channel in [0, 1] {
        in_state(channel, greeted, |world, client, sample| {
            // The one with empty arguments names no mechanism.
            ends_in_silence(world, client, sample);
        });
    }
}

#[test]
fn before_tuning_only_tune_ok_is_in_order() {
    for channel in [0, 1] {
        in_state(channel, logged_in, |world, client, sample| {
            // The one with empty arguments asks for no limits, which is refused the same way.
            ends_in_silence(world, client, sample);
        });
    }
}

#[test]
fn before_the_vhost_is_open_only_open_is_in_order() {
    in_state(0, tuned, |_, client, sample| {
        let code = refused_with(client, sample);
        // The one with empty arguments names no vhost.
        assert_eq!(code, if sample.name == "connection.open" { 530 } else { 504 });
    });
    in_state(1, tuned, |_, client, sample| assert_eq!(refused_with(client, sample), 505));
}

#[test]
fn on_an_open_connection_only_close_and_update_secret_are_in_order() {
    in_state(
        0,
        |world| world.client(),
        |_, client, sample| match sample.name.as_str() {
            "connection.close" => client.expect(0, Method::ConnectionCloseOk(Default::default())),
            "connection.update-secret" => {
                client.expect(0, Method::ConnectionUpdateSecretOk(Default::default()));
            }
            _ => assert_eq!(refused_with(client, sample), 504, "{}", sample.name),
        },
    );
}

#[test]
fn on_a_channel_that_is_not_open_only_open_is_in_order() {
    in_state(
        2,
        |world| world.client(),
        |_, client, sample| {
            if sample.name == "channel.open" {
                client.expect(2, Method::ChannelOpenOk(Default::default()));
            } else {
                assert_eq!(refused_with(client, sample), 504, "{}", sample.name);
            }
        },
    );
}

#[test]
fn while_a_content_is_due_no_method_is_in_order() {
    let owing = |header: bool| {
        move |world: &World| {
            let client = world.client();
            client.send(1, publish("", "mine", "").method());
            if header {
                client.send_frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\x09\0\0");
            }
            client
        }
    };
    for header in [false, true] {
        in_state(1, owing(header), |_, client, sample| {
            assert_eq!(refused_with(client, sample), 505, "{}", sample.name);
        });
    }
}

#[test]
fn on_a_channel_that_was_closed_everything_is_ignored_but_its_close() {
    let closed = |world: &World| {
        let client = world.client();
        client.send(1, ack(99));
        assert!(matches!(client.take(1).method(), Method::ChannelClose(_)));
        client
    };
    in_state(1, closed, |_, client, sample| {
        if sample.name == "channel.close" {
            client.expect(1, Method::ChannelCloseOk(Default::default()));
        }
        if sample.content {
            client.send_frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0");
        }
        client.expect_nothing();
        let reopens = sample.name == "channel.close-ok";
        client.send(1, Method::ChannelOpen(Default::default()));
        assert_eq!(client.next(1).is_some(), reopens, "{}", sample.name);
    });
}

#[test]
fn after_a_close_everything_is_ignored_but_its_answer() {
    let closed = |world: &World| {
        let client = world.client();
        client.send_frame(8, 1, b"");
        assert!(matches!(client.take(0).method(), Method::ConnectionClose(_)));
        client
    };
    for channel in [0, 1] {
        in_state(channel, closed, |_, client, sample| match sample.name.as_str() {
            "connection.close" if channel == 0 => {
                client.expect(0, Method::ConnectionCloseOk(Default::default()));
            }
            "connection.close-ok" if channel == 0 => client.expect_gone(),
            _ => {
                client.expect_nothing();
                assert!(!client.is_gone(), "{}", sample.name);
            }
        });
    }
}

/// A channel in a mode is a state, too. Nothing is said here of what each method does there: it
/// answers, or refuses, and costs little.
#[test]
fn on_an_open_channel_in_any_mode_every_method_is_answered_or_refused() {
    for mode in [None, Some(confirm_select()), Some(tx_select())] {
        let in_mode = |world: &World| {
            let client = world.client();
            if let Some(mode) = mode {
                client.send(1, mode);
                client.take(1);
            }
            client
        };
        in_state(1, in_mode, |_, client, sample| {
            let (bytes, ms) = cost(|| client.send(1, Method::ChannelClose(Default::default())));
            assert!(bytes < 256 * 1024 && ms < 1_000, "{}: {bytes} bytes, {ms} ms", sample.name);
            let closes = |it: &Received| {
                matches!(
                    it.method(),
                    Method::ChannelCloseOk(_)
                        | Method::ChannelClose(_)
                        | Method::ConnectionClose(_)
                )
            };
            let mut answers = std::iter::from_fn(|| client.next(1).or_else(|| client.next(0)));
            assert!(answers.any(|it| closes(&it)), "{}", sample.name);
        });
    }
}
