//! What triggers are doing: switched on and off, pausing, going in circles.

use leveret::broker::trigger::run::{Ended, Exit, Outcome, Verdict, Verdicts};
use serde_json::json;

use super::*;

fn enable(world: &World, enabled: bool) {
    let (broker, now) = (world.broker(), world.now());
    let mut effects = Effects::default();
    let vhost = broker.vhost("/").unwrap();
    assert!(broker.enable_trigger(&vhost, "t", enabled, now, &mut effects).is_some());
    broker.finish(&mut effects, now);
    world.pump();
}

#[test]
fn a_disabled_trigger_does_nothing_until_it_is_enabled_even_after_a_restart() {
    let (world, client) = filled(&["1"]);
    set(&world, json!({"type": "first"}), json!({}));
    let run = must_take(&world);
    end(&world, &run, Verdict::Failed);
    enable(&world, false);
    assert_eq!((state(&world), client.depth(1, "q")), ("disabled", 1));
    world.advance(100_000);
    nothing_to_run(&world);
    let world = world.restarted(0);
    assert_eq!(state(&world), "disabled");
    nothing_to_run(&world);
    enable(&world, true);
    assert_eq!(bodies(&must_take(&world)), ["1"]);
    assert_eq!(state(&world), "running");
}

#[test]
fn one_shot_hands_over_what_it_fired_for_and_is_disabled() {
    let (world, client) = filled(&["1", "2"]);
    set(&world, json!({"type": "depth", "count": 3}), json!({"one_shot": true}));
    send(&client, &["3"]);
    for body in ["1", "2", "3"] {
        let run = must_take(&world);
        assert_eq!((bodies(&run), state(&world)), (vec![body], "disabled"));
        send(&client, &["more"]);
        end(&world, &run, Verdict::Ack);
    }
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 3);
    let world = world.restarted(0);
    nothing_to_run(&world);
    enable(&world, true);
    assert_eq!(bodies(&must_take(&world)), ["more"]);
}

#[test]
fn what_one_shot_owes_is_handed_over_after_a_restart_and_no_more() {
    let (world, client) = filled(&["1", "2", "3", "4", "5"]);
    set(&world, json!({"type": "depth", "count": 6}), json!({"one_shot": true, "batch_max": 2}));
    send(&client, &["6"]);
    end(&world, &must_take(&world), Verdict::Ack);
    let failed = must_take(&world);
    end(&world, &failed, Verdict::Failed);
    send(&client, &["later", "and", "so", "on", "and", "on"]);
    let _under_way = must_take(&world);
    assert_eq!(state(&world), "disabled");

    let world = world.restarted(0);
    assert_eq!(state(&world), "disabled");
    for expected in [["3", "4"], ["5", "6"]] {
        let run = must_take(&world);
        assert_eq!(bodies(&run), expected);
        end(&world, &run, Verdict::Ack);
    }
    nothing_to_run(&world);
    let world = world.restarted(0);
    nothing_to_run(&world);
    assert_eq!(world.client().depth(1, "q"), 6, "it owes nothing any more");
}

#[test]
fn what_is_owed_ends_with_the_queue_or_with_another_definition() {
    let fired = || {
        let (world, client) = filled(&["1", "2"]);
        set(&world, json!({"type": "depth", "count": 2}), json!({"one_shot": true}));
        let _under_way = must_take(&world);
        (world, client)
    };
    let (world, client) = fired();
    client.ok(1, delete_queue("q"));
    client.declare(1, queue("q").durable());
    send(&client, &["other"]);
    nothing_to_run(&world);
    nothing_to_run(&world.restarted(0));
    let (world, _client) = fired();
    set(&world, json!({"type": "depth", "count": 2}), json!({"enabled": false}));
    nothing_to_run(&world);
    nothing_to_run(&world.restarted(0));
}

#[test]
fn one_start_is_owed_until_its_program_has_ended_well() {
    let (world, _client) = filled(&["1"]);
    let with = json!({"mode": "notify", "one_shot": true, "retry_delay_ms": 100});
    set(&world, json!({"type": "first"}), with);
    let reason = "program 'p': no such program".to_owned();
    outcome(&world, &must_take(&world), Outcome::CouldNotStart { reason });
    nothing_to_run(&world);
    world.advance(5_000);
    end(&world, &must_take(&world), Verdict::Failed);
    nothing_to_run(&world);
    world.advance(60_000);
    let _under_way = must_take(&world);
    let world = world.restarted(0);
    end(&world, &must_take(&world), Verdict::Ack);
    nothing_to_run(&world);
    nothing_to_run(&world.restarted(0));
}

#[test]
fn a_program_that_is_started_in_circles_pauses_longer_each_time() {
    let (world, _client) = filled(&["1"]);
    let with = json!({"mode": "notify", "starts_max": 3, "starts_interval_ms": 1_000});
    set(&world, json!({"type": "first"}), with);
    let circles = |world: &World| {
        let mut starts = 0;
        while let Some(run) = take(world) {
            end(world, &run, Verdict::Ack);
            starts += 1;
        }
        starts
    };
    assert_eq!(circles(&world), 3);
    let explained = explain(&world);
    assert_eq!(explained.view.state, "backoff");
    let reason = "3 starts within 1000 ms settled nothing";
    assert_eq!(explained.view.reason.as_deref(), Some(reason));
    for pause_ms in [1_000, 2_000, 4_000] {
        world.advance(pause_ms - 1);
        nothing_to_run(&world);
        world.advance(1);
        assert_eq!(circles(&world), 3);
    }
}

#[test]
fn runs_that_get_something_done_are_no_circle() {
    let (world, client) = filled(&[]);
    set(&world, json!({"type": "every"}), json!({"starts_max": 3}));
    for _ in 0..20 {
        send(&client, &["1"]);
        end(&world, &must_take(&world), Verdict::Ack);
    }
    assert_eq!(state(&world), "armed");
}

#[test]
fn a_notified_program_that_fails_is_started_again_after_a_growing_pause() {
    let (world, _client) = filled(&["1"]);
    set(&world, json!({"type": "every"}), json!({"mode": "notify"}));
    for pause_ms in [1_000, 2_000, 4_000] {
        end(&world, &must_take(&world), Verdict::Failed);
        assert_eq!(state(&world), "backoff");
        world.advance(pause_ms - 1);
        nothing_to_run(&world);
        world.advance(1);
    }
    end(&world, &must_take(&world), Verdict::Ack);
    nothing_to_run(&world);
}

#[test]
fn after_a_run_it_pauses_as_long_as_it_is_told_to() {
    let (world, _client) = filled(&["1", "2"]);
    set(&world, json!({"type": "every"}), json!({"cooldown_ms": 700}));
    end(&world, &must_take(&world), Verdict::Ack);
    assert_eq!(state(&world), "cooldown");
    world.advance(699);
    nothing_to_run(&world);
    world.advance(1);
    assert_eq!(bodies(&must_take(&world)), ["2"]);
}

fn webhook(verdict: Verdict, status: u16, disable: bool, pause_ms: Option<u64>) -> Outcome {
    let (stderr_tail, took_ms) = (String::new(), 7);
    let (verdicts, exit) = (Verdicts::All(verdict), Exit::Status(status));
    Outcome::Ended(Ended { verdicts, exit, stderr_tail, took_ms, disable, pause_ms })
}

#[test]
fn a_receiver_that_is_not_ready_gets_nothing_else_meanwhile() {
    let (world, client) = filled(&["1", "2"]);
    set(&world, json!({"type": "every"}), json!({}));
    let run = must_take(&world);
    let retry = Verdict::Retry { delay_ms: Some(5_000) };
    outcome(&world, &run, webhook(retry, 503, false, Some(5_000)));
    nothing_to_run(&world);
    assert_eq!(explain(&world).view.reason.as_deref(), Some("status 503: not ready for anything"));
    world.advance(4_999);
    nothing_to_run(&world);
    world.advance(1);
    let again = must_take(&world);
    assert_eq!((bodies(&again), again.batch_attempt), (vec!["1"], 2));
    assert_eq!(again.messages[0].id, run.messages[0].id);
    outcome(&world, &again, webhook(Verdict::Failed, 410, true, None));
    assert_eq!((state(&world), client.depth(1, "q")), ("disabled", 2));
    world.advance(100_000);
    nothing_to_run(&world);
    assert_eq!(client.drain(1, "q"), ["1", "2"]);
}

#[test]
fn a_changed_definition_goes_on_with_what_is_under_way() {
    let (world, client) = filled(&["1", "2", "3"]);
    set(&world, json!({"type": "every"}), json!({}));
    let run = must_take(&world);
    set(&world, json!({"type": "every"}), json!({"concurrency": 2}));
    let other = must_take(&world);
    nothing_to_run(&world);
    end(&world, &run, Verdict::Failed);
    end(&world, &other, Verdict::Ack);
    set(&world, json!({"type": "every"}), json!({"queue": "elsewhere"}));
    assert_eq!((state(&world), client.depth(1, "q")), ("detached", 2));
    nothing_to_run(&world);
    client.declare(1, queue("elsewhere"));
    client.send(1, publish("", "elsewhere", "there"));
    assert_eq!(bodies(&must_take(&world)), ["there"]);
}

#[test]
fn a_queue_may_go_while_its_messages_are_handed_over() {
    let (world, client) = filled(&["1"]);
    set(&world, json!({"type": "every"}), json!({}));
    let run = must_take(&world);
    client.ok(1, delete_queue("q"));
    assert_eq!(state(&world), "detached");
    client.declare(1, queue("q").durable());
    end(&world, &run, Verdict::Failed);
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 0);
    send(&client, &["2"]);
    assert_eq!(bodies(&must_take(&world)), ["2"]);
}
