//! Peers that ask and do not read: what waits for them is bounded, and nobody else waits.

use leveret::broker::limits::Limit;
use leveret::broker::outbox::REPLY_BYTES_MAX;

use super::cost;
use crate::support::*;

const MIB: usize = 1024 * 1024;
/// Output above which a connection is not listened to (`OUTPUT_PAUSES_INPUT_BYTES`), and a turn.
const UNREAD_MAX: usize = 4 * MIB + 512 * 1024;

/// A client that does not read, and someone who is not to notice.
fn unread() -> (World, Client, Client) {
    let world = World::new();
    world.only_in_process("it looks at what waits for a client");
    let (rude, bystander) = (world.client(), world.client());
    bystander.declare(1, queue("q"));
    (world, rude, bystander)
}

#[track_caller]
fn is_held_back(rude: &Client, bystander: &Client, unread_max: usize) {
    assert!(!rude.is_listened_to(), "its input rests");
    assert!(rude.unheard_bytes() > 0, "it has sent more than it was heard");
    assert!(rude.unread_bytes() <= unread_max, "{} bytes", rude.unread_bytes());
    bystander.send(1, publish("", "q", "after"));
    assert_eq!(bystander.fetch(1, "q").text(), "after");
}

#[test]
fn returned_messages_that_nobody_reads_stop_their_publisher() {
    let (_world, rude, bystander) = unread();
    rude.stop_reading();
    let unroutable = publish("", "nowhere", vec![b'x'; 100_000]).mandatory();
    for _ in 0..200 {
        rude.send_at_once(1, &[&unroutable]);
    }
    is_held_back(&rude, &bystander, UNREAD_MAX);
    rude.go_on_reading();
    assert_eq!(rude.all_messages(1).len(), 200, "nothing was lost meanwhile");
}

#[test]
fn answers_that_nobody_reads_stop_the_questions() {
    let (_world, rude, bystander) = unread();
    let name = "n".repeat(250);
    bystander.declare(1, queue(&name));
    rude.stop_reading();
    let question = queue(&name).passive();
    let questions: Vec<&dyn Request> = vec![&question; 500];
    for _ in 0..60 {
        rude.send_at_once(1, &questions);
    }
    is_held_back(&rude, &bystander, UNREAD_MAX);
}

#[test]
fn fetched_messages_that_nobody_reads_stop_the_fetching() {
    let (_world, rude, bystander) = unread();
    bystander.declare(1, queue("large"));
    for _ in 0..12 {
        bystander.send(1, publish("", "large", vec![b'x'; MIB]));
    }
    rude.stop_reading();
    let fetch = get("large").no_ack();
    rude.send_at_once(1, &[&fetch as &dyn Request; 12]);
    is_held_back(&rude, &bystander, UNREAD_MAX + MIB);
    assert!(bystander.depth(1, "large") >= 6, "what was not fetched is still there");
    rude.go_on_reading();
    assert_eq!(rude.all_messages(1).len(), 12);
}

#[test]
fn confirms_that_nobody_reads_stop_their_publisher() {
    let (_world, rude, bystander) = unread();
    rude.ok(1, confirm_select());
    rude.stop_reading();
    // Every other message goes nowhere, so that each confirm has a return before it.
    let routed = publish("", "q", "x");
    let returned = publish("", "nowhere", vec![b'x'; 50_000]).mandatory();
    for _ in 0..150 {
        rude.send_at_once(1, &[&routed, &returned]);
    }
    assert!(!rude.is_listened_to());
    assert!(rude.unread_bytes() <= UNREAD_MAX, "{} bytes", rude.unread_bytes());
    let kept = bystander.depth(1, "q");
    assert!(kept < 150, "{kept} were taken");
    rude.go_on_reading();
    assert_eq!(bystander.depth(1, "q"), 150);
}

#[test]
fn replies_that_nobody_reads_are_dropped_above_their_limit() {
    let (world, rude, bystander) = unread();
    rude.ok(1, consume("amq.rabbitmq.reply-to", "replies").no_ack());
    let request = publish("", "q", "?").with(props().reply_to("amq.rabbitmq.reply-to"));
    rude.send(1, request);
    let address = bystander.fetch(1, "q").properties().reply_to.unwrap().to_vec();
    let address = String::from_utf8(address).unwrap();
    rude.stop_reading();
    let reply = publish("", &address, vec![b'x'; MIB]);
    let (bytes, _) = cost(|| {
        for _ in 0..100 {
            bystander.send_at_once(1, &[&reply]);
        }
    });
    let bytes = usize::try_from(bytes).unwrap();
    // Beside what waits: the parts of one message on their way, and what the peer was written.
    assert!(bytes < REPLY_BYTES_MAX + 8 * MIB, "{bytes} bytes for 100 MiB of replies");
    let dropped = world.broker().counters().limits.of(Limit::ReplyBacklog);
    assert!((30..=40).contains(&dropped), "{dropped} were dropped");
    assert_eq!(bystander.depth(1, "q"), 0, "whoever replies goes on");
    rude.go_on_reading();
    assert_eq!(rude.all_messages(1).len() as u64, 100 - dropped);
    bystander.send(1, publish("", &address, "again"));
    rude.messages(1, ["again"]);
}

#[test]
fn one_consumer_that_does_not_read_leaves_the_messages_to_the_others() {
    let (world, rude, bystander) = unread();
    let others: Vec<_> = (0..9).map(|_| world.client()).collect();
    rude.ok(1, consume("q", "stuck").no_ack());
    for other in &others {
        other.ok(1, consume("q", "c").no_ack());
    }
    rude.stop_reading();
    let message = publish("", "q", vec![b'x'; 20_000]);
    for _ in 0..2_000 {
        bystander.send_at_once(1, &[&message]);
    }
    let taken: usize = others.iter().map(|other| other.all_messages(1).len()).sum();
    // What the stuck one was given before its outbox was full: a MiB there and half of one on its
    // way out, and that once in the socket of nobody's.
    assert!(taken >= 1_900, "{taken}");
    assert!(rude.unread_bytes() <= MIB, "{} bytes", rude.unread_bytes());
    assert_eq!(bystander.depth(1, "q"), 0);
}
