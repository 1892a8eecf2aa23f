"""NServiceBus's RabbitMQ transport as the broker sees it, declaration by declaration.

Delays: a number of seconds of 28 bits is written as a routing key, the highest bit first, and the
endpoint's name behind it. Level N has a topic exchange and a queue whose messages expire after 2^N
seconds to the exchange of level N-1; a 1 at its place leads into the queue, a 0 straight on. Level
0 leads to an exchange that endpoints bind to with `#.NAME`. Run by apps/nservicebus/run.
"""

import time

import checks
import pika
from checks import equal, eventually, management, queue, raises, require
from topology import Channel

LEVELS = 28
DELIVERY = "nsb.v2.delay-delivery"
DELAY_HEADER = "NServiceBus.Transport.RabbitMQ.DelayInSeconds"
QUORUM = {"x-queue-type": "quorum"}


def level_name(level):
    return f"nsb.v2.delay-level-{level:02}"


def level_arguments(level, **changes):
    return {
        **QUORUM,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-message-ttl": 2**level * 1000,
        "x-dead-letter-exchange": level_name(level - 1) if level else DELIVERY,
        **changes,
    }


def declare_delays(channel):
    key = "1.#"
    for level in reversed(range(LEVELS)):
        channel.exchange_declare(level_name(level), "topic", durable=True)
        channel.queue_declare(level_name(level), durable=True, arguments=level_arguments(level))
        channel.queue_bind(level_name(level), level_name(level), key)
        key = f"*.{key}"
    key = "0.#"
    for level in reversed(range(1, LEVELS)):
        channel.exchange_bind(level_name(level - 1), level_name(level), key)
        key = f"*.{key}"
    channel.exchange_declare(DELIVERY, "topic", durable=True)
    channel.exchange_bind(DELIVERY, level_name(0), key)


def declare_endpoint(channel, name, **arguments):
    """An endpoint's queue, its exchange of the same name, and its way out of the delays."""
    channel.queue_declare(name, durable=True, arguments={**QUORUM, **arguments})
    channel.exchange_declare(name, "fanout", durable=True)
    channel.queue_bind(name, name, "")
    channel.exchange_bind(name, DELIVERY, f"#.{name}")


def declare_type(channel, name, *bases):
    """A message type's exchange leads to those of its base types and interfaces."""
    channel.exchange_declare(name, "fanout", durable=True)
    for base in bases:
        channel.exchange_declare(base, "fanout", durable=True)
        channel.exchange_bind(base, name, "")


def send_delayed(channel, endpoint, seconds, body):
    """What the transport does: straight to the level of the highest bit."""
    key = ".".join(f"{seconds:0{LEVELS}b}") + f".{endpoint}"
    level = max(seconds.bit_length() - 1, 0)
    channel.publish(level_name(level), key, body, {DELAY_HEADER: seconds}, message_id=body)


def scenario_delay_infrastructure():
    """28 quorum queues with TTL and 29 exchanges; declaring all of it again changes nothing."""
    with Channel("installer") as channel:
        for _ in range(2):
            declare_delays(channel.raw)
    found = queue(level_name(27))
    equal("type", (found["type"], found["durable"]), ("quorum", True))
    equal("time to live", found["arguments"]["x-message-ttl"], 2**27 * 1000)
    bindings = management("bindings/%2F")
    exchanges = [b for b in bindings if b["destination_type"] == "exchange"]
    equal("exchange bindings", len(exchanges), LEVELS)
    with Channel("other") as channel:
        refused = raises(
            pika.exceptions.ChannelClosedByBroker,
            lambda: channel.raw.queue_declare(
                level_name(3), durable=True, arguments=level_arguments(3, **{"x-message-ttl": 1})
            ),
        )
        equal("code", refused.reply_code, 406)
        wanted = "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue "
        require(refused.reply_text.startswith(wanted), refused.reply_text)


def scenario_delays():
    """Each message arrives when its seconds are over, through every level whose bit is set."""
    seconds = (0, 1, 2, 3, 4, 5, 7, 10, 15)
    with Channel("delays") as channel:
        declare_endpoint(channel.raw, "Sales")
        start = time.time()
        for number in seconds:
            send_delayed(channel, "Sales", number, str(number))
        channel.consume("Sales")
        got = channel.wait(len(seconds), 40)
    equal("order", [int(body) for _, _, _, body in got], list(seconds))
    for at, method, properties, body in got:
        late = at - start - int(body)
        # Each level may take a little longer; an early one would be a broken promise.
        require(-0.1 <= late < 2.5, f"{body} s came {late:+.2f} s off")
        # The last dead-letter exchange: from there on, exchange bindings lead to the endpoint.
        lowest = (int(body) & -int(body)).bit_length() - 1
        last = DELIVERY if lowest == 0 else level_name(max(lowest - 1, 0))
        equal("exchange", method.exchange, last)
        require(method.routing_key.endswith(".Sales"), f"key {method.routing_key}")
        levels = [level_name(level) for level in range(LEVELS) if int(body) >> level & 1]
        deaths = properties.headers.get("x-death", [])
        equal("levels", sorted(death["queue"] for death in deaths), levels)
        equal("reasons", {death["reason"] for death in deaths}, {"expired"} if levels else set())
        if levels:
            equal("first", properties.headers["x-first-death-queue"], levels[-1])
        equal("header", properties.headers[DELAY_HEADER], int(body))


def scenario_many_delayed():
    """A thousand at once through three levels: none is lost, none comes twice."""
    with Channel("many") as channel:
        declare_endpoint(channel.raw, "Many")
        for number in range(1000):
            send_delayed(channel, "Many", 1 + number % 4, str(number))
        channel.consume("Many", prefetch=100)
        channel.wait(1000, 40)
        equal("distinct", len(set(channel.bodies())), 1000)
        channel.rest()
        equal("all", len(channel.got), 1000)


def scenario_long_delays_wait():
    """A delay of years waits at its level, and not at another."""
    with Channel("years") as channel:
        declare_endpoint(channel.raw, "Years")
        send_delayed(channel, "Years", 2**28 - 1, "8.5 years")
        send_delayed(channel, "Years", 2**20, "12 days")
    for level in (27, 20):
        eventually(f"level {level}", lambda: queue(level_name(level)).get("messages_ready") == 1)


def scenario_delays_outlive_a_crash():
    """Confirmed delayed messages arrive though the broker is killed meanwhile."""
    with Channel("before") as channel:
        declare_endpoint(channel.raw, "Crash")
        # A quorum queue younger than a few seconds does not survive in RabbitMQ 3.10.
        time.sleep(4)
        start = time.time()
        for number in range(20):
            send_delayed(channel, "Crash", 7, str(number))
    checks.restart_broker("kill")
    with Channel("after") as channel:
        channel.consume("Crash")
        got = channel.wait(20, 60)
        equal("distinct", sorted(map(int, channel.bodies())), list(range(20)))
        # Its time at a level starts anew with the broker in RabbitMQ; it is never short.
        require(got[0][0] - start >= 6.9, f"after {got[0][0] - start:.1f} s")


def scenario_conventional_routing():
    """Publishing to a type's exchange reaches the subscribers of its bases, once each."""
    with Channel("routing") as channel:
        for endpoint in ("Shipping", "Billing", "Audit.Log"):
            declare_endpoint(channel.raw, endpoint)
        declare_type(channel.raw, "Sales:OrderPlaced", "Sales:OrderEvent", "NServiceBus:IEvent")
        declare_type(channel.raw, "Sales:OrderEvent", "NServiceBus:IEvent")
        channel.raw.exchange_bind("Shipping", "Sales:OrderPlaced", "")
        channel.raw.exchange_bind("Billing", "Sales:OrderEvent", "")
        channel.raw.exchange_bind("Audit.Log", "NServiceBus:IEvent", "")
        channel.raw.exchange_bind("Billing", "NServiceBus:IEvent", "")
        headers = {
            "NServiceBus.EnclosedMessageTypes": "Sales.OrderPlaced, Sales",
            "NServiceBus.MessageId": "1",
        }
        channel.publish("Sales:OrderPlaced", "", "event", headers, content_type="application/json")
        channel.publish("Shipping", "", "command")
        for endpoint in ("Shipping", "Billing", "Audit.Log"):
            channel.consume(endpoint, consumer_tag=endpoint)
        channel.wait(4)
        channel.rest()
        got = sorted((method.consumer_tag, body) for _, method, _, body in channel.got)
        equal("received", got, [
            ("Audit.Log", "event"), ("Billing", "event"),
            ("Shipping", "command"), ("Shipping", "event"),
        ])  # fmt: skip
        # Unsubscribing, and a type that nobody subscribes to: mandatory is only for commands.
        channel.raw.exchange_unbind("Shipping", "Sales:OrderPlaced", "")
        declare_type(channel.raw, "Sales:Unheard")
        channel.publish("Sales:Unheard", "", "nobody", mandatory=False)
        raises(
            pika.exceptions.UnroutableError,
            lambda: channel.publish("Sales:Unheard", "", "nobody", mandatory=True),
        )


def scenario_retries():
    """Immediate retries are requeues, delayed ones go through the delays, then the error queue."""
    with Channel("retries") as channel:
        for endpoint in ("Retries", "error"):
            declare_endpoint(channel.raw, endpoint)
        attempts = []

        def handle(raw, method, properties, body):
            count = properties.headers.get("x-delivery-count", 0)
            delayed = properties.headers.get("NServiceBus.Retries", 0)
            attempts.append((delayed, count))
            if count < 2:  # immediate
                raw.basic_nack(method.delivery_tag, requeue=True)
                return
            if delayed < 2:
                headers = {
                    "NServiceBus.Retries": delayed + 1, DELAY_HEADER: delayed + 1,
                }  # fmt: skip
                key = ".".join(f"{delayed + 1:0{LEVELS}b}") + ".Retries"
                sender.publish(level_name(delayed), key, body, headers)
            else:
                sender.publish("error", "", body, {"NServiceBus.ExceptionInfo.Message": "as asked"})
            raw.basic_ack(method.delivery_tag)

        with Channel("sender") as sender:
            sender.publish("Retries", "", "poison")
            channel.consume("Retries", handle, prefetch=1)
            channel.wait(9, 40)
        channel.consume("error")
        channel.wait(10)
        wanted = [(delayed, count) for delayed in range(3) for count in range(3)]
        equal("attempts", attempts, wanted)
        equal("error", channel.got[-1][2].headers["NServiceBus.ExceptionInfo.Message"], "as asked")


def scenario_delivery_limit():
    """A queue with x-delivery-limit drops a poison message after so many redeliveries."""
    with Channel("limit") as channel:
        declare_endpoint(channel.raw, "dead")
        declare_endpoint(channel.raw, "Limited", **{
            "x-delivery-limit": 3, "x-dead-letter-exchange": "dead",
        })  # fmt: skip
        counts = []

        def handle(raw, method, properties, body):
            counts.append((properties.headers.get("x-delivery-count", 0), method.redelivered))
            raw.basic_reject(method.delivery_tag, requeue=True)

        channel.publish("Limited", "", "poison")
        channel.consume("Limited", handle)
        channel.consume("dead")
        channel.wait(5)
        equal("counts", counts, [(0, False), (1, True), (2, True), (3, True)])
        death = channel.got[-1][2].headers["x-death"][0]
        equal("death", (death["queue"], death["reason"]), ("Limited", "delivery_limit"))


def scenario_streams_are_enabled():
    """Without the management API the transport asks whether streams exist by declaring one."""
    with Channel("verifier") as channel:
        name = "nsb.v2.verify-stream-flag-enabled"
        try:
            channel.raw.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
        except pika.exceptions.AMQPError as error:
            raise checks.Skip(f"x-queue-type stream: {error}") from None
        channel.raw.queue_delete(name)


def scenario_management():
    """What the transport asks of the management API when it starts (version 10 and later)."""
    version = management("overview")["rabbitmq_version"]
    require(tuple(map(int, version.split(".")[:2])) >= (3, 10), f"version {version}")
    limit = queue("Sales").get("delivery_limit", "none")
    flags = management("feature-flags")
    if flags is None:
        raise checks.Skip(f"GET /api/feature-flags is 404 (delivery_limit is {limit!r})")
    states = {flag["name"]: flag["state"] for flag in flags}
    equal("streams", states.get("stream_queue"), "enabled")


if __name__ == "__main__":
    checks.main(globals())
