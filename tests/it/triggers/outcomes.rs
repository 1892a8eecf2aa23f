//! What becomes of messages that were handed over.

use leveret::broker::trigger::run::{Outcome, Verdict, Verdicts};
use serde_json::json;

use super::*;

#[test]
fn a_message_whose_attempts_have_all_failed_is_dead_lettered_with_the_reason() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("dead"));
    let lettered = queue("q").arg("x-dead-letter-exchange", "");
    client.declare(1, lettered.arg("x-dead-letter-routing-key", "dead"));
    set(&world, json!({"type": "every"}), json!({"attempts_max": 3, "retry_delay_ms": 500}));
    send(&client, &["1"]);
    for attempt in 1..=3 {
        let run = must_take(&world);
        assert_eq!((run.messages[0].attempt, run.batch_attempt), (attempt, attempt));
        assert_eq!(run.messages[0].redelivered, attempt > 1);
        end(&world, &run, Verdict::Failed);
        nothing_to_run(&world);
        world.advance(499);
        nothing_to_run(&world);
        world.advance(1);
    }
    nothing_to_run(&world);
    let dead = client.fetch(1, "dead");
    assert_eq!(dead.header("x-first-death-reason"), Some(text("delivery_limit")));
    let runs = explain(&world).view.trigger.tally.last_runs();
    let exits: Vec<_> = runs.iter().map(|run| (run.result, run.exit.as_str())).collect();
    assert_eq!(exits, [("failed", "exit code 1"); 3]);
    assert_eq!(runs[0].stderr_tail, "what it wrote");
}

#[test]
fn to_be_tried_again_later_is_no_failed_attempt_and_holds_no_other_message_up() {
    let (world, client) = filled(&["grey"]);
    set(&world, json!({"type": "every"}), json!({"attempts_max": 1}));
    let names: Vec<_> = (0..5)
        .map(|_| {
            let run = must_take(&world);
            assert_eq!((bodies(&run), run.messages[0].attempt), (vec!["grey"], 1));
            end(&world, &run, Verdict::Retry { delay_ms: Some(60_000) });
            send(&client, &["other"]);
            let other = must_take(&world);
            assert_eq!(bodies(&other), ["other"]);
            end(&world, &other, Verdict::Ack);
            world.advance(60_000);
            run.messages[0].id
        })
        .collect();
    assert!(names.windows(2).all(|pair| pair[0] == pair[1]), "its name stays");
    end(&world, &must_take(&world), Verdict::Ack);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn each_message_of_a_batch_has_its_own_fate() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("dead"));
    let lettered = queue("q").arg("x-dead-letter-exchange", "");
    client.declare(1, lettered.arg("x-dead-letter-routing-key", "dead"));
    send(&client, &["done", "later", "bad", "failed", "sooner", "unsaid"]);
    set(&world, json!({"type": "first"}), json!({"batch_max": 10, "retry_delay_ms": 1_000}));
    let run = must_take(&world);
    let verdicts = vec![
        Verdict::Ack,
        Verdict::Retry { delay_ms: Some(5_000) },
        Verdict::Reject,
        Verdict::Failed,
        Verdict::Retry { delay_ms: Some(100) },
    ];
    ended(&world, &run, Verdicts::Each(verdicts));
    let dead = client.fetch(1, "dead");
    assert_eq!(dead.header("x-first-death-reason"), Some(text("rejected")));
    for (wait_ms, due) in
        [(100, &["sooner"][..]), (900, &["failed", "unsaid"]), (4_000, &["later"])]
    {
        nothing_to_run(&world);
        world.advance(wait_ms);
        let run = must_take(&world);
        assert_eq!((bodies(&run), run.batch_attempt), (due.to_vec(), 2));
        end(&world, &run, Verdict::Ack);
    }
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn what_cannot_be_started_leaves_the_messages_as_they_were_until_it_can() {
    let (world, client) = filled(&["1", "2"]);
    set(&world, json!({"type": "depth", "count": 2}), json!({"batch_max": 10}));
    let reason = "program 'p': no such program".to_owned();
    let run = must_take(&world);
    outcome(&world, &run, Outcome::CouldNotStart { reason: reason.clone() });
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 2);
    let explained = explain(&world);
    assert_eq!((explained.view.state, explained.view.reason), ("error", Some(reason)));
    assert!(explained.missing[0].starts_with("error for another 5000 ms: program 'p'"));
    assert!(!client.fetch(1, "q").redelivered);
    client.send(1, nack(1, Then::Requeue));
    world.broker().programs_changed(world.now());
    let run = must_take(&world);
    assert_eq!(bodies(&run), ["1", "2"]);
    let reason = "still not".to_owned();
    outcome(&world, &run, Outcome::CouldNotStart { reason });
    world.advance(4_999);
    nothing_to_run(&world);
    world.advance(1);
    let run = must_take(&world);
    end(&world, &run, Verdict::Ack);
    assert_eq!((client.depth(1, "q"), state(&world)), (0, "armed"));
}

#[test]
fn a_killed_broker_hands_what_was_out_over_again() {
    let (world, _client) = filled(&["1", "2", "3"]);
    set(&world, json!({"type": "first"}), json!({"batch_max": 2}));
    let run = must_take(&world);
    assert_eq!(bodies(&run), ["1", "2"]);
    end(&world, &run, Verdict::Retry { delay_ms: None });
    world.advance(1_000);
    let _under_way = must_take(&world);
    let world = world.restarted(0);
    let run = must_take(&world);
    assert_eq!(bodies(&run), ["1", "2"]);
    assert!(run.messages.iter().all(|handed| handed.redelivered));
    end(&world, &run, Verdict::Ack);
    end(&world, &must_take(&world), Verdict::Ack);
    assert_eq!(world.restarted(0).client().depth(1, "q"), 0);
}

#[test]
fn a_node_that_stops_gives_messages_back() {
    let (world, client) = filled(&["1"]);
    set(&world, json!({"type": "every"}), json!({"attempts_max": 1}));
    let run = must_take(&world);
    outcome(&world, &run, Outcome::Stopped);
    let back = client.fetch(1, "q");
    assert_eq!((back.text(), back.redelivered), ("1", true));
}

#[test]
fn no_more_run_at_once_than_may_and_each_message_is_handed_over_once() {
    let (world, client) = filled(&[]);
    let with = json!({"concurrency": 4, "starts_max": 1_000_000});
    set(&world, json!({"type": "every"}), with);
    let mut handed = Vec::new();
    let mut running = std::collections::VecDeque::new();
    for round in 0..1_000 {
        let of: Vec<_> = (0..10).map(|at| format!("{}", round * 10 + at)).collect();
        send(&client, &of.iter().map(String::as_str).collect::<Vec<_>>());
        for _ in 0..10 {
            while let Some(run) = take(&world) {
                running.push_back(run);
            }
            assert_eq!(running.len(), 4.min(running.len()), "never a fifth");
            // Whoever began last ends first now and then.
            let run = if round % 3 == 0 { running.pop_back() } else { running.pop_front() };
            let run = run.unwrap();
            handed.extend(bodies(&run).iter().map(|body| body.parse::<u32>().unwrap()));
            end(&world, &run, Verdict::Ack);
        }
    }
    handed.sort_unstable();
    assert_eq!(handed, (0..10_000).collect::<Vec<_>>());
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn of_a_group_one_message_is_out_at_a_time() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").arg("x-message-groups", true));
    for (body, group) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
        client.send(1, publish("", "q", body).with(props().header("x-group-id", group)));
    }
    set(&world, json!({"type": "every"}), json!({"concurrency": 10}));
    let (a1, b1) = (must_take(&world), must_take(&world));
    assert_eq!((bodies(&a1), bodies(&b1)), (vec!["a1"], vec!["b1"]));
    nothing_to_run(&world);
    end(&world, &a1, Verdict::Failed);
    nothing_to_run(&world);
    world.advance(1_000);
    let a1 = must_take(&world);
    assert_eq!(bodies(&a1), ["a1"]);
    end(&world, &a1, Verdict::Ack);
    assert_eq!(bodies(&must_take(&world)), ["a2"]);
    nothing_to_run(&world);
    end(&world, &b1, Verdict::Ack);
    assert_eq!(bodies(&must_take(&world)), ["b2"]);
}
