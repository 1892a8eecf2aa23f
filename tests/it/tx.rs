//! Transactions: publishes and acknowledgements that take effect together.

use leveret::covers;
use leveret::protocol::method::{Method, tx};
use leveret::store::faulty::Faults;

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
