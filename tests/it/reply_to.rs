//! Direct reply-to: answers that go straight to the asking channel.

use leveret::covers;
use leveret::protocol::method::{Method, basic};

use crate::support::properties::array;
use crate::support::*;

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A requester that waits for replies with tag `replies`, and a responder with queue `service`.
fn pair() -> (World, Client, Client) {
    let world = World::new();
    let (requester, responder) = (world.client(), world.client());
    responder.declare(1, queue("service"));
    requester.ok(1, consume(REPLY_TO, "replies").no_ack());
    (world, requester, responder)
}

/// Sends a request; returns the address that the responder sees.
fn asked(requester: &Client, responder: &Client) -> String {
    requester.send(1, publish("", "service", "ask").with(props().reply_to(REPLY_TO)));
    let request = responder.fetch(1, "service");
    let address = request.properties().reply_to.unwrap();
    String::from_utf8(address.to_vec()).unwrap()
}

#[test]
fn a_reply_reaches_the_channel_that_asked() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    responder.send(1, publish("", &address, "answer").with(props().correlation_id("1")));
    let reply = requester.message(1);
    assert_eq!((reply.text(), reply.consumer_tag.as_str()), ("answer", "replies"));
    assert_eq!((reply.exchange.as_str(), reply.routing_key.as_str()), ("", address.as_str()));
    assert_eq!(reply.properties().correlation_id, Some(&b"1"[..]));
    assert!(!reply.redelivered);
    responder.expect_nothing();
}

#[test]
fn the_tag_of_a_reply_consumer_is_its_own() {
    let (_world, requester, responder) = pair();
    requester.refused(
        1,
        consume(REPLY_TO, "replies").no_ack(),
        406,
        "PRECONDITION_FAILED - reply consumer already set",
    );
    // A consumer of a queue may have the same one; the first to be cancelled is the other.
    requester.ok(1, consume(REPLY_TO, "c").no_ack());
    requester.ok(1, consume("service", "c").no_ack());
    requester.ok(1, cancel("c"));
    requester.ok(1, consume(REPLY_TO, "d").no_ack());
    responder.send(1, publish("", "service", "still consumed"));
    requester.messages(1, ["still consumed"]);
    requester.ok(1, cancel("c"));
    responder.send(1, publish("", "service", "no more"));
    assert_eq!(responder.depth(1, "service"), 1);
}

#[test]
fn a_late_reply_does_not_reach_the_next_consumer_of_replies() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    // The reply waits behind a message that the requester is slow to read...
    responder.declare(1, queue("large"));
    requester.open(2);
    requester.ok(2, consume("large", "c").no_ack());
    requester.stop_reading();
    responder.send(1, publish("", "large", vec![b'x'; 600_000]));
    responder.send(1, publish("", &address, "late"));
    // ...which asks someone else meanwhile.
    requester.send(1, cancel("replies"));
    requester.send(1, consume(REPLY_TO, "replies").no_ack());
    requester.go_on_reading();
    assert!(matches!(requester.take(1).method(), Method::BasicCancelOk(_)));
    assert!(matches!(requester.take(1).method(), Method::BasicConsumeOk(_)));
    assert_eq!(requester.message(2).body.len(), 600_000);
    requester.expect_nothing();
    let address = asked(&requester, &responder);
    responder.send(1, publish("", &address, "in time"));
    requester.messages(1, ["in time"]);
}

#[test]
fn a_requester_that_does_not_read_its_replies_gets_no_other_messages_either() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    responder.declare(1, queue("q"));
    requester.open(2);
    requester.ok(2, consume("q", "c"));
    requester.stop_reading();
    for _ in 0..30 {
        responder.send(1, publish("", &address, vec![b'x'; 100_000]));
    }
    responder.send(1, publish("", "q", "more"));
    assert_eq!(responder.depth(1, "q"), 1);
    requester.go_on_reading();
    assert_eq!(requester.all_messages(1).len(), 30);
    requester.messages(2, ["more"]);
}

#[test]
fn other_properties_of_the_request_stay_as_they_are() {
    let (_world, requester, responder) = pair();
    let properties = props().persistent().reply_to(REPLY_TO).message_id("m").header("n", 1);
    requester.send(1, publish("", "service", "ask").with(properties));
    let request = responder.fetch(1, "service");
    let seen = request.properties();
    assert_eq!((seen.delivery_mode, seen.message_id), (Some(2), Some(&b"m"[..])));
    assert_eq!(request.header("n").and_then(|n| n.as_integer()), Some(1));
}

#[test]
fn any_other_reply_address_is_left_alone() {
    let (_world, requester, responder) = pair();
    requester.send(1, publish("", "service", "ask").with(props().reply_to("mailbox")));
    let request = responder.fetch(1, "service");
    assert_eq!(request.properties().reply_to, Some(&b"mailbox"[..]));
}

#[test]
fn replies_need_no_acknowledgement_and_allow_none() {
    covers!("reply-to.must-not-ack");
    let world = World::new();
    let client = world.client();
    client.send(1, consume(REPLY_TO, ""));
    let text = "PRECONDITION_FAILED - reply consumer cannot acknowledge";
    assert_eq!(client.expect_channel_close(1, 406, text), (60, 20));
}

#[test]
fn a_channel_has_one_reply_consumer() {
    covers!("reply-to.already-set");
    let (_world, requester, _responder) = pair();
    requester.open(2);
    requester.ok(2, consume(REPLY_TO, "replies").no_ack());
    requester.send(1, consume(REPLY_TO, "more").no_ack());
    let text = "PRECONDITION_FAILED - reply consumer already set";
    requester.expect_channel_close(1, 406, text);
}

#[test]
fn who_does_not_wait_for_replies_cannot_ask_for_them() {
    covers!("reply-to.no-consumer");
    let (_world, requester, responder) = pair();
    requester.open(2);
    let ask = publish("", "service", "ask").with(props().reply_to(REPLY_TO));
    requester.send(2, ask);
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    assert_eq!(requester.expect_channel_close(2, 406, text), (60, 40));
    assert_eq!(responder.depth(1, "service"), 0);
}

#[test]
fn a_cancelled_reply_consumer_can_be_followed_by_another() {
    let (_world, requester, responder) = pair();
    let old = asked(&requester, &responder);
    requester.ok(1, cancel("replies"));
    requester.ok(1, consume(REPLY_TO, "again").no_ack());
    responder.send(1, publish("", &old, "too late"));
    requester.expect_nothing();
    let new = asked(&requester, &responder);
    responder.send(1, publish("", &new, "in time"));
    assert_eq!(requester.message(1).consumer_tag, "again");
}

#[test]
fn the_server_makes_up_a_tag_for_replies_too() {
    let world = World::new();
    let client = world.client();
    let ok = client.ok(1, consume(REPLY_TO, "").no_ack());
    let Method::BasicConsumeOk(basic::ConsumeOk { consumer_tag }) = ok.method() else {
        panic!("{ok:?}")
    };
    assert!(consumer_tag.starts_with("amq.ctag-"), "{consumer_tag}");
}

#[test]
fn a_responder_can_ask_whether_the_requester_is_still_there() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    let there = (address.clone(), 0, 1);
    assert_eq!(responder.declare(1, queue(&address).passive()), there);
    assert_eq!(responder.declare(1, queue(&address).durable()), there);
    requester.ok(1, close_channel());
    let text = format!("NOT_FOUND - no queue '{address}' in vhost '/'");
    responder.refused(1, queue(&address).passive(), 404, &text);
}

#[test]
fn the_pseudo_queue_itself_is_always_there() {
    let (_world, requester, _responder) = pair();
    assert_eq!(requester.declare(1, queue(REPLY_TO).passive()), (REPLY_TO.into(), 0, 1));
    assert_eq!(requester.declare(1, queue(REPLY_TO)), (REPLY_TO.into(), 0, 1));
}

#[test]
fn replies_for_who_is_gone_vanish_and_are_confirmed() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    requester.vanish();
    responder.ok(1, confirm_select());
    responder.send(1, publish("", &address, "answer"));
    responder.expect(1, Method::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    responder.expect_nothing();
}

#[test]
fn a_mandatory_reply_never_comes_back() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    responder.send(1, publish("", &address, "answer").mandatory());
    requester.messages(1, ["answer"]);
    requester.vanish();
    responder.send(1, publish("", &address, "answer").mandatory());
    responder.expect_nothing();
}

#[test]
fn a_reply_address_cannot_be_bound() {
    covers!("reply-to.binding-refused");
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    let text = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue";
    responder.refused(1, bind(&address, "amq.direct", "k"), 403, text);
    responder.refused(1, unbind(&address, "amq.direct", "k"), 403, text);
}

#[test]
fn a_reply_can_be_large_and_there_can_be_many() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    let body = vec![7; 500_000];
    responder.send(1, publish("", &address, &body));
    assert_eq!(requester.message(1).body, body);
    for n in 0..20 {
        responder.send(1, publish("", &address, n.to_string()));
    }
    let replies = requester.all_messages(1);
    let texts: Vec<String> = replies.iter().map(|it| it.text().to_owned()).collect();
    assert_eq!(texts, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(replies.last().unwrap().delivery_tag, 21);
}

#[test]
fn a_reply_reaches_its_requester_whatever_copies_it_asks_for() {
    let (_world, requester, responder) = pair();
    let address = asked(&requester, &responder);
    let copies = props().header("CC", array(["nowhere"]));
    responder.send(1, publish("", &address, "there").with(copies));
    requester.messages(1, ["there"]);
}
