//! Contents that announce more than they send, or send more than they announce.

use leveret::covers;

use super::cost;
use crate::support::world::Setup;
use crate::support::*;

const MIB: u64 = 1024 * 1024;

fn header(body_size: u64) -> Vec<u8> {
    let mut payload = b"\0\x3c\0\0".to_vec();
    payload.extend(body_size.to_be_bytes());
    payload.extend([0, 0]);
    payload
}

#[test]
fn a_body_that_is_longer_than_announced_ends_its_connection_at_once() {
    let world = World::new();
    let (client, bystander) = (world.client(), world.client());
    bystander.declare(1, queue("q"));
    client.send(1, publish("", "q", "").method());
    client.send_frame(2, 1, &header(10));
    let body = vec![0; 100_000];
    let (bytes, _) = cost(|| {
        client.send_frame(3, 1, &body[..11]);
        client.send_frame(3, 1, &body);
    });
    let text = "FRAME_ERROR - content body frame exceeds remaining content size";
    client.expect_connection_close(501, text);
    assert!(bytes < MIB, "{bytes} bytes");
    assert_eq!(bystander.depth(1, "q"), 0);
}

#[test]
fn what_is_announced_takes_no_memory_before_it_comes() {
    let world = World::new();
    world.only_in_process("it looks at memory");
    let client = world.client();
    client.declare(1, queue("q"));
    let channels = 1_000_u16;
    (2..=channels).for_each(|channel| client.open(channel));
    let (message, header) = (publish("", "q", ""), header(16 * MIB));
    let (bytes, ms) = cost(|| {
        for channel in 1..=channels {
            client.send(channel, message.method());
            client.send_frame(2, channel, &header);
            client.send_frame(3, channel, b"a tenth of nothing");
        }
    });
    assert!(bytes < u64::from(channels) * 1_024, "{bytes} bytes for 16 GiB announced");
    assert!(ms < 5_000, "{ms} ms");
}

#[test]
fn a_message_over_the_limit_is_refused_and_never_kept() {
    covers!("basic.message-too-large");
    let mut setup = Setup::default();
    setup.session.message_bytes_max = MIB;
    let world = World::with(setup);
    let client = world.client();
    client.declare(1, queue("q"));
    client.open(2);
    client.send(2, publish("", "q", "").method());
    client.send_frame(2, 2, &header(16 * MIB));
    let part = vec![b'x'; 128 * 1024];
    let (bytes, _) = cost(|| (0..128).for_each(|_| client.send_frame(3, 2, &part)));
    assert!(bytes < 2 * MIB, "{bytes} bytes for 16 MiB sent");
    let text = "PRECONDITION_FAILED - message size 16777216 is larger than configured max size \
                1048576";
    client.expect_channel_close(2, 406, text);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn a_body_takes_itself_and_little_more() {
    let world = World::new();
    world.only_in_process("it looks at memory");
    let client = world.client();
    client.declare(1, queue("q"));
    let body = vec![b'x'; 8 * 1024 * 1024];
    client.send(1, publish("", "q", "").method());
    client.send_frame(2, 1, &header(8 * MIB));
    let (bytes, _) = cost(|| {
        for part in body.chunks(128 * 1024) {
            client.send_frame(3, 1, part);
        }
    });
    assert_eq!(client.depth(1, "q"), 1);
    // A vector that grows has its old and its new memory for a moment.
    assert!(bytes < 14 * MIB, "{bytes} bytes for 8 MiB");
}
