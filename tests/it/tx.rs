//! Transactions: publishes and acknowledgements that take effect together.

use std::sync::Arc;

use leveret::covers;
use leveret::protocol::method::{Method, tx};
use leveret::store::faulty::{Faults, FaultyStore};

use crate::support::*;

const PERSISTENT: &[u8] = &[0x10, 0, 2];

/// A queue `q`, a client whose channel 1 is transactional, and another client.
fn transactional() -> (World, Client, Client) {
    let world = World::new();
    let (client, other) = (world.client(), world.client());
    other.declare(1, queue("q"));
    client.ok(1, tx_select());
    (world, client, other)
}

// ---- publishing ---------------------------------------------------------------------------------

#[test]
fn nobody_sees_what_is_not_committed() {
    let (_world, client, other) = transactional();
    other.declare(1, queue("r"));
    client.send(1, publish("", "q", "a"));
    client.send(1, publish("", "r", "b"));
    client.send(1, publish("", "q", "c"));
    assert_eq!((other.depth(1, "q"), other.depth(1, "r")), (0, 0));
    client.ok(1, tx_commit());
    assert_eq!(other.drain(1, "q"), ["a", "c"]);
    assert_eq!(other.drain(1, "r"), ["b"]);
}

#[test]
fn after_a_commit_the_next_transaction_begins() {
    let (_world, client, other) = transactional();
    client.ok(1, tx_commit());
    client.send(1, publish("", "q", "a"));
    client.ok(1, tx_commit());
    client.send(1, publish("", "q", "b"));
    assert_eq!(other.drain(1, "q"), ["a"]);
    client.ok(1, tx_select());
    client.ok(1, tx_commit());
    assert_eq!(other.drain(1, "q"), ["b"]);
}

#[test]
fn time_to_live_and_delay_begin_at_the_commit_also_after_a_restart() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable().arg("x-message-ttl", 1_000));
    client.declare(1, queue("late").durable());
    let delayed = exchange("delayed", "x-delayed-message").durable();
    client.ok(1, delayed.arg("x-delayed-type", "fanout"));
    client.ok(1, bind("late", "delayed", ""));
    client.ok(1, tx_select());
    client.send(1, publish("", "q", "short-lived").with(props().persistent()));
    let delay = props().persistent().header("x-delay", 1_000);
    client.send(1, publish("delayed", "", "delayed").with(delay));
    world.advance(900);
    client.ok(1, tx_commit());
    let world = world.restarted(900);
    let client = world.client();
    assert_eq!((client.depth(1, "q"), client.depth(1, "late")), (1, 0));
    world.advance(100);
    assert_eq!((client.depth(1, "q"), client.depth(1, "late")), (0, 1));
}

#[test]
fn a_rollback_forgets_what_was_published() {
    let (_world, client, other) = transactional();
    client.send(1, publish("", "q", "forgotten"));
    client.ok(1, tx_rollback());
    client.send(1, publish("", "q", "kept"));
    client.ok(1, tx_commit());
    assert_eq!(other.drain(1, "q"), ["kept"]);
}

#[test]
fn a_channel_that_ends_without_commit_forgets_what_was_published() {
    let (_world, client, other) = transactional();
    client.send(1, publish("", "q", "forgotten"));
    client.ok(1, close_channel());
    assert_eq!(other.depth(1, "q"), 0);
}

#[test]
fn what_is_unroutable_is_returned_at_the_commit() {
    let (_world, client, other) = transactional();
    client.send(1, publish("", "nowhere", "back").mandatory());
    client.send(1, publish("", "q", "there").mandatory());
    client.expect_nothing();
    client.send(1, tx_commit());
    let returned = client.message(1);
    assert_eq!(returned.text(), "back");
    assert_eq!(returned.reply, Some((312, "NO_ROUTE".into())));
    client.expect(1, Method::TxCommitOk(tx::CommitOk));
    assert_eq!(other.drain(1, "q"), ["there"]);
}

#[test]
fn mistakes_are_told_at_once() {
    let (_world, client, other) = transactional();
    client.send(1, publish("", "q", "lost"));
    client.send(1, publish("nothing", "", "x"));
    client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'nothing' in vhost '/'");
    assert_eq!(other.depth(1, "q"), 0);
}

#[test]
fn waiting_consumers_get_what_is_committed() {
    let (_world, client, other) = transactional();
    other.ok(1, consume("q", "c"));
    client.send_at_once(1, &[&publish("", "q", "a"), &publish("", "q", "b"), &tx_commit()]);
    client.expect(1, Method::TxCommitOk(tx::CommitOk));
    other.messages(1, ["a", "b"]);
}

#[test]
fn a_full_queue_that_refuses_makes_the_commit_fail() {
    covers!("tx.partial-completion");
    let (_world, client, other) = transactional();
    other.declare(1, queue("full").arg("x-max-length", 0).arg("x-overflow", "reject-publish"));
    client.send(1, publish("", "q", "part"));
    client.send(1, publish("", "full", "x"));
    client.send(1, tx_commit());
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - partial tx completion");
    assert_eq!(other.depth(1, "full"), 0);
}

#[test]
fn a_commit_drops_the_oldest_of_a_full_queue() {
    let (_world, client, other) = transactional();
    other.declare(1, queue("short").arg("x-max-length", 2));
    for body in ["a", "b", "c"] {
        client.send(1, publish("", "short", body));
    }
    client.ok(1, tx_commit());
    assert_eq!(other.drain(1, "short"), ["b", "c"]);
}

#[test]
fn a_publish_goes_where_it_led_when_it_was_sent() {
    let (_world, client, other) = transactional();
    other.declare(1, queue("r"));
    other.ok(1, bind("q", "amq.direct", "k"));
    client.send(1, publish("amq.direct", "k", "x"));
    other.ok(1, unbind("q", "amq.direct", "k"));
    other.ok(1, bind("r", "amq.direct", "k"));
    client.ok(1, tx_commit());
    assert_eq!(other.drain(1, "q"), ["x"]);
    assert_eq!(other.depth(1, "r"), 0);
}

#[test]
fn what_a_full_queue_refuses_at_the_commit_can_die_too() {
    let (_world, client, other) = transactional();
    other.declare(1, queue("dead"));
    let full = queue("full")
        .arg("x-max-length", 1)
        .arg("x-overflow", "reject-publish-dlx")
        .arg("x-dead-letter-exchange", "")
        .arg("x-dead-letter-routing-key", "dead");
    other.declare(1, full);
    client.send(1, publish("", "full", "taken"));
    client.send(1, publish("", "full", "refused"));
    client.send(1, tx_commit());
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - partial tx completion");
    assert_eq!(other.drain(1, "full"), ["taken"]);
    assert_eq!(other.drain(1, "dead"), ["refused"]);
}

// ---- acknowledging ------------------------------------------------------------------------------

#[test]
fn acknowledgements_take_effect_at_the_commit() {
    let (_world, client, other) = transactional();
    other.send(1, publish("", "q", "a"));
    other.send(1, publish("", "q", "b"));
    client.fetch(1, "q");
    client.fetch(1, "q");
    client.send(1, ack(1));
    client.ok(1, tx_commit());
    client.send(1, ack(2));
    client.vanish();
    assert_eq!(other.drain(1, "q"), ["b"]);
}

#[test]
fn a_rollback_undoes_acknowledgements_without_delivering_again() {
    let (_world, client, other) = transactional();
    for body in ["a", "b", "c"] {
        other.send(1, publish("", "q", body));
    }
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a", "b", "c"]);
    client.send(1, ack(2));
    client.send(1, nack(1, Then::Requeue));
    client.ok(1, tx_rollback());
    client.expect_nothing();
    assert_eq!(other.depth(1, "q"), 0);
    client.send(1, ack_up_to(3));
    client.ok(1, tx_commit());
    client.vanish();
    assert_eq!(other.depth(1, "q"), 0);
}

#[test]
fn a_tag_can_be_settled_once_in_a_transaction() {
    let (_world, client, other) = transactional();
    other.send(1, publish("", "q", "a"));
    client.fetch(1, "q");
    client.send(1, ack(1));
    client.send(1, ack(1));
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1");
    let back = other.fetch(1, "q");
    assert_eq!((back.text(), back.redelivered), ("a", true));
}

#[test]
fn refused_messages_come_back_at_the_commit() {
    let (_world, client, other) = transactional();
    for body in ["a", "b", "c"] {
        other.send(1, publish("", "q", body));
        client.fetch(1, "q");
    }
    client.send(1, reject(1, Then::Requeue));
    client.send(1, nack(2, Then::Discard));
    client.send(1, ack(3));
    assert_eq!(other.depth(1, "q"), 0);
    client.ok(1, tx_commit());
    assert_eq!(other.drain(1, "q"), ["a"]);
}

#[test]
fn credit_returns_at_the_commit() {
    let (_world, client, other) = transactional();
    for body in ["a", "b"] {
        other.send(1, publish("", "q", body));
    }
    client.ok(1, prefetch(1));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a"]);
    client.send(1, ack(1));
    client.expect_nothing();
    client.send(1, tx_commit());
    let received = [client.take(1), client.take(1)];
    assert!(received.iter().any(|it| it.method() == Method::TxCommitOk(tx::CommitOk)));
    assert!(received.iter().any(|it| it.content().is_some_and(|it| it.text() == "b")));
}

#[test]
fn shared_credit_returns_at_the_commit() {
    let (_world, client, other) = transactional();
    for body in ["a", "b", "c"] {
        other.send(1, publish("", "q", body));
    }
    client.ok(1, prefetch_shared(2));
    client.ok(1, consume("q", "c"));
    client.messages(1, ["a", "b"]);
    client.send(1, ack(1));
    client.send(1, reject(2, Then::Discard));
    client.expect_nothing();
    client.send(1, tx_commit());
    let received = [client.take(1), client.take(1)];
    assert!(received.iter().any(|it| it.content().is_some_and(|it| it.text() == "c")));
}

// ---- mode ---------------------------------------------------------------------------------------

#[test]
fn a_confirming_channel_cannot_be_transactional() {
    covers!("tx.on-confirm-channel");
    let world = World::new();
    let client = world.client();
    client.ok(1, confirm_select());
    client.send(1, tx_select());
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    assert_eq!(client.expect_channel_close(1, 406, text), (90, 10));
}

#[test]
fn there_is_nothing_to_commit_or_roll_back_without_select() {
    covers!("tx.not-selected");
    let world = World::new();
    let client = world.client();
    let text = "PRECONDITION_FAILED - channel is not transactional";
    client.refused(1, tx_commit(), 406, text);
    client.refused(1, tx_rollback(), 406, text);
}

// ---- not before it is safe ----------------------------------------------------------------------

#[test]
fn a_commit_is_answered_once_it_is_on_disk() {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    for name in ["q", "r"] {
        client.send(1, queue(name).durable());
        disk.sync();
        world.pump();
        assert!(client.next(1).is_some());
    }
    client.ok(1, tx_select());
    client.send(1, publish("", "q", "a").with_bytes(PERSISTENT));
    client.send(1, publish("", "r", "b").with_bytes(PERSISTENT));
    client.send(1, tx_commit());
    client.expect_nothing();
    assert_eq!(disk.unsynced(), 1, "both queues change in one batch");
    disk.sync();
    world.pump();
    client.expect(1, Method::TxCommitOk(tx::CommitOk));
}

/// A client on a disk with these queues, each of which holds a message that the client, now in a
/// transaction, has fetched.
fn holding_one_of_each(
    declarations: &[QueueDeclare],
    names: &[&str],
) -> (World, Arc<FaultyStore>, Client) {
    let (world, disk) = World::on_disk(Faults::default());
    let client = world.client();
    for declaration in declarations {
        client.send(1, declaration.clone());
        disk.sync();
        world.pump();
        assert!(client.next(1).is_some());
    }
    client.ok(1, tx_select());
    for name in names {
        let other = world.client();
        other.send(1, publish("", name, *name).with_bytes(PERSISTENT));
        client.fetch(1, name);
    }
    disk.sync();
    (world, disk, client)
}

#[test]
fn what_a_commit_rejects_is_in_its_batch() {
    let queues = ["q", "r", "s"].map(|name| queue(name).durable());
    let (world, disk, client) = holding_one_of_each(&queues, &["q", "r", "s"]);
    client.send(1, reject(1, Then::Discard));
    client.send(1, nack(2, Then::Requeue));
    client.send(1, ack(3));
    client.send(1, publish("", "s", "new").with_bytes(PERSISTENT));
    client.send(1, tx_commit());
    client.expect_nothing();
    assert_eq!(disk.unsynced(), 1);
    disk.sync();
    world.pump();
    client.expect(1, Method::TxCommitOk(tx::CommitOk));
    let other = world.client();
    assert_eq!(other.depth(1, "q"), 0);
    assert_eq!(other.drain(1, "r"), ["r"]);
    assert_eq!(other.drain(1, "s"), ["new"]);
}

#[test]
fn a_commit_is_answered_once_its_dead_letters_have_moved() {
    let mortal = queue("q")
        .durable()
        .arg("x-dead-letter-exchange", "")
        .arg("x-dead-letter-routing-key", "dead");
    let (world, disk, client) = holding_one_of_each(&[queue("dead").durable(), mortal], &["q"]);
    client.send(1, reject(1, Then::Discard));
    client.send(1, tx_commit());
    client.expect_nothing();
    disk.sync();
    world.pump();
    client.expect(1, Method::TxCommitOk(tx::CommitOk));
    assert_eq!(world.client().drain(1, "dead"), ["q"]);
}
