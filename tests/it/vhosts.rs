//! Vhosts that come and go while the node runs.

use leveret::broker::limits::Limit;
use leveret::covers;

use crate::support::client::open_vhost;
use crate::support::world::Setup;
use crate::support::*;

fn login(vhost: &str) -> Login {
    Login { vhost: vhost.into(), ..Login::default() }
}

/// A node with the vhost `v`.
fn world() -> World {
    let world = World::new();
    assert!(world.broker().create_vhost("v", "guest").unwrap().is_some());
    assert!(world.broker().create_vhost("v", "guest").unwrap().is_none(), "it is there");
    world
}

#[test]
fn a_new_vhost_is_its_creators_and_survives_a_restart() {
    let world = world();
    let client = world.client_as(&login("v"));
    client.ok(1, exchange("amq.topic", "topic").durable().passive());
    client.declare(1, queue("q").durable());
    client.send(1, publish("", "q", "x").with(props().persistent()));
    let text = "NOT_FOUND - no queue 'q' in vhost '/'";
    world.client().refused(1, queue("q").passive(), 404, text);
    let world = world.restarted(0);
    assert_eq!(world.client_as(&login("v")).drain(1, "q"), ["x"]);
}

#[test]
fn a_vhost_that_is_deleted_takes_everything_with_it_and_closes_its_connections() {
    covers!("vhost.deleted");
    let world = world();
    let (inside, outside) = (world.client_as(&login("v")), world.client());
    inside.ok(1, exchange("later", "x-delayed-message").durable().arg("x-delayed-type", "direct"));
    inside.declare(1, queue("q").durable().arg("x-message-deduplication", true));
    inside.ok(1, bind("q", "later", "q"));
    let numbered = props().persistent().header("x-publisher-name", "p");
    inside.send(1, publish("", "q", "x").with(numbered.header("x-publisher-sequence", 1)));
    inside.send(1, publish("later", "q", "y").with(props().header("x-delay", 50)));
    inside.ok(1, consume("q", "c"));
    inside.messages(1, ["x"]);
    assert!(world.broker().delete_vhost("v").is_some());
    assert!(world.broker().delete_vhost("v").is_none(), "it is gone");
    world.pump();
    inside.expect_connection_close(320, "CONNECTION_FORCED - vhost 'v' is deleted");
    outside.declare(1, queue("q"));
    world.advance(100);
    let world = world.restarted(0);
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&login("v"));
    stranger.tune_ok(&login("v"));
    stranger.send(0, open_vhost("v"));
    stranger.expect_connection_close(530, "NOT_ALLOWED - vhost v not found");
    assert!(world.broker().create_vhost("v", "guest").unwrap().is_some());
    let inside = world.client_as(&login("v"));
    inside.declare(1, queue("q").durable());
    assert_eq!(inside.depth(1, "q"), 0);
}

#[test]
fn there_are_as_many_vhosts_as_there_may_be() {
    let mut setup = Setup::default();
    setup.broker.vhosts_max = 2;
    let world = World::with(setup);
    let broker = world.broker();
    let create = |name: &str| broker.create_vhost(name, "guest");
    assert!(create("v").unwrap().is_some());
    let error = create("more").unwrap_err();
    assert_eq!(error.to_string(), "cannot create vhost 'more': vhost limit of 2 is reached");
    assert!(create("v").unwrap().is_none(), "it is there");
    assert_eq!(broker.counters().limits.of(Limit::VhostMax), 1);
    assert!(broker.delete_vhost("v").is_some());
    assert!(create("more").unwrap().is_some());
}

#[test]
fn a_vhost_is_nobodys_whom_the_nodes_records_do_not_know() {
    let world = World::new();
    let broker = world.broker();
    assert!(broker.create_vhost("v", "outsider").unwrap().is_some());
    assert!(broker.access().permissions().iter().all(|(_, vhost, _)| vhost != "v"));
}
