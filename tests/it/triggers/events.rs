//! Mode `event`: any client is the trigger monitor.

use serde_json::{Value as Json, json};

use super::*;

fn watch(world: &World, condition: Json, with: Json) {
    let mut all = json!({"action": {
        "type": "event", "exchange": "init", "routing_key": "started", "data": "user data",
    }});
    for (name, value) in with.as_object().unwrap() {
        all[name] = value.clone();
    }
    set(world, condition, all);
}

/// The same, with the queue "init" behind the exchange "init".
fn monitored(of: &[&str]) -> (World, Client) {
    let (world, client) = filled(of);
    client.ok(1, exchange("init", "topic"));
    client.declare(1, queue("init"));
    client.ok(1, bind("init", "init", "#"));
    (world, client)
}

#[test]
fn an_event_carries_ibms_fields_and_a_cloud_event() {
    let (world, client) = monitored(&[]);
    watch(&world, json!({"type": "depth", "count": 2}), json!({}));
    send(&client, &["1"]);
    assert_eq!(client.depth(1, "init"), 0);
    send(&client, &["2"]);
    let event = client.fetch(1, "init");
    assert_eq!(event.routing_key, "started");
    for (name, value) in [
        ("QName", "q"),
        ("ProcessName", "t"),
        ("TriggerData", "user data"),
        ("QMgrName", "rabbit@test"),
        ("cloudEvents:type", "leveret.trigger.fired"),
    ] {
        assert_eq!(event.header(name), Some(text(value)), "{name}");
    }
    let body: Json = serde_json::from_str(event.text()).unwrap();
    assert_eq!(body["specversion"], "1.0");
    assert_eq!(body["source"], "/vhosts/%2F/queues/q");
    assert_eq!(body["time"], "2026-11-18T11:06:40.000Z");
    assert_eq!(body["data"]["condition"], "depth 2");
    assert_eq!(body["data"]["messages_ready"], 2);
    assert_eq!(body["data"]["trigger_data"], "user data");
    assert_eq!(client.depth(1, "q"), 2);
}

#[test]
fn one_event_tells_of_a_condition_until_it_has_ceased_to_hold() {
    let (world, client) = monitored(&["1", "2"]);
    watch(&world, json!({"type": "depth", "count": 2}), json!({}));
    send(&client, &["3", "4"]);
    assert_eq!(client.depth(1, "init"), 1);
    assert_eq!(client.drain(1, "q").len(), 4);
    send(&client, &["5"]);
    assert_eq!(client.depth(1, "init"), 1);
    send(&client, &["6"]);
    assert_eq!(client.depth(1, "init"), 2);
}

#[test]
fn with_a_cooldown_it_is_told_of_again_while_it_holds() {
    let (world, client) = monitored(&["1"]);
    watch(&world, json!({"type": "first"}), json!({"cooldown_ms": 1_000}));
    world.advance(2_999);
    assert_eq!(client.depth(1, "init"), 3);
    assert_eq!(state(&world), "cooldown");
    client.drain(1, "q");
    world.advance(10_000);
    assert_eq!(client.depth(1, "init"), 3);
}

#[test]
fn every_message_has_its_event_even_while_somebody_consumes() {
    let (world, client) = monitored(&["1"]);
    watch(&world, json!({"type": "every"}), json!({}));
    let worker = world.client();
    worker.ok(1, prefetch(1));
    worker.ok(1, consume("q", "c"));
    send(&client, &["2", "3"]);
    assert_eq!(client.depth(1, "init"), 3);
}

#[test]
fn an_event_that_nobody_gets_is_sent_again_until_somebody_listens() {
    let (world, client) = filled(&["1"]);
    watch(&world, json!({"type": "first"}), json!({}));
    let explained = explain(&world);
    let reason = explained.view.reason.as_deref();
    assert_eq!(explained.view.state, "backoff");
    assert_eq!(reason, Some("the event reached no queue: nobody listens"));
    client.ok(1, exchange("init", "topic"));
    client.declare(1, queue("init"));
    client.ok(1, bind("init", "init", "#"));
    world.advance(1_000);
    assert_eq!(client.depth(1, "init"), 1);
    world.advance(100_000);
    assert_eq!(client.depth(1, "init"), 1);
}

#[test]
fn one_event_is_owed_until_somebody_gets_it() {
    let (world, _client) = filled(&["1"]);
    watch(&world, json!({"type": "first"}), json!({"one_shot": true}));
    assert_eq!(state(&world), "disabled");
    let world = world.restarted(0);
    let client = world.client();
    client.ok(1, exchange("init", "topic"));
    client.declare(1, queue("init"));
    client.ok(1, bind("init", "init", "#"));
    world.advance(1_000);
    assert_eq!(client.depth(1, "init"), 1);
    world.advance(100_000);
    assert_eq!(client.depth(1, "init"), 1);
}

#[test]
fn after_a_restart_each_message_that_waits_is_told_of_once_more() {
    let (world, client) = filled(&["1", "2"]);
    client.ok(1, exchange("init", "topic").durable());
    client.declare(1, queue("init").durable());
    client.ok(1, bind("init", "init", "#"));
    watch(&world, json!({"type": "every"}), json!({}));
    assert_eq!(client.depth(1, "init"), 2);
    client.ok(1, purge("init"));
    let world = world.restarted(0);
    assert_eq!(world.client().depth(1, "init"), 2);
}

#[test]
fn an_event_that_leads_to_its_own_queue_goes_round_only_so_often() {
    let (world, client) = filled(&[]);
    let action = json!({"type": "event", "exchange": "", "routing_key": "q"});
    set(&world, json!({"type": "every"}), json!({"action": action, "starts_max": 10}));
    send(&client, &["1"]);
    assert_eq!(client.depth(1, "q"), 11);
    let explained = explain(&world);
    let reason = "10 starts within 2000 ms settled nothing";
    assert_eq!(explained.view.state, "backoff");
    assert_eq!(explained.view.reason.as_deref(), Some(reason));
}
