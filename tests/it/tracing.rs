//! The firehose: copies of what is published and delivered in a vhost that is traced.

use leveret::protocol::table::{Table, Value};

use crate::support::properties::array;
use crate::support::*;

/// A client whose queue `trace` gets the copies, in a vhost that is traced.
fn tracer(world: &World) -> Client {
    let client = world.client();
    client.declare(1, queue("trace"));
    client.ok(1, bind("trace", "amq.rabbitmq.trace", "#"));
    world.trace(true);
    client
}

/// What the queue `trace` holds.
fn traced(tracer: &Client) -> Vec<Content> {
    let mut traced = Vec::new();
    loop {
        tracer.send(1, get("trace").no_ack());
        match tracer.take(1).content() {
            Some(copy) => traced.push(copy),
            None => return traced,
        }
    }
}

fn keys(copies: &[Content]) -> Vec<&str> {
    copies.iter().map(|copy| copy.routing_key.as_str()).collect()
}

/// The headers that tell who moved a message, as the second client of a world does on channel 1.
fn moved(headers: Table) -> Table {
    headers
        .with("vhost", "/")
        .with("connection", "127.0.0.1:50001 -> 127.0.0.1:5672")
        .with("channel", 1i32)
        .with("user", "guest")
}

#[test]
fn a_publish_is_copied_with_its_properties_and_where_it_went() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    client.declare(1, queue("a"));
    client.declare(1, queue("b"));
    let cc = || array(["b"]);
    let props = props()
        .content_type("text/plain")
        .persistent()
        .priority(3)
        .correlation_id("c")
        .reply_to("r")
        .expiration("60000")
        .message_id("m")
        .timestamp(1_700_000_000u64)
        .header("x", 1)
        .header("CC", cc())
        .header("BCC", array(["nowhere"]));
    client.send(1, publish("", "a", "one").with(props));
    let copies = traced(&tracer);
    assert_eq!(keys(&copies), ["publish."]);
    let copy = &copies[0];
    assert_eq!((copy.exchange.as_str(), copy.text()), ("amq.rabbitmq.trace", "one"));
    assert_eq!(copy.properties().delivery_mode, None, "it is not kept");
    let properties = Table::new()
        .with("content_type", "text/plain")
        .with("correlation_id", "c")
        .with("reply_to", "r")
        .with("expiration", "60000")
        .with("message_id", "m")
        .with("headers", Table::new().with("x", 1i32).with("CC", cc()))
        .with("delivery_mode", 2i32)
        .with("priority", 3i32)
        .with("timestamp", 1_700_000_000i32);
    assert_eq!(
        copy.headers(),
        moved(
            Table::new()
                .with("exchange_name", "")
                .with("routing_keys", array(["a", "b", "nowhere"]))
                .with("properties", properties)
                .with("node", "rabbit@test")
        )
        .with("routed_queues", array(["a", "b"]))
    );
}

#[test]
fn deliveries_and_fetches_are_copied_with_the_queue_they_left() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.topic", "k.#"));
    client.send(1, publish("amq.topic", "k.l", "m"));
    let fetched = client.fetch(1, "q");
    client.send(1, nack(fetched.delivery_tag, Then::Requeue));
    client.ok(1, consume("q", "ct"));
    client.messages(1, ["m"]);
    let copies = traced(&tracer);
    assert_eq!(keys(&copies), ["publish.amq.topic", "deliver.q", "deliver.q"]);
    for (copy, redelivered) in copies[1..].iter().zip([0i32, 1]) {
        assert_eq!(copy.text(), "m");
        assert_eq!(
            copy.headers(),
            moved(
                Table::new()
                    .with("exchange_name", "amq.topic")
                    .with("routing_keys", array(["k.l"]))
                    .with("properties", Table::new())
                    .with("node", "rabbit@test")
                    .with("redelivered", redelivered)
            )
        );
    }
}

/// RabbitMQ names the queue that does not exist among those the message was routed to.
#[test]
fn what_reaches_no_queue_is_copied_too() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    client.send(1, publish("", "missing", "1"));
    client.send(1, publish("amq.fanout", "", "2").mandatory());
    assert_eq!(client.message(1).reply, Some((312, "NO_ROUTE".into())));
    let copies = traced(&tracer);
    assert_eq!(keys(&copies), ["publish.", "publish.amq.fanout"]);
    for copy in &copies {
        assert_eq!(copy.header("routed_queues"), Some(Value::Array(Vec::new())));
    }
}

#[test]
fn a_transaction_is_traced_as_it_is_sent() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    client.declare(1, queue("q"));
    client.ok(1, tx_select());
    client.send(1, publish("", "q", "m"));
    let copies = traced(&tracer);
    assert_eq!(keys(&copies), ["publish."]);
    assert_eq!(copies[0].header("routed_queues"), Some(array(["q"])));
    client.ok(1, tx_rollback());
    assert_eq!(traced(&tracer), []);
}

#[test]
fn a_dead_letter_is_traced_when_it_is_delivered() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    client.declare(1, queue("dead"));
    let dying = queue("dying").arg("x-dead-letter-exchange", "");
    client.declare(1, dying.arg("x-dead-letter-routing-key", "dead"));
    client.send(1, publish("", "dying", "m"));
    let fetched = client.fetch(1, "dying");
    client.send(1, reject(fetched.delivery_tag, Then::Discard));
    client.fetch(1, "dead");
    let copies = traced(&tracer);
    assert_eq!(keys(&copies), ["publish.", "deliver.dying", "deliver.dead"]);
    let properties = copies[2].header("properties").unwrap();
    let Value::Table(properties) = properties else { panic!("{properties:?}") };
    let Some(Value::Table(headers)) = properties.get("headers") else { panic!("{properties:?}") };
    assert_eq!(headers.get("x-first-death-queue"), Some(&Value::from("dying")));
}

#[test]
fn a_confirmed_publish_that_a_full_queue_refuses_is_traced() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    client.declare(1, queue("q").arg("x-max-length", 1).arg("x-overflow", "reject-publish"));
    client.ok(1, confirm_select());
    client.send(1, publish("", "q", "1"));
    client.send(1, publish("", "q", "2"));
    let bodies: Vec<_> = traced(&tracer).iter().map(|copy| copy.text().to_owned()).collect();
    assert_eq!(bodies, ["1", "2"]);
}

#[test]
fn copies_are_not_copied_and_end_when_tracing_does() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    client.declare(1, queue("q"));
    client.send(1, publish("", "q", "traced"));
    tracer.ok(1, consume("trace", "watch").no_ack());
    assert_eq!(tracer.message(1).routing_key, "publish.");
    client.send(1, publish("", "q", "traced, too"));
    assert_eq!(tracer.message(1).text(), "traced, too");
    world.trace(false);
    client.send(1, publish("", "q", "late"));
    assert_eq!(client.drain(1, "q"), ["traced", "traced, too", "late"]);
    tracer.expect_nothing();
}

#[test]
fn a_large_body_is_copied_whole() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    let body = vec![b'x'; 300_000];
    client.send(1, publish("amq.fanout", "", &body));
    assert_eq!(tracer.fetch(1, "trace").body, body);
}

#[test]
fn the_longest_names_fit_the_key_of_a_copy_in_part() {
    let world = World::new();
    let tracer = tracer(&world);
    let client = world.client();
    let name = "n".repeat(255);
    client.ok(1, exchange(&name, "fanout"));
    client.send(1, publish(&name, "", "m"));
    let copy = tracer.fetch(1, "trace");
    assert_eq!(copy.routing_key, format!("publish.{}", &name[..247]));
    assert_eq!(copy.header("exchange_name"), Some(Value::from(&*name)));
}
