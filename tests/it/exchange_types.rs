//! The exchange types that RabbitMQ brings as plugins: by chance, by hash, with a memory.

use leveret::broker::access::Identity;
use leveret::broker::exchange::Traits;
use leveret::broker::message::{Envelope, Message};
use leveret::broker::queue::Effects;
use leveret::broker::{Asker, BindingRequest, Broker, DestinationRef, Now};
use leveret::covers;
use leveret::protocol::properties::Properties;
use leveret::protocol::table::{Table, Value};

use crate::support::properties::array;
use crate::support::*;

/// A client with an exchange `x` of this type and so many queues, `q0` and on, bound by `key`.
fn bound(kind: &str, queues: usize, key: &str) -> Client {
    let client = World::new().client();
    client.ok(1, exchange("x", kind));
    for name in names(queues) {
        client.declare(1, queue(&name));
        client.ok(1, bind(&name, "x", key));
    }
    client
}

fn names(queues: usize) -> impl Iterator<Item = String> {
    (0..queues).map(|at| format!("q{at}"))
}

/// How many messages each queue holds.
fn depths(client: &Client, queues: usize) -> Vec<u32> {
    names(queues).map(|name| client.depth(1, &name)).collect()
}

// ---- by chance ----------------------------------------------------------------------------------

#[test]
fn a_random_exchange_sends_each_message_to_one_of_its_queues() {
    let client = bound("x-random", 4, "any key");
    for _ in 0..400 {
        client.send(1, publish("x", "the same key", "m"));
    }
    let depths = depths(&client, 4);
    assert_eq!(depths.iter().sum::<u32>(), 400);
    assert!(depths.iter().all(|depth| (50..=150).contains(depth)), "{depths:?}");
}

#[test]
fn a_random_exchange_without_bindings_routes_nothing() {
    let client = bound("x-random", 0, "");
    client.send(1, publish("x", "k", "m").mandatory());
    let returned = client.take(1);
    assert_eq!(returned.content().map(|content| content.text().to_owned()), Some("m".to_owned()));
}

#[test]
fn a_local_random_exchange_takes_classic_queues_without_a_key() {
    covers!(
        "binding.key-not-empty",
        "binding.queue-type-not-valid",
        "binding.destination-not-found",
    );
    let client = bound("x-local-random", 2, "");
    for _ in 0..100 {
        client.send(1, publish("x", "k", "m"));
    }
    let depths = depths(&client, 2);
    assert_eq!(depths.iter().sum::<u32>(), 100);
    assert!(depths.iter().all(|depth| *depth > 20), "{depths:?}");

    client.declare(1, queue("quorum").durable().arg("x-queue-type", "quorum"));
    let failed = |text: &str| format!("PRECONDITION_FAILED - {text}");
    let text = failed("Non empty binding 'k' key not permitted");
    client.refused(1, bind("quorum", "x", "k"), 406, &text);
    let text = failed("Queue type rabbit_quorum_queue not valid for this exchange type");
    client.refused(1, bind("quorum", "x", ""), 406, &text);
    let text = failed("Destination not found");
    client.refused(1, bind_exchange("amq.fanout", "x", ""), 406, &text);
}

// ---- by hash ------------------------------------------------------------------------------------

/// `erlang:phash2([Key], 1 bsl 27) rem 3`, in the order of the queues' names, by OTP 25.
#[test]
fn a_modulus_hash_exchange_sends_each_key_where_rabbitmq_does() {
    let client = bound("x-modulus-hash", 3, "any key");
    for (key, at) in [("a", 0), ("abcdefghijklmnopqrstuvwxyz", 1), ("key", 2), ("", 0)] {
        for _ in 0..2 {
            client.send(1, publish("x", key, key));
        }
        let name = format!("q{at}");
        assert_eq!(client.drain(1, &name), [key, key]);
    }
}

#[test]
fn keys_keep_their_queues_over_a_restart() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "x-modulus-hash").durable());
    // Made in another order than that of their names.
    for name in ["e", "a", "d", "b", "c"] {
        client.ok(1, exchange(name, "fanout").durable());
        client.declare(1, queue(name).durable());
        client.ok(1, bind(name, name, ""));
        client.ok(1, bind_exchange(name, "x", ""));
    }
    let reached = |client: &Client| {
        let keys = (0..20).map(|n| format!("key {n}"));
        let to_one = |key: String| {
            client.send(1, publish("x", &key, "m"));
            let depth = |name: &&str| client.drain(1, name).len() == 1;
            ["a", "b", "c", "d", "e"].into_iter().find(depth).map(str::to_owned)
        };
        keys.map(to_one).collect::<Vec<_>>()
    };
    let before = reached(&client);
    assert!(before.iter().all(Option::is_some));
    let world = world.restarted(0);
    assert_eq!(reached(&world.client()), before);
}

/// The queue that each of many messages reached, told apart by what `publish` varies.
fn ways(client: &Client, queues: usize, publish: impl Fn(usize) -> Publish) -> Vec<usize> {
    let way = |n| {
        client.send(1, publish(n));
        let took = |name: String| !client.drain(1, &name).is_empty();
        names(queues).position(took).unwrap_or_else(|| panic!("message {n} got lost"))
    };
    (0..60).map(way).collect()
}

#[test]
fn a_consistent_hash_exchange_gives_queues_shares_by_weight() {
    let client = bound("x-consistent-hash", 1, "1");
    client.declare(1, queue("q1"));
    client.ok(1, bind("q1", "x", "3"));
    for n in 0..1000 {
        client.send(1, publish("x", &format!("key {n}"), "m"));
    }
    let depths = depths(&client, 2);
    assert_eq!(depths.iter().sum::<u32>(), 1000);
    assert!((200..=300).contains(&depths[0]), "a quarter: {depths:?}");
}

#[test]
fn when_a_queue_goes_only_its_share_moves_and_comes_back_with_it() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "x-consistent-hash").durable());
    for name in names(4) {
        client.declare(1, queue(&name).durable());
        client.ok(1, bind(&name, "x", "1"));
    }
    let by_key = |n: usize| publish("x", &format!("key {n}"), "m");
    let before = ways(&client, 4, by_key);
    assert_eq!(ways(&client, 4, by_key), before);
    client.ok(1, delete_queue("q1"));
    client.declare(1, queue("q1").durable());
    let without = ways(&client, 4, by_key);
    for (before, after) in before.iter().zip(&without) {
        assert!(if *before == 1 { *after != 1 } else { after == before });
    }
    client.ok(1, bind("q1", "x", "1"));
    assert_eq!(ways(&client, 4, by_key), before);
    let world = world.restarted(0);
    assert_eq!(ways(&world.client(), 4, by_key), before);
}

#[test]
fn a_second_binding_of_a_queue_has_no_weight() {
    let client = bound("x-consistent-hash", 2, "1");
    let by_key = |n: usize| publish("x", &format!("key {n}"), "m");
    let before = ways(&client, 2, by_key);
    client.ok(1, bind("q0", "x", "5000"));
    assert_eq!(ways(&client, 2, by_key), before);
}

#[test]
fn a_header_or_a_property_is_hashed_if_the_exchange_says_so() {
    covers!("exchange.hash-header", "exchange.hash-property");
    let varied = |what: &str, n: usize| match what {
        "customer" => props().header("customer", format!("c{n}").as_str()),
        "correlation_id" => props().correlation_id(format!("c{n}")),
        "message_id" => props().message_id(format!("m{n}")),
        _ => props().timestamp(n as u64),
    };
    for (argument, value) in [
        ("hash-header", "customer"),
        ("hash-property", "correlation_id"),
        ("hash-property", "message_id"),
        ("hash-property", "timestamp"),
    ] {
        let client = World::new().client();
        client.ok(1, exchange("x", "x-consistent-hash").arg(argument, value));
        for name in names(3) {
            client.declare(1, queue(&name));
            client.ok(1, bind(&name, "x", "1"));
        }
        let with = |n: usize, key: &str| publish("x", key, "m").with(varied(value, n));
        let taken = ways(&client, 3, |n| with(n, "same key"));
        assert!((0..3).all(|way| taken.contains(&way)), "{value}: {taken:?}");
        assert_eq!(ways(&client, 3, |n| with(n, &format!("key {n}"))), taken, "{value}");
        let lacking = ways(&client, 3, |n| publish("x", &format!("key {n}"), "m"));
        assert!(lacking.iter().all(|way| *way == lacking[0]), "{value}: {lacking:?}");
    }
}

#[test]
fn what_is_hashed_must_be_something() {
    covers!("exchange.two-hash-sources", "exchange.unsupported-hash-property");
    let client = World::new().client();
    let hashing = || exchange("x", "x-consistent-hash");
    let failed = |text: &str| format!("PRECONDITION_FAILED - {text}");
    let text = failed("Unsupported property: app_id");
    client.refused(1, hashing().arg("hash-property", "app_id"), 406, &text);
    let text = failed("hash-header and hash-property are mutually exclusive");
    let both = hashing().arg("hash-header", "h").arg("hash-property", "app_id");
    client.refused(1, both, 406, &text);
    let text =
        failed("invalid type 'signedint' for arg 'hash-header' in exchange 'x' in vhost '/'");
    client.refused(1, hashing().arg("hash-header", 1), 406, &text);
    client.ok(1, exchange("y", "direct").arg("hash-header", 1).arg("hash-property", "app_id"));
    client.ok(1, hashing().arg("hash-header", "h"));
    client.ok(1, hashing().arg("hash-property", "message_id"));
}

#[test]
fn a_weight_is_an_integer_from_1_to_10000() {
    covers!("binding.weight-not-integer", "binding.weight-too-small", "binding.weight-too-large",);
    let client = bound("x-consistent-hash", 1, "10000");
    for (key, text) in [
        ("", "The binding key must be an integer: <<>>"),
        ("many", "The binding key must be an integer: <<\"many\">>"),
        ("0", "The binding key must be greater than 0"),
        ("-1", "The binding key must be greater than 0"),
        ("10001", "The binding key must not exceed 10000"),
    ] {
        client.refused(1, bind("q0", "x", key), 406, &format!("PRECONDITION_FAILED - {text}"));
    }
}

// ---- with a memory ------------------------------------------------------------------------------

fn remembering() -> Client {
    let client = World::new().client();
    client.ok(1, exchange("x", "x-recent-history"));
    client
}

#[test]
fn a_new_binding_gets_the_last_twenty_messages_first() {
    let client = remembering();
    for n in 0..25 {
        client.send(1, publish("x", "any key", n.to_string()));
    }
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "x", ""));
    client.send(1, publish("x", "another", "25"));
    let expected: Vec<String> = (5..=25).map(|n| n.to_string()).collect();
    assert_eq!(client.drain(1, "q"), expected);
    client.ok(1, bind("q", "x", ""));
    assert_eq!(client.depth(1, "q"), 0, "the binding is there already");
    client.ok(1, bind("q", "x", "another key"));
    assert_eq!(client.depth(1, "q"), 20);
}

#[test]
fn the_length_of_a_history_is_a_positive_integer() {
    covers!("exchange.x-recent-history-length", "exchange.invalid-history-length");
    let client = World::new().client();
    let asked = |length: Value| exchange("x", "x-recent-history").arg(LENGTH, length);
    for (length, shown) in [
        (Value::I32(0), "0"),
        (Value::I64(-2), "-2"),
        (Value::U32(2), "2"),
        (Value::Bool(true), "true"),
        (Value::from("2"), "<<\"2\">>"),
    ] {
        let text = format!(
            "PRECONDITION_FAILED - Invalid argument {shown}, 'x-recent-history-length' must be a \
             positive integer"
        );
        client.refused(1, asked(length), 406, &text);
    }
    client.ok(1, asked(Value::I64(2)));
    for body in ["a", "b", "c"] {
        client.send(1, publish("x", "", body));
    }
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "x", ""));
    assert_eq!(client.drain(1, "q"), ["b", "c"]);
}

const LENGTH: &str = "x-recent-history-length";

#[test]
fn a_message_may_ask_not_to_be_remembered() {
    let client = remembering();
    let no_store = |value: Value| props().header("x-recent-history-no-store", value);
    client.declare(1, queue("early"));
    client.ok(1, bind("early", "x", ""));
    client.send(1, publish("x", "", "forgotten").with(no_store(Value::Bool(true))));
    client.send(1, publish("x", "", "kept").with(no_store(Value::Bool(false))));
    client.send(1, publish("x", "", "kept too").with(no_store(Value::from("true"))));
    client.declare(1, queue("late"));
    client.ok(1, bind("late", "x", ""));
    assert_eq!(client.drain(1, "early"), ["forgotten", "kept", "kept too"]);
    assert_eq!(client.drain(1, "late"), ["kept", "kept too"]);
}

#[test]
fn what_is_remembered_is_as_it_was_published() {
    let client = remembering();
    let asked = props().message_id("m1").header("BCC", array(["hidden"])).header("n", 7);
    client.send(1, publish("x", "key", "body").with(asked));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "x", ""));
    let content = client.fetch(1, "q");
    assert_eq!((content.text(), content.header("BCC")), ("body", None));
    assert_eq!(content.header("n"), Some(Value::I32(7)));
    assert_eq!(content.properties().message_id, Some(&b"m1"[..]));
}

#[test]
fn an_exchange_that_is_bound_passes_the_history_on_and_remembers_it() {
    let client = remembering();
    for body in ["a", "b"] {
        client.send(1, publish("x", "key", body));
    }
    client.ok(1, exchange("by-key", "direct"));
    client.ok(1, exchange("also", "x-recent-history"));
    client.declare(1, queue("q"));
    client.declare(1, queue("other"));
    client.declare(1, queue("late"));
    client.ok(1, bind("q", "by-key", "key"));
    client.ok(1, bind("other", "by-key", "other key"));
    client.ok(1, bind_exchange("by-key", "x", ""));
    assert_eq!(client.drain(1, "q"), ["a", "b"]);
    assert_eq!(client.depth(1, "other"), 0);
    client.ok(1, bind_exchange("also", "x", ""));
    client.ok(1, bind("late", "also", ""));
    assert_eq!(client.drain(1, "late"), ["a", "b"]);
}

#[test]
fn messages_that_come_by_another_exchange_or_die_are_remembered_too() {
    let client = remembering();
    client.ok(1, bind_exchange("x", "amq.fanout", ""));
    let dead = queue("dying").arg("x-dead-letter-exchange", "x").arg("x-max-length", 0);
    client.declare(1, dead);
    client.send(1, publish("amq.fanout", "", "passed"));
    client.send(1, publish("", "dying", "died"));
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "x", ""));
    assert_eq!(client.drain(1, "q"), ["passed", "died"]);
}

#[test]
fn remembered_messages_find_their_consumer_and_survive_if_they_are_persistent() {
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "x-recent-history").durable());
    client.send(1, publish("x", "", "kept").with(props().persistent()));
    client.declare(1, queue("q").durable());
    client.declare(1, queue("watched"));
    client.ok(1, consume("watched", "me").no_ack());
    client.ok(1, bind("q", "x", ""));
    client.ok(1, bind("watched", "x", ""));
    client.messages(1, ["kept"]);
    let world = world.restarted(0);
    let client = world.client();
    assert_eq!(client.drain(1, "q"), ["kept"]);
    client.declare(1, queue("late"));
    client.ok(1, bind("late", "x", ""));
    assert_eq!(client.depth(1, "late"), 0, "the exchange itself remembers nothing");
}

/// Publishes numbers to `x`, as connections do.
fn publish_numbers(broker: &Broker, count: usize) {
    let vhost = broker.vhost("/").unwrap();
    let exchange = vhost.exchange(b"x").unwrap();
    let properties = Properties::default();
    for n in 0..count {
        let envelope = Envelope {
            exchange: b"x",
            routing_key: b"",
            properties: &[0, 0],
            persistent: false,
            hides_bcc: false,
            published_ms: 0,
        };
        let message = Message::new(&envelope, n.to_string().as_bytes());
        let traits = Traits { keys: &[b""], properties: &properties, message: Some(&message) };
        let (mut queues, mut ops, mut effects) = (Vec::new(), Vec::new(), Effects::default());
        vhost.route(&exchange, traits, &mut queues);
        for queue in &queues {
            queue.begin().offer(message.clone(), Now::default(), &mut ops, &mut effects);
        }
    }
}

#[test]
fn a_message_that_comes_while_a_queue_is_bound_is_there_once_and_in_its_place() {
    const QUEUES: usize = 40;
    let world = World::new();
    let client = world.client();
    client.ok(1, exchange("x", "x-recent-history"));
    for name in names(QUEUES) {
        client.declare(1, queue(&name));
    }
    let broker = world.broker();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_numbers(&broker, 4_000));
        let vhost = broker.vhost("/").unwrap();
        for name in names(QUEUES) {
            let asked = BindingRequest {
                source: "x",
                destination: DestinationRef::Queue(&name),
                routing_key: "",
                arguments: Table::default(),
            };
            let user = broker.access().user("guest").unwrap();
            let identity = Identity { user, authority: None };
            let by = (broker.next_connection_id(), "a test".into());
            let mut asker = Asker::new(&broker, by, identity, &vhost, Now::default());
            let mut effects = Effects::default();
            broker.bind(&vhost, &asked, &mut asker, Now::default(), &mut effects).unwrap();
            std::thread::yield_now();
        }
        publisher.join().unwrap();
    });
    for name in names(QUEUES) {
        let got: Vec<usize> =
            client.drain(1, &name).iter().map(|body| body.parse().unwrap()).collect();
        let first = got.first().copied().unwrap();
        assert_eq!(got, (first..4_000).collect::<Vec<_>>(), "{name}");
    }
}
