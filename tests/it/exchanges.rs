//! Exchanges and bindings: declaring, routing, alternates, and what goes when they go.

use leveret::covers;
use leveret::protocol::table::Value;

use crate::support::properties::array;
use crate::support::*;

// ---- declaring ----------------------------------------------------------------------------------

#[test]
fn every_vhost_has_the_predeclared_exchanges() {
    let world = World::new();
    let client = world.client();
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        client.ok(1, exchange(name, kind).durable());
        client.ok(1, exchange(name, "").passive());
    }
    client.ok(1, exchange("amq.rabbitmq.trace", "topic").durable().internal());
}

#[test]
fn a_passive_declaration_only_asks_whether_the_exchange_exists() {
    covers!("exchange.not-found");
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "topic").auto_delete());
    client.ok(1, exchange("x", "no-such-type").passive().durable().arg("alternate-exchange", 1));
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    client.refused(1, exchange("nowhere", "direct").passive(), 404, text);
    client.send(1, publish("nowhere", "", "x"));
    assert_eq!(client.expect_channel_close(1, 404, text), (60, 40));
}

#[test]
fn an_unknown_type_is_refused() {
    covers!("exchange.unknown-type");
    let world = World::new();
    let client = world.client();
    client.send(1, exchange("x", "x-jms-topic"));
    let text = "PRECONDITION_FAILED - unknown exchange type 'x-jms-topic'";
    assert_eq!(client.expect_channel_close(1, 406, text), (40, 10));
}

#[test]
fn the_default_exchange_cannot_be_declared_deleted_or_bound() {
    covers!("exchange.default-refused");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    client.refused(1, exchange("", "direct").durable(), 403, text);
    client.refused(1, exchange("", "direct").passive(), 403, text);
    client.refused(1, delete_exchange(""), 403, text);
    client.refused(1, bind("q", "", "key"), 403, text);
    client.refused(1, unbind("q", "", "q"), 403, text);
    client.refused(1, bind_exchange("", "amq.direct", "key"), 403, text);
    client.refused(1, bind_exchange("amq.direct", "", "key"), 403, text);
    client.refused(1, unbind_exchange("", "amq.direct", "key"), 403, text);
}

#[test]
fn new_exchanges_cannot_have_reserved_names() {
    covers!("exchange.reserved-name");
    let world = World::new();
    let client = world.client();
    let text = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'";
    client.refused(1, exchange("amq.mine", "direct"), 403, text);
}

#[test]
fn predeclared_exchanges_cannot_be_deleted() {
    covers!("exchange.system-deletion");
    let world = World::new();
    let client = world.client();
    let text = "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed";
    client.refused(1, delete_exchange("amq.topic"), 403, text);
    let text = "ACCESS_REFUSED - deletion of system exchange 'amq.never' in vhost '/' not allowed";
    client.refused(1, delete_exchange("amq.never"), 403, text);
}

#[test]
fn a_second_declaration_must_agree_with_the_first() {
    covers!("exchange.inequivalent-arg");
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "direct").durable());
    client.ok(1, exchange("x", "direct").durable());
    let differs = |arg: &str, received: &str, current: &str| {
        format!(
            "PRECONDITION_FAILED - inequivalent arg '{arg}' for exchange 'x' in vhost '/': \
             received {received} but current is {current}"
        )
    };
    for (request, text) in [
        (exchange("x", "fanout").durable(), differs("type", "'fanout'", "'direct'")),
        (exchange("x", "direct"), differs("durable", "'false'", "'true'")),
        (
            exchange("x", "direct").durable().auto_delete(),
            differs("auto_delete", "'true'", "'false'"),
        ),
        (exchange("x", "direct").durable().internal(), differs("internal", "'true'", "'false'")),
        (
            exchange("x", "direct").durable().arg("alternate-exchange", "ae"),
            differs("alternate-exchange", "the value 'ae' of type 'longstr'", "none"),
        ),
    ] {
        client.refused(1, request, 406, &text);
    }
    let literal = "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'amq.direct' in \
                   vhost '/': received 'false' but current is 'true'";
    client.refused(1, exchange("amq.direct", "direct"), 406, literal);
}

#[test]
fn a_changed_or_forgotten_alternate_is_another_exchange() {
    let client = World::new().client();
    let asked = || exchange("x", "direct");
    client.ok(1, asked().arg("alternate-exchange", "a"));
    let differs = |how: &str| {
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in \
             vhost '/': received {how}"
        )
    };
    let text = differs("'b' but current is 'a'");
    client.refused(1, asked().arg("alternate-exchange", "b"), 406, &text);
    let text = differs("none but current is the value 'a' of type 'longstr'");
    client.refused(1, asked(), 406, &text);
}

#[test]
fn a_declaration_is_checked_in_rabbitmqs_order() {
    let client = World::new().client();
    let refused = |request: ExchangeDeclare, code, text: &str| {
        client.refused(1, request.arg("alternate-exchange", 1), code, text);
    };
    let unknown = "PRECONDITION_FAILED - unknown exchange type 'x-none'";
    refused(exchange("", "x-none"), 406, unknown);
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    refused(exchange("", "direct"), 403, default);
    let reserved = "ACCESS_REFUSED - exchange name 'amq.x' contains reserved prefix 'amq.*'";
    refused(exchange("amq.x", "direct"), 403, reserved);
    let alternate = "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' \
                     in exchange 'x' in vhost '/'";
    let hashing = exchange("x", "x-consistent-hash").arg("hash-property", "app_id");
    refused(hashing, 406, alternate);
    client.ok(1, exchange("x", "direct"));
    let kind = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': \
                received 'fanout' but current is 'direct'";
    refused(exchange("x", "fanout").durable().internal(), 406, kind);
}

#[test]
fn arguments_that_mean_nothing_are_not_compared() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "direct").arg("colour", "red"));
    client.ok(1, exchange("x", "direct").arg("colour", "blue"));
}

#[test]
fn line_breaks_vanish_from_names() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("or\r\nders", "fanout"));
    client.ok(1, exchange("orders", "fanout").passive());
    client.declare(1, queue("jo\nbs"));
    client.ok(1, bind("jobs\r", "orders\n", ""));
    client.send(1, publish("orders", "", "x"));
    assert_eq!(client.drain(1, "jobs"), ["x"]);
}

#[test]
fn an_internal_exchange_takes_messages_from_exchanges_only() {
    covers!("exchange.internal-publish");
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("inside", "fanout").internal());
    client.ok(1, exchange("outside", "fanout"));
    client.ok(1, bind_exchange("inside", "outside", ""));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "inside", ""));
    client.send(1, publish("outside", "", "through"));
    assert_eq!(client.drain(1, "q"), ["through"]);
    let text = "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'";
    client.refused(1, publish("inside", "", "direct"), 403, text);
}

// ---- deleting -----------------------------------------------------------------------------------

#[test]
fn an_exchange_goes_with_its_bindings() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, exchange("x", "fanout"));
    client.ok(1, bind("q", "x", ""));
    client.ok(1, delete_exchange("x"));
    client.ok(1, delete_exchange("x"));
    client.ok(1, exchange("x", "fanout"));
    client.send(1, publish("x", "", "nobody"));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn if_unused_keeps_an_exchange_that_has_bindings() {
    covers!("exchange.in-use");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, exchange("x", "fanout"));
    client.ok(1, exchange("behind", "fanout"));
    client.ok(1, bind_exchange("behind", "x", ""));
    let text = "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use";
    client.refused(1, delete_exchange("x").if_unused(), 406, text);
    client.ok(1, delete_exchange("behind").if_unused());
    client.ok(1, delete_exchange("x").if_unused());
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding_as_a_source() {
    let world = World::new();
    let client = world.client();
    let gone = "NOT_FOUND - no exchange 'x' in vhost '/'";
    client.declare(1, queue("q"));
    client.ok(1, exchange("x", "direct").auto_delete());
    client.ok(1, exchange("source", "fanout"));
    client.ok(1, bind_exchange("x", "source", ""));
    client.ok(1, unbind_exchange("x", "source", ""));
    client.ok(1, exchange("x", "").passive());
    client.ok(1, bind("q", "x", "a"));
    client.ok(1, bind("q", "x", "b"));
    client.ok(1, unbind("q", "x", "a"));
    client.ok(1, exchange("x", "").passive());
    client.ok(1, unbind("q", "x", "b"));
    client.refused(1, exchange("x", "").passive(), 404, gone);
}

#[test]
fn auto_delete_exchanges_go_one_after_the_other_when_a_queue_is_deleted() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("first", "fanout").auto_delete());
    client.ok(1, exchange("second", "fanout").auto_delete());
    client.ok(1, bind_exchange("second", "first", ""));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "second", ""));
    client.ok(1, delete_queue("q"));
    for name in ["first", "second"] {
        let gone = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
        client.refused(1, exchange(name, "").passive(), 404, &gone);
    }
}

#[test]
fn a_binding_to_itself_keeps_an_exchange_like_any_other() {
    let client = World::new().client();
    client.ok(1, exchange("x", "direct").auto_delete());
    client.ok(1, bind_exchange("x", "x", "k"));
    let text = "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use";
    client.refused(1, delete_exchange("x").if_unused(), 406, text);
    client.ok(1, unbind_exchange("x", "x", "k"));
    let text = "NOT_FOUND - no exchange 'x' in vhost '/'";
    client.refused(1, exchange("x", "").passive(), 404, text);
}

#[test]
fn an_auto_delete_exchange_goes_with_the_exchange_it_leads_to() {
    let client = World::new().client();
    client.ok(1, exchange("first", "fanout").auto_delete());
    client.ok(1, exchange("second", "fanout"));
    client.ok(1, bind_exchange("second", "first", ""));
    client.ok(1, delete_exchange("second"));
    let text = "NOT_FOUND - no exchange 'first' in vhost '/'";
    client.refused(1, exchange("first", "").passive(), 404, text);
}

// ---- routing ------------------------------------------------------------------------------------

/// Queues bound to `x` under these keys; returns which of them a message with each key reaches.
fn routed(kind: &str, keys: &[&str], published: &[&str]) -> Vec<Vec<usize>> {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", kind));
    for (at, key) in keys.iter().enumerate() {
        client.declare(1, queue(&format!("q{at}")));
        client.ok(1, bind(&format!("q{at}"), "x", key));
    }
    let mut reached = Vec::new();
    for key in published {
        client.send(1, publish("x", key, *key));
        let hit = |at: &usize| client.drain(1, &format!("q{at}")) == [*key];
        reached.push((0..keys.len()).filter(hit).collect());
    }
    reached
}

#[test]
fn a_direct_exchange_compares_keys() {
    let reached = routed("direct", &["a", "b", "a", ""], &["a", "b", "A", ""]);
    assert_eq!(reached, [vec![0, 2], vec![1], vec![], vec![3]]);
}

#[test]
fn a_fanout_exchange_ignores_keys() {
    assert_eq!(routed("fanout", &["a", ""], &["a", "b"]), [[0, 1], [0, 1]]);
}

#[test]
fn a_topic_exchange_matches_words() {
    let keys = ["stock.*.nyse", "stock.#", "#", "*", "#.nyse", "stock.ibm.nyse", ""];
    let published = ["stock.ibm.nyse", "stock", "stock..nyse", "", "bond.nyse", "stock.ibm.nyse.x"];
    let reached = routed("topic", &keys, &published);
    assert_eq!(
        reached,
        [vec![0, 1, 2, 4, 5], vec![1, 2, 3], vec![0, 1, 2, 4], vec![2, 6], vec![2, 4], vec![1, 2],]
    );
}

#[test]
fn a_headers_exchange_compares_headers() {
    covers!("binding.x-match");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("all"));
    client.declare(1, queue("any"));
    client.declare(1, queue("present"));
    client.declare(1, queue("with-x"));
    let conditions = |queue: &str| {
        bind(queue, "amq.headers", "").arg("format", "pdf").arg("pages", 3).arg("x-draft", true)
    };
    client.ok(1, conditions("all"));
    client.ok(1, conditions("any").arg("x-match", "any"));
    client.ok(1, conditions("with-x").arg("x-match", "all-with-x"));
    client.ok(1, bind("present", "amq.headers", "").arg("format", Value::Void));
    let reached = |headers: Props| {
        client.send(1, publish("amq.headers", "ignored", "x").with(headers));
        let queues = ["all", "any", "present", "with-x"];
        queues.into_iter().filter(|queue| client.drain(1, queue) == ["x"]).collect::<Vec<_>>()
    };
    let pdf = || props().header("format", "pdf");
    assert_eq!(reached(pdf().header("pages", 3_i64)), ["all", "any", "present"]);
    assert_eq!(reached(pdf().header("pages", 4)), ["any", "present"]);
    assert_eq!(reached(pdf().header("pages", 3).header("x-draft", true)).len(), 4);
    assert_eq!(reached(props()), [] as [&str; 0]);
}

#[test]
fn an_integer_header_is_no_floating_point_number() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.headers", "").arg("pages", 3));
    client.send(1, publish("amq.headers", "", "x").with(props().header("pages", 3.0)));
    client.send(1, publish("amq.headers", "", "y").with(props().header("pages", 3_u8)));
    assert_eq!(client.drain(1, "q"), ["y"]);
}

#[test]
fn a_headers_binding_without_conditions_matches_all_or_nothing() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("all"));
    client.declare(1, queue("any"));
    client.ok(1, bind("all", "amq.match", ""));
    client.ok(1, bind("any", "amq.match", "").arg("x-match", "any"));
    client.send(1, publish("amq.match", "", "x"));
    client.send(1, publish("amq.match", "", "y").with(props().header("a", 1)));
    assert_eq!(client.drain(1, "all"), ["x", "y"]);
    assert_eq!(client.drain(1, "any"), [] as [&str; 0]);
}

#[test]
fn x_match_must_be_one_of_four_words() {
    covers!("binding.invalid-x-match", "binding.invalid-x-match-type");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let text = "PRECONDITION_FAILED - Invalid x-match field value <<\"most\">>; expected all, any, \
                all-with-x, or any-with-x";
    client.refused(1, bind("q", "amq.headers", "").arg("x-match", "most"), 406, text);
    let text = "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected \
                longstr";
    client.refused(1, bind("q", "amq.headers", "").arg("x-match", 1), 406, text);
    client.send(1, publish("amq.headers", "", "x"));
    assert_eq!(client.depth(1, "q"), 0, "a refused binding binds nothing");
}

#[test]
fn a_topic_key_has_at_most_two_multiple_wildcards() {
    covers!("binding.too-many-wildcards");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.topic", "#.a.#"));
    let text = "PRECONDITION_FAILED - Topic binding key '#.a.#.b.#' uses 3 '#' wildcards, at most \
                2 are allowed";
    client.refused(1, bind("q", "amq.topic", "#.a.#.b.#"), 406, text);
}

#[test]
fn the_default_exchange_routes_to_the_queue_of_that_name() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "x"));
    client.send(1, publish("", "Q", "y"));
    let message = client.fetch(1, "q");
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", "q"));
    assert_eq!(message.message_count, 0);
}

#[test]
fn a_queue_gets_one_copy_however_many_bindings_match() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.topic", "a.*"));
    client.ok(1, bind("q", "amq.topic", "*.b"));
    client.ok(1, exchange("x", "fanout"));
    client.ok(1, bind_exchange("x", "amq.topic", "#"));
    client.ok(1, bind("q", "x", ""));
    client.send(1, publish("amq.topic", "a.b", "x"));
    assert_eq!(client.drain(1, "q"), ["x"]);
}

#[test]
fn a_new_binding_or_queue_changes_the_route_of_the_next_message() {
    let world = World::new();
    let (publisher, other) = (world.client(), world.client());
    other.declare(1, queue("a"));
    other.ok(1, bind("a", "amq.direct", "k"));
    publisher.send(1, publish("amq.direct", "k", "1"));
    other.declare(1, queue("b"));
    other.ok(1, bind("b", "amq.direct", "k"));
    publisher.send(1, publish("amq.direct", "k", "2"));
    other.ok(1, unbind("a", "amq.direct", "k"));
    publisher.send(1, publish("amq.direct", "k", "3"));
    other.ok(1, delete_queue("b"));
    other.declare(1, queue("b"));
    publisher.send(1, publish("amq.direct", "k", "4"));
    assert_eq!(other.drain(1, "a"), ["1", "2"]);
    assert_eq!(other.drain(1, "b"), [] as [&str; 0]);
}

// ---- bindings -----------------------------------------------------------------------------------

#[test]
fn binding_twice_is_binding_once() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.direct", "k"));
    client.ok(1, bind("q", "amq.direct", "k"));
    client.ok(1, unbind("q", "amq.direct", "k"));
    client.send(1, publish("amq.direct", "k", "x"));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn arguments_tell_bindings_apart() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.direct", "k"));
    client.ok(1, bind("q", "amq.direct", "k").arg("note", "second"));
    client.ok(1, unbind("q", "amq.direct", "k"));
    client.send(1, publish("amq.direct", "k", "x"));
    assert_eq!(client.depth(1, "q"), 1);
    client.ok(1, unbind("q", "amq.direct", "k").arg("note", "second"));
    client.send(1, publish("amq.direct", "k", "x"));
    assert_eq!(client.depth(1, "q"), 1);
}

#[test]
fn exchanges_are_bound_under_conditions_too() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("out", "fanout"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "out", ""));
    client.ok(1, bind_exchange("out", "amq.headers", "").arg("x-match", "any").arg("n", 1));
    let message = || publish("amq.headers", "", "x").with(props().header("n", 1));
    client.send(1, message());
    client.ok(1, unbind_exchange("out", "amq.headers", ""));
    client.send(1, message());
    assert_eq!(client.depth(1, "q"), 2);
    let same = unbind_exchange("out", "amq.headers", "").arg("n", 1).arg("x-match", "any");
    client.ok(1, same);
    client.send(1, message());
    assert_eq!(client.depth(1, "q"), 2);
}

#[test]
fn unbinding_what_is_not_there_is_fine() {
    let world = World::new();
    let client = world.client();
    client.ok(1, unbind("nowhere", "amq.direct", "k"));
    client.ok(1, unbind("nowhere", "nothing", "k"));
    client.ok(1, unbind_exchange("nowhere", "nothing", "k"));
    client.declare(1, queue("q"));
    client.ok(1, unbind("q", "amq.direct", "k"));
}

#[test]
fn bindings_of_an_exclusive_queue_are_its_owners() {
    let world = World::new();
    let (owner, other) = (world.client(), world.client());
    owner.declare(1, queue("mine").exclusive());
    owner.ok(1, bind("mine", "amq.topic", "a"));
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in \
                  vhost '/'. It could be originally declared on another connection or the \
                  exclusive property value does not match that of the original declaration.";
    other.refused(1, bind("mine", "amq.topic", "b"), 405, locked);
    other.refused(1, bind("mine", "amq.topic", "a"), 405, locked);
    other.refused(1, unbind("mine", "amq.topic", "a"), 405, locked);
    // What the exchange does not understand, or is not there, is told first.
    let text = "PRECONDITION_FAILED - Topic binding key '#.#.#' uses 3 '#' wildcards, at most 2 \
                are allowed";
    other.refused(1, bind("mine", "amq.topic", "#.#.#"), 406, text);
    let text = "NOT_FOUND - no exchange 'nothing' in vhost '/'";
    other.refused(1, bind("mine", "nothing", "a"), 404, text);
    other.ok(1, unbind("mine", "amq.topic", "never bound"));
    owner.send(1, publish("amq.topic", "a", "still bound"));
    assert_eq!(owner.drain(1, "mine"), ["still bound"]);
}

#[test]
fn both_ends_of_a_new_binding_must_exist() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let no_exchange = "NOT_FOUND - no exchange 'nothing' in vhost '/'";
    client.refused(1, bind("q", "nothing", "k"), 404, no_exchange);
    client.refused(1, bind("nowhere", "nothing", "k"), 404, no_exchange);
    let no_queue = "NOT_FOUND - no queue 'nowhere' in vhost '/'";
    client.refused(1, bind("nowhere", "amq.direct", "k"), 404, no_queue);
    client.refused(1, bind_exchange("nothing", "amq.direct", "k"), 404, no_exchange);
    client.refused(1, bind_exchange("amq.direct", "nothing", "k"), 404, no_exchange);
}

#[test]
fn an_empty_queue_and_key_stand_for_the_last_declared_queue() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("", "amq.direct", ""));
    client.send(1, publish("amq.direct", "q", "x"));
    client.ok(1, unbind("", "amq.direct", ""));
    client.send(1, publish("amq.direct", "q", "y"));
    assert_eq!(client.drain(1, "q"), ["x"]);
}

#[test]
fn messages_pass_from_exchange_to_exchange() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("in", "direct"));
    client.ok(1, exchange("logs", "topic"));
    client.ok(1, exchange("out", "fanout"));
    client.ok(1, bind_exchange("logs", "in", "kern.crit"));
    client.ok(1, bind_exchange("out", "logs", "*.crit"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "out", ""));
    client.send(1, publish("in", "kern.crit", "x"));
    client.send(1, publish("in", "kern.info", "y"));
    let message = client.fetch(1, "q");
    assert_eq!((message.text(), message.exchange.as_str()), ("x", "in"));
    assert_eq!(message.routing_key, "kern.crit");
    client.ok(1, unbind_exchange("out", "logs", "*.crit"));
    client.send(1, publish("in", "kern.crit", "z"));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn exchanges_bound_in_a_circle_deliver_once() {
    let world = World::new();
    let client = world.client();
    for name in ["a", "b", "c"] {
        client.ok(1, exchange(name, "fanout"));
        client.declare(1, queue(name));
        client.ok(1, bind(name, name, ""));
    }
    client.ok(1, bind_exchange("b", "a", ""));
    client.ok(1, bind_exchange("c", "b", ""));
    client.ok(1, bind_exchange("a", "c", ""));
    client.ok(1, bind_exchange("a", "a", ""));
    client.send(1, publish("b", "", "round"));
    for name in ["a", "b", "c"] {
        assert_eq!(client.drain(1, name), ["round"], "{name}");
    }
}

// ---- alternate exchanges ------------------------------------------------------------------------

#[test]
fn what_an_exchange_cannot_route_goes_to_its_alternate() {
    covers!("exchange.alternate-exchange");
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "direct").arg("alternate-exchange", "rest"));
    client.declare(1, queue("known"));
    client.declare(1, queue("unknown"));
    client.ok(1, bind("known", "x", "k"));
    // The alternate need not exist; without it a message is unroutable.
    client.send(1, publish("x", "other", "early").mandatory());
    assert_eq!(client.message(1).reply, Some((312, "NO_ROUTE".into())));
    client.ok(1, exchange("rest", "fanout"));
    client.ok(1, bind("unknown", "rest", ""));
    client.send(1, publish("x", "k", "a").mandatory());
    client.send(1, publish("x", "other", "b").mandatory());
    assert_eq!(client.drain(1, "known"), ["a"]);
    let message = client.fetch(1, "unknown");
    assert_eq!((message.text(), message.exchange.as_str()), ("b", "x"));
    assert_eq!(message.routing_key, "other");
    client.expect_nothing();
}

#[test]
fn alternates_may_have_alternates_and_end_where_they_began() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("a", "direct").arg("alternate-exchange", "b"));
    client.ok(1, exchange("b", "direct").arg("alternate-exchange", "c"));
    client.ok(1, exchange("c", "direct").arg("alternate-exchange", "a"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "c", "k"));
    client.send(1, publish("a", "k", "far"));
    assert_eq!(client.drain(1, "q"), ["far"]);
    client.send(1, publish("a", "nobody", "round").mandatory());
    assert_eq!(client.message(1).text(), "round");
}

#[test]
fn an_alternate_takes_over_for_an_exchange_behind_an_exchange() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("front", "fanout"));
    client.ok(1, exchange("back", "direct").arg("alternate-exchange", "rest"));
    client.ok(1, exchange("rest", "fanout"));
    client.ok(1, bind_exchange("back", "front", ""));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "rest", ""));
    client.send(1, publish("front", "k", "x"));
    assert_eq!(client.drain(1, "q"), ["x"]);
}

#[test]
fn an_alternates_name_is_a_string() {
    covers!("exchange.invalid-arg-type");
    let world = World::new();
    let client = world.client();
    let text = "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in \
                exchange 'x' in vhost '/'";
    client.refused(1, exchange("x", "direct").arg("alternate-exchange", 1), 406, text);
}

// ---- CC and BCC ---------------------------------------------------------------------------------

#[test]
fn cc_and_bcc_are_further_routing_keys_and_bcc_is_not_shown() {
    let world = World::new();
    let client = world.client();
    for name in ["to", "cc", "bcc"] {
        client.declare(1, queue(name));
    }
    let copies = props().header("CC", array(["cc", "to"])).header("BCC", array(["bcc"]));
    client.send(1, publish("", "to", "x").with(copies.header("kept", 1)));
    for name in ["to", "cc", "bcc"] {
        let message = client.fetch(1, name);
        assert_eq!(message.routing_key, "to");
        assert_eq!(message.header("CC"), Some(array(["cc", "to"])), "{name}");
        assert_eq!(message.header("kept"), Some(Value::I32(1)));
        assert_eq!(message.header("BCC"), None);
        assert_eq!(client.depth(1, name), 0, "one copy each");
    }
}

#[test]
fn cc_works_with_every_exchange_and_alone_makes_a_message_routable() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.topic", "*.copy"));
    let copies = props().header("CC", array(["the.copy"]));
    client.send(1, publish("amq.topic", "nobody", "x").mandatory().with(copies));
    assert_eq!(client.drain(1, "q"), ["x"]);
    client.expect_nothing();
}

#[test]
fn cc_and_bcc_must_be_arrays() {
    covers!("basic.invalid-cc");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let text = "PRECONDITION_FAILED - invalid message: \
                {unacceptable_type_in_header,\"CC\",longstr}";
    client.refused(1, publish("", "q", "x").with(props().header("CC", "q")), 406, text);
    let text = "PRECONDITION_FAILED - invalid message: \
                {unacceptable_type_in_header,\"BCC\",signedint}";
    client.refused(1, publish("", "q", "x").with(props().header("BCC", 1)), 406, text);
    let mixed = Value::Array(vec![Value::from(1), Value::from("q")]);
    client.send(1, publish("", "nobody", "y").with(props().header("CC", mixed)));
    assert_eq!(client.drain(1, "q"), ["y"], "elements that are no strings are ignored");
}

#[test]
fn a_long_chain_of_auto_delete_exchanges_goes_with_what_it_leads_to() {
    const LINKS: usize = 5_000;
    let world = World::new();
    world.only_in_process("RabbitMQ needs minutes for so many");
    let client = world.client();
    client.declare(1, queue("end"));
    client.send(1, exchange("x0", "fanout").auto_delete().nowait());
    client.ok(1, bind("end", "x0", ""));
    let declared = (1..LINKS).map(|n| exchange(&format!("x{n}"), "fanout").auto_delete().nowait());
    let bound = (1..LINKS).map(|n| bind_exchange(&format!("x{}", n - 1), &format!("x{n}"), ""));
    let declared: Vec<_> = declared.collect();
    let bound: Vec<_> = bound.map(|binding| binding.nowait()).collect();
    client.send_at_once(1, &declared.iter().map(|it| it as &dyn Request).collect::<Vec<_>>());
    client.send_at_once(1, &bound.iter().map(|it| it as &dyn Request).collect::<Vec<_>>());
    let last = format!("x{}", LINKS - 1);
    client.send(1, publish(&last, "", "from one end to the other"));
    assert_eq!(client.drain(1, "end"), ["from one end to the other"]);
    client.ok(1, delete_queue("end"));
    for name in ["x0", "x2500", &last] {
        let text = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
        client.refused(1, exchange(name, "").passive(), 404, &text);
    }
}

#[test]
fn remembered_routes_stay_when_a_declaration_changes_nothing() {
    let world = World::new();
    let client = world.client();
    let declare = || {
        client.ok(1, exchange("x", "topic"));
        client.declare(1, queue("q"));
        client.ok(1, bind("q", "x", "#"));
        client.ok(1, unbind("q", "x", "nothing"));
        client.ok(1, delete_exchange("nothing"));
        client.ok(1, delete_queue("nothing"));
        world.broker().vhost("/").unwrap().generation()
    };
    let remembered = declare();
    assert_eq!(declare(), remembered);
    client.ok(1, bind("q", "x", "another"));
    assert_ne!(declare(), remembered);
}

#[test]
fn a_queue_that_many_ways_lead_to_gets_a_message_once() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("first", "fanout"));
    client.ok(1, exchange("second", "fanout"));
    client.ok(1, bind_exchange("second", "first", ""));
    let names: Vec<String> = (0..50).map(|n| format!("q{n}")).collect();
    for name in &names {
        client.declare(1, queue(name));
        client.ok(1, bind(name, "first", ""));
        client.ok(1, bind(name, "second", ""));
    }
    client.declare(1, queue("last"));
    client.ok(1, bind("last", "second", ""));
    let copies = props().header("CC", array(["another key"]));
    client.send(1, publish("first", "", "by one key"));
    client.send(1, publish("first", "", "by two").with(copies));
    for name in names.iter().map(String::as_str).chain(["last"]) {
        assert_eq!(client.drain(1, name), ["by one key", "by two"], "{name}");
    }
}

#[test]
fn an_exchange_that_finds_an_exchange_does_not_ask_its_alternate() {
    let client = World::new().client();
    client.declare(1, queue("q"));
    client.ok(1, exchange("alternate", "fanout").internal());
    client.ok(1, bind("q", "alternate", ""));
    client.ok(1, exchange("x", "fanout").arg("alternate-exchange", "alternate"));
    client.send(1, publish("x", "", "found nothing"));
    client.ok(1, exchange("dead end", "fanout"));
    client.ok(1, bind_exchange("dead end", "x", ""));
    client.send(1, publish("x", "", "found an exchange"));
    assert_eq!(client.drain(1, "q"), ["found nothing"]);
}
