//! The event exchange: what happens on the node, told to whoever binds a queue to it.

use leveret::broker::alarms::Alarms;
use leveret::broker::policy::{PolicyKind, PolicySpec};
use leveret::protocol::method::{Method, basic};
use leveret::protocol::table::{Table, Value};

use crate::support::properties::array;
use crate::support::world::EPOCH_S;
use crate::support::*;

const EVENTS: &str = "amq.rabbitmq.event";

/// A client whose queue `events` is bound to the event exchange.
fn listener(world: &World, key: &str) -> Client {
    let client = world.client();
    client.declare(1, queue("events"));
    client.ok(1, bind("events", EVENTS, key));
    client
}

/// What the queue `events` holds.
fn told(listener: &Client) -> Vec<Content> {
    told_in(listener, "events")
}

fn told_in(listener: &Client, queue: &str) -> Vec<Content> {
    let mut told = Vec::new();
    loop {
        listener.send(1, get(queue).no_ack());
        match listener.take(1).content() {
            Some(event) => told.push(event),
            None => return told,
        }
    }
}

fn keys(events: &[Content]) -> Vec<&str> {
    events.iter().map(|event| event.routing_key.as_str()).collect()
}

/// The one event that was told, without its moment.
fn only(listener: &Client) -> Table {
    let events = told(listener);
    assert_eq!(events.len(), 1, "{:?}", keys(&events));
    details(&events[0])
}

/// The server cancels a consumer.
fn cancelled(consumer_tag: &str) -> Method<'_> {
    Method::BasicCancel(basic::Cancel { consumer_tag, nowait: true })
}

fn details(event: &Content) -> Table {
    let mut headers = event.headers();
    headers.remove("timestamp_in_ms");
    headers
}

fn field(event: &Content, name: &str) -> String {
    event.header(name).unwrap().as_str().unwrap().to_owned()
}

// ---- the exchange -------------------------------------------------------------------------------

#[test]
fn the_event_exchange_is_the_brokers_own() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let client = world.client();
    client.ok(1, exchange(EVENTS, "topic").durable().internal());
    let text = "ACCESS_REFUSED - deletion of system exchange 'amq.rabbitmq.event' in vhost '/' \
                not allowed";
    client.refused(1, delete_exchange(EVENTS), 403, text);
    client.send(1, publish(EVENTS, "queue.created", "forged"));
    let text = "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.event' in \
                vhost '/'";
    client.expect_channel_close(1, 403, text);
}

#[test]
fn an_event_is_a_persistent_message_without_a_body() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "queue.created");
    world.advance(1_234);
    listener.declare(1, queue("q"));
    let event = listener.fetch(1, "events");
    assert_eq!((event.exchange.as_str(), event.routing_key.as_str()), (EVENTS, "queue.created"));
    assert_eq!(event.body, b"");
    let properties = event.properties();
    assert_eq!(properties.delivery_mode, Some(2));
    assert_eq!(properties.timestamp, Some(world.unix_s()));
    let ms = event.header("timestamp_in_ms").unwrap();
    assert_eq!(ms, Value::I64(i64::try_from(EPOCH_S).unwrap() * 1_000 + 1_234));
}

#[test]
fn events_are_told_while_something_is_bound() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let client = world.client();
    client.declare(1, queue("before"));
    client.declare(1, queue("events"));
    client.ok(1, bind("events", EVENTS, "queue.*"));
    client.declare(1, queue("meanwhile"));
    client.ok(1, unbind("events", EVENTS, "queue.*"));
    client.declare(1, queue("after"));
    let events = told(&client);
    assert_eq!(keys(&events), ["queue.created"]);
    assert_eq!(field(&events[0], "name"), "meanwhile");
}

#[test]
fn what_is_bound_to_events_survives_a_restart_and_so_do_they() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let client = world.client();
    client.declare(1, queue("kept").durable());
    client.ok(1, bind("kept", EVENTS, "exchange.#"));
    client.ok(1, exchange("first", "fanout"));
    let world = world.restarted(1_000);
    let client = world.client();
    client.ok(1, exchange("second", "fanout"));
    let names: Vec<_> = told_in(&client, "kept").iter().map(|event| field(event, "name")).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn events_that_a_full_queue_drops_are_dead_lettered() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let client = world.client();
    client.declare(1, queue("older"));
    let latest = queue("latest").arg("x-max-length", 1).arg("x-dead-letter-exchange", "");
    client.declare(1, latest.arg("x-dead-letter-routing-key", "older"));
    client.ok(1, bind("latest", EVENTS, "exchange.created"));
    for name in ["a", "b", "c"] {
        client.ok(1, exchange(name, "fanout"));
    }
    let names = |queue| -> Vec<String> {
        told_in(&client, queue).iter().map(|event| field(event, "name")).collect()
    };
    assert_eq!((names("older"), names("latest")), (vec!["a".into(), "b".into()], vec!["c".into()]));
}

// ---- who did what -------------------------------------------------------------------------------

/// RabbitMQ 3.10 tells the same in the same order, but for its parameters (`parameter.set`), and
/// that it deletes the consumers of a deleted queue twice.
#[test]
fn what_a_client_does_is_told_in_the_order_in_which_it_does_it() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "#");
    assert_eq!(keys(&told(&listener)), ["binding.created"], "of the listener's own queue");
    let client = world.client();
    client.declare(1, queue("q").durable());
    client.declare(1, queue("mine").exclusive());
    client.ok(1, exchange("x", "topic").durable());
    client.ok(1, exchange("short", "fanout").auto_delete());
    client.ok(1, bind("q", "x", "a.#"));
    client.ok(1, bind_exchange("short", "x", "k"));
    client.ok(1, bind_exchange("x", "short", "k"));
    client.ok(1, unbind_exchange("x", "short", "k"));
    client.ok(1, consume("q", "first"));
    client.ok(1, cancel("first"));
    client.ok(1, consume("q", "second"));
    client.ok(1, delete_exchange("x"));
    client.ok(1, delete_queue("q"));
    client.expect(1, cancelled("second"));
    client.close();
    let events = told(&listener);
    assert_eq!(
        keys(&events),
        [
            "user.authentication.success",
            "connection.created",
            "channel.created",
            "queue.created",
            "queue.created",
            "exchange.created",
            "exchange.created",
            "binding.created",
            "binding.created",
            "binding.created",
            "binding.deleted",  // of what was unbound
            "exchange.deleted", // the last binding took the source along
            "binding.deleted",  // and that what led to it
            "consumer.created",
            "consumer.deleted",
            "consumer.created",
            "exchange.deleted",
            "binding.deleted",
            "queue.deleted",
            "consumer.deleted",
            "channel.closed",
            "queue.deleted", // the exclusive one
            "connection.closed",
        ]
    );
    let by = |at: usize| field(&events[at], "user_who_performed_action");
    assert_eq!((by(3), by(18)), ("guest".into(), "guest".into()));
    assert_eq!(by(21), "rmq-internal", "nobody asked for that");
}

#[test]
fn queues_are_told_with_what_they_were_declared_as() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "queue.*");
    let client = world.client();
    client.declare(1, queue("q").durable().arg("x-max-length", 5).arg("x-overflow", "drop-head"));
    let q =
        || Table::new().with("name", "q").with("vhost", "/").with("type", "rabbit_classic_queue");
    assert_eq!(
        only(&listener),
        q().with("durable", true)
            .with("auto_delete", false)
            .with(
                "arguments",
                array([
                    r#"{<<"x-max-length">>,signedint,5}"#,
                    r#"{<<"x-overflow">>,longstr,<<"drop-head">>}"#,
                ])
            )
            .with("owner_pid", "")
            .with("exclusive", false)
            .with("user_who_performed_action", "guest")
    );
    client.ok(1, delete_queue("q"));
    assert_eq!(only(&listener), q().with("user_who_performed_action", "guest"));
    // Declaring what is there makes nothing.
    client.declare(1, queue("events"));
    client.ok(1, delete_queue("q"));
    assert_eq!(told(&listener), []);
}

#[test]
fn exchanges_are_told_with_what_they_were_declared_as() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "exchange.*");
    listener.ok(1, exchange("x", "headers").auto_delete().arg("alternate-exchange", "y"));
    let x = || Table::new().with("name", "x").with("vhost", "/");
    assert_eq!(
        only(&listener),
        x().with("type", "headers")
            .with("durable", false)
            .with("auto_delete", true)
            .with("internal", false)
            .with("arguments", array([r#"{<<"alternate-exchange">>,longstr,<<"y">>}"#]))
            .with("policy", "")
            .with("user_who_performed_action", "guest")
    );
    listener.ok(1, delete_exchange("x"));
    assert_eq!(only(&listener), x().with("user_who_performed_action", "guest"));
}

#[test]
fn bindings_are_told_with_both_of_their_ends() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "binding.deleted");
    listener.declare(1, queue("q"));
    let expected = |kind: &str, destination: &str, key: &str, arguments: Value| {
        Table::new()
            .with("source_name", "amq.topic")
            .with("source_kind", "exchange")
            .with("destination_name", destination)
            .with("destination_kind", kind)
            .with("routing_key", key)
            .with("arguments", arguments)
            .with("vhost", "/")
            .with("user_who_performed_action", "guest")
    };
    listener.ok(1, bind("q", "amq.topic", "a.#").arg("k", 1));
    listener.ok(1, delete_queue("q"));
    let arguments = array([r#"{<<"k">>,signedint,1}"#]);
    assert_eq!(only(&listener), expected("queue", "q", "a.#", arguments));
    listener.ok(1, bind_exchange("amq.fanout", "amq.topic", "b"));
    listener.ok(1, unbind_exchange("amq.fanout", "amq.topic", "b"));
    assert_eq!(only(&listener), expected("exchange", "amq.fanout", "b", array([])));
}

#[test]
fn consumers_channels_and_connections_name_each_others_process_ids() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "#");
    told(&listener);
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, prefetch(7));
    client.ok(1, consume("q", "ct").no_ack().arg("x-priority", 3));
    client.close();
    let events = told(&listener);
    let named = |key: &str| {
        events.iter().find(|event| event.routing_key == key).unwrap_or_else(|| panic!("no {key}"))
    };
    let connection = field(named("connection.created"), "pid");
    assert!(connection.starts_with("<rabbit@test."), "{connection}");
    assert_eq!(field(named("connection.closed"), "pid"), connection);
    let created = named("channel.created");
    let channel = field(created, "pid");
    assert_ne!(channel, connection);
    assert_eq!(
        details(created),
        Table::new()
            .with("pid", &*channel)
            .with("name", "127.0.0.1:50001 -> 127.0.0.1:5672 (1)")
            .with("connection", &*connection)
            .with("number", 1i64)
            .with("user", "guest")
            .with("vhost", "/")
            .with("user_who_performed_action", "guest")
    );
    assert_eq!(
        details(named("channel.closed")),
        Table::new()
            .with("pid", &*channel)
            .with("consumer_count", 1i64)
            .with("user_who_performed_action", "guest")
    );
    assert_eq!(
        details(named("consumer.created")),
        Table::new()
            .with("consumer_tag", "ct")
            .with("exclusive", false)
            .with("ack_required", false)
            .with("channel", &*channel)
            .with("queue", "q")
            .with("vhost", "/")
            .with("prefetch_count", 7i64)
            .with("arguments", array([r#"{<<"x-priority">>,signedint,3}"#]))
            .with("user_who_performed_action", "guest")
    );
    assert_eq!(
        details(named("consumer.deleted")),
        Table::new()
            .with("consumer_tag", "ct")
            .with("channel", &*channel)
            .with("queue", "q")
            .with("vhost", "/")
            .with("user_who_performed_action", "guest")
    );
}

#[test]
fn a_connection_is_told_with_what_was_agreed_on() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "connection.*");
    let client = world.client_as(&Login { heartbeat_s: 30, ..Login::default() });
    let created = only(&listener);
    for (name, value) in [
        ("type", Value::from("network")),
        ("name", Value::from("127.0.0.1:50001 -> 127.0.0.1:5672")),
        ("peer_host", Value::from("{127,0,0,1}")),
        ("peer_port", Value::I64(50_001)),
        ("host", Value::from("{127,0,0,1}")),
        ("port", Value::I64(5_672)),
        ("ssl", Value::Bool(false)),
        ("ssl_cipher", Value::from("")),
        ("auth_mechanism", Value::from("PLAIN")),
        ("protocol", Value::from("{0,9,1}")),
        ("user", Value::from("guest")),
        ("vhost", Value::from("/")),
        ("timeout", Value::I64(30)),
        ("frame_max", Value::I64(131_072)),
        ("channel_max", Value::I64(2_047)),
        ("connected_at", Value::I64(i64::try_from(EPOCH_S).unwrap() * 1_000)),
        ("node", Value::from("rabbit@test")),
        ("user_who_performed_action", Value::from("guest")),
    ] {
        assert_eq!(created.get(name), Some(&value), "{name}");
    }
    let Some(Value::Array(properties)) = created.get("client_properties") else { panic!() };
    let capabilities = properties.iter().find_map(|it| {
        it.as_str().filter(|text| text.starts_with(r#"{<<"capabilities">>,table,[{"#))
    });
    assert!(capabilities.is_some(), "{properties:?}");
    client.vanish();
    let closed = only(&listener);
    for name in ["name", "pid", "node", "client_properties"] {
        assert_eq!(closed.get(name), created.get(name), "{name}");
    }
}

#[test]
fn logins_are_told_whether_they_succeed_or_not() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "user.authentication.*");
    let expected = |port: i64| {
        Table::new()
            .with("connection_type", "network")
            .with("name", "guest")
            .with("host", "{127,0,0,1}")
            .with("connection_name", format!("127.0.0.1:{port} -> 127.0.0.1:5672"))
            .with("peer_host", "{127,0,0,1}")
            .with("peer_port", port)
            .with("protocol", "{0,9,1}")
            .with("auth_mechanism", "PLAIN")
            .with("ssl", false)
    };
    let _client = world.client();
    let succeeded = told(&listener);
    assert_eq!(keys(&succeeded), ["user.authentication.success"]);
    assert_eq!(details(&succeeded[0]), expected(50_001));
    let stranger = world.stranger();
    stranger.say_hello();
    stranger.start_ok(&Login { password: "wrong".into(), ..Login::default() });
    let failed = told(&listener);
    assert_eq!(keys(&failed), ["user.authentication.failure"]);
    let error: Vec<Value> =
        "user 'guest' - invalid credentials".bytes().map(|c| Value::I64(c.into())).collect();
    assert_eq!(details(&failed[0]), expected(50_002).with("error", error));
}

#[test]
fn policies_are_told_with_what_they_ask_for() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "#.policy.#");
    listener.ok(1, bind("events", EVENTS, "policy.*"));
    let policy = || PolicySpec {
        name: "short".into(),
        pattern: "^q".into(),
        priority: 2,
        apply_to: "queues".into(),
        definition: Table::new().with("max-length", 1_000i32),
    };
    let name = || Table::new().with("name", "short").with("vhost", "/");
    for (kind, cleared) in
        [(PolicyKind::User, "policy.cleared"), (PolicyKind::Operator, "operator.policy.cleared")]
    {
        world.set_policy(kind, policy());
        assert_eq!(
            only(&listener),
            name()
                .with("pattern", "^q")
                .with("definition", Table::new().with("max-length", 1_000i64))
                .with("priority", 2i64)
                .with("apply-to", "queues")
                .with("user_who_performed_action", "guest")
        );
        assert!(world.clear_policy(kind, "short"));
        let events = told(&listener);
        assert_eq!(keys(&events), [cleared]);
        assert_eq!(details(&events[0]), name().with("user_who_performed_action", "guest"));
    }
}

#[test]
fn the_node_tells_what_happens_to_itself() {
    let world = World::new();
    world.only_in_process("RabbitMQ has the exchange in its default vhost only");
    let listener = listener(&world, "alarm.*");
    listener.ok(1, consume("events", "watch").no_ack());
    let now = leveret::broker::Now { mono_ms: 0, unix_ms: EPOCH_S * 1_000 };
    let alarm = || Table::new().with("source", "disk").with("node", "rabbit@test");
    world.broker().emit("alarm.set", now, alarm);
    world.pump();
    let event = listener.message(1);
    assert_eq!((event.routing_key.as_str(), details(&event)), ("alarm.set", alarm()));
}

#[test]
fn an_alarm_that_is_set_or_cleared_is_told_with_what_runs_low() {
    let world = World::new();
    let listener = listener(&world, "alarm.*");
    let now_low = |memory, disk| {
        world.broker().set_alarms(Alarms { memory, disk }, world.now());
        let events = told(&listener);
        let shown = |event: &Content| {
            assert_eq!(field(event, "node"), "rabbit@test");
            format!("{} {}", event.routing_key, field(event, "source"))
        };
        events.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(now_low(true, false), ["alarm.set memory"]);
    assert_eq!(now_low(true, false), [""; 0]);
    assert_eq!(now_low(true, true), ["alarm.set disk"]);
    assert_eq!(now_low(false, false), ["alarm.cleared memory", "alarm.cleared disk"]);
}
