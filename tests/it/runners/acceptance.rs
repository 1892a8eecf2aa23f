//! When triggers fire, as a client and a program of a whole broker see it: what `triggers` tries in
//! many ways with a clock of its own is shown here once with real ones.
#![expect(clippy::disallowed_methods, reason = "what is measured is how soon something happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value as Json, json};

use super::node::{Node, deliver, persistent, put, script};
use crate::support::*;

/// A program that notes how many messages it is handed.
fn counting() -> String {
    format!("{}\ninput = 'ndjson'", script("cat >/dev/null; echo $LEVERET_COUNT >>@/counts"))
}

fn fires(condition: Json) -> Json {
    let mut trigger = deliver("q", "count");
    trigger["condition"] = condition;
    trigger["batch_max"] = json!(10_000);
    trigger
}

fn node_with(condition: Json) -> (Node, Client) {
    let node = Node::start(&[("count", &counting())]);
    let client = node.client();
    node.declare(&client, "q");
    node.set("t", &fires(condition));
    (node, client)
}

fn with_priority(priority: u8) -> Publish {
    publish("", "q", "x").with(props().persistent().priority(priority))
}

/// What must not be so for it to fire: it is looked at with every message, so this is no guess.
fn does_not_hold(node: &Node, missing: &str) {
    let explained = node.explain("t");
    assert_eq!(explained["holds"], false, "{explained}");
    assert_eq!(explained["conditions"][0]["missing"], missing);
}

#[test]
fn nine_of_a_priority_and_fifty_below_are_not_ten_and_the_tenth_is() {
    let condition = json!({"type": "depth", "count": 10, "min_priority": 5});
    let (node, client) = node_with(condition);
    (0..50).for_each(|at| put(&client, with_priority(at % 5)));
    (0..9).for_each(|at| put(&client, with_priority(5 + at % 5)));
    does_not_hold(&node, "1 more messages");
    put(&client, with_priority(5));
    assert_eq!(node.await_lines("counts", 1), ["10"]);
    super::bench::await_that("the ten are done with", || node.depths("q") == (50, 0));
    does_not_hold(&node, "10 more messages");
    assert_eq!(node.lines("counts"), ["10"], "one run");
}

#[test]
fn ten_of_any_priority_are_ten() {
    let (node, client) = node_with(json!({"type": "depth", "count": 10}));
    (0..9).for_each(|at| put(&client, with_priority(at)));
    does_not_hold(&node, "1 more messages");
    put(&client, persistent("q", "x"));
    assert_eq!(node.await_lines("counts", 1), ["10"]);
    node.await_empty("q");
    assert_eq!(node.lines("counts"), ["10"], "one run");
}

/// How late somebody is woken on this machine, at worst, while this lives.
struct Lateness(Arc<AtomicBool>, std::thread::JoinHandle<Duration>);

impl Lateness {
    fn measure() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let measured = std::thread::spawn(move || {
            let step = Duration::from_millis(5);
            let mut worst = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(step);
                worst = worst.max(begun.elapsed().saturating_sub(step));
            }
            worst
        });
        Self(over, measured)
    }

    fn worst(self) -> Duration {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().unwrap()
    }
}

#[test]
fn three_of_ten_fire_once_the_first_has_waited_two_seconds() {
    let condition = json!({"type": "depth", "count": 10, "max_wait_ms": 2_000});
    let (node, client) = node_with(condition);
    let lateness = Lateness::measure();
    let unix = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let before = unix();
    put(&client, persistent("q", "x"));
    let after = unix();
    put(&client, persistent("q", "x"));
    put(&client, persistent("q", "x"));
    assert_eq!(node.await_lines("counts", 1), ["3"]);
    node.await_empty("q");
    let run = node.get("/api/triggers/%2F/t/runs")[0].clone();
    let started = Duration::from_millis(run["started_ms"].as_u64().unwrap());
    let tenth = Duration::from_millis(100);
    let worst = lateness.worst();
    assert!(started >= before + Duration::from_secs(2) - tenth, "{before:?} {started:?}");
    let latest = after + Duration::from_secs(2) + tenth + 3 * worst;
    assert!(started <= latest, "{after:?} {started:?}, and {worst:?} is no fault of the broker");
}

#[test]
fn what_is_not_committed_starts_nothing_nor_does_what_was_rolled_back() {
    let (node, client) = node_with(json!({"type": "depth", "count": 2}));
    client.open(3);
    client.ok(3, tx_select());
    let publish_two = || (0..2).for_each(|_| client.send(3, persistent("q", "x")));
    publish_two();
    // Whoever answers this has seen what was sent before.
    client.ok(3, queue("q").durable());
    does_not_hold(&node, "2 more messages");
    client.ok(3, tx_rollback());
    does_not_hold(&node, "2 more messages");
    publish_two();
    client.ok(3, queue("q").durable());
    does_not_hold(&node, "2 more messages");
    client.ok(3, tx_commit());
    assert_eq!(node.await_lines("counts", 1), ["2"]);
    node.await_empty("q");
    assert_eq!(node.lines("counts"), ["2"], "one run");
}

#[test]
fn after_a_restart_forty_that_wait_are_one_run_of_forty() {
    let (mut node, client) = node_with(json!({"type": "depth", "count": 40}));
    (0..39).for_each(|_| put(&client, persistent("q", "x")));
    client.vanish();
    node.kill();
    node.start_again();
    does_not_hold(&node, "1 more messages");
    let client = node.client();
    put(&client, persistent("q", "x"));
    assert_eq!(node.await_lines("counts", 1), ["40"]);
    node.await_empty("q");
    assert_eq!(node.lines("counts"), ["40"], "one run");
}

#[test]
fn a_run_has_its_whole_batch_however_little_of_the_queue_is_in_memory() {
    let settings = ["leveret.queues.memory_max=1MiB"];
    let node = Node::start_with(&settings, &[("count", &counting())]);
    let client = node.client();
    client.ok(1, queue("q").durable());
    client.ok(1, queue("ordered").durable().arg("x-max-priority", 9));
    client.open(2);
    let body = "x".repeat(500);
    for name in ["q", "ordered"] {
        for at in 0..4_000_u32 {
            let priority = u8::try_from(at % 10).unwrap();
            let properties = props().persistent().priority(priority);
            client.send(2, publish("", name, &body).with(properties));
        }
    }
    client.ok(2, queue("ordered").passive());
    let paged_out = |name: &str| {
        let shown = node.get(&format!("/api/queues/%2F/{name}?disable_stats=false"));
        shown["messages_paged_out"].as_u64().unwrap()
    };
    for (name, min_priority, expected) in
        [("q", 0, "4000"), ("ordered", 0, "4000"), ("q", 7, "1200"), ("ordered", 7, "1200")]
    {
        if node.depths(name) == (0, 0) {
            for at in 0..4_000_u32 {
                let priority = u8::try_from(at % 10).unwrap();
                let properties = props().persistent().priority(priority);
                client.send(2, publish("", name, &body).with(properties));
            }
            client.ok(2, queue(name).passive());
        }
        assert!(paged_out(name) > 2_000, "{}", paged_out(name));
        let before = node.lines("counts").len();
        let count: u64 = expected.parse().unwrap();
        let condition = json!({"type": "depth", "count": count, "min_priority": min_priority});
        let mut trigger = fires(condition);
        trigger["queue"] = json!(name);
        node.set("t", &trigger);
        let counts = node.await_lines("counts", before + 1);
        let left = if min_priority == 0 { 0 } else { 4_000 - count };
        super::bench::await_that("they are done with", || node.depths(name) == (left, 0));
        assert_eq!(node.lines("counts")[before..], [expected], "{counts:?}");
    }
}
