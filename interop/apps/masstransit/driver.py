"""MassTransit with RabbitMQ as the broker sees it, declaration by declaration.

A message type has a fanout exchange named after it, bound to those of the interfaces it has; an
endpoint has a queue and a fanout exchange of one name, and its exchange is bound to those of the
types that it consumes. What a consumer fails on goes to NAME_error, what it does not know to
NAME_skipped; a fault is published by its own type. Run by apps/masstransit/run.
"""

import json
import time
import uuid

import checks
import pika
from checks import equal, eventually, management, queue, raises, require
from topology import Channel, connect

CONTENT = "application/vnd.masstransit+json"
ORDER = "Contracts:SubmitOrder"
COMMAND = "Contracts:Command"


def declare_exchange(channel, name, durable=True, auto_delete=False, **arguments):
    channel.exchange_declare(
        name, "fanout", durable=durable, auto_delete=auto_delete, arguments=arguments or None
    )


def declare_message(channel, name, *interfaces):
    declare_exchange(channel, name)
    for interface in interfaces:
        declare_exchange(channel, interface)
        channel.exchange_bind(interface, name, "")


def declare_endpoint(channel, name, *messages, durable=True, auto_delete=False, **arguments):
    declare_exchange(channel, name, durable, auto_delete)
    channel.queue_declare(
        name, durable=durable, auto_delete=auto_delete, arguments=arguments or None
    )
    channel.queue_bind(name, name, "")
    for message in messages:
        channel.exchange_bind(name, message, "")


def envelope(message, kind=ORDER, **more):
    body = {
        "messageId": str(uuid.uuid4()),
        "messageType": [f"urn:message:{kind}"],
        "message": message,
        "sentTime": "2026-11-26T08:00:00Z",
        **more,
    }
    return json.dumps(body)


def send(channel, exchange, message, **properties):
    channel.publish(
        exchange, "", envelope(message), {"publishId": "1"}, content_type=CONTENT,
        message_id=str(uuid.uuid4()), **properties,
    )  # fmt: skip


def messages(channel):
    return [json.loads(body)["message"] for body in channel.bodies()]


def scenario_publish():
    """A published command reaches the endpoints of its type and of its interface, once each."""
    with Channel("publish") as channel:
        declare_message(channel.raw, ORDER, COMMAND)
        declare_endpoint(channel.raw, "submit-order", ORDER)
        declare_endpoint(channel.raw, "audit", COMMAND)
        declare_endpoint(channel.raw, "both", ORDER, COMMAND)
        for number in range(50):
            send(channel, ORDER, number)
        for name in ("submit-order", "audit", "both"):
            channel.consume(name, consumer_tag=name)
        channel.wait(150)
        channel.rest()
        for name in ("submit-order", "audit", "both"):
            got = [
                json.loads(body)["message"]
                for _, method, _, body in channel.got
                if method.consumer_tag == name
            ]
            equal(name, got, list(range(50)))
        equal("content type", channel.got[0][2].content_type, CONTENT)
    bindings = management("exchanges/%2F/Contracts:SubmitOrder/bindings/source")
    found = {(b["destination_type"], b["destination"], b["routing_key"]) for b in bindings}
    equal("bindings", found, {
        ("exchange", COMMAND, ""), ("exchange", "submit-order", ""), ("exchange", "both", ""),
    })  # fmt: skip


def scenario_send():
    """Sending goes to the endpoint's exchange; to one that does not exist it is 404."""
    with Channel("send") as channel:
        declare_endpoint(channel.raw, "sent-to")
        send(channel, "sent-to", "x")
        channel.consume("sent-to")
        channel.wait(1)
        error = raises(pika.exceptions.ChannelClosedByBroker, lambda: send(channel, "nowhere", "x"))
        equal("reply", (error.reply_code, error.reply_text),
              (404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'"))  # fmt: skip


def scenario_redeclare():
    """A second instance declares the same; a change of an argument is refused."""
    with Channel("first") as first, Channel("second") as second:
        for channel in (first, second):
            declare_endpoint(channel.raw, "shared", **{"x-max-priority": 5})
        error = raises(
            pika.exceptions.ChannelClosedByBroker, lambda: declare_endpoint(second.raw, "shared")
        )
        equal("code", error.reply_code, 406)
        wanted = "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'shared' in "
        require(error.reply_text.startswith(wanted), error.reply_text)


def scenario_error_and_skipped():
    """A consumer moves what fails or is unknown to queues that it declares when it needs them."""
    with Channel("consumer") as consumer, Channel("mover") as mover:
        declare_endpoint(consumer.raw, "faulty")

        def handle(raw, method, properties, body):
            message = json.loads(body)["message"]
            name = {"fails": "faulty_error", "unknown": "faulty_skipped"}.get(message)
            if name:
                declare_endpoint(mover.raw, name)
                headers = {**properties.headers, "MT-Reason": "fault", "MT-Fault-RetryCount": 2}
                mover.publish(name, "", body, headers, content_type=properties.content_type)
            if message == "fails":
                declare_message(mover.raw, f"MassTransit:Fault--{ORDER}--", "MassTransit:Fault")
                mover.publish(f"MassTransit:Fault--{ORDER}--", "", "fault", mandatory=False)
            raw.basic_ack(method.delivery_tag)

        declare_message(consumer.raw, f"MassTransit:Fault--{ORDER}--", "MassTransit:Fault")
        declare_endpoint(consumer.raw, "faults", "MassTransit:Fault")
        for message in ("fine", "fails", "unknown"):
            send(consumer, "faulty", message)
        consumer.consume("faulty", handle)
        consumer.wait(3)
    with Channel("operator") as operator:
        for name in ("faulty_error", "faulty_skipped", "faults"):
            operator.consume(name, consumer_tag=name)
        operator.wait(3)
        by_tag = {method.consumer_tag: body for _, method, _, body in operator.got}
        equal("error", json.loads(by_tag["faulty_error"])["message"], "fails")
        equal("skipped", json.loads(by_tag["faulty_skipped"])["message"], "unknown")
        equal("fault", by_tag["faults"], "fault")
    eventually("nothing is left", lambda: queue("faulty").get("messages") == 0)


def scenario_requests():
    """The bus's own endpoint is temporary; requests carry it as their response address."""
    name = f"host_service_bus_{uuid.uuid4().hex}"
    with Channel("service") as service, Channel("client") as client:
        declare_endpoint(service.raw, "check-status")
        declare_endpoint(client.raw, name, durable=False, auto_delete=True, **{"x-expires": 60000})
        client.consume(name)

        def answer(raw, method, properties, body):
            request = json.loads(body)
            raw.basic_publish(
                properties.reply_to, "", envelope(request["message"] * 2).encode(),
                pika.BasicProperties(correlation_id=properties.correlation_id),
            )  # fmt: skip
            raw.basic_ack(method.delivery_tag)

        service.consume("check-status", answer)
        for number in range(20):
            send(client, "check-status", number, reply_to=name, correlation_id=str(number),
                 expiration="30000")  # fmt: skip
        service.wait(20)
        client.wait(20)
        equal("answers", messages(client), [2 * number for number in range(20)])
        equal("correlation", client.got[7][2].correlation_id, "7")
        equal("arguments", queue(name)["arguments"], {"x-expires": 60000})
    # Both go with their last user: the queue with its consumer, the exchange with its binding.
    eventually("the queue is gone", lambda: not queue(name))
    eventually("the exchange is gone", lambda: management(f"exchanges/%2F/{name}") is None)


def scenario_direct_reply_to():
    with Channel("service") as service, Channel("client") as client:
        declare_endpoint(service.raw, "direct")
        client.consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
        send(client, "direct", "question", reply_to="amq.rabbitmq.reply-to")

        def answer(raw, method, properties, body):
            raw.basic_publish("", properties.reply_to, envelope("answer").encode())
            raw.basic_ack(method.delivery_tag)

        service.consume("direct", answer)
        service.wait(1)
        client.wait(1)
        equal("answer", messages(client), ["answer"])


def scenario_quorum():
    """SetQuorumQueue(3): the argument for its size is taken on one node, too."""
    with Channel("quorum") as channel:
        arguments = {
            "x-queue-type": "quorum", "x-quorum-initial-group-size": 3, "x-delivery-limit": 2,
        }  # fmt: skip
        declare_message(channel.raw, ORDER)
        declare_endpoint(channel.raw, "quorum", ORDER, **arguments)
        equal("arguments", queue("quorum")["arguments"], arguments)
        send(channel, ORDER, "x")
        counts = []

        def handle(raw, method, properties, body):
            counts.append(properties.headers.get("x-delivery-count", 0))
            raw.basic_nack(method.delivery_tag, requeue=len(counts) < 3)

        channel.consume("quorum", handle)
        channel.wait(3)
        equal("counts", counts, [0, 1, 2])
        channel.rest()
        # The nacks are not answered, and the numbers of the management API follow later.
        eventually("nothing is left", lambda: queue("quorum").get("messages") == 0)


def scenario_single_active_consumer():
    """SingleActiveConsumer keeps the order over instances: the next takes over when one stops."""
    with Channel("one") as one, Channel("two") as two:
        for channel in (one, two):
            declare_endpoint(channel.raw, "ordered", **{"x-single-active-consumer": True})
        tag = one.consume("ordered")
        two.consume("ordered")
        for number in range(10):
            send(one, "ordered", number)
        one.wait(10)
        equal("the first gets all", (messages(one), two.rest()), (list(range(10)), []))
        one.raw.basic_cancel(tag)
        for number in range(10, 20):
            send(one, "ordered", number)
        two.wait(10)
        equal("the second goes on", messages(two), list(range(10, 20)))


def scenario_priority_and_expiry():
    with Channel("priority") as channel:
        declare_endpoint(channel.raw, "priority", **{"x-max-priority": 9, "x-queue-mode": "lazy"})
        for priority in (1, 9, 5):
            send(channel, "priority", priority, priority=priority)
        send(channel, "priority", "late", expiration="1")
        time.sleep(0.2)
        channel.consume("priority", prefetch=1)
        channel.wait(3)
        channel.rest()
        equal("order", messages(channel), [9, 5, 1])


def scenario_alternate_exchange():
    """What no endpoint consumes can be kept: a message type's exchange with an alternate."""
    with Channel("alternate") as channel:
        declare_endpoint(channel.raw, "unconsumed")
        declare_exchange(channel.raw, "Contracts:Rare", **{"alternate-exchange": "unconsumed"})
        send(channel, "Contracts:Rare", "kept")
        channel.consume("unconsumed")
        channel.wait(1)


def scenario_prefetch_and_concurrency():
    """Prefetch per consumer, and acknowledgements out of order, as concurrent consumers do."""
    with Channel("prefetch") as channel:
        declare_endpoint(channel.raw, "prefetch")
        for number in range(40):
            send(channel, "prefetch", number)
        held = []
        channel.consume("prefetch", lambda raw, method, *_: held.append(method.delivery_tag), 8)
        channel.wait(8)
        equal("held", len(channel.rest()), 8)
        while len(channel.got) < 40:
            channel.raw.basic_ack(held.pop(len(held) // 2))
            channel.wait(len(channel.got) + 1)
        while held:
            channel.raw.basic_ack(held.pop())
        channel.rest()
        equal("all once", sorted(messages(channel)), list(range(40)))
    eventually("nothing is left", lambda: queue("prefetch").get("messages") == 0)


def scenario_delayed_exchange():
    """Scheduling needs RabbitMQ's plugin for x-delayed-message, which is not part of it."""
    connection = connect()
    try:
        connection.channel().exchange_declare(
            "x_delay", "x-delayed-message", durable=True, arguments={"x-delayed-type": "fanout"}
        )
    except pika.exceptions.AMQPError as error:
        raise checks.Skip(f"x-delayed-message: {error}") from None
    finally:
        if connection.is_open:
            connection.close()
    with Channel("delayed") as channel:
        declare_endpoint(channel.raw, "scheduled")
        channel.raw.exchange_bind("scheduled", "x_delay", "")
        start = time.time()
        channel.publish("x_delay", "", envelope("x"), {"x-delay": 2000}, mandatory=False)
        channel.consume("scheduled")
        channel.wait(1)
        require(2 <= channel.got[0][0] - start < 5, f"after {channel.got[0][0] - start:.1f} s")


def scenario_broker_restart():
    """The durable topology and its messages outlive a crash; the temporary endpoint does not."""
    with Channel("before") as channel:
        declare_message(channel.raw, ORDER, COMMAND)
        declare_endpoint(channel.raw, "durable", COMMAND)
        declare_endpoint(channel.raw, "temporary", durable=False, auto_delete=True)
        for number in range(100):
            send(channel, ORDER, number)
    checks.restart_broker("kill")
    with Channel("after") as channel:
        channel.consume("durable")
        channel.wait(100)
        equal("messages", messages(channel), list(range(100)))
        send(channel, ORDER, "again")
        channel.wait(101)
    equal("temporary", queue("temporary"), {})


if __name__ == "__main__":
    checks.main(globals())
