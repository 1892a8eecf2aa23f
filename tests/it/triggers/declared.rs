//! Where triggers come from besides the API: a queue's arguments, and policies.

use leveret::broker::policy::{PolicyKind, PolicySpec};
use leveret::covers;
use leveret::protocol::table::Table;
use serde_json::Value as Json;

use leveret::broker::trigger::run::{Action, Verdict};

use super::*;

fn names(world: &World) -> Vec<String> {
    let views = world.broker().trigger_views(None, world.now());
    views.iter().map(|view| view.trigger.name.to_string()).collect()
}

fn policy(world: &World, definition: Table) {
    let (name, pattern, apply_to) = ("p".into(), "^q$".into(), "queues".into());
    let spec = PolicySpec { name, pattern, priority: 0, apply_to, definition };
    world.set_policy(PolicyKind::User, spec);
}

#[test]
fn a_queue_is_declared_with_its_trigger() {
    covers!("queue.x-trigger-type");
    covers!("queue.x-trigger-depth");
    covers!("queue.x-trigger-min-priority");
    covers!("queue.x-trigger-max-wait");
    covers!("queue.x-trigger-process");
    covers!("queue.x-trigger-data");
    let world = World::new();
    world.only_in_process("it is played by the test");
    let client = world.client();
    let declared = || {
        queue("q")
            .durable()
            .arg("x-trigger-type", "depth")
            .arg("x-trigger-depth", 2)
            .arg("x-trigger-min-priority", 3)
            .arg("x-trigger-max-wait", 5_000)
            .arg("x-trigger-process", "send")
            .arg("x-trigger-data", "text")
    };
    client.declare(1, declared());
    assert_eq!(names(&world), ["queue:q"]);
    send_with_priority(&client, 3, &["1"]);
    nothing_to_run(&world);
    world.advance(5_020);
    let run = must_take(&world);
    let Action::Program { name, data } = &*run.action else { panic!("{run:?}") };
    assert_eq!((&**name, data.as_str()), ("send", "text"));
    assert!(run.messages.is_empty());
    assert_eq!(run.cause.condition, "depth 2, min_priority 3, max_wait 5000 ms");
    let world = world.restarted(0);
    let client = world.client();
    assert_eq!(names(&world), ["queue:q"]);
    let run = must_take(&world);
    client.drain(1, "q");
    end(&world, &run, Verdict::Ack);
    client.declare(1, declared());
    client.refused(
        1,
        queue("q").durable(),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-trigger-type' for queue 'q' in vhost '/': \
         received none but current is the value 'depth' of type 'longstr'",
    );
    client.open(2);
    client.ok(2, delete_queue("q"));
    assert!(names(&world).is_empty());
}

#[test]
fn a_queues_trigger_tells_an_exchange() {
    covers!("queue.x-initiation-exchange");
    let world = World::new();
    world.only_in_process("no other broker has it");
    let client = world.client();
    client.ok(1, exchange("init", "topic"));
    client.declare(1, queue("init"));
    client.ok(1, bind("init", "init", "q"));
    let declared = queue("q").arg("x-trigger-type", "first").arg("x-trigger-process", "send");
    client.declare(1, declared.arg("x-initiation-exchange", "init"));
    send(&client, &["1", "2"]);
    let event = client.fetch(1, "init");
    assert_eq!(event.header("ProcessName"), Some(text("send")));
    let body: Json = serde_json::from_str(event.text()).unwrap();
    assert_eq!(body["subject"], "queue:q");
    assert_eq!(client.depth(1, "init"), 0);
}

#[test]
fn arguments_of_a_trigger_that_make_no_sense_are_refused() {
    let world = World::new();
    world.only_in_process("no other broker has them");
    let client = world.client();
    let refused = |channel, declared: QueueDeclare, argument: &str, reason: &str| {
        client.open(channel);
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{argument}' for queue 'q' in vhost '/': {reason}"
        );
        client.refused(channel, declared, 406, &text);
    };
    let q = || queue("q");
    let kind = "x-trigger-type";
    refused(2, q().arg(kind, "often"), kind, "invalid_trigger_type");
    refused(3, q().arg(kind, "depth"), kind, "depth_but_no_trigger_depth_defined");
    let depth = "x-trigger-depth";
    refused(4, q().arg(depth, 0), depth, "{value_zero,0}");
    let priority = "x-trigger-min-priority";
    refused(5, q().arg(priority, 256), priority, "{value_too_large,256}");
}

#[test]
fn a_policy_gives_queues_a_trigger_and_takes_it_away() {
    let world = World::new();
    world.only_in_process("it is played by the test");
    let client = world.client();
    client.declare(1, queue("q"));
    send(&client, &["1", "2"]);
    let definition = Table::new().with("trigger-type", "depth").with("trigger-depth", 2);
    policy(&world, definition.with("trigger-process", "p"));
    assert_eq!(names(&world), ["queue:q"]);
    let run = must_take(&world);
    policy(&world, Table::new().with("trigger-type", "first").with("trigger-process", "other"));
    nothing_to_run(&world);
    end(&world, &run, Verdict::Ack);
    let run = must_take(&world);
    let Action::Program { name, .. } = &*run.action else { panic!("{run:?}") };
    assert_eq!(&**name, "other");
    assert!(world.clear_policy(PolicyKind::User, "p"));
    end(&world, &run, Verdict::Failed);
    nothing_to_run(&world);
    assert!(names(&world).is_empty());
    assert_eq!(client.depth(1, "q"), 2);
}
