//! Names without end: what clients choose leaves nothing behind, and costs little while it is
//! there.

use leveret::broker::inspect::Inspect;
use leveret::broker::limits::Limit;
use leveret::covers;
use leveret::protocol::method::{Method, basic};

use super::cost;
use crate::support::properties::array;
use crate::support::world::Setup;
use crate::support::*;

// ---- growth -------------------------------------------------------------------------------------

/// One round of names that nobody has used before: queue, binding key, consumer tag, header,
/// routing key, exchange.
fn use_names(client: &Client, round: usize) {
    let name = format!("name.{round}");
    client.ok(1, queue(&name));
    client.ok(1, exchange(&name, "topic"));
    client.ok(1, bind(&name, "amq.topic", &format!("key.{round}.#")));
    client.ok(1, bind(&name, "amq.headers", "").arg(&name, round.to_string().as_str()));
    let message = publish("amq.topic", &format!("key.{round}.x"), "x");
    client.send(1, message.with(props().header(&name, "x")));
    client.send(1, publish("", &format!("nowhere.{round}"), "x"));
    client.ok(1, consume(&name, &name).no_ack());
    client.all_messages(1);
    client.ok(1, cancel(&name));
    client.ok(1, delete_exchange(&name));
    client.ok(1, delete_queue(&name));
    while client.next(1).is_some() {}
}

#[test]
fn four_thousand_names_that_came_and_went_leave_nothing_behind() {
    let world = World::new();
    world.only_in_process("it looks at memory");
    let client = world.client();
    // Whatever has a size to settle at has settled by then.
    (0..500).for_each(|round| use_names(&client, round));
    let grown = allocation_counter::measure(|| {
        (500..4_500).for_each(|round| use_names(&client, round));
    });
    let kept = grown.bytes_current;
    assert!(kept < 128 * 1024, "{kept} bytes more after 4,000 names");
}

#[test]
fn channels_that_came_and_went_leave_nothing_behind() {
    let world = World::new();
    world.only_in_process("it looks at memory");
    let client = world.client();
    let round = |number: u16| {
        client.open(number);
        client.ok(number, close_channel());
    };
    (2..2_000).for_each(round);
    let grown = allocation_counter::measure(|| {
        (0..5).for_each(|_| (2..2_000).for_each(round));
    });
    assert!(grown.bytes_current < 64 * 1024, "{} bytes", grown.bytes_current);
}

// ---- direct replies -----------------------------------------------------------------------------

#[test]
fn a_reply_address_cannot_be_made_up() {
    let world = World::new();
    let (requester, stranger) = (world.client(), world.client());
    requester.ok(1, consume("amq.rabbitmq.reply-to", "replies").no_ack());
    for made_up in ["amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.1", "amq.rabbitmq.reply-to"] {
        stranger.send(1, publish("", made_up, "forged"));
    }
    requester.expect_nothing();
    stranger.declare(1, queue("alive"));
}

#[test]
fn thousands_of_copies_to_one_queue_are_one_message() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let copies = array(["q"; 8_000]);
    let message = publish("", "q", "x").with(props().header("CC", copies));
    let (bytes, ms) = cost(|| client.send_at_once(1, &[&message]));
    assert!(bytes < 2 * 1024 * 1024 && ms < 1_000, "{bytes} bytes, {ms} ms");
    assert_eq!(client.depth(1, "q"), 1);
    // A reply goes to its requester, copies or none.
    let requester = world.client();
    requester.ok(1, consume("amq.rabbitmq.reply-to", "replies").no_ack());
    requester.send(1, publish("", "q", "?").with(props().reply_to("amq.rabbitmq.reply-to")));
    client.fetch(1, "q");
    let request = client.fetch(1, "q");
    let address = String::from_utf8(request.properties().reply_to.unwrap().to_vec()).unwrap();
    let copies = array([address.as_str(); 1_000]);
    client.send(1, publish("", &address, "once").with(props().header("CC", copies)));
    requester.messages(1, ["once"]);
    requester.expect_nothing();
}

// ---- wildcards ----------------------------------------------------------------------------------

#[test]
fn a_key_of_wildcards_is_refused_and_two_of_them_stay_cheap() {
    let world = World::new();
    world.only_in_process("it looks at memory");
    let client = world.client();
    client.declare(1, queue("q"));
    let key = "#.".repeat(20) + "x";
    let text = format!(
        "PRECONDITION_FAILED - Topic binding key '{key}' uses 20 '#' wildcards, at most 2 are \
         allowed"
    );
    client.refused(1, bind("q", "amq.topic", &key), 406, &text);
    client.open(2);
    let bind = |number: usize| {
        let word = char::from(b'a' + u8::try_from(number % 26).unwrap());
        let key = format!("#.{word}.#.{number}");
        client.send(2, bind("q", "amq.topic", &key));
        while client.next(2).is_some() {}
    };
    let words: Vec<_> = ('a'..='z').cycle().take(126).map(String::from).collect();
    // Another key each time: nothing is remembered.
    let work = |last: char| {
        let message = publish("amq.topic", &format!("{}.{last}", words.join(".")), "x");
        allocation_counter::measure(|| client.send(2, message)).bytes_total
    };
    (0..26).for_each(bind);
    let few = work('A');
    (26..10_000).for_each(bind);
    let many = work('B');
    // The states that a walk visits are counted where the matcher is, and its time in the release
    // build by `benches/routing.rs`; here, that nothing on the way grows with the bindings.
    assert!(many <= 2 * few, "{many} bytes with 10,000 bindings, {few} with 26");
}

// ---- numbers ------------------------------------------------------------------------------------

#[test]
fn numbers_at_their_limits_are_taken_or_refused_as_they_stand() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    for count in [0, 1, u16::MAX] {
        client.ok(1, prefetch(count));
    }
    for (tag, priority) in [("low", i32::MIN), ("high", i32::MAX)] {
        client.ok(1, consume("q", tag).arg("x-priority", priority));
        client.ok(1, cancel(tag));
    }
    for ttl in ["-1", "9223372036854775808", "", "1e3", "0x10"] {
        client.open(2);
        client.send(2, publish("", "q", "x").with(props().expiration(ttl)));
        let closed = client.take(2);
        assert!(matches!(closed.method(), Method::ChannelClose(close) if close.reply_code == 406));
        client.send(2, Method::ChannelCloseOk(Default::default()));
    }
    for tag in [0, 1, u64::MAX] {
        for multiple in [false, true] {
            client.open(2);
            client.send(2, Method::BasicAck(basic::Ack { delivery_tag: tag, multiple }));
            let refused = !(tag == 0 && multiple);
            let closed = client.next(2);
            assert_eq!(closed.is_some(), refused, "{tag} {multiple}");
            match closed {
                Some(_) => client.send(2, Method::ChannelCloseOk(Default::default())),
                None => drop(client.ok(2, close_channel())),
            }
        }
    }
    assert_eq!(client.depth(1, "q"), 0);
}

// ---- limits of the node -------------------------------------------------------------------------

#[test]
fn a_node_has_so_many_channels_of_all_its_connections() {
    covers!("channel.node-limit");
    let mut setup = Setup::default();
    setup.broker.channels_max = 3;
    let world = World::with(setup);
    let (first, second) = (world.client(), world.client());
    first.open(2);
    second.send(2, Method::ChannelOpen(Default::default()));
    let text = "NOT_ALLOWED - number of channels opened on node 'rabbit@test' has reached the \
                maximum allowed limit of 3";
    assert_eq!(second.expect_connection_close(530, text), (0, 0));
    assert_eq!(world.broker().counters().limits.of(Limit::ChannelMaxPerNode), 1);
    // A channel that closes, or whose connection does, makes room.
    let third = world.client();
    first.ok(2, close_channel());
    third.open(2);
    third.vanish();
    first.open(2);
    first.open(3);
}

#[test]
fn a_node_has_so_many_queues_in_all_its_vhosts() {
    covers!("queue.cluster-limit");
    let mut setup = Setup::default();
    setup.broker.queues_max = 2;
    let world = World::with(setup);
    world.broker().create_vhost("other", "guest").unwrap();
    let (client, other) =
        (world.client(), world.client_as(&Login { vhost: "other".into(), ..Login::default() }));
    client.declare(1, queue("one"));
    other.declare(1, queue("two"));
    let text =
        "PRECONDITION_FAILED - cannot declare queue 'three': queue limit in cluster (2) is reached";
    client.refused(1, queue("three"), 406, text);
    other.refused(1, queue("three"), 406, text);
    assert_eq!(world.broker().counters().limits.of(Limit::ClusterQueueLimit), 2);
    client.declare(1, queue("one"));
    client.ok(1, delete_queue("one"));
    other.declare(1, queue("three"));
}

#[test]
fn a_node_has_so_many_exchanges_those_of_every_vhost_included() {
    covers!("exchange.cluster-limit");
    let mut setup = Setup::default();
    setup.broker.exchanges_max = World::new().broker().exchanges(None).len() + 1;
    let limit = setup.broker.exchanges_max;
    let world = World::with(setup);
    let client = world.client();
    client.ok(1, exchange("one", "direct"));
    let text = format!(
        "PRECONDITION_FAILED - cannot declare exchange 'two' in vhost '/': exchange limit of \
         {limit} is reached"
    );
    client.refused(1, exchange("two", "direct"), 406, &text);
    client.ok(1, exchange("one", "direct"));
    client.ok(1, delete_exchange("one"));
    client.ok(1, exchange("two", "direct"));
}
