//! The scenarios that every client program plays, in the order of `interop/README.md`.
//!
//! Each takes a fresh connection, a channel on it and a name that no other run uses, and leaves
//! nothing behind in the broker.

use std::time::Duration;

use futures_lite::StreamExt;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, BasicRecoverOptions, BasicRejectOptions,
    ConfirmSelectOptions, ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    ExchangeKind,
};

use crate::check::{Outcome, WAIT, equal, refused, require};

const EXCLUSIVE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: false,
    exclusive: true,
    auto_delete: false,
    nowait: false,
};
const DURABLE: QueueDeclareOptions =
    QueueDeclareOptions { durable: true, exclusive: false, ..EXCLUSIVE };
const PASSIVE: QueueDeclareOptions =
    QueueDeclareOptions { passive: true, exclusive: false, ..EXCLUSIVE };

fn url() -> Outcome<String> {
    Ok(std::env::var("AMQP_URL")?)
}

/// What the names of this process's queues and exchanges begin with.
pub(crate) fn prefix() -> String {
    format!("interop.lapin.{}", std::process::id())
}

pub(crate) async fn connect() -> Outcome<Connection> {
    Ok(Connection::connect(&url()?, ConnectionProperties::default()).await?)
}

pub(crate) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn declare_queue(
    channel: &Channel,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> lapin::Result<lapin::Queue> {
    channel.queue_declare(name.into(), options, arguments).await
}

async fn ready(channel: &Channel, queue: &str) -> Outcome<u32> {
    Ok(declare_queue(channel, queue, PASSIVE, FieldTable::default()).await?.message_count())
}

async fn publish(channel: &Channel, exchange: &str, key: &str, body: &str) -> Outcome {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel
        .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties)
        .await?;
    Ok(())
}

/// Sends the numbers below `count` and waits until the broker has acknowledged every one.
pub(crate) async fn publish_confirmed(
    channel: &Channel,
    queue: &str,
    count: usize,
    properties: BasicProperties,
) -> Outcome {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut pending = Vec::with_capacity(count);
    for number in 0..count {
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        let properties = properties.clone();
        let sent =
            channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
        pending.push(sent.await?);
    }
    for confirm in pending {
        let confirmation = tokio::time::timeout(WAIT, confirm).await??;
        require(confirmation == Confirmation::Ack(None), &format!("got {confirmation:?}"))?;
    }
    Ok(())
}

async fn consume(channel: &Channel, queue: &str, tag: &str, no_ack: bool) -> Outcome<Consumer> {
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    Ok(channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await?)
}

async fn next(consumer: &mut Consumer) -> Outcome<Delivery> {
    let delivery = tokio::time::timeout(WAIT, consumer.next()).await?;
    Ok(delivery.ok_or("the consumer ended")??)
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// The bodies of the next `count` messages of a queue, acknowledged on delivery.
pub(crate) async fn collect(channel: &Channel, queue: &str, count: usize) -> Outcome<Vec<String>> {
    let mut consumer = consume(channel, queue, "", true).await?;
    let mut bodies = Vec::with_capacity(count);
    for _ in 0..count {
        bodies.push(body(&next(&mut consumer).await?));
    }
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    Ok(bodies)
}

async fn get_if_any(
    channel: &Channel,
    queue: &str,
    no_ack: bool,
) -> lapin::Result<Option<BasicGetMessage>> {
    channel.basic_get(queue.into(), BasicGetOptions { no_ack }).await
}

async fn get_one(channel: &Channel, queue: &str, no_ack: bool) -> Outcome<BasicGetMessage> {
    let got = get_if_any(channel, queue, no_ack).await?;
    Ok(got.ok_or_else(|| format!("nothing in {queue}"))?)
}

/// The tuning is RabbitMQ's; wrong credentials and vhosts are refused as it does.
pub(crate) async fn connect_scenario(connection: &Connection, _: &Channel, _: &str) -> Outcome {
    equal("channel max", &connection.configuration().channel_max(), &2047)?;
    equal("frame max", &connection.configuration().frame_max(), &131_072)?;
    equal("heartbeat", &connection.configuration().heartbeat(), &60)?;
    let wrong = url()?.replacen("guest:guest", "guest:wrong", 1);
    let result = Connection::connect(&wrong, ConnectionProperties::default()).await;
    refused(
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
        result,
    )?;
    let lost = format!("{}/no-such-vhost", url()?.trim_end_matches('/'));
    let result = Connection::connect(&lost, ConnectionProperties::default()).await;
    refused(530, "NOT_ALLOWED - vhost no-such-vhost not found", result)
}

/// Exchanges, queues and bindings; the same again is fine, a different one is 406.
pub(crate) async fn declare(connection: &Connection, channel: &Channel, name: &str) -> Outcome {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let none = FieldTable::default;
    for kind in [ExchangeKind::Topic, ExchangeKind::Topic] {
        channel.exchange_declare(name.into(), kind, durable, none()).await?;
    }
    let limit = |limit| table([("x-max-length", AMQPValue::LongInt(limit))]);
    declare_queue(channel, name, DURABLE, limit(5)).await?;
    declare_queue(channel, name, DURABLE, limit(5)).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(name.into(), name.into(), "*.key".into(), bind, none()).await?;
    let e2e = ExchangeBindOptions::default();
    channel.exchange_bind(name.into(), "amq.fanout".into(), "".into(), e2e, none()).await?;
    publish(channel, name, "a.key", "routed").await?;
    publish(channel, name, "key", "not routed").await?;
    publish(channel, "amq.fanout", "b.key", "through two exchanges").await?;
    for expected in ["routed", "through two exchanges"] {
        equal("body", &body(&get_one(channel, name, true).await?.delivery), expected)?;
    }
    require(get_if_any(channel, name, true).await?.is_none(), "more than was routed")?;
    let purged = channel.queue_purge(name.into(), QueuePurgeOptions::default()).await?;
    equal("purged", &purged, &0)?;
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': \
         received '6' but current is '5'"
    );
    refused(406, &text, declare_queue(channel, name, DURABLE, limit(6)).await)?;
    let channel = connection.create_channel().await?;
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
    Ok(())
}

/// Each persistent message to a durable queue is confirmed, and all are there in order.
pub(crate) async fn confirm(_: &Connection, channel: &Channel, name: &str) -> Outcome {
    declare_queue(channel, name, DURABLE, FieldTable::default()).await?;
    publish_confirmed(channel, name, 1000, persistent()).await?;
    let bodies = collect(channel, name, 1000).await?;
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    equal("bodies", &bodies, &expected)?;
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

/// Every property and every kind of header value arrives as it was sent.
pub(crate) async fn properties(_: &Connection, channel: &Channel, name: &str) -> Outcome {
    let inner = table([("deep", AMQPValue::Boolean(false)), ("void", AMQPValue::Void)]);
    let list = vec![text("a"), AMQPValue::LongInt(1), AMQPValue::FieldTable(inner)];
    let headers = table([
        ("bool", AMQPValue::Boolean(true)),
        ("bytes", AMQPValue::ByteArray(ByteArray::from(vec![0, 255]))),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
        ("double", AMQPValue::Double(2.5)),
        ("float", AMQPValue::Float(1.5)),
        ("int8", AMQPValue::ShortShortInt(-8)),
        ("int16", AMQPValue::ShortInt(-16)),
        ("int32", AMQPValue::LongInt(-32)),
        ("int64", AMQPValue::LongLongInt(-64)),
        ("list", AMQPValue::FieldArray(FieldArray::from(list))),
        ("text", text("grün")),
        ("time", AMQPValue::Timestamp(1_700_000_000)),
        ("uint8", AMQPValue::ShortShortUInt(8)),
        ("uint16", AMQPValue::ShortUInt(16)),
        ("uint32", AMQPValue::LongUInt(32)),
    ]);
    let sent = persistent()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers)
        .with_priority(3)
        .with_correlation_id("c-1".into())
        .with_reply_to("somewhere".into())
        .with_expiration("60000".into())
        .with_message_id("m-1".into())
        .with_timestamp(1_700_000_000)
        .with_type("kind".into())
        .with_user_id("guest".into())
        .with_app_id("interop".into())
        .with_cluster_id("old".into());
    declare_queue(channel, name, EXCLUSIVE, FieldTable::default()).await?;
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), name.into(), options, b"body", sent.clone()).await?;
    let got = get_one(channel, name, true).await?.delivery;
    equal("body", &body(&got), "body")?;
    equal("properties", &got.properties, &sent)
}

/// Bodies from nothing to many frames arrive whole, also at the edges of a frame.
pub(crate) async fn sizes(connection: &Connection, channel: &Channel, name: &str) -> Outcome {
    let whole = usize::try_from(connection.configuration().frame_max())? - 8;
    declare_queue(channel, name, EXCLUSIVE, FieldTable::default()).await?;
    let mut consumer = consume(channel, name, "", true).await?;
    for size in [0, 1, whole - 1, whole, whole + 1, 2 * whole, 1_000_000] {
        let sent: Vec<u8> = (0..=250).cycle().take(size).collect();
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), name.into(), options, &sent, persistent()).await?;
        let received = next(&mut consumer).await?.data;
        equal("size", &received.len(), &size)?;
        require(received == sent, &format!("a body of {size} bytes was changed on its way"))?;
    }
    Ok(())
}

/// No more than the prefetch count is out at a time; an acknowledgement brings the next.
pub(crate) async fn prefetch(_: &Connection, channel: &Channel, name: &str) -> Outcome {
    declare_queue(channel, name, EXCLUSIVE, FieldTable::default()).await?;
    for number in 0..10 {
        publish(channel, "", name, &number.to_string()).await?;
    }
    channel.basic_qos(3, BasicQosOptions::default()).await?;
    let mut consumer = consume(channel, name, "mine", false).await?;
    let mut received: Vec<Delivery> = Vec::new();
    for (count, settle, multiple) in [(3, 0, false), (4, 3, true), (7, 6, true), (10, 9, true)] {
        while received.len() < count {
            let delivery = next(&mut consumer).await?;
            equal("body", &body(&delivery), &received.len().to_string())?;
            received.push(delivery);
        }
        let left = usize::try_from(ready(channel, name).await?)?;
        equal("still in the queue", &left, &(10 - count))?;
        // Whatever was sent before that answer is here by now.
        let more = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
        require(more.is_err(), "more deliveries than the prefetch count")?;
        received[settle].ack(BasicAckOptions { multiple }).await?;
    }
    Ok(())
}

/// nack and reject with requeue bring a message back, marked; without, it is gone.
pub(crate) async fn requeue(connection: &Connection, channel: &Channel, name: &str) -> Outcome {
    async fn expect(channel: &Channel, name: &str, seen: (&str, bool)) -> Outcome<Delivery> {
        let delivery = get_one(channel, name, false).await?.delivery;
        equal("message", &(body(&delivery).as_str(), delivery.redelivered), &seen)?;
        Ok(delivery)
    }
    declare_queue(channel, name, EXCLUSIVE, FieldTable::default()).await?;
    publish(channel, "", name, "again").await?;
    publish(channel, "", name, "next").await?;
    let nack = BasicNackOptions { requeue: true, multiple: false };
    expect(channel, name, ("again", false)).await?.nack(nack).await?;
    let reject = BasicRejectOptions { requeue: true };
    expect(channel, name, ("again", true)).await?.reject(reject).await?;
    expect(channel, name, ("again", true)).await?;
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await?;
    let drop = BasicNackOptions { requeue: false, multiple: false };
    expect(channel, name, ("again", true)).await?.nack(drop).await?;
    expect(channel, name, ("next", false)).await?;
    // Closing a channel gives back what it had not acknowledged.
    channel.close(200, "done".into()).await?;
    let channel = connection.create_channel().await?;
    expect(&channel, name, ("next", true)).await?.ack(BasicAckOptions::default()).await?;
    require(get_if_any(&channel, name, true).await?.is_none(), "something is left")
}

/// A mandatory message without a queue comes back, with its confirm; a plain one is dropped.
pub(crate) async fn mandatory(_: &Connection, channel: &Channel, name: &str) -> Outcome {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = ExchangeDeclareOptions::default();
    let none = FieldTable::default();
    channel.exchange_declare(name.into(), ExchangeKind::Direct, options, none).await?;
    let send = async |mandatory: bool, body: &str| -> Outcome<Confirmation> {
        let options = BasicPublishOptions { mandatory, immediate: false };
        let properties = BasicProperties::default().with_message_id("m".into());
        let (exchange, key) = (name.into(), "nowhere".into());
        let sent = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        Ok(tokio::time::timeout(WAIT, sent.await?).await??)
    };
    equal("dropped", &send(false, "dropped").await?, &Confirmation::Ack(None))?;
    let Confirmation::Ack(Some(back)) = send(true, "returned").await? else {
        return Err("nothing was returned".into());
    };
    equal("code", &back.reply_code, &312)?;
    equal("text", back.reply_text.as_str(), "NO_ROUTE")?;
    equal("exchange", back.delivery.exchange.as_str(), name)?;
    equal("key", back.delivery.routing_key.as_str(), "nowhere")?;
    equal("body", &body(&back.delivery), "returned")?;
    equal("message id", &back.delivery.properties.message_id(), &&Some("m".into()))?;
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
    Ok(())
}

/// Requests and answers through direct reply-to, with the address rewritten on the way.
pub(crate) async fn rpc(connection: &Connection, channel: &Channel, name: &str) -> Outcome {
    declare_queue(channel, name, EXCLUSIVE, FieldTable::default()).await?;
    let server = connection.create_channel().await?;
    let mut requests = consume(&server, name, "", false).await?;
    let mut replies = consume(channel, "amq.rabbitmq.reply-to", "", true).await?;
    for number in 0..5 {
        let call = BasicProperties::default()
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_correlation_id(number.to_string().into());
        let options = BasicPublishOptions::default();
        let content = format!("call {number}");
        channel.basic_publish("".into(), name.into(), options, content.as_bytes(), call).await?;
        let request = next(&mut requests).await?;
        let address = request.properties.reply_to().clone().ok_or("no reply-to")?;
        let rewritten = address.as_str().starts_with("amq.rabbitmq.reply-to.");
        require(rewritten, &format!("reply-to {address}"))?;
        let id = request.properties.correlation_id().clone().ok_or("no correlation id")?;
        let answer = BasicProperties::default().with_correlation_id(id);
        let content = body(&request).to_uppercase();
        server.basic_publish("".into(), address, options, content.as_bytes(), answer).await?;
        request.ack(BasicAckOptions::default()).await?;
        let reply = next(&mut replies).await?;
        equal("reply", &body(&reply), &format!("CALL {number}"))?;
        let id = reply.properties.correlation_id().clone();
        equal("correlation id", &id, &Some(number.to_string().into()))?;
    }
    Ok(())
}

/// basic.get takes one message at a time, tells how many are left, and says when none is.
pub(crate) async fn get(_: &Connection, channel: &Channel, name: &str) -> Outcome {
    declare_queue(channel, name, EXCLUSIVE, FieldTable::default()).await?;
    require(get_if_any(channel, name, false).await?.is_none(), "a new queue is not empty")?;
    for number in 0..3 {
        publish(channel, "", name, &number.to_string()).await?;
    }
    for number in 0..3 {
        let got = get_one(channel, name, false).await?;
        equal("body", &body(&got.delivery), &number.to_string())?;
        equal("left", &got.message_count, &(2 - number))?;
        got.delivery.ack(BasicAckOptions::default()).await?;
    }
    require(get_if_any(channel, name, false).await?.is_none(), "something is left")
}

/// Exclusive queues are locked to others and end with their connection; "" asks for a name.
pub(crate) async fn exclusive(connection: &Connection, channel: &Channel, name: &str) -> Outcome {
    let none = FieldTable::default;
    let owner = connect().await?;
    let owned = owner.create_channel().await?;
    let made = declare_queue(&owned, "", EXCLUSIVE, none()).await?.name().to_string();
    require(made.starts_with("amq.gen-"), &format!("the server named it {made}"))?;
    declare_queue(&owned, name, EXCLUSIVE, none()).await?;
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'"
    );
    refused(405, &text, declare_queue(channel, name, EXCLUSIVE, none()).await)?;
    owner.close(200, "done".into()).await?;
    for gone in [name, made.as_str()] {
        let fresh = connection.create_channel().await?;
        let text = format!("NOT_FOUND - no queue '{gone}' in vhost '/'");
        refused(404, &text, declare_queue(&fresh, gone, PASSIVE, none()).await)?;
    }
    Ok(())
}

/// An error ends its channel only: others and new ones go on.
pub(crate) async fn channel_error(
    connection: &Connection,
    channel: &Channel,
    name: &str,
) -> Outcome {
    let none = FieldTable::default;
    let other = connection.create_channel().await?;
    let text = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
    refused(404, &text, declare_queue(channel, name, PASSIVE, none()).await)?;
    require(connection.status().connected(), "the connection was closed")?;
    declare_queue(&other, name, EXCLUSIVE, none()).await?;
    let fresh = connection.create_channel().await?;
    equal("messages", &ready(&fresh, name).await?, &0)?;
    // A consumer is told how its channel ended, whenever that happens.
    let mut consumer = consume(&fresh, name, "", true).await?;
    fresh.basic_ack(99, BasicAckOptions::default()).await?;
    let ended = tokio::time::timeout(WAIT, consumer.next()).await?;
    let ended = ended.ok_or("the consumer ended without a reason")?;
    refused(406, "PRECONDITION_FAILED - unknown delivery tag 99", ended)?;
    equal("messages", &ready(&other, name).await?, &0)
}

/// Expired, rejected and overflowing messages reach the dead letter exchange with x-death.
pub(crate) async fn dead_letter(_: &Connection, channel: &Channel, name: &str) -> Outcome {
    let none = FieldTable::default;
    let options = ExchangeDeclareOptions::default();
    channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, none()).await?;
    let dead = format!("{name}.dead");
    declare_queue(channel, &dead, EXCLUSIVE, none()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(dead.as_str().into(), name.into(), "".into(), bind, none()).await?;
    let arguments = table([
        ("x-dead-letter-exchange", text(name)),
        ("x-dead-letter-routing-key", text("late")),
        ("x-max-length", AMQPValue::LongInt(1)),
    ]);
    declare_queue(channel, name, EXCLUSIVE, arguments).await?;
    publish(channel, "", name, "pushed out").await?;
    publish(channel, "", name, "rejected").await?;
    let rejected = get_one(channel, name, false).await?.delivery;
    equal("first", &body(&rejected), "rejected")?;
    rejected.reject(BasicRejectOptions { requeue: false }).await?;
    let expiring = BasicProperties::default().with_expiration("20".into());
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), name.into(), options, b"expired", expiring).await?;
    let mut letters = consume(channel, &dead, "", true).await?;
    for (content, reason) in
        [("pushed out", "maxlen"), ("rejected", "rejected"), ("expired", "expired")]
    {
        let letter = next(&mut letters).await?;
        equal("body", &body(&letter), content)?;
        equal("key", letter.routing_key.as_str(), "late")?;
        let headers = letter.properties.headers().clone().ok_or("no headers")?;
        let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
            return Err(format!("no x-death in {headers:?}").into());
        };
        let [AMQPValue::FieldTable(death)] = deaths.as_slice() else {
            return Err(format!("not one death but {deaths:?}").into());
        };
        for (key, expected) in [
            ("reason", text(reason)),
            ("queue", text(name)),
            ("exchange", text("")),
            ("count", AMQPValue::LongLongInt(1)),
        ] {
            equal(key, &death.inner().get(key), &Some(&expected))?;
        }
    }
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
    Ok(())
}

/// The client's cancel stops deliveries; the end of a queue cancels its consumers.
pub(crate) async fn cancel(connection: &Connection, channel: &Channel, name: &str) -> Outcome {
    let plain = QueueDeclareOptions { exclusive: false, ..EXCLUSIVE };
    declare_queue(channel, name, plain, FieldTable::default()).await?;
    let first = consume(channel, name, "first", true).await?;
    channel.basic_cancel(first.tag(), BasicCancelOptions::default()).await?;
    publish(channel, "", name, "kept").await?;
    equal("kept", &body(&get_one(channel, name, true).await?.delivery), "kept")?;
    let mut consumer = consume(channel, name, "mine", true).await?;
    let other = connection.create_channel().await?;
    other.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    let end = tokio::time::timeout(WAIT, consumer.next()).await?;
    require(end.is_none(), &format!("not cancelled but {end:?}"))
}

/// A queue declared as quorum holds messages and counts their deliveries.
pub(crate) async fn quorum(_: &Connection, channel: &Channel, name: &str) -> Outcome {
    declare_queue(channel, name, DURABLE, table([("x-queue-type", text("quorum"))])).await?;
    publish_confirmed(channel, name, 1, persistent()).await?;
    let mut consumer = consume(channel, name, "", false).await?;
    let first = next(&mut consumer).await?;
    equal("redelivered", &first.redelivered, &false)?;
    first.reject(BasicRejectOptions { requeue: true }).await?;
    let second = next(&mut consumer).await?;
    equal("second", &(body(&second).as_str(), second.redelivered), &("0", true))?;
    let headers = second.properties.headers().clone().unwrap_or_default();
    let count = headers.inner().get("x-delivery-count");
    equal("count", &count, &Some(&AMQPValue::LongLongInt(1)))?;
    second.ack(BasicAckOptions::default()).await?;
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    Ok(())
}
