//! Policies: what operators ask of queues and exchanges by their names, live and after a restart.

use std::sync::Arc;

use leveret::broker::access::{Authority, Identity, Permission, Resource, Right};
use leveret::broker::policy::{Policy, PolicyKind, PolicySpec};
use leveret::protocol::table::{Table, Value};
use leveret::store::Durability;

use crate::support::*;

fn policy(name: &str, pattern: &str, definition: Table) -> PolicySpec {
    PolicySpec {
        name: name.into(),
        pattern: pattern.into(),
        priority: 0,
        apply_to: "all".into(),
        definition,
    }
}

fn set(world: &World, name: &str, pattern: &str, key: &str, value: impl Into<Value>) {
    let definition = Table::new().with(key, value);
    world.set_policy(PolicyKind::User, policy(name, pattern, definition));
}

/// What a queue is shown to obey: its policies' names and their joined definition.
fn obeyed(world: &World, queue: &str) -> (Option<String>, Option<String>, Table) {
    let vhost = world.broker().vhost("/").unwrap();
    let view = vhost.queue(queue.as_bytes()).unwrap().view().policy;
    (view.policy, view.operator_policy, view.definition)
}

fn fill(client: &Client, queue: &str, bodies: &[&str]) {
    for body in bodies {
        client.send(1, publish("", queue, body));
    }
}

#[test]
fn a_queue_obeys_the_policy_whose_pattern_is_found_in_its_name() {
    let world = World::new();
    let client = world.client();
    set(&world, "short", "^a", "max-length", 2);
    client.declare(1, queue("a"));
    client.declare(1, queue("ba"));
    fill(&client, "a", &["1", "2", "3"]);
    fill(&client, "ba", &["1", "2", "3"]);
    assert_eq!(client.drain(1, "a"), ["2", "3"]);
    assert_eq!(client.drain(1, "ba"), ["1", "2", "3"]);
    assert_eq!(obeyed(&world, "a").0.as_deref(), Some("short"));
    assert_eq!(obeyed(&world, "ba"), (None, None, Table::new()));
}

#[test]
fn a_pattern_may_look_around_as_perls_do() {
    let world = World::new();
    let client = world.client();
    set(&world, "ours", r"^(?!amq\.).*", "max-length", 1);
    client.declare(1, queue("q"));
    let (server_named, ..) = client.declare(1, queue(""));
    fill(&client, "q", &["1", "2"]);
    fill(&client, &server_named, &["1", "2"]);
    assert_eq!((client.depth(1, "q"), client.depth(1, &server_named)), (1, 2));
}

#[test]
fn a_policy_takes_effect_on_queues_that_are_there_and_ends_with_it() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    fill(&client, "q", &["1", "2", "3", "4"]);
    set(&world, "short", "q", "max-length", 2);
    assert_eq!(client.depth(1, "q"), 2);
    set(&world, "short", "q", "max-length", 1);
    assert_eq!(client.depth(1, "q"), 1);
    assert!(world.clear_policy(PolicyKind::User, "short"));
    assert!(!world.clear_policy(PolicyKind::User, "short"));
    fill(&client, "q", &["5", "6"]);
    assert_eq!(client.drain(1, "q"), ["4", "5", "6"]);
}

#[test]
fn messages_that_a_new_limit_drops_are_dead_lettered_where_the_policy_says() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.declare(1, queue("dead"));
    fill(&client, "q", &["1", "2", "3"]);
    let definition = Table::new()
        .with("max-length", 1)
        .with("dead-letter-exchange", "")
        .with("dead-letter-routing-key", "dead");
    world.set_policy(PolicyKind::User, policy("p", "^q$", definition));
    assert_eq!(client.drain(1, "dead"), ["1", "2"]);
    assert_eq!(client.drain(1, "q"), ["3"]);
    let message = publish("", "q", "late");
    client.send(1, message);
    let late = client.fetch(1, "q");
    client.send(1, reject(late.delivery_tag, Then::Discard));
    assert_eq!(client.drain(1, "dead"), ["late"]);
}

#[test]
fn of_argument_and_policy_the_lower_number_counts_and_the_arguments_names() {
    let world = World::new();
    let client = world.client();
    let definition = Table::new().with("max-length", 3).with("dead-letter-exchange", "nowhere");
    world.set_policy(PolicyKind::User, policy("p", "", definition));
    let declared = queue("two").arg("x-max-length", 2).arg("x-dead-letter-exchange", "");
    client.declare(1, declared.arg("x-dead-letter-routing-key", "dead"));
    client.declare(1, queue("nine").arg("x-max-length", 9));
    client.declare(1, queue("dead"));
    fill(&client, "two", &["1", "2", "3"]);
    fill(&client, "nine", &["1", "2", "3", "4"]);
    assert_eq!((client.depth(1, "two"), client.depth(1, "nine")), (2, 3));
    assert_eq!(client.drain(1, "dead"), ["1"]);
}

#[test]
fn the_highest_priority_counts_and_a_redeclaration_knows_nothing_of_policies() {
    let world = World::new();
    let client = world.client();
    let ranked = |name: &str, priority, max: i32| PolicySpec {
        priority,
        ..policy(name, "q", Table::new().with("max-length", max))
    };
    world.set_policy(PolicyKind::User, ranked("middle", 5, 2));
    world.set_policy(PolicyKind::User, ranked("top", 10, 3));
    world.set_policy(PolicyKind::User, ranked("bottom", -1, 1));
    client.declare(1, queue("q"));
    client.declare(1, queue("q"));
    fill(&client, "q", &["1", "2", "3", "4"]);
    assert_eq!(client.depth(1, "q"), 3);
    world.clear_policy(PolicyKind::User, "top");
    assert_eq!((client.depth(1, "q"), obeyed(&world, "q").0), (2, Some("middle".into())));
}

#[test]
fn a_policy_is_for_the_objects_it_names() {
    let world = World::new();
    let client = world.client();
    for apply_to in ["classic_queues", "quorum_queues", "queues", "exchanges", "streams"] {
        let definition = Table::new().with("max-length", 1);
        let policy = PolicySpec {
            apply_to: apply_to.into(),
            ..policy(apply_to, &format!("{apply_to}$"), definition)
        };
        world.set_policy(PolicyKind::User, policy);
        let (classic, quorum) = (format!("c.{apply_to}"), format!("q.{apply_to}"));
        client.declare(1, queue(&classic));
        client.declare(1, queue(&quorum).durable().arg("x-queue-type", "quorum"));
        fill(&client, &classic, &["1", "2"]);
        fill(&client, &quorum, &["1", "2"]);
        let left = (client.depth(1, &classic), client.depth(1, &quorum));
        let expected = match apply_to {
            "classic_queues" => (1, 2),
            "quorum_queues" => (2, 1),
            "queues" => (1, 1),
            _ => (2, 2),
        };
        assert_eq!(left, expected, "{apply_to}");
    }
}

#[test]
fn an_operator_policy_narrows_a_users() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    let user = Table::new().with("max-length", 9).with("message-ttl", 100);
    world.set_policy(PolicyKind::User, policy("theirs", "", user));
    let operator = Table::new().with("max-length", 2).with("expires", 5_000);
    world.set_policy(PolicyKind::Operator, policy("ours", "", operator));
    let joined = Table::new().with("max-length", 2).with("message-ttl", 100).with("expires", 5_000);
    assert_eq!(obeyed(&world, "q"), (Some("theirs".into()), Some("ours".into()), joined));
    fill(&client, "q", &["1", "2", "3"]);
    assert_eq!(client.depth(1, "q"), 2);
    world.advance(100);
    assert_eq!(client.depth(1, "q"), 0);
    world.advance(5_000);
    client.refused(1, queue("q").passive(), 404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn a_time_to_live_by_policy_is_for_messages_that_come_after_it() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    fill(&client, "q", &["before"]);
    set(&world, "ttl", "q", "message-ttl", 100);
    world.advance(200);
    assert_eq!(client.drain(1, "q"), ["before"]);
    fill(&client, "q", &["after"]);
    world.advance(99);
    assert_eq!(client.depth(1, "q"), 1);
    world.advance(1);
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn a_full_queue_refuses_once_its_policy_says_so_and_no_longer_than_that() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "1"));
    client.expect(1, ack(1));
    let definition = Table::new().with("max-length", 1).with("overflow", "reject-publish");
    world.set_policy(PolicyKind::User, policy("full", "q", definition));
    client.send(1, publish("", "q", "2"));
    let answer = client.take(1);
    assert!(format!("{:?}", answer.method()).contains("Nack"), "{:?}", answer.method());
    world.clear_policy(PolicyKind::User, "full");
    client.send(1, publish("", "q", "3"));
    client.expect(1, ack(3));
    assert_eq!(client.drain(1, "q"), ["1", "3"]);
}

#[test]
fn how_safe_a_confirmed_message_is_follows_declaration_policy_and_node_in_this_order() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("q").durable());
    client.declare(1, queue("own").durable().arg("x-durability", "fsync"));
    client.declare(1, queue("transient"));
    let durability = |name: &str| {
        let vhost = world.broker().vhost("/").unwrap();
        vhost.queue(name.as_bytes()).unwrap().view().durability.map(Durability::name)
    };
    assert_eq!([durability("q"), durability("transient")], [Some("fsync"), None]);
    set(&world, "quick", "", "durability", "os");
    assert_eq!([durability("q"), durability("own")], [Some("os"), Some("fsync")]);
    world.clear_policy(PolicyKind::User, "quick");
    assert_eq!(durability("q"), Some("fsync"));
}

#[test]
fn a_delivery_limit_by_policy_is_obeyed_by_quorum_queues() {
    let world = World::new();
    let client = world.client();
    set(&world, "twice", "", "delivery-limit", 1);
    client.declare(1, queue("q").durable().arg("x-queue-type", "quorum"));
    fill(&client, "q", &["x"]);
    for _ in 0..2 {
        let message = client.fetch(1, "q");
        client.send(1, reject(message.delivery_tag, Then::Requeue));
    }
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn an_exchange_finds_its_alternate_in_a_policy_unless_it_was_declared_with_one() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("plain", "direct"));
    client.ok(1, exchange("own", "direct").arg("alternate-exchange", "amq.direct"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.fanout", ""));
    // Known routes are forgotten when a policy changes.
    client.send(1, publish("plain", "k", "lost"));
    set(&world, "ae", "^(plain|own)$", "alternate-exchange", "amq.fanout");
    client.send(1, publish("plain", "k", "found"));
    client.send(1, publish("own", "k", "lost, too"));
    assert_eq!(client.drain(1, "q"), ["found"]);
    world.clear_policy(PolicyKind::User, "ae");
    client.send(1, publish("plain", "k", "lost again"));
    assert_eq!(client.depth(1, "q"), 0);
}

#[test]
fn policies_outlive_a_restart_and_what_is_recovered_obeys_them() {
    let world = World::new();
    let client = world.client();
    set(&world, "ttl", "^q", "message-ttl", 1_000);
    let narrow = Table::new().with("max-length", 2);
    world.set_policy(PolicyKind::Operator, policy("narrow", "^q", narrow));
    client.declare(1, queue("q").durable());
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "x").with(props().persistent()));
    client.expect(1, ack(1));
    let world = world.restarted(500);
    let client = world.client();
    assert_eq!(obeyed(&world, "q").0.as_deref(), Some("ttl"));
    assert_eq!(obeyed(&world, "q").1.as_deref(), Some("narrow"));
    assert_eq!(client.depth(1, "q"), 1);
    world.advance(500);
    assert_eq!(client.depth(1, "q"), 0);
    world.clear_policy(PolicyKind::User, "ttl");
    let world = world.restarted(0);
    assert_eq!(obeyed(&world, "q").0, None);
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_with_rabbitmqs_words() {
    let refused = |kind, policy: PolicySpec| Policy::new(kind, policy).unwrap_err().0;
    let of = |key: &str, value: Value| policy("p", "", Table::new().with(key, value));
    let user = |key: &str, value: Value| refused(PolicyKind::User, of(key, value));
    for (key, value, reason) in [
        ("max-length", Value::I64(-5), "-5 is not a valid maximum length"),
        ("max-length", Value::from("x"), "<<\"x\">> is not a valid maximum length"),
        ("max-length-bytes", Value::F64(1.5), "1.5 is not a valid maximum length in bytes"),
        ("message-ttl", Value::F64(1.5), "1.5 is not a valid message TTL"),
        ("expires", Value::I64(0), "0 is not a valid queue expiry"),
        ("overflow", Value::from("x"), "<<\"x\">> is not a valid overflow value"),
        ("durability", Value::from("x"), "<<\"x\">> is not a valid durability"),
        ("dead-letter-exchange", Value::I64(5), "5 is not a valid dead letter exchange name"),
        ("dead-letter-routing-key", Value::I64(5), "5 is not a valid dead letter routing key"),
        ("alternate-exchange", Value::I64(5), "5 is not a valid alternate exchange name"),
        ("delivery-limit", Value::from("x"), "<<\"x\">> is not a valid delivery limit"),
        ("foo", Value::I64(5), "[{<<\"foo\">>,5}] are not recognised policy settings"),
    ] {
        assert_eq!(user(key, value), reason);
    }
    let operator = of("dead-letter-exchange", Value::from("x"));
    let reason = "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings";
    assert_eq!(refused(PolicyKind::Operator, operator), reason);
    assert_eq!(refused(PolicyKind::User, policy("p", "", Table::new())), "no policy provided");
    let moons = PolicySpec { apply_to: "moons".into(), ..of("expires", Value::I64(5)) };
    assert!(refused(PolicyKind::User, moons).starts_with("apply-to 'moons' unrecognised"));
    let bad = PolicySpec { pattern: "(".into(), ..of("expires", Value::I64(5)) };
    let reason = refused(PolicyKind::User, bad);
    assert!(reason.starts_with("pattern should be regular expression but is invalid"), "{reason}");
}

#[test]
fn a_pattern_that_takes_for_ever_is_not_found() {
    let world = World::new();
    let client = world.client();
    set(&world, "slow", r"^(a|aa)+\1$", "max-length", 1);
    let name = "a".repeat(200) + "!";
    client.declare(1, queue(&name));
    fill(&client, &name, &["1", "2"]);
    assert_eq!(client.depth(1, &name), 2);
}

#[test]
fn a_policy_may_allow_less_time_for_acknowledgements() {
    let world = World::new();
    let client = world.client();
    set(&world, "brief", "^brief$", "consumer-timeout", 60_000);
    client.declare(1, queue("brief"));
    client.declare(1, queue("q"));
    for (channel, name) in [(2, "brief"), (3, "q")] {
        client.open(channel);
        client.send(1, publish("", name, "x"));
        client.fetch(channel, name);
    }
    world.advance(130_000);
    let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout \
                value used: 60000 ms. This timeout value can be configured, see consumers doc \
                guide to learn more";
    client.expect_channel_close(2, 406, text);
    client.expect_nothing();
}

// ---- who may have messages flow where ----------------------------------------------------------

/// The policymaker `maker`, who reads what begins with `own` and writes to `out`, and a policy that
/// it sets for what the pattern matches.
fn made_by(world: &World, tags: &[&str], pattern: &str, definition: Table) -> Result<(), String> {
    world.put_user("maker", tags);
    let broker = world.broker();
    let permission = Permission::new(["", "^out$", "^own"]).unwrap();
    broker.set_permission("maker", "/", permission).unwrap();
    let maker = Identity { user: broker.access().user("maker").unwrap(), authority: None };
    let (vhost, policy) = (broker.vhost("/").unwrap(), policy("p", pattern, definition));
    let set = broker.set_policy(&vhost, PolicyKind::User, policy, &maker, world.now());
    set.map(drop).map_err(|error| error.to_string())
}

fn to_exchange(key: &str, exchange: &str) -> Table {
    Table::new().with(key, exchange)
}

#[test]
fn a_policymaker_has_messages_flow_only_from_where_it_reads_to_where_it_writes() {
    let world = World::new();
    let client = world.client();
    client.declare(1, queue("own"));
    client.declare(1, queue("others"));
    client.ok(1, exchange("others", "fanout"));
    let refused = |right: &str, resource: &str| {
        let place = "in vhost '/' refused for user 'maker'";
        Err(format!("ACCESS_REFUSED - {right} access to {resource} {place}"))
    };
    let set = |pattern, definition| made_by(&world, &["policymaker"], pattern, definition);
    for key in ["dead-letter-exchange", "alternate-exchange"] {
        assert_eq!(set("^own", to_exchange(key, "out")), Ok(()), "{key}");
        let elsewhere = refused("write", "exchange 'elsewhere'");
        assert_eq!(set("^own", to_exchange(key, "elsewhere")), elsewhere, "{key}");
        let default = refused("write", "exchange 'amq.default'");
        assert_eq!(set("^own", to_exchange(key, "")), default, "{key}");
    }
    let from_queue = refused("read", "queue 'others'");
    assert_eq!(set("^o", to_exchange("dead-letter-exchange", "out")), from_queue);
    assert_eq!(set("^o", to_exchange("dead-letter-routing-key", "own")), from_queue);
    let from_exchange = refused("read", "exchange 'others'");
    assert_eq!(set("^o", to_exchange("alternate-exchange", "out")), from_exchange);
    // What keeps messages where they are is a policymaker's to say.
    assert_eq!(set("", Table::new().with("max-length", 7)), Ok(()));
    // An administrator could give itself any right.
    let anywhere = to_exchange("dead-letter-exchange", "elsewhere");
    assert_eq!(made_by(&world, &["administrator"], "", anywhere), Ok(()));
}

#[test]
fn a_policy_leads_nothing_out_of_what_is_declared_later_and_its_maker_could_not_read() {
    let world = World::new();
    let leads = to_exchange("dead-letter-exchange", "out").with("max-length", 1);
    assert_eq!(made_by(&world, &["policymaker"], "", leads), Ok(()));
    let seen = |world: &World| {
        let client = world.client();
        for name in ["own", "others"] {
            client.declare(1, queue(name).durable());
            fill(&client, name, &["1", "2"]);
            assert_eq!(client.drain(1, name), ["2"], "the rest of it holds everywhere");
        }
        assert_eq!(client.drain(1, "reads"), ["1"], "out of its own");
        assert_eq!(obeyed(world, "others").2, Table::new().with("max-length", 1));
    };
    let client = world.client();
    client.ok(1, exchange("out", "fanout").durable());
    client.declare(1, queue("reads").durable().arg("x-max-length", 9));
    client.ok(1, bind("reads", "out", ""));
    seen(&world);
    seen(&world.restarted(1_000));
}

#[test]
fn a_policy_leads_nothing_out_of_an_exchange_that_is_declared_later_either() {
    let world = World::new();
    let leads = to_exchange("alternate-exchange", "out");
    assert_eq!(made_by(&world, &["policymaker"], "^o", leads), Ok(()));
    let client = world.client();
    client.ok(1, exchange("out", "fanout"));
    client.declare(1, queue("reads"));
    client.ok(1, bind("reads", "out", ""));
    client.ok(1, exchange("own", "fanout"));
    client.ok(1, exchange("others", "fanout"));
    client.send(1, publish("own", "", "own"));
    client.send(1, publish("others", "", "others"));
    assert_eq!(client.drain(1, "reads"), ["own"]);
}

#[test]
fn whose_rights_are_not_in_the_nodes_records_leads_nothing_on() {
    #[derive(Debug)]
    struct Everything;
    impl Authority for Everything {
        fn may_enter(&self, _: &str, _: Option<&str>) -> bool {
            true
        }
        fn allows(&self, _: Right, _: &str, _: Resource<'_>) -> bool {
            true
        }
        fn allows_topic(&self, _: Right, _: &str, _: &str, _: &str) -> bool {
            true
        }
    }
    let world = World::new();
    world.put_user("maker", &["policymaker"]);
    let (broker, leads) = (world.broker(), to_exchange("dead-letter-exchange", "out"));
    let vhost = broker.vhost("/").unwrap();
    let user = broker.access().user("maker").unwrap();
    let maker = Identity { user, authority: Some(Arc::new(Everything)) };
    let set =
        broker.set_policy(&vhost, PolicyKind::User, policy("p", "q", leads), &maker, world.now());
    let refused = "read access to whatever 'q' matches in vhost '/' refused for user 'maker'";
    assert_eq!(set.unwrap_err().to_string(), format!("ACCESS_REFUSED - {refused}"));
}
