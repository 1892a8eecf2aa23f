//! Queues: declaring, owning, emptying, deleting.

use leveret::covers;
use leveret::protocol::method::{Method, queue as methods};
use leveret::protocol::table::Value;

use crate::support::*;

/// The refusal of whoever wants a queue that belongs to another connection.
fn locked(name: &str) -> String {
    format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. \
         It could be originally declared on another connection or the exclusive property value \
         does not match that of the original declaration."
    )
}

/// The refusal of a declaration that does not repeat the first.
fn differs(arg: &str, received: &str, current: &str) -> String {
    format!(
        "PRECONDITION_FAILED - inequivalent arg '{arg}' for queue 'q' in vhost '/': received \
         {received} but current is {current}"
    )
}

// ---- declaring ----------------------------------------------------------------------------------

#[test]
fn declare_ok_tells_ready_messages_and_consumers() {
    let world = World::new();
    let client = world.client();
    assert_eq!(client.declare(1, queue("q")), ("q".into(), 0, 0));
    for body in ["a", "b", "c"] {
        client.send(1, publish("", "q", body));
    }
    client.fetch(1, "q");
    assert_eq!(client.declare(1, queue("q")), ("q".into(), 2, 0));
    client.ok(1, prefetch(1));
    client.ok(1, consume("q", "c"));
    assert_eq!(client.message(1).text(), "b");
    assert_eq!(client.declare(1, queue("q").passive()), ("q".into(), 1, 1));
}

#[test]
fn nowait_leaves_out_the_answers() {
    let world = World::new();
    let client = world.client();
    client.send(1, queue("q").nowait());
    client.send(1, exchange("x", "fanout").nowait());
    client.send(1, bind("q", "x", "").nowait());
    client.send(1, bind_exchange("x", "amq.fanout", "").nowait());
    client.send(1, publish("amq.fanout", "", "x"));
    client.send(1, unbind_exchange("x", "amq.fanout", "").nowait());
    client.send(1, consume("q", "c").nowait());
    client.messages(1, ["x"]);
    client.send(1, cancel("c").nowait());
    client.send(1, purge("q").nowait());
    client.send(1, delete_queue("q").nowait());
    client.send(1, delete_exchange("x").nowait());
    client.send(1, queue("mine").exclusive().passive().nowait());
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'mine' in vhost '/'");
}

#[test]
fn a_queue_that_is_not_there_is_not_found() {
    covers!("queue.not-found");
    let world = World::new();
    let client = world.client();
    let text = "NOT_FOUND - no queue 'nowhere' in vhost '/'";
    client.refused(1, queue("nowhere").passive(), 404, text);
    client.refused(1, get("nowhere"), 404, text);
    client.refused(1, consume("nowhere", ""), 404, text);
    client.refused(1, purge("nowhere"), 404, text);
    client.refused(1, bind("nowhere", "amq.direct", ""), 404, text);
    assert_eq!(
        client.ok(1, delete_queue("nowhere")).method(),
        Method::QueueDeleteOk(methods::DeleteOk { message_count: 0 }),
    );
}

#[test]
fn an_empty_name_is_the_last_queue_declared_on_the_channel() {
    covers!("queue.none-declared");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("first"));
    client.declare(1, queue("last"));
    client.send(1, publish("", "last", "x"));
    assert_eq!(client.fetch(1, "").text(), "x");
    client.ok(1, consume("", "c"));
    client.ok(1, cancel("c"));
    client.ok(1, purge(""));
    client.ok(1, delete_queue(""));
    let text = "NOT_FOUND - no queue 'last' in vhost '/'";
    client.refused(1, queue("last").passive(), 404, text);
    let none = "NOT_FOUND - no previously declared queue";
    client.refused(1, get(""), 404, none);
    client.refused(1, consume("", ""), 404, none);
    client.refused(1, purge(""), 404, none);
    client.refused(1, delete_queue(""), 404, none);
    client.refused(1, bind("", "amq.direct", "k"), 404, none);
    client.refused(1, unbind("", "amq.direct", "k"), 404, none);
}

#[test]
fn a_passive_declaration_of_the_empty_name_means_just_that() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.refused(1, queue("").passive(), 404, "NOT_FOUND - no queue '' in vhost '/'");
}

#[test]
fn a_passive_declaration_compares_nothing_and_becomes_the_last_one() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable().arg("x-max-length", 5));
    client.declare(1, queue("other"));
    client.declare(1, queue("q").passive().auto_delete().arg("x-max-length", "many"));
    client.send(1, publish("", "q", "x"));
    assert_eq!(client.fetch(1, "").text(), "x");
}

#[test]
fn the_server_names_queues_that_have_no_name() {
    let world = World::new();
    let client = world.client();
    let (first, ..) = client.declare(1, queue("").exclusive());
    let (second, ..) = client.declare(1, queue(""));
    assert_ne!(first, second);
    for name in [&first, &second] {
        assert!(name.starts_with("amq.gen-"), "{name}");
        assert_eq!(name.len(), "amq.gen-".len() + 22, "{name}");
    }
    client.send(1, publish("", &second, "x"));
    assert_eq!(client.fetch(1, "").text(), "x");
}

#[test]
fn names_may_be_255_bytes_of_anything() {
    let world = World::new();
    let client = world.client();
    let name = "ä✓ *#'".repeat(23)[..].chars().take(140).collect::<String>();
    let name = &name[..name.floor_char_boundary(255)];
    assert_eq!(client.declare(1, queue(name)).0, name);
    client.send(1, publish("", name, "x"));
    assert_eq!(client.drain(1, name), ["x"]);
}

#[test]
fn reserved_names_cannot_be_declared_even_if_they_exist() {
    covers!("queue.reserved-name");
    let world = World::new();
    let client = world.client();
    let text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'";
    client.refused(1, queue("amq.mine"), 403, text);
    let (name, ..) = client.declare(1, queue(""));
    let text = format!("ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'");
    client.refused(1, queue(&name), 403, &text);
    client.declare(1, queue(&name).passive());
}

#[test]
fn only_classic_queues_are_named_by_the_server() {
    covers!("queue.server-named-type");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("").arg("x-queue-type", "classic"));
    client.send(1, queue("").durable().arg("x-queue-type", "quorum"));
    let text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type \
                rabbit_quorum_queue";
    client.expect_channel_close(1, 406, text);
}

#[test]
fn a_second_declaration_must_repeat_the_first() {
    covers!("queue.inequivalent-arg");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable().arg("x-max-length", 5).arg("colour", "red"));
    let first = || queue("q").durable().arg("x-max-length", 5);
    client.declare(1, first().arg("colour", "blue").arg("x-queue-type", "classic"));
    client.declare(1, queue("q").durable().arg("x-max-length", 5_i64));
    let literal = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
                   received 'false' but current is 'true'";
    client.refused(1, queue("q").arg("x-max-length", 5), 406, literal);
    for (request, text) in [
        (first().auto_delete(), differs("auto_delete", "'true'", "'false'")),
        (
            queue("q").durable(),
            differs("x-max-length", "none", "the value '5' of type 'signedint'"),
        ),
        (
            first().arg("x-message-ttl", 1_i64),
            differs("x-message-ttl", "the value '1' of type 'long'", "none"),
        ),
        (
            first().arg("x-dead-letter-exchange", "dlx"),
            differs("x-dead-letter-exchange", "the value 'dlx' of type 'longstr'", "none"),
        ),
    ] {
        client.refused(1, request, 406, &text);
    }
}

#[test]
fn two_values_that_differ_are_both_shown_bare() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-max-length", 5));
    let text = differs("x-max-length", "'6'", "'5'");
    client.refused(1, queue("q").arg("x-max-length", 6), 406, &text);
    client.ok(1, exchange("x", "direct").arg("alternate-exchange", "a"));
    let text = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in \
                vhost '/': received 'b' but current is 'a'";
    client.refused(1, exchange("x", "direct").arg("alternate-exchange", "b"), 406, text);
}

#[test]
fn a_queues_type_is_part_of_the_declaration() {
    covers!("queue.x-queue-type");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    client.declare(1, queue("q").durable().arg("x-queue-type", "classic"));
    let text = differs("x-queue-type", "'quorum'", "'classic'");
    client.refused(1, queue("q").durable().arg("x-queue-type", "quorum"), 406, &text);
}

#[test]
fn an_unknown_queue_type_is_refused() {
    let world = World::new();
    let client = world.client();
    let text = "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'q' in vhost '/': \
                \"unsupported queue type 'mirrored'\"";
    client.refused(1, queue("q").arg("x-queue-type", "mirrored"), 406, text);
}

// ---- arguments ----------------------------------------------------------------------------------

#[test]
fn arguments_with_unacceptable_values_are_refused() {
    covers!("queue.invalid-arg");
    let world = World::new();
    let client = world.client();
    let literal = "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'q' in vhost '/': \
                   {value_negative,-1}";
    client.refused(1, queue("q").arg("x-max-length", -1), 406, literal);
    let bool_as_text = Value::from("true");
    let cases: [(&str, Value, &str); 20] = [
        ("x-expires", 0.into(), "{value_zero,0}"),
        ("x-expires", (-1).into(), "{value_negative,-1}"),
        ("x-expires", 315_360_000_001_i64.into(), "{value_too_large,315360000001}"),
        ("x-expires", "1000".into(), "\"expected integer, got longstr\""),
        ("x-message-ttl", (-1).into(), "{value_negative,-1}"),
        ("x-message-ttl", 315_360_000_001_i64.into(), "{value_too_large,315360000001}"),
        ("x-message-ttl", 1.5_f64.into(), "\"expected integer, got double\""),
        ("x-max-length", "5".into(), "\"expected integer, got longstr\""),
        ("x-max-length-bytes", (-5).into(), "{value_negative,-5}"),
        ("x-max-length-bytes", true.into(), "\"expected integer, got bool\""),
        ("x-max-priority", 256.into(), "{max_value_exceeded,256}"),
        ("x-max-priority", (-1_i8).into(), "{value_negative,-1}"),
        ("x-overflow", "drop-tail".into(), "invalid_overflow"),
        ("x-durability", "maybe".into(), "invalid_durability"),
        ("x-overflow", 1.into(), "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", "k".into(), "routing_key_but_no_dlx_defined"),
        ("x-dead-letter-routing-key", 1.into(), "{unacceptable_type,signedint}"),
        ("x-single-active-consumer", bool_as_text, "{unacceptable_type,longstr}"),
        ("x-queue-mode", "eager".into(), "\"unsupported queue mode 'eager'\""),
        ("x-queue-version", 3.into(), "\"unsupported queue version '3'\""),
    ];
    for (argument, value, reason) in cases {
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{argument}' for queue 'q' in vhost '/': {reason}"
        );
        client.refused(1, queue("q").arg(argument, value), 406, &text);
    }
    client.refused(1, queue("q").passive(), 404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn a_dead_letter_exchange_is_named_by_a_string() {
    covers!("queue.invalid-arg-type");
    let world = World::new();
    let client = world.client();
    let text = "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' \
                in queue 'q' in vhost '/'";
    client.refused(1, queue("q").arg("x-dead-letter-exchange", 1), 406, text);
}

#[test]
fn every_integer_type_is_an_integer() {
    let world = World::new();
    let client = world.client();
    let values: [Value; 7] = [
        5_i8.into(),
        5_u8.into(),
        5_i16.into(),
        5_u16.into(),
        5_i32.into(),
        5_u32.into(),
        5_i64.into(),
    ];
    for value in values {
        client.declare(1, queue("q").arg("x-max-length", value));
    }
    let text = "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 't' in vhost '/': \
                \"expected integer, got timestamp\"";
    client.refused(1, queue("t").arg("x-max-length", Value::Timestamp(5)), 406, text);
}

#[test]
fn arguments_of_another_queue_type_are_refused() {
    covers!("queue.invalid-arg-for-type");
    let world = World::new();
    let client = world.client();
    let text = "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/' of \
                queue type rabbit_quorum_queue";
    let quorum = || queue("q").durable().arg("x-queue-type", "quorum");
    client.refused(1, quorum().arg("x-max-priority", 5), 406, text);
    let text = "PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of \
                queue type rabbit_classic_queue";
    client.refused(1, queue("q").arg("x-delivery-limit", 5), 406, text);
    let text = "PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'q' in vhost '/' of \
                queue type rabbit_classic_queue";
    client.refused(1, queue("q").arg("x-max-age", "1D"), 406, text);
}

#[test]
fn quorum_queues_are_durable_and_belong_to_nobody() {
    covers!("queue.invalid-property");
    let world = World::new();
    let client = world.client();
    let quorum = || queue("q").arg("x-queue-type", "quorum");
    for (request, property) in [
        (quorum(), "non-durable"),
        (quorum().durable().auto_delete(), "auto-delete"),
        (quorum().durable().exclusive(), "exclusive-owner"),
    ] {
        let text = format!(
            "PRECONDITION_FAILED - invalid property '{property}' for queue 'q' in vhost '/'"
        );
        client.refused(1, request, 406, &text);
    }
    client.declare(1, quorum().durable());
    client.declare(1, quorum().durable());
}

#[test]
fn arguments_that_make_no_difference_on_one_node_are_taken_and_compared() {
    covers!("queue.accepted-without-effect");
    let world = World::new();
    let client = world.client();
    let classic = || {
        queue("q")
            .arg("x-queue-mode", "lazy")
            .arg("x-queue-version", 2)
            .arg("x-queue-master-locator", "min-masters")
            .arg("x-queue-leader-locator", "client-local")
    };
    client.declare(1, classic());
    client.declare(1, classic());
    let text = differs("x-queue-version", "'1'", "'2'");
    client.refused(1, classic().arg("x-queue-version", 1), 406, &text);
    let quorum = queue("r")
        .durable()
        .arg("x-queue-type", "quorum")
        .arg("x-quorum-initial-group-size", 3)
        .arg("x-max-in-memory-length", 10)
        .arg("x-max-in-memory-bytes", 1000)
        .arg("x-dead-letter-strategy", "at-most-once")
        .arg("x-queue-leader-locator", "balanced");
    client.declare(1, quorum.clone());
    client.send(1, publish("", "r", "works"));
    client.declare(1, quorum);
    assert_eq!(client.drain(1, "r"), ["works"]);
}

// ---- exclusive and auto-delete ------------------------------------------------------------------

#[test]
fn an_exclusive_queue_belongs_to_its_connection() {
    covers!("queue.locked");
    let world = World::new();
    let (owner, other) = (world.client(), world.client());
    owner.declare(1, queue("mine").exclusive());
    owner.open(2);
    owner.send(2, publish("", "mine", "own"));
    assert_eq!(owner.fetch(2, "mine").text(), "own");
    let literal = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in \
                   vhost '/'. It could be originally declared on another connection or the \
                   exclusive property value does not match that of the original declaration.";
    other.refused(1, queue("mine").exclusive(), 405, literal);
    let text = locked("mine");
    other.refused(1, queue("mine"), 405, &text);
    other.refused(1, queue("mine").passive(), 405, &text);
    other.refused(1, consume("mine", "c"), 405, &text);
    other.refused(1, get("mine"), 405, &text);
    other.refused(1, purge("mine"), 405, &text);
    other.refused(1, delete_queue("mine"), 405, &text);
    other.refused(1, bind("mine", "amq.direct", "k"), 405, &text);
    other.send(1, publish("", "mine", "anyone may publish"));
    assert_eq!(owner.drain(1, "mine"), ["anyone may publish"]);
}

#[test]
fn exclusiveness_must_match_the_first_declaration() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("mine").exclusive().durable());
    client.declare(1, queue("mine").exclusive());
    client.refused(1, queue("mine"), 405, &locked("mine"));
    client.declare(1, queue("ours"));
    client.refused(1, queue("ours").exclusive(), 405, &locked("ours"));
}

#[test]
fn exclusive_queues_are_gone_before_the_close_is_answered() {
    let world = World::new();
    let (owner, other) = (world.client(), world.client());
    owner.declare(1, queue("mine").exclusive());
    owner.ok(1, bind("mine", "amq.fanout", ""));
    owner.close();
    other.refused(1, queue("mine").passive(), 404, "NOT_FOUND - no queue 'mine' in vhost '/'");
    other.send(1, publish("amq.fanout", "", "nobody").mandatory());
    assert_eq!(other.message(1).reply, Some((312, "NO_ROUTE".into())));
    other.declare(1, queue("mine").exclusive());
}

#[test]
fn exclusive_queues_go_with_a_connection_that_is_lost() {
    let world = World::new();
    let (owner, other) = (world.client(), world.client());
    owner.declare(1, queue("mine").exclusive());
    owner.send(1, close_channel());
    other.refused(1, queue("mine").passive(), 405, &locked("mine"));
    owner.vanish();
    other.declare(1, queue("mine").exclusive());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    let gone = "NOT_FOUND - no queue 'q' in vhost '/'";
    client.declare(1, queue("q").auto_delete());
    client.send(1, publish("", "q", "x"));
    assert_eq!(client.drain(1, "q"), ["x"], "fetching is not consuming");
    client.declare(1, queue("q").passive());
    client.ok(1, consume("q", "a"));
    other.ok(1, consume("q", "b"));
    client.ok(1, cancel("a"));
    client.declare(1, queue("q").passive());
    other.ok(1, cancel("b"));
    client.refused(1, queue("q").passive(), 404, gone);
}

#[test]
fn an_auto_delete_queue_goes_with_the_channel_or_the_connection_of_its_last_consumer() {
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    let gone = "NOT_FOUND - no queue 'q' in vhost '/'";
    client.open(2);
    client.declare(2, queue("q").auto_delete());
    client.ok(2, consume("q", "c"));
    client.ok(2, close_channel());
    other.refused(1, queue("q").passive(), 404, gone);
    client.declare(1, queue("q").auto_delete());
    client.ok(1, consume("q", "c"));
    client.vanish();
    other.refused(1, queue("q").passive(), 404, gone);
}

// ---- emptying and deleting ----------------------------------------------------------------------

#[test]
fn a_purge_takes_what_is_ready_and_leaves_what_is_unacknowledged() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    for body in ["a", "b", "c"] {
        client.send(1, publish("", "q", body).with(props().persistent()));
    }
    client.fetch(1, "q");
    let purged = Method::QueuePurgeOk(methods::PurgeOk { message_count: 2 });
    assert_eq!(client.ok(1, purge("q")).method(), purged);
    client.send(1, nack(1, Then::Requeue));
    assert_eq!(client.drain(1, "q"), ["a"]);
}

#[test]
fn a_deletion_tells_how_many_messages_were_ready() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    for body in ["a", "b", "c"] {
        client.send(1, publish("", "q", body));
    }
    client.fetch(1, "q");
    let deleted = Method::QueueDeleteOk(methods::DeleteOk { message_count: 2 });
    assert_eq!(client.ok(1, delete_queue("q")).method(), deleted);
    client.send(1, ack(1));
    client.declare(1, queue("q"));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn a_queue_in_use_is_not_deleted_if_unused() {
    covers!("queue.in-use");
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    client.declare(1, queue("q"));
    other.ok(1, consume("q", "c"));
    let text = "PRECONDITION_FAILED - queue 'q' in vhost '/' in use";
    client.refused(1, delete_queue("q").if_unused(), 406, text);
    other.ok(1, cancel("c"));
    client.ok(1, delete_queue("q").if_unused());
}

#[test]
fn a_queue_with_messages_is_not_deleted_if_empty() {
    covers!("queue.not-empty");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "x"));
    let text = "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty";
    client.refused(1, delete_queue("q").if_empty(), 406, text);
    client.drain(1, "q");
    client.ok(1, delete_queue("q").if_empty());
}

#[test]
fn conditions_do_not_apply_to_quorum_queues() {
    covers!("queue.quorum-conditional-delete");
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    client.declare(1, queue("q").durable().arg("x-queue-type", "quorum"));
    client.send(1, delete_queue("q").if_unused());
    let text = "NOT_IMPLEMENTED - cannot delete queue 'q' in vhost '/'. queue.delete operations \
                with if-unused flag set are not supported by quorum queues";
    client.expect_connection_close(540, text);
    other.send(1, delete_queue("q").if_empty());
    other.expect_connection_close(540, &text.replace("if-unused", "if-empty"));
}

#[test]
fn consumers_of_a_deleted_queue_are_told_if_they_understand() {
    let world = World::new();
    let client = world.client();
    let told = world.client();
    let untold = world.client_as(&Login { capabilities: vec![], ..Login::default() });
    client.declare(1, queue("q"));
    told.ok(1, consume("q", "a"));
    untold.ok(1, consume("q", "b"));
    client.ok(1, delete_queue("q"));
    let cancelled = leveret::protocol::method::basic::Cancel { consumer_tag: "a", nowait: true };
    told.expect(1, Method::BasicCancel(cancelled));
    told.expect_nothing();
    untold.expect_nothing();
    for client in [&told, &untold] {
        // The tags are free again.
        client.declare(1, queue("q"));
        client.ok(1, consume("q", "a"));
        client.ok(1, consume("q", "b"));
    }
}

#[test]
fn a_queue_deleted_and_declared_again_is_another_queue() {
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.direct", "k"));
    client.send(1, publish("", "q", "old"));
    other.ok(1, consume("q", "c"));
    other.messages(1, ["old"]);
    client.ok(1, delete_queue("q"));
    assert!(matches!(other.take(1).method(), Method::BasicCancel(_)));
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "new"));
    client.send(1, publish("amq.direct", "k", "unbound"));
    other.send(1, nack(1, Then::Requeue));
    assert_eq!(client.drain(1, "q"), ["new"]);
}

// ---- x-expires ----------------------------------------------------------------------------------

/// Whether the queue `q` is there, asked without using it: publishing does not count.
fn is_there(client: &Client) -> bool {
    client.send(1, publish("", "q", "x").mandatory());
    match client.next(1) {
        Some(returned) => {
            assert_eq!(returned.content().unwrap().reply, Some((312, "NO_ROUTE".into())));
            false
        }
        None => true,
    }
}

#[test]
fn an_unused_queue_expires() {
    covers!("queue.x-expires");
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-expires", 1_000));
    world.advance(600);
    client.send(1, publish("", "q", "publishing does not count"));
    world.advance(399);
    assert!(is_there(&client));
    world.advance(1);
    assert!(!is_there(&client));
    client.refused(1, get("q"), 404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn declaring_and_fetching_keep_a_queue_alive() {
    let world = World::new();
    let client = world.client();
    let gone = "NOT_FOUND - no queue 'q' in vhost '/'";
    let declaration = || queue("q").arg("x-expires", 1_000);
    client.declare(1, declaration());
    world.advance(900);
    client.declare(1, declaration());
    world.advance(900);
    assert_eq!(client.drain(1, "q"), [] as [&str; 0]);
    world.advance(900);
    client.declare(1, queue("q").passive());
    world.advance(999);
    assert!(is_there(&client));
    world.advance(1);
    client.refused(1, queue("q").passive(), 404, gone);
}

#[test]
fn a_queue_with_consumers_does_not_expire() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-expires", 1_000));
    client.ok(1, consume("q", "c"));
    world.advance(60_000);
    client.ok(1, cancel("c"));
    world.advance(999);
    assert!(is_there(&client));
    world.advance(1);
    client.refused(1, get("q"), 404, "NOT_FOUND - no queue 'q' in vhost '/'");
}
