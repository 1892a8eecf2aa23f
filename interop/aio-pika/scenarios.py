"""The interop scenarios through aio-pika, an asyncio client with a codec of its own (aiormq).

Run by interop/run, which sets AMQP_URL and reads one line per scenario from standard output:
`ok NAME` or `FAIL NAME: why`. See interop/README.md for what each scenario has to show.
"""

import asyncio
import os
import sys
import traceback
from datetime import datetime, timezone

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aiormq.exceptions import (
    AuthenticationError,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

URL = os.environ["AMQP_URL"]
PREFIX = f"interop.aio-pika.{os.getpid()}"
WAIT_SECONDS = 10


def equal(what, actual, expected):
    if actual != expected:
        raise AssertionError(f"{what}: {actual!r} instead of {expected!r}")


def require(condition, what):
    if not condition:
        raise AssertionError(what)


async def refused(kind, text, action):
    """The awaited action must end in this exception with a message that holds the text."""
    try:
        await action
    except kind as error:
        require(text in str(error), f"refused with {error}")
        return
    raise AssertionError(f"no {kind}")


async def consume(queue, no_ack=False):
    """Consumes a queue; the result's `get` waits for the next delivery."""
    deliveries = asyncio.Queue()
    tag = await queue.consume(deliveries.put, no_ack=no_ack)
    return deliveries, tag


async def take(deliveries):
    return await asyncio.wait_for(deliveries.get(), WAIT_SECONDS)


def persistent(body):
    return Message(body, delivery_mode=DeliveryMode.PERSISTENT)


async def scenario_connect(connection, channel, name):
    """Server properties are RabbitMQ's; wrong credentials and vhosts are refused as it does."""
    properties = connection.transport.connection.server_properties
    equal("product", properties["product"], "RabbitMQ")
    version = [int(part) for part in properties["version"].split(".")[:2]]
    require(version >= [3, 10], f"version {version}")
    require(properties["capabilities"]["publisher_confirms"] is True, "no publisher confirms")
    await refused(
        (AuthenticationError, ProbableAuthenticationError),
        "Login was refused",
        aio_pika.connect(URL.replace("guest:guest", "guest:wrong")),
    )
    # The library does not pass the broker's 530 on, only that it closed instead of opening.
    await refused(
        InvalidFrameError,
        "Expected one of ['Connection.OpenOk'], got <Connection.Close",
        aio_pika.connect(URL.rstrip("/") + "/no-such-vhost"),
    )


async def scenario_declare(connection, channel, name):
    """Exchanges, queues and bindings; the same again is fine, a different one is 406."""
    exchange = await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
    inner = await channel.declare_exchange(f"{name}.inner", ExchangeType.DIRECT, auto_delete=True)
    await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue(name, durable=True, arguments={"x-message-ttl": 60000})
    await inner.bind(exchange, "a.#")
    await queue.bind(inner, "a.b.c")
    await exchange.publish(Message(b"routed"), "a.b.c")
    await exchange.publish(Message(b"not routed"), "a.b", mandatory=False)
    equal("routed", (await queue.get(no_ack=True)).body, b"routed")
    equal("a second message", await queue.get(fail=False), None)
    await queue.unbind(inner, "a.b.c")
    # Its last binding gone, the auto-delete exchange is gone too.
    other = await connection.channel()
    await refused(
        ChannelNotFoundEntity,
        f"no exchange '{name}.inner' in vhost '/'",
        other.declare_exchange(f"{name}.inner", ExchangeType.DIRECT, passive=True),
    )
    other = await connection.channel()
    await refused(
        ChannelPreconditionFailed,
        f"inequivalent arg 'x-message-ttl' for queue '{name}' in vhost '/': "
        "received '1' but current is '60000'",
        other.declare_queue(name, durable=True, arguments={"x-message-ttl": 1}),
    )
    await queue.delete()
    await exchange.delete()


async def scenario_confirm(connection, channel, name):
    """Each persistent message to a durable queue is confirmed, and all are there in order."""
    count = 300
    queue = await channel.declare_queue(name, durable=True)
    # Publishing returns when the broker has acknowledged; many are under way at a time.
    await asyncio.gather(
        *(
            channel.default_exchange.publish(persistent(str(number).encode()), name)
            for number in range(count)
        )
    )
    deliveries, tag = await consume(queue, no_ack=True)
    bodies = [int((await take(deliveries)).body) for _ in range(count)]
    equal("bodies", bodies, list(range(count)))
    await queue.cancel(tag)
    await queue.delete()


async def scenario_properties(connection, channel, name):
    """Every property and every kind of header value arrives as it was sent."""
    sent = Message(
        b"body",
        headers={
            "text": "grün",
            "int": -7,
            "long": 2**40,
            "bool": True,
            "void": None,
            "double": 2.5,
            "table": {"inner": ["a", 1, {"deep": False}]},
        },
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=3,
        correlation_id="c-1",
        reply_to="somewhere",
        expiration=60,
        message_id="m-1",
        timestamp=datetime(2023, 11, 14, tzinfo=timezone.utc),
        type="kind",
        user_id="guest",
        app_id="interop",
    )
    queue = await channel.declare_queue(name, exclusive=True)
    await channel.default_exchange.publish(sent, name)
    got = await queue.get(no_ack=True)
    equal("body", got.body, b"body")
    equal("headers", dict(got.headers), dict(sent.headers))
    for key in (
        "content_type",
        "content_encoding",
        "delivery_mode",
        "priority",
        "correlation_id",
        "reply_to",
        "expiration",
        "message_id",
        "timestamp",
        "type",
        "user_id",
        "app_id",
    ):
        equal(key, getattr(got, key), getattr(sent, key))


async def scenario_sizes(connection, channel, name):
    """Bodies from nothing to many frames arrive whole, also at the edges of a frame."""
    whole = 131072 - 8
    queue = await channel.declare_queue(name, exclusive=True)
    bodies = [
        bytes(index % 251 for index in range(size))
        for size in (0, 1, whole - 1, whole, whole + 1, 2 * whole, 1_000_000)
    ]
    for body in bodies:
        await channel.default_exchange.publish(persistent(body), name)
    deliveries, _ = await consume(queue, no_ack=True)
    received = [(await take(deliveries)).body for _ in bodies]
    equal("sizes", [len(body) for body in received], [len(body) for body in bodies])
    require(received == bodies, "a body was changed on its way")


async def scenario_prefetch(connection, channel, name):
    """No more than the prefetch count is out at a time; an acknowledgement brings the next."""
    queue = await channel.declare_queue(name, exclusive=True)
    for number in range(10):
        await channel.default_exchange.publish(Message(str(number).encode()), name)
    await channel.set_qos(prefetch_count=3)
    deliveries, _ = await consume(queue)
    received = []

    async def wait_for(count):
        while len(received) < count:
            received.append(await take(deliveries))
        # Counted on the same channel: whatever was sent before the answer has come.
        left = (await channel.declare_queue(name, passive=True)).declaration_result.message_count
        equal("still in the queue", left, 10 - count)
        equal("more deliveries", deliveries.qsize(), 0)

    await wait_for(3)
    await received[0].ack()
    await wait_for(4)
    await received[3].ack(multiple=True)
    await wait_for(7)
    await received[6].ack(multiple=True)
    await wait_for(10)
    equal("bodies", [int(message.body) for message in received], list(range(10)))


async def scenario_requeue(connection, channel, name):
    """nack and reject with requeue bring a message back, marked; without, it is gone."""
    queue = await channel.declare_queue(name, exclusive=True)
    await channel.default_exchange.publish(Message(b"again"), name)
    await channel.default_exchange.publish(Message(b"next"), name)

    async def expect(from_queue, body, redelivered):
        message = await from_queue.get()
        equal("message", (message.body, message.redelivered), (body, redelivered))
        return message

    await (await expect(queue, b"again", False)).nack(requeue=True)
    await (await expect(queue, b"again", True)).reject(requeue=True)
    await (await expect(queue, b"again", True)).nack(requeue=False)
    await expect(queue, b"next", False)
    # Closing a channel gives back what it had not acknowledged.
    await channel.close()
    channel = await connection.channel()
    queue = await channel.get_queue(name)
    await (await expect(queue, b"next", True)).ack()
    equal("anything left", await queue.get(fail=False), None)


async def scenario_mandatory(connection, channel, name):
    """A mandatory message without a queue comes back; a plain one is confirmed and dropped."""
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    exchange = await channel.declare_exchange(name, ExchangeType.DIRECT)
    await exchange.publish(Message(b"dropped"), "nowhere", mandatory=False)
    try:
        await exchange.publish(Message(b"returned", message_id="m"), "nowhere", mandatory=True)
        raise AssertionError("nothing was returned")
    except PublishError as error:
        returned = error.message
        equal("body", returned.body, b"returned")
        equal(
            "return",
            (returned.delivery.reply_code, returned.delivery.reply_text),
            (312, "NO_ROUTE"),
        )
        equal(
            "from", (returned.delivery.exchange, returned.delivery.routing_key), (name, "nowhere")
        )
    await exchange.delete()


async def scenario_rpc(connection, channel, name):
    """Requests and answers through direct reply-to, with the address rewritten on the way."""
    await channel.declare_queue(name, exclusive=True)
    server = await connection.channel()
    requests, _ = await consume(await server.get_queue(name))
    reply_queue = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    replies, _ = await consume(reply_queue, no_ack=True)
    for number in range(5):
        call = Message(
            f"call {number}".encode(), reply_to="amq.rabbitmq.reply-to", correlation_id=str(number)
        )
        await channel.default_exchange.publish(call, name)
        request = await take(requests)
        require(
            request.reply_to.startswith("amq.rabbitmq.reply-to."), f"reply-to {request.reply_to}"
        )
        answer = Message(request.body.upper(), correlation_id=request.correlation_id)
        await server.default_exchange.publish(answer, request.reply_to, mandatory=False)
        await request.ack()
        reply = await take(replies)
        equal("reply", (reply.correlation_id, reply.body), (str(number), f"CALL {number}".encode()))


async def scenario_get(connection, channel, name):
    """basic.get takes one message at a time, tells how many are left, and says when none is."""
    queue = await channel.declare_queue(name, exclusive=True)
    equal("empty", await queue.get(fail=False), None)
    for number in range(3):
        await channel.default_exchange.publish(Message(str(number).encode()), name)
    for number in range(3):
        message = await queue.get()
        equal("get", (message.body, message.message_count), (str(number).encode(), 2 - number))
        await message.ack()
    equal("empty", await queue.get(fail=False), None)


async def scenario_exclusive(connection, channel, name):
    """Exclusive queues are locked to others and end with their connection; "" asks for a name."""
    owner = await aio_pika.connect(URL)
    owned = await owner.channel()
    made = (await owned.declare_queue("", exclusive=True)).name
    require(made.startswith("amq.gen-"), f"the server named it {made}")
    await owned.declare_queue(name, exclusive=True)
    await refused(
        ChannelLockedResource,
        f"cannot obtain exclusive access to locked queue '{name}' in vhost '/'",
        channel.declare_queue(name, exclusive=True),
    )
    await owner.close()
    for gone in (name, made):
        fresh = await connection.channel()
        await refused(
            ChannelNotFoundEntity,
            f"no queue '{gone}' in vhost '/'",
            fresh.declare_queue(gone, passive=True),
        )


async def scenario_channel_error(connection, channel, name):
    """An error ends its channel only: others and new ones go on."""
    other = await connection.channel()
    await refused(
        ChannelNotFoundEntity,
        f"no queue '{name}' in vhost '/'",
        channel.declare_queue(name, passive=True),
    )
    require(not connection.is_closed and not other.is_closed, "more than the channel was closed")
    await other.declare_queue(name, exclusive=True)
    fresh = await connection.channel()
    declared = await fresh.declare_queue(name, passive=True)
    equal("messages", declared.declaration_result.message_count, 0)


async def scenario_dead_letter(connection, channel, name):
    """Expired, rejected and overflowing messages reach the dead letter exchange with x-death."""
    exchange = await channel.declare_exchange(name, ExchangeType.FANOUT)
    dead = await channel.declare_queue(f"{name}.dead", exclusive=True)
    await dead.bind(exchange)
    queue = await channel.declare_queue(
        name,
        exclusive=True,
        arguments={
            "x-dead-letter-exchange": name,
            "x-dead-letter-routing-key": "late",
            "x-max-length": 1,
        },
    )
    await channel.default_exchange.publish(Message(b"pushed out"), name)
    await channel.default_exchange.publish(Message(b"rejected"), name)
    message = await queue.get()
    equal("first", message.body, b"rejected")
    await message.reject(requeue=False)
    await channel.default_exchange.publish(Message(b"expired", expiration=0.02), name)
    deliveries, _ = await consume(dead, no_ack=True)
    for body, reason in (
        (b"pushed out", "maxlen"),
        (b"rejected", "rejected"),
        (b"expired", "expired"),
    ):
        message = await take(deliveries)
        (death,) = message.headers["x-death"]
        equal("death", (message.body, death["reason"]), (body, reason))
        equal("from", (death["queue"], death["exchange"], death["count"]), (name, "", 1))
        equal("keys", (death["routing-keys"], message.routing_key), ([name], "late"))
        equal("expiration", message.expiration, None)
    await exchange.delete()


async def scenario_cancel(connection, channel, name):
    """The client's cancel stops deliveries."""
    queue = await channel.declare_queue(name, auto_delete=True)
    deliveries, tag = await consume(queue, no_ack=True)
    await channel.default_exchange.publish(Message(b"delivered"), name)
    equal("delivered", (await take(deliveries)).body, b"delivered")
    await queue.cancel(tag)
    # Its last consumer gone, the auto-delete queue is gone too.
    await refused(
        ChannelNotFoundEntity,
        f"no queue '{name}' in vhost '/'",
        channel.declare_queue(name, passive=True),
    )


async def scenario_quorum(connection, channel, name):
    """A queue declared as quorum holds messages and counts their deliveries."""
    queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
    await channel.default_exchange.publish(persistent(b"twice"), name)
    deliveries, tag = await consume(queue)
    first = await take(deliveries)
    equal("count", first.headers.get("x-delivery-count"), None)
    await first.reject(requeue=True)
    second = await take(deliveries)
    equal(
        "second",
        (second.body, second.redelivered, second.headers["x-delivery-count"]),
        (b"twice", True, 1),
    )
    await second.ack()
    await queue.cancel(tag)
    await queue.delete(if_unused=False, if_empty=False)  # quorum queues know no conditions


async def restart(how):
    """Confirmed messages survive a broker killed or stopped; the robust connection, its exclusive
    queue and the consumer on it come back by the library's own recovery."""
    total, acknowledged, held = 200, 20, 10
    name = f"{PREFIX}.restart"
    connection = await aio_pika.connect_robust(URL, reconnect_interval=0.2)
    reconnected, lost = asyncio.Event(), asyncio.get_running_loop().create_future()
    connection.reconnect_callbacks.add(lambda *_: reconnected.set())
    connection.close_callbacks.add(lambda _, error: lost.done() or lost.set_result(error))
    lasting = await connection.channel()
    topics = await lasting.declare_exchange("amq.topic", ExchangeType.TOPIC, durable=True)
    temporary = await lasting.declare_queue(f"{name}.temporary", exclusive=True)
    await temporary.bind(topics, f"{name}.#")
    after, _ = await consume(temporary, no_ack=True)

    # Not robust: what it holds must not be declared anew, but be there.
    plain = await aio_pika.connect(URL)
    channel = await plain.channel()
    queue = await channel.declare_queue(name, durable=True)
    await asyncio.gather(
        *(
            channel.default_exchange.publish(persistent(str(number).encode()), name)
            for number in range(total)
        )
    )
    for number in range(acknowledged + held):
        message = await queue.get()
        if number == acknowledged - 1:
            # The gets that follow are answered after the queue has seen this.
            await message.ack(multiple=True)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

    error = await asyncio.wait_for(lost, WAIT_SECONDS)
    forced = "CONNECTION_FORCED" in str(error)
    equal(f"forced by {error!r}", forced, how == "term")
    await asyncio.wait_for(reconnected.wait(), WAIT_SECONDS)
    await topics.publish(Message(b"after"), f"{name}.after")
    equal("after", (await take(after)).body, b"after")
    await connection.close()

    plain = await aio_pika.connect(URL)
    channel = await plain.channel()
    queue = await channel.declare_queue(name, passive=True)
    left = queue.declaration_result.message_count
    # A kill may lose the acknowledgements, but no message that was not acknowledged.
    require(total - acknowledged <= left <= total, f"{left} messages left")
    require(how == "kill" or left == total - acknowledged, f"{left} left after a clean stop")
    bodies = [int((await queue.get(no_ack=True)).body) for _ in range(left)]
    equal("bodies", bodies, list(range(total - left, total)))
    await queue.delete()
    await plain.close()


async def play(title, scenario):
    connection = await aio_pika.connect(URL)
    try:
        channel = await connection.channel()
        await scenario(connection, channel, f"{PREFIX}.{title}")
    finally:
        await connection.close()


def run(title, coroutine):
    """Plays one scenario and says whether it passed; any exception is its failure."""
    try:
        asyncio.run(asyncio.wait_for(coroutine, 60))
        print(f"ok {title}", flush=True)
        return True
    except Exception as error:
        print(f"FAIL {title}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
        traceback.print_exc()
        return False


if __name__ == "__main__":
    if sys.argv[1:2] == ["restart"]:
        results = [run(f"restart-{sys.argv[2]}", restart(sys.argv[2]))]
    else:
        results = [
            run(title, play(title, function))
            for key, function in list(globals().items())
            if key.startswith("scenario_")
            for title in [key.removeprefix("scenario_").replace("_", "-")]
        ]
    sys.exit(0 if all(results) else 1)
