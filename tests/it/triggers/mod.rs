//! Triggers: when they fire, what they hand over, and what becomes of it. Whoever runs things is
//! played by the tests: they take runs and say how they went.

mod api;
mod cold;
mod conditions;
mod declared;
mod events;
mod outcomes;
mod states;

use leveret::broker::queue::Effects;
use leveret::broker::trigger::run::{Ended, Exit, Outcome, Run, Runs as _, Verdict, Verdicts};
use leveret::broker::trigger::spec::TriggerSpec;
use leveret::broker::trigger::views::Explanation;
use serde_json::{Value as Json, json};

use crate::support::client::text;
use crate::support::*;

/// A definition: "deliver" to the program "p" from the queue "q" unless `with` says otherwise.
fn spec(condition: Json, with: Json) -> TriggerSpec {
    let mut all = json!({"queue": "q", "action": {"type": "program", "name": "p"}});
    all["condition"] = condition;
    for (name, value) in with.as_object().unwrap() {
        all[name] = value.clone();
    }
    TriggerSpec::from_json(&all).unwrap()
}

/// Sets the trigger "t".
fn set(world: &World, condition: Json, with: Json) {
    set_named(world, "t", spec(condition, with));
}

fn set_named(world: &World, name: &str, spec: TriggerSpec) {
    let (broker, now) = (world.broker(), world.now());
    let mut effects = Effects::default();
    broker.set_trigger(&broker.vhost("/").unwrap(), name, spec, now, &mut effects);
    broker.finish(&mut effects, now);
    world.pump();
}

/// Takes a run, if a trigger wants one. What it is to hand over may have to be read first.
fn take(world: &World) -> Option<Run> {
    (0..2).find_map(|_| {
        world.pump();
        let run = world.broker().next_run(world.now());
        world.pump();
        run
    })
}

fn must_take(world: &World) -> Run {
    take(world).expect("a run")
}

fn nothing_to_run(world: &World) {
    if let Some(run) = take(world) {
        panic!("{run:?}");
    }
}

fn end(world: &World, run: &Run, verdict: Verdict) {
    ended(world, run, Verdicts::All(verdict));
}

fn ended(world: &World, run: &Run, verdicts: Verdicts) {
    let exit = Exit::Code(i32::from(verdicts != Verdicts::All(Verdict::Ack)));
    let stderr_tail = "what it wrote".to_owned();
    let (disable, pause_ms) = (false, None);
    let how = Ended { verdicts, exit, stderr_tail, took_ms: 7, disable, pause_ms };
    outcome(world, run, Outcome::Ended(how));
}

fn outcome(world: &World, run: &Run, outcome: Outcome) {
    world.broker().run_ended(run.id, outcome, world.now());
    world.pump();
}

fn bodies(run: &Run) -> Vec<&str> {
    let text = |body| std::str::from_utf8(body).unwrap();
    run.messages.iter().map(|handed| text(handed.message.body())).collect()
}

fn explain(world: &World) -> Explanation {
    let broker = world.broker();
    let vhost = broker.vhost("/").unwrap();
    broker.explain(&vhost, &vhost.trigger("t").unwrap(), world.now())
}

fn state(world: &World) -> &'static str {
    explain(world).view.state
}

/// A world with the durable queue "q".
fn filled(of: &[&str]) -> (World, Client) {
    let world = World::new();
    world.only_in_process("it is played by the test");
    let client = world.client();
    client.declare(1, queue("q").durable());
    send(&client, of);
    (world, client)
}

fn send(client: &Client, of: &[&str]) {
    for body in of {
        client.send(1, publish("", "q", body).with(props().persistent()));
    }
}

fn send_with_priority(client: &Client, priority: u8, of: &[&str]) {
    for body in of {
        client.send(1, publish("", "q", body).with(props().persistent().priority(priority)));
    }
}
