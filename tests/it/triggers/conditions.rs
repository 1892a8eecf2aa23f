//! When triggers fire.

use leveret::broker::trigger::run::Verdict;
use serde_json::json;

use super::*;

#[test]
fn an_idle_queues_first_message_is_handed_over() {
    let (world, client) = filled(&[]);
    set(&world, json!({"type": "first"}), json!({}));
    nothing_to_run(&world);
    send(&client, &["1"]);
    let run = must_take(&world);
    assert_eq!(bodies(&run), ["1"]);
    assert_eq!((&*run.queue, &*run.trigger, &*run.vhost), ("q", "t", "/"));
    assert_eq!((run.cause.condition.as_str(), run.cause.ready), ("first", 1));
    assert_eq!(client.depth(1, "q"), 0);
    end(&world, &run, Verdict::Ack);
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 0);
    let world = world.restarted(0);
    assert_eq!(world.client().depth(1, "q"), 0, "it is settled");
}

/// Fifty of a low priority count for nothing, and nine are not ten.
fn ten_of_a_priority(declared: QueueDeclare) {
    let world = World::new();
    let client = world.client();
    client.declare(1, declared);
    let condition = json!({"type": "depth", "count": 10, "min_priority": 5});
    set(&world, condition, json!({"batch_max": 100}));
    for at in 0..50 {
        send_with_priority(&client, 4, &[&format!("low {at}")]);
    }
    for at in 0..9 {
        send_with_priority(&client, 5 + at % 5, &[&format!("high {at}")]);
    }
    nothing_to_run(&world);
    let missing = explain(&world).conditions[0].missing.clone();
    assert_eq!(missing.as_deref(), Some("1 more messages"));
    send_with_priority(&client, 5, &["the tenth"]);
    let run = must_take(&world);
    nothing_to_run(&world);
    let mut high = bodies(&run);
    assert_eq!((high.len(), run.cause.ready), (10, 10));
    high.retain(|body| body.starts_with("low"));
    assert!(high.is_empty(), "{high:?}");
    end(&world, &run, Verdict::Ack);
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 50);
}

#[test]
fn ten_messages_of_a_priority_fire_in_a_queue_with_priorities() {
    ten_of_a_priority(queue("q").durable().arg("x-max-priority", 9));
}

#[test]
fn ten_messages_of_a_priority_fire_in_a_queue_that_does_not_order_by_it() {
    ten_of_a_priority(queue("q").durable());
}

#[test]
fn a_priority_above_the_queues_highest_is_the_messages_own() {
    ten_of_a_priority(queue("q").durable().arg("x-max-priority", 3));
}

#[test]
fn any_ten_messages_fire_and_are_handed_over_in_batches() {
    let (world, client) = filled(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    set(&world, json!({"type": "depth", "count": 10}), json!({"batch_max": 4}));
    nothing_to_run(&world);
    send(&client, &["10"]);
    let mut handed = Vec::new();
    while let Some(run) = take(&world) {
        handed.push(run.messages.len());
        end(&world, &run, Verdict::Ack);
        send(&client, &["later"]);
    }
    assert_eq!(handed, [4, 4, 4], "the last batch is filled with what has come meanwhile");
    assert_eq!(client.depth(1, "q"), 1, "what came later still begins anew");
    assert_eq!(explain(&world).view.counts.fired, 1);
}

#[test]
fn fewer_fire_once_the_oldest_has_waited_long_enough() {
    let (world, client) = filled(&[]);
    let condition = json!({"type": "depth", "count": 10, "max_wait_ms": 2_000});
    set(&world, condition, json!({"batch_max": 10}));
    send(&client, &["1"]);
    world.advance(500);
    send(&client, &["2", "3"]);
    world.advance(1_499);
    nothing_to_run(&world);
    world.advance(1);
    assert_eq!(bodies(&must_take(&world)), ["1", "2", "3"]);
}

#[test]
fn the_wait_of_a_priority_begins_with_its_own_oldest_message() {
    let (world, client) = filled(&[]);
    let condition = json!({"type": "depth", "count": 10, "min_priority": 5, "max_wait_ms": 2_000});
    set(&world, condition, json!({"batch_max": 10}));
    send(&client, &["low"]);
    world.advance(1_000);
    send_with_priority(&client, 7, &["high"]);
    world.advance(1_990);
    nothing_to_run(&world);
    world.advance(30);
    assert_eq!(bodies(&must_take(&world)), ["high"]);
    assert_eq!(client.drain(1, "q"), ["low"]);
}

#[test]
fn what_a_transaction_publishes_counts_once_it_is_committed() {
    let (world, client) = filled(&[]);
    set(&world, json!({"type": "depth", "count": 2}), json!({"batch_max": 10}));
    client.ok(1, tx_select());
    send(&client, &["1", "2"]);
    nothing_to_run(&world);
    client.ok(1, tx_rollback());
    nothing_to_run(&world);
    send(&client, &["3", "4"]);
    nothing_to_run(&world);
    client.ok(1, tx_commit());
    assert_eq!(bodies(&must_take(&world)), ["3", "4"]);
}

#[test]
fn while_somebody_consumes_first_does_not_fire_and_does_when_they_leave_a_backlog() {
    let (world, client) = filled(&[]);
    set(&world, json!({"type": "first"}), json!({"mode": "notify"}));
    let worker = world.client();
    worker.ok(1, prefetch(1));
    worker.ok(1, consume("q", "c"));
    send(&client, &["1", "2"]);
    nothing_to_run(&world);
    let explained = explain(&world);
    assert!(explained.holds);
    assert_eq!(explained.missing, ["it fires only without consumers, and the queue has 1"]);
    worker.vanish();
    let run = must_take(&world);
    assert!(run.messages.is_empty());
    assert_eq!((run.cause.ready, client.depth(1, "q")), (2, 2));
}

#[test]
fn a_notified_program_that_leaves_messages_is_started_again() {
    let (world, client) = filled(&["1", "2"]);
    set(&world, json!({"type": "first"}), json!({"mode": "notify"}));
    let run = must_take(&world);
    nothing_to_run(&world);
    client.fetch(1, "q");
    client.send(1, ack(1));
    end(&world, &run, Verdict::Ack);
    let run = must_take(&world);
    assert_eq!(client.fetch(1, "q").text(), "2");
    end(&world, &run, Verdict::Ack);
    nothing_to_run(&world);
    assert_eq!(state(&world), "armed");
}

#[test]
fn every_starts_once_for_each_message_and_again_for_one_that_comes_back() {
    let (world, client) = filled(&["1", "2"]);
    set(&world, json!({"type": "every"}), json!({"mode": "notify", "concurrency": 5}));
    let (first, second) = (must_take(&world), must_take(&world));
    nothing_to_run(&world);
    send(&client, &["3"]);
    let third = must_take(&world);
    for run in [&first, &second, &third] {
        end(&world, run, Verdict::Ack);
    }
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 3, "they were told of, whatever they did");
    let lost = client.fetch(1, "q");
    client.send(1, reject(lost.delivery_tag, Then::Requeue));
    end(&world, &must_take(&world), Verdict::Ack);
    nothing_to_run(&world);
    let world = world.restarted(0);
    for _ in 0..3 {
        end(&world, &must_take(&world), Verdict::Ack);
    }
    nothing_to_run(&world);
}

#[test]
fn a_filter_leaves_what_does_not_match_alone() {
    let (world, client) = filled(&["plain"]);
    let filter = json!({"type": "every", "filter": {"kind": "reset", "urgent": null}});
    set(&world, filter, json!({"batch_max": 10}));
    let with = |kind: &str, urgent: bool| {
        let headers = props().persistent().header("kind", kind);
        if urgent { headers.header("urgent", 1) } else { headers }
    };
    for (body, kind, urgent) in
        [("a", "reset", true), ("b", "news", true), ("c", "reset", false), ("d", "reset", true)]
    {
        client.send(1, publish("", "q", body).with(with(kind, urgent)));
    }
    let run = must_take(&world);
    assert_eq!(bodies(&run), ["a", "d"]);
    nothing_to_run(&world);
    client.ok(1, purge("q"));
    end(&world, &run, Verdict::Failed);
    world.advance(1_000);
    let again = must_take(&world);
    assert_eq!(bodies(&again), ["a", "d"], "a purge takes what waits, not what is out");
    let world = world.restarted(0);
    assert_eq!(world.client().drain(1, "q"), ["a", "d"]);
}

#[test]
fn age_rate_and_absence_of_consumers_fire_when_their_time_has_come() {
    let (world, client) = filled(&["1"]);
    let leave = json!({"mode": "notify"});
    for (condition, waits_ms) in [
        (json!({"type": "age", "age_ms": 3_000}), 3_000),
        (json!({"type": "no_consumers", "for_ms": 5_000}), 2_000),
    ] {
        set(&world, condition, leave.clone());
        world.advance(waits_ms - 1);
        nothing_to_run(&world);
        world.advance(1);
        end(&world, &must_take(&world), Verdict::Ack);
    }
    set(&world, json!({"type": "rate", "count": 3, "window_ms": 1_000}), leave);
    send(&client, &["2", "3"]);
    world.advance(1_001);
    send(&client, &["4", "5"]);
    nothing_to_run(&world);
    send(&client, &["6"]);
    end(&world, &must_take(&world), Verdict::Ack);
}

#[test]
fn a_schedule_fires_at_its_times_if_there_is_a_message() {
    let (world, client) = filled(&[]);
    // Worlds begin at 11:06:40 UTC.
    set(&world, json!({"type": "schedule", "daily_at": "12:00"}), json!({}));
    let to_noon_ms = (53 * 60 + 20) * 1_000;
    world.advance(to_noon_ms + 1);
    send(&client, &["late"]);
    nothing_to_run(&world);
    world.advance(86_400_000 - 2);
    nothing_to_run(&world);
    world.advance(1);
    let run = must_take(&world);
    assert_eq!(bodies(&run), ["late"]);
    end(&world, &run, Verdict::Ack);
    set(&world, json!({"type": "schedule", "every_ms": 60_000}), json!({}));
    send(&client, &["soon"]);
    world.advance(59_999);
    nothing_to_run(&world);
    world.advance(1);
    assert_eq!(bodies(&must_take(&world)), ["soon"]);
}

#[test]
fn conditions_are_joined() {
    let (world, client) = filled(&["1"]);
    let any = json!({"type": "any_of", "of": [
        {"type": "depth", "count": 3},
        {"type": "all_of", "of": [
            {"type": "age", "age_ms": 1_000},
            {"type": "no_consumers", "for_ms": 2_000},
        ]},
    ]});
    set(&world, any, json!({"mode": "notify"}));
    world.advance(1_500);
    nothing_to_run(&world);
    let explained = explain(&world);
    let held: Vec<_> = explained.conditions.iter().map(|it| (it.depth, it.holds)).collect();
    assert_eq!(held, [(0, false), (1, false), (1, false), (2, true), (2, false)]);
    assert_eq!(explained.conditions[1].missing.as_deref(), Some("2 more messages"));
    assert_eq!(explained.conditions[4].missing.as_deref(), Some("500 ms"));
    world.advance(500);
    end(&world, &must_take(&world), Verdict::Ack);
    let worker = world.client();
    worker.ok(1, prefetch(1));
    worker.ok(1, consume("q", "c"));
    worker.vanish();
    send(&client, &["2", "3"]);
    end(&world, &must_take(&world), Verdict::Ack);
}

#[test]
fn what_was_left_to_the_store_before_counts_too() {
    let world = World::with_queue_memory(20_000);
    let client = world.client();
    client.declare(1, queue("q").durable());
    let large = "x".repeat(1_000);
    for at in 0..100_u8 {
        let priority = if at % 10 == 9 { 5 } else { 1 };
        send_with_priority(&client, priority, &[&large]);
    }
    let paged_out = |world: &World| {
        let vhost = world.broker().vhost("/").unwrap();
        vhost.queue(b"q").unwrap().view().messages_paged_out
    };
    assert!(paged_out(&world) > 50);
    let with = json!({"batch_max": 100});
    set(&world, json!({"type": "depth", "count": 11, "min_priority": 5}), with);
    let present = |world: &World| explain(world).conditions[0].present;
    assert_eq!(present(&world), 10);
    let world = world.restarted(0);
    let client = world.client();
    assert!(paged_out(&world) > 50);
    assert_eq!(present(&world), 10);
    for _ in 0..50 {
        client.fetch(1, "q");
    }
    assert_eq!(present(&world), 5);
    client.vanish();
    assert_eq!(present(&world), 10);
    nothing_to_run(&world);
    let client = world.client();
    send_with_priority(&client, 5, &["the eleventh"]);
    let run = must_take(&world);
    assert_eq!((run.messages.len(), run.cause.ready), (11, 11));
    assert_eq!((present(&world), client.depth(1, "q")), (0, 90));
    client.ok(1, purge("q"));
    end(&world, &run, Verdict::Failed);
    assert_eq!((present(&world), client.depth(1, "q")), (0, 0));
}
