//! Queues that go by themselves, and what keeps them after all.

use leveret::broker::Now;
use leveret::broker::queue::{DeleteCondition, Effects};

use crate::support::*;

/// What the node does once it has decided that `q` may go: someone may have come in between.
fn delete_after_all(world: &World, condition: DeleteCondition) {
    let broker = world.broker();
    let queue = broker.vhost("/").unwrap().queue(b"q").unwrap();
    let mut effects = Effects::default();
    broker.delete_gone_queue(&queue, condition, &mut effects);
    let now = Now { mono_ms: 0, unix_ms: world.unix_s() * 1_000 };
    broker.finish(&mut effects, now);
    world.pump();
}

#[test]
fn an_auto_delete_queue_stays_for_a_consumer_that_came_as_the_last_one_went() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").auto_delete());
    client.ok(1, consume("q", "c"));
    delete_after_all(&world, DeleteCondition::Abandoned);
    client.send(1, publish("", "q", "x"));
    client.messages(1, ["x"]);
    client.ok(1, cancel("c"));
    assert!(world.broker().vhost("/").unwrap().queue(b"q").is_none());
}

#[test]
fn a_queue_that_is_used_as_it_expires_stays() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-expires", 1_000));
    world.advance(999);
    client.declare(1, queue("q").passive());
    let expired = Now { mono_ms: 0, unix_ms: world.unix_s() * 1_000 + 1_000 };
    delete_after_all(&world, DeleteCondition::Expired(expired));
    client.declare(1, queue("q").passive());
    world.advance(1_000);
    let text = "NOT_FOUND - no queue 'q' in vhost '/'";
    client.refused(1, queue("q").passive(), 404, text);
}
