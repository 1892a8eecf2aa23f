//! What the codec costs per message: publishes and acknowledgements in, deliveries out.
//!
//! `cargo bench --bench codec` prints nanoseconds of every case. With `-- --count NAME MESSAGES`
//! one case handles so many messages without reading a clock: under an instruction counter two
//! runs, one of them with 0 messages, differ by the work itself (`benches/instructions` does that).

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "it prints its figures")]

mod counted;

use std::hint::black_box;
use std::time::Instant;

use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic};
use leveret::protocol::properties::{ContentHeader, Properties, Summary};

use counted::{Case, counted};

/// Messages per measured batch, and batches of which the fastest counts.
const BATCH: usize = 100_000;
const BATCHES: usize = 20;
const FRAME_MAX: u32 = 131_072;

const CASES: &[Case] = &[
    Case { name: "publish-16", run: |n| publishes(n, 16) },
    Case { name: "publish-1k", run: |n| publishes(n, 1024) },
    Case { name: "ack", run: acks },
    Case { name: "deliver-16", run: |n| deliveries(n, 16) },
    Case { name: "deliver-1k", run: |n| deliveries(n, 1024) },
];

fn main() {
    if counted(CASES) {
        return;
    }
    for case in CASES {
        let fastest = (0..BATCHES).map(|_| {
            let begun = Instant::now();
            (case.run)(BATCH);
            begun.elapsed().as_secs_f64()
        });
        let fastest = fastest.fold(f64::INFINITY, f64::min);
        println!("{:<12}{:>8.1} ns", case.name, fastest * 1e9 / BATCH as f64);
    }
}

fn properties() -> Vec<u8> {
    let mut encoded = Vec::new();
    Properties { delivery_mode: Some(2), ..Properties::default() }.encode(&mut encoded);
    encoded
}

/// Finds and decodes method, header and body of a publish, as the connection does.
fn publishes(n: usize, body_bytes: usize) {
    let mut wire = Vec::new();
    let publish = basic::Publish {
        exchange: b"orders",
        routing_key: b"eu.created",
        mandatory: false,
        immediate: false,
    };
    frame::method(&mut wire, 1, &Method::BasicPublish(publish));
    frame::content_header(&mut wire, 1, 60, body_bytes as u64, &properties());
    frame::body(&mut wire, 1, &vec![7; body_bytes]);
    for _ in 0..n {
        let mut rest = black_box(wire.as_slice());
        while let Ok(Some((frame, used))) = frame::parse(rest, FRAME_MAX) {
            match frame.kind {
                frame::FrameKind::Method => {
                    black_box(Method::decode(frame.payload).expect("a method"));
                }
                frame::FrameKind::Header => {
                    let header = ContentHeader::parse(frame.payload).expect("a header");
                    black_box(Summary::peek(header.properties).expect("properties"));
                }
                _ => {
                    black_box(frame.payload);
                }
            }
            rest = &rest[used..];
        }
    }
}

fn acks(n: usize) {
    let mut wire = Vec::new();
    let ack = basic::Ack { delivery_tag: 1 << 40, multiple: false };
    frame::method(&mut wire, 1, &Method::BasicAck(ack));
    for _ in 0..n {
        let parsed = frame::parse(black_box(&wire), FRAME_MAX).expect("a frame");
        let (frame, _) = parsed.expect("a whole frame");
        black_box(Method::decode(frame.payload).expect("a method"));
    }
}

fn deliveries(n: usize, body_bytes: usize) {
    let (properties, body) = (properties(), vec![7; body_bytes]);
    let mut out = Vec::with_capacity(2 * body_bytes + 256);
    for tag in 0..n as u64 {
        out.clear();
        let deliver = basic::Deliver {
            consumer_tag: b"amq.ctag-0123456789abcdefghijkl",
            delivery_tag: tag,
            redelivered: false,
            exchange: b"orders",
            routing_key: b"eu.created",
        };
        frame::method(&mut out, 1, &Method::BasicDeliver(deliver));
        frame::content_header(&mut out, 1, 60, body_bytes as u64, black_box(&properties));
        frame::body(&mut out, 1, black_box(&body));
        black_box(&out);
    }
}
