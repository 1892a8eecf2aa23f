//! Leases: messages that are out with someone who is no channel, until a deadline. No protocol
//! offers them yet; triggers and other doors will.

use std::sync::Arc;

use leveret::broker::Now;
use leveret::broker::queue::leases::{Lease, LeaseEnd, LeaseHandle, LeaseRequest};
use leveret::broker::queue::{Effects, Queue};

use crate::support::*;

/// Does something to the queue `q`, and what is left to do after it.
fn with_queue<T>(world: &World, act: impl FnOnce(&Arc<Queue>, Now, &mut Effects) -> T) -> T {
    let (broker, now) = (world.broker(), world.now());
    let queue = broker.vhost("/").unwrap().queue(b"q").unwrap();
    let mut effects = Effects::default();
    let done = act(&queue, now, &mut effects);
    broker.finish(&mut effects, now);
    world.pump();
    done
}

fn lease(world: &World, messages_max: usize, for_ms: u64) -> Vec<Lease> {
    let asked = LeaseRequest { messages_max, bytes_max: u64::MAX, for_ms };
    with_queue(world, |queue, now, effects| queue.lease(asked, now, effects))
}

fn end(world: &World, handle: LeaseHandle, how: LeaseEnd) -> bool {
    with_queue(world, |queue, now, effects| queue.end_leases(&[(handle, how)], now, effects).0 == 1)
}

fn bodies(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| std::str::from_utf8(lease.message.body()).unwrap()).collect()
}

fn filled(declaration: QueueDeclare, of: &[&str]) -> (World, Client) {
    let world = World::new();
    let client = world.client();
    client.declare(1, declaration);
    for body in of {
        client.send(1, publish("", "q", body).with(props().persistent()));
    }
    (world, client)
}

#[test]
fn a_leased_message_is_out_until_it_is_settled() {
    let (world, client) = filled(queue("q").durable(), &["1", "2", "3"]);
    let leases = lease(&world, 2, 1_000);
    assert_eq!(bodies(&leases), ["1", "2"]);
    assert_eq!(client.depth(1, "q"), 1);
    assert!(end(&world, leases[0].handle, LeaseEnd::Settle));
    assert!(!end(&world, leases[0].handle, LeaseEnd::Settle), "it has ended");
    world.advance(999);
    assert_eq!(client.depth(1, "q"), 1);
    world.advance(1);
    let again = client.fetch(1, "q");
    assert_eq!((again.text(), again.redelivered), ("2", true));
    assert!(!end(&world, leases[1].handle, LeaseEnd::Settle), "its time was over");
    let world = world.restarted(0);
    assert_eq!(world.client().drain(1, "q"), ["2", "3"]);
}

#[test]
fn a_lease_can_be_extended_and_cut_short() {
    let (world, client) = filled(queue("q"), &["1"]);
    let [out] = lease(&world, 1, 1_000).try_into().unwrap();
    let extend = |for_ms| {
        with_queue(&world, |queue, now, effects| {
            queue.extend_lease(out.handle, for_ms, now, effects)
        })
    };
    world.advance(900);
    assert!(extend(5_000));
    world.advance(4_999);
    assert_eq!(client.depth(1, "q"), 0);
    world.advance(1);
    assert_eq!(client.depth(1, "q"), 1);
    assert!(!extend(10));
    let [out] = lease(&world, 1, 60_000).try_into().unwrap();
    let cut = |queue: &Arc<Queue>, now, effects: &mut Effects| {
        queue.extend_lease(out.handle, 10, now, effects)
    };
    assert!(with_queue(&world, cut));
    world.advance(10);
    assert_eq!(client.depth(1, "q"), 1);
}

#[test]
fn a_lease_stops_at_bytes_as_well_but_gives_one_in_any_case() {
    let (world, _client) = filled(queue("q"), &["12345", "12345", "12345"]);
    let asked = LeaseRequest { messages_max: 9, bytes_max: 6, for_ms: 100 };
    let ask = || with_queue(&world, |queue, now, effects| queue.lease(asked, now, effects)).len();
    assert_eq!((ask(), ask(), ask()), (2, 1, 0));
}

#[test]
fn what_comes_back_counts_against_the_delivery_limit_whoever_held_it() {
    let dying = queue("q").durable().arg("x-queue-type", "quorum").arg("x-delivery-limit", 2);
    let dying = dying.arg("x-dead-letter-exchange", "").arg("x-dead-letter-routing-key", "dead");
    let (world, client) = filled(dying, &["1"]);
    client.declare(1, queue("dead"));
    let [out] = lease(&world, 1, 100).try_into().unwrap();
    assert_eq!((out.deliveries, out.redelivered), (0, false));
    assert!(end(&world, out.handle, LeaseEnd::Return));
    let [out] = lease(&world, 1, 100).try_into().unwrap();
    assert_eq!((out.deliveries, out.redelivered), (1, true));
    world.advance(100);
    let held = client.fetch(1, "q");
    client.send(1, reject(held.delivery_tag, Then::Requeue));
    assert_eq!(client.drain(1, "dead"), ["1"]);
}

#[test]
fn what_is_rejected_is_dead_lettered_and_waiting_consumers_get_what_comes_back() {
    let dying = queue("q").arg("x-dead-letter-exchange", "");
    let dying = dying.arg("x-dead-letter-routing-key", "dead");
    let (world, client) = filled(dying, &["1", "2"]);
    client.declare(1, queue("dead"));
    let [first, second] = lease(&world, 2, 100).try_into().unwrap();
    client.ok(1, consume("q", "c"));
    client.expect_nothing();
    assert!(end(&world, first.handle, LeaseEnd::Reject));
    assert!(end(&world, second.handle, LeaseEnd::Return));
    client.messages(1, ["2"]);
    client.open(2);
    assert_eq!(client.drain(2, "dead"), ["1"]);
}

#[test]
fn a_leased_message_keeps_its_groups_next_one_back() {
    let (world, client) = filled(queue("q").arg("x-message-groups", true), &[]);
    for body in ["1", "2"] {
        client.send(1, publish("", "q", body).with(props().header("x-group-id", "g")));
    }
    let [out] = lease(&world, 9, 100).try_into().unwrap();
    assert!(end(&world, out.handle, LeaseEnd::Settle));
    assert_eq!(bodies(&lease(&world, 9, 100)), ["2"]);
}

#[test]
fn a_queue_that_is_deleted_ends_its_leases() {
    let (world, client) = filled(queue("q").durable(), &["1"]);
    let [out] = lease(&world, 1, 100).try_into().unwrap();
    let gone = world.broker().vhost("/").unwrap().queue(b"q").unwrap();
    client.ok(1, delete_queue("q"));
    let mut effects = Effects::default();
    let settled = gone.end_leases(&[(out.handle, LeaseEnd::Settle)], world.now(), &mut effects);
    assert_eq!(settled.0, 1);
    world.advance(100);
    client.declare(1, queue("q").durable());
    assert_eq!(client.depth(1, "q"), 0);
}
