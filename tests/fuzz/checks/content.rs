//! Contents as a session gathers them: what a header announces against the body frames that come.

use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic, confirm, queue};
use leveret::protocol::table::RawTable;
use leveret::session::SessionSettings;

use super::input::Input;
use super::node::{Node, publish};

/// Larger than any frame, so that it takes several to reach it.
const BODY_BYTES_MAX: u64 = 100_000;
const STEPS_MAX: usize = 128;
const QUEUE: &[u8] = b"q";

/// What the plainest reading of the protocol expects.
enum Expects {
    Anything,
    Header,
    Body {
        announced: u64,
        received: Vec<u8>,
    },
    /// Somebody was refused.
    Nothing,
}

/// A whole content is in the queue as it was sent, and confirmed; nothing else is, and whoever
/// sends anything else is refused.
pub fn content(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let settings =
        SessionSettings { message_bytes_max: BODY_BYTES_MAX, ..SessionSettings::default() };
    let mut node = Node::new(1 << 20).with_session(settings);
    let link = node.log_in();
    node.links[link].piece_bytes = input.pick(&[usize::MAX, 1, 7, 8, 100, 5_000]);
    node.links[link].reader.bodies = Some(Vec::new());
    let mut out = Vec::new();
    let none = RawTable::parse(&[]).expect("an empty table");
    let declare = queue::Declare {
        queue: "q",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: true,
        arguments: none,
    };
    frame::method(&mut out, 1, &Method::QueueDeclare(declare));
    let select = confirm::Select { nowait: true };
    frame::method(&mut out, 1, &Method::ConfirmSelect(select));

    let (mut expects, mut whole) = (Expects::Anything, Vec::new());
    for _ in 0..STEPS_MAX {
        if input.is_empty() || matches!(expects, Expects::Nothing) {
            break;
        }
        expects = step(&mut input, expects, &mut whole, &mut out);
        if out.len() > 1 << 16 {
            node.send(link, &std::mem::take(&mut out));
        }
    }
    node.send(link, &out);

    let reader = &node.links[link].reader;
    if let Expects::Nothing = expects {
        assert!(reader.refusal.is_some(), "what makes no sense is refused");
        assert!(reader.confirmed <= whole.len() as u64);
        return;
    }
    assert_eq!(reader.confirmed, whole.len() as u64);
    assert_eq!(reader.refusal, None, "what makes sense is not refused");
    if !matches!(expects, Expects::Anything) {
        return;
    }
    for _ in 0..=whole.len() {
        out.clear();
        frame::method(&mut out, 1, &Method::BasicGet(basic::Get { queue: "q", no_ack: true }));
        node.send(link, &out);
    }
    assert!(node.links[link].reader.bodies.as_ref() == Some(&whole), "bodies come as they were");
}

/// One frame is sent; returns what is expected after it.
fn step(
    input: &mut Input<'_>,
    expects: Expects,
    whole: &mut Vec<Vec<u8>>,
    out: &mut Vec<u8>,
) -> Expects {
    let what = match (input.byte(), &expects) {
        // Mostly what makes sense.
        (0..=230, Expects::Anything) => 0,
        (0..=230, Expects::Header) => 1,
        (0..=230, _) => 2,
        (n, _) => n % 4,
    };
    match what {
        0 => {
            publish(out, 1, b"", QUEUE, false);
            if let Expects::Anything = expects { Expects::Header } else { Expects::Nothing }
        }
        1 => {
            let announced = match input.byte() {
                n @ 0..=127 => n.into(),
                n @ 128..=239 => u64::from(n) << 9 | u64::from(input.byte()),
                _ => input.number(),
            };
            let class = if input.byte() == 255 { 50 } else { 60 };
            frame::content_header(out, 1, class, announced, &[0, 0]);
            match expects {
                Expects::Header if class == 60 && announced <= 512 << 20 => {
                    finish(announced, Vec::new(), whole)
                }
                _ => Expects::Nothing,
            }
        }
        2 => {
            let len = match (input.byte(), &expects) {
                // What is left, exactly.
                (128.., Expects::Body { announced, received }) => {
                    let left = announced - received.len() as u64;
                    usize::try_from(left.min(60_000)).expect("a small number")
                }
                (n, _) => usize::from(n) << (n % 9),
            };
            let payload = vec![input.byte(); len];
            frame::body(out, 1, &payload);
            match expects {
                Expects::Body { announced, mut received } => {
                    received.extend_from_slice(&payload);
                    finish(announced, received, whole)
                }
                _ => Expects::Nothing,
            }
        }
        _ => {
            frame::heartbeat(out);
            expects
        }
    }
}

fn finish(announced: u64, received: Vec<u8>, whole: &mut Vec<Vec<u8>>) -> Expects {
    match (received.len() as u64).cmp(&announced) {
        std::cmp::Ordering::Less => Expects::Body { announced, received },
        std::cmp::Ordering::Greater => Expects::Nothing,
        std::cmp::Ordering::Equal if announced > BODY_BYTES_MAX => Expects::Nothing,
        std::cmp::Ordering::Equal => {
            whole.push(received);
            Expects::Anything
        }
    }
}
