//! The exchange types that RabbitMQ brings as plugins: by chance, by hash, with a memory.

use leveret::covers;

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
