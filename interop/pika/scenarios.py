"""The interop scenarios through pika's BlockingConnection.

Run by interop/run, which sets AMQP_URL and reads one line per scenario from standard output:
`ok NAME` or `FAIL NAME: why`. See interop/README.md for what each scenario has to show.
"""

import os
import ssl
import sys
import time
import traceback

import pika
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

URL = os.environ["AMQP_URL"]
PREFIX = f"interop.pika.{os.getpid()}"
WAIT_SECONDS = 10
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def parameters(**changes):
    """The connection parameters of AMQP_URL with some attributes changed."""
    result = pika.URLParameters(URL)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def connect():
    return pika.BlockingConnection(parameters())


def equal(what, actual, expected):
    if actual != expected:
        raise AssertionError(f"{what}: {actual!r} instead of {expected!r}")


def require(condition, what):
    if not condition:
        raise AssertionError(what)


def closed_with(code, text, exception, action):
    """The action must end in `exception` with the reply code and a text that starts so."""
    try:
        action()
    except exception as error:
        equal("reply code", error.reply_code, code)
        require(error.reply_text.startswith(text), f"reply text {error.reply_text!r}")
        return
    raise AssertionError(f"not refused with {code}")


def collect(channel, queue, count, **options):
    """The next `count` deliveries of a queue as (method, properties, body)."""
    deliveries = []
    # Ends with one delivery fewer if nothing comes for WAIT_SECONDS, which the caller notices.
    for method, properties, body in channel.consume(
        queue, inactivity_timeout=WAIT_SECONDS, **options
    ):
        if method is None:
            break
        deliveries.append((method, properties, body))
        if len(deliveries) == count:
            break
    equal("deliveries", len(deliveries), count)
    return deliveries


def scenario_connect(connection, channel, name):
    """Server properties are RabbitMQ's; wrong credentials and vhosts are refused as it does."""
    properties = connection._impl.server_properties
    equal("product", properties["product"], "RabbitMQ")
    version = [int(part) for part in properties["version"].split(".")[:2]]
    require(version >= [3, 10], f"version {properties['version']}")
    for key in ("platform", "copyright", "information", "cluster_name"):
        require(properties.get(key), f"no server property {key}")
    for capability in (
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ):
        require(properties["capabilities"].get(capability) is True, f"no capability {capability}")
    try:
        pika.BlockingConnection(parameters(credentials=pika.PlainCredentials("guest", "wrong")))
        raise AssertionError("a wrong password was let in")
    except ProbableAuthenticationError as error:
        require("ACCESS_REFUSED - Login was refused" in str(error), f"refused with {error}")
    try:
        pika.BlockingConnection(parameters(virtual_host="no-such-vhost"))
        raise AssertionError("an unknown vhost was let in")
    except (ProbableAccessDeniedError, ConnectionClosedByBroker) as error:
        require(
            "NOT_ALLOWED - " in str(error) and "no-such-vhost" in str(error),
            f"refused with {error}",
        )


def scenario_declare(connection, channel, name):
    """Exchanges, queues and bindings; the same again is fine, a different one is 406."""
    # RabbitMQ may count a queue before it has taken a message sent earlier, unless confirmed.
    channel.confirm_delivery()
    channel.exchange_declare(name, "topic", durable=True)
    channel.exchange_declare(name, "topic", durable=True)
    channel.queue_declare(name, durable=True, arguments={"x-max-length": 5})
    channel.queue_bind(name, name, "a.*.c")
    channel.basic_publish(name, "a.b.c", b"routed")
    channel.basic_publish(name, "a.b.d", b"not routed")
    again = channel.queue_declare(name, durable=True, arguments={"x-max-length": 5}).method
    equal("messages", again.message_count, 1)
    equal("consumers", again.consumer_count, 0)
    channel.queue_unbind(name, name, "a.*.c")
    channel.basic_publish(name, "a.b.c", b"not routed")
    equal("messages", channel.queue_declare(name, passive=True).method.message_count, 1)
    closed_with(
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' in vhost '/': "
        "received 'false' but current is 'true'",
        ChannelClosedByBroker,
        lambda: channel.queue_declare(name, durable=False, arguments={"x-max-length": 5}),
    )
    channel = connection.channel()
    closed_with(
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{name}' in vhost '/': "
        "received 'fanout' but current is 'topic'",
        ChannelClosedByBroker,
        lambda: channel.exchange_declare(name, "fanout", durable=True),
    )
    channel = connection.channel()
    equal("purged", channel.queue_purge(name).method.message_count, 1)
    channel.queue_delete(name)
    channel.exchange_delete(name)


def scenario_confirm(connection, channel, name):
    """Each persistent message to a durable queue is confirmed, and all are there in order."""
    channel.queue_declare(name, durable=True)
    channel.confirm_delivery()
    for number in range(100):
        # Raises NackError unless the broker acknowledges this very message.
        channel.basic_publish("", name, str(number).encode(), PERSISTENT)
    deliveries = collect(channel, name, 100, auto_ack=True)
    equal("bodies", [int(body) for _, _, body in deliveries], list(range(100)))
    channel.cancel()
    channel.queue_delete(name)


def scenario_properties(connection, channel, name):
    """Every property and every kind of header value arrives as it was sent."""
    sent = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={
            "text": "grün",
            "int": -7,
            "long": 2**40,
            "bool": True,
            "void": None,
            "table": {"inner": ["a", 1, {"deep": False}]},
            "list": [1, "two", 3],
        },
        delivery_mode=2,
        priority=3,
        correlation_id="c-1",
        reply_to="somewhere",
        expiration="60000",
        message_id="m-1",
        timestamp=1700000000,
        type="kind",
        user_id="guest",
        app_id="interop",
        cluster_id="old",
    )
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"body", sent)
    method, properties, body = channel.basic_get(name, auto_ack=True)
    equal("body", body, b"body")
    equal("routing key", method.routing_key, name)
    equal("exchange", method.exchange, "")
    equal("properties", vars(properties), vars(sent))


def scenario_sizes(connection, channel, name):
    """Bodies from nothing to many frames arrive whole, also at the edges of a frame."""
    frame_body = connection._impl.params.frame_max - 8
    sizes = [0, 1, frame_body - 1, frame_body, frame_body + 1, 2 * frame_body, 1_000_000]
    bodies = [bytes(index % 251 for index in range(size)) for size in sizes]
    channel.queue_declare(name, exclusive=True)
    for body in bodies:
        channel.basic_publish("", name, body, PERSISTENT)
    received = [body for _, _, body in collect(channel, name, len(bodies), auto_ack=True)]
    equal("sizes", [len(body) for body in received], sizes)
    require(received == bodies, "a body was changed on its way")


def scenario_prefetch(connection, channel, name):
    """No more than the prefetch count is out at a time; an acknowledgement brings the next."""
    channel.queue_declare(name, exclusive=True)
    for number in range(10):
        channel.basic_publish("", name, str(number).encode())
    received = []
    channel.basic_qos(prefetch_count=3)
    channel.basic_consume(
        name,
        lambda _channel, method, _properties, body: received.append((method.delivery_tag, body)),
    )

    def wait_for(count):
        deadline = time.monotonic() + WAIT_SECONDS
        while len(received) < count and time.monotonic() < deadline:
            connection.process_data_events(0.05)
        # The queue's count is asked for on the same channel, so all that was sent before has come.
        ready = channel.queue_declare(name, passive=True).method.message_count
        equal("deliveries", len(received), count)
        equal("still in the queue", ready, 10 - count)

    wait_for(3)
    channel.basic_ack(received[0][0])
    wait_for(4)
    channel.basic_ack(received[3][0], multiple=True)
    wait_for(7)
    channel.basic_ack(received[6][0], multiple=True)
    wait_for(10)
    equal("bodies", [int(body) for _, body in received], list(range(10)))


def scenario_requeue(connection, channel, name):
    """nack and reject with requeue bring a message back, marked; without, it is gone."""
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"again")
    channel.basic_publish("", name, b"next")
    first, _, body = channel.basic_get(name)
    equal("first", (body, first.redelivered), (b"again", False))
    channel.basic_nack(first.delivery_tag, requeue=True)
    second, _, body = channel.basic_get(name)
    equal("second", (body, second.redelivered), (b"again", True))
    channel.basic_reject(second.delivery_tag, requeue=True)
    third, _, body = channel.basic_get(name)
    equal("third", (body, third.redelivered), (b"again", True))
    channel.basic_nack(third.delivery_tag, requeue=False)
    fourth, _, body = channel.basic_get(name)
    equal("fourth", (body, fourth.redelivered), (b"next", False))
    # Closing a channel gives back what it had not acknowledged.
    channel.close()
    channel = connection.channel()
    fifth, _, body = channel.basic_get(name, auto_ack=True)
    equal("fifth", (body, fifth.redelivered), (b"next", True))
    equal("rest", channel.basic_get(name)[0], None)


def scenario_mandatory(connection, channel, name):
    """A mandatory message without a queue comes back; a plain one is confirmed and dropped."""
    channel.confirm_delivery()
    channel.exchange_declare(name, "direct", auto_delete=False)
    channel.basic_publish(name, "nowhere", b"dropped")
    try:
        channel.basic_publish(
            name, "nowhere", b"returned", pika.BasicProperties(message_id="m"), mandatory=True
        )
        raise AssertionError("nothing was returned")
    except UnroutableError as error:
        (returned,) = error.messages
        equal("return", (returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
        equal("from", (returned.method.exchange, returned.method.routing_key), (name, "nowhere"))
        equal("content", (returned.properties.message_id, returned.body), ("m", b"returned"))
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, name, "somewhere")
    channel.basic_publish(name, "somewhere", b"kept", mandatory=True)
    equal("kept", channel.basic_get(name, auto_ack=True)[2], b"kept")
    channel.exchange_delete(name)


def scenario_rpc(connection, channel, name):
    """Requests and answers through direct reply-to, with the address rewritten on the way."""
    channel.queue_declare(name, exclusive=True)
    server = connection.channel()

    def serve(server_channel, method, properties, body):
        require(
            properties.reply_to.startswith("amq.rabbitmq.reply-to."),
            f"reply-to {properties.reply_to}",
        )
        answer = pika.BasicProperties(correlation_id=properties.correlation_id)
        server_channel.basic_publish("", properties.reply_to, body.upper(), answer)
        server_channel.basic_ack(method.delivery_tag)

    server.basic_consume(name, serve)
    answers = {}
    channel.basic_consume(
        "amq.rabbitmq.reply-to",
        lambda _channel, _method, properties, body: answers.update(
            {properties.correlation_id: body}
        ),
        auto_ack=True,
    )
    for number in range(5):
        request = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number))
        channel.basic_publish("", name, f"call {number}".encode(), request)
    deadline = time.monotonic() + WAIT_SECONDS
    while len(answers) < 5 and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    equal("answers", answers, {str(number): f"CALL {number}".encode() for number in range(5)})


def scenario_get(connection, channel, name):
    """basic.get takes one message at a time, tells how many are left, and says when none is."""
    channel.queue_declare(name, exclusive=True)
    equal("empty", channel.basic_get(name), (None, None, None))
    for number in range(3):
        channel.basic_publish("", name, str(number).encode())
    for number in range(3):
        method, _, body = channel.basic_get(name)
        equal(
            "get",
            (body, method.message_count, method.redelivered),
            (str(number).encode(), 2 - number, False),
        )
        channel.basic_ack(method.delivery_tag)
    equal("empty", channel.basic_get(name), (None, None, None))


def scenario_exclusive(connection, channel, name):
    """Exclusive queues are locked to others and end with their connection; "" asks for a name."""
    owner = connect()
    made = owner.channel().queue_declare("", exclusive=True).method.queue
    require(made.startswith("amq.gen-"), f"the server named it {made}")
    owner.channel().queue_declare(name, exclusive=True)
    closed_with(
        405,
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'",
        ChannelClosedByBroker,
        lambda: channel.queue_declare(name, exclusive=True),
    )
    owner.close()
    channel = connection.channel()
    for gone in (name, made):
        closed_with(
            404,
            "NOT_FOUND",
            ChannelClosedByBroker,
            lambda: channel.queue_declare(gone, passive=True),
        )
        channel = connection.channel()


def scenario_channel_error(connection, channel, name):
    """An error ends its channel only: others and new ones go on."""
    other = connection.channel()
    closed_with(
        404,
        f"NOT_FOUND - no queue '{name}' in vhost '/'",
        ChannelClosedByBroker,
        lambda: channel.queue_declare(name, passive=True),
    )
    require(
        channel.is_closed and connection.is_open and other.is_open,
        "more than the channel was closed",
    )
    other.queue_declare(name, exclusive=True)
    fresh = connection.channel(channel.channel_number)
    equal("messages", fresh.queue_declare(name, passive=True).method.message_count, 0)
    closed_with(
        406,
        "PRECONDITION_FAILED - unknown delivery tag 99",
        ChannelClosedByBroker,
        lambda: (fresh.basic_ack(99), fresh.queue_declare(name, passive=True)),
    )
    require(other.is_open, "the other channel was closed")


def scenario_dead_letter(connection, channel, name):
    """Expired, rejected and overflowing messages reach the dead letter exchange with x-death."""
    channel.exchange_declare(name, "fanout")
    channel.queue_declare(f"{name}.dead", exclusive=True)
    channel.queue_bind(f"{name}.dead", name)
    channel.queue_declare(
        name,
        exclusive=True,
        arguments={
            "x-dead-letter-exchange": name,
            "x-dead-letter-routing-key": "late",
            "x-max-length": 1,
        },
    )
    channel.basic_publish("", name, b"pushed out")
    channel.basic_publish("", name, b"rejected")
    method, _, body = channel.basic_get(name)
    equal("first", body, b"rejected")
    channel.basic_reject(method.delivery_tag, requeue=False)
    channel.basic_publish("", name, b"expired", pika.BasicProperties(expiration="20"))
    seen = []
    for method, properties, body in collect(channel, f"{name}.dead", 3, auto_ack=True):
        (death,) = properties.headers["x-death"]
        equal("death", (death["queue"], death["exchange"], death["count"]), (name, "", 1))
        equal("keys", (death["routing-keys"], method.routing_key), ([name], "late"))
        equal("first death", properties.headers["x-first-death-reason"], death["reason"])
        equal("expiration", properties.expiration, None)
        seen.append((body, death["reason"]))
    equal(
        "deaths",
        seen,
        [(b"pushed out", "maxlen"), (b"rejected", "rejected"), (b"expired", "expired")],
    )
    channel.cancel()
    channel.exchange_delete(name)


def scenario_cancel(connection, channel, name):
    """The client's cancel stops deliveries; the end of a queue cancels its consumers."""
    received, cancelled = [], []
    channel.confirm_delivery()
    channel.queue_declare(name)
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(name, lambda *delivery: received.append(delivery[3]), auto_ack=True)
    channel.basic_cancel(tag)
    channel.basic_publish("", name, b"kept")
    equal("kept", channel.queue_declare(name, passive=True).method.message_count, 1)
    equal("received", received, [])
    channel.basic_consume(name, lambda *delivery: None, consumer_tag="mine", auto_ack=True)
    connection.channel().queue_delete(name)
    deadline = time.monotonic() + WAIT_SECONDS
    while not cancelled and time.monotonic() < deadline:
        connection.process_data_events(0.05)
    equal("cancelled", cancelled, ["mine"])


def scenario_quorum(connection, channel, name):
    """A queue declared as quorum holds messages and counts their deliveries."""
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    channel.confirm_delivery()
    channel.basic_publish("", name, b"twice", PERSISTENT)
    (first,) = collect(channel, name, 1)
    equal("headers", (first[1].headers or {}).get("x-delivery-count"), None)
    channel.basic_reject(first[0].delivery_tag, requeue=True)
    (second,) = collect(channel, name, 1)
    equal("second", (second[2], second[0].redelivered), (b"twice", True))
    equal("count", second[1].headers["x-delivery-count"], 1)
    channel.basic_ack(second[0].delivery_tag)
    channel.cancel()
    channel.queue_delete(name)


def restart(how):
    """Confirmed messages survive a broker killed or stopped, in order, for one who reconnects."""
    total, acknowledged, held = 200, 20, 10
    queues = {f"{PREFIX}.classic": {}, f"{PREFIX}.quorum": {"x-queue-type": "quorum"}}
    connection = connect()
    for queue, arguments in queues.items():
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True, arguments=arguments)
        for number in range(total):
            channel.basic_publish("", queue, str(number).encode(), PERSISTENT)
        taken = [channel.basic_get(queue) for _ in range(acknowledged)]
        channel.basic_ack(taken[-1][0].delivery_tag, multiple=True)
        # The queue answers these after it has seen the acknowledgement.
        for _ in range(held):
            channel.basic_get(queue)
    print("ready", flush=True)
    sys.stdin.readline()

    try:
        connection.process_data_events(WAIT_SECONDS)
        raise AssertionError("the connection outlived the broker")
    except ConnectionClosedByBroker as error:
        equal("closed with", (how, error.reply_code), ("term", 320))
    except AMQPConnectionError as error:
        equal(f"lost with {error!r}", how, "kill")
    connection = connect()
    channel = connection.channel()
    for queue in queues:
        # RabbitMQ's quorum queue gives back what the old connection held a little after its start.
        deadline = time.monotonic() + WAIT_SECONDS
        left = 0
        while left < total - acknowledged and time.monotonic() < deadline:
            left = channel.queue_declare(queue, passive=True).method.message_count
            time.sleep(0.05)
        # A kill may lose the acknowledgements, but no message that was not acknowledged.
        require(total - acknowledged <= left <= total, f"{left} messages left in {queue}")
        require(how == "kill" or left == total - acknowledged, f"{left} left after a clean stop")
        bodies = [int(body) for _, _, body in collect(channel, queue, left, auto_ack=True)]
        channel.cancel()
        equal("bodies", bodies, list(range(total - left, total)))
        channel.queue_delete(queue)
    connection.close()


def by_tls(certificate=None, **changes):
    """The parameters of AMQPS_URL, with a certificate of TLS_DIR shown if one is named."""
    folder = os.environ["TLS_DIR"]
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    if certificate:
        context.load_cert_chain(f"{folder}/{certificate}.pem", f"{folder}/{certificate}.key")
    result = pika.URLParameters(os.environ["AMQPS_URL"])
    result.ssl_options = pika.SSLOptions(context, result.host)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def there_and_back(parameters, name, **properties):
    """Confirmed messages of several sizes arrive whole over a connection with these parameters."""
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    queue = channel.queue_declare(name, exclusive=True).method.queue
    channel.confirm_delivery()
    for size in (0, 1, 16_384, 1_000_000):
        body = bytes(at % 251 for at in range(size))
        sent = pika.BasicProperties(**properties)
        channel.basic_publish("", queue, body, sent, mandatory=True)
        _, _, arrived = channel.basic_get(queue, auto_ack=True)
        require(arrived == body, f"{size} bytes arrived as {len(arrived)} others")
    connection.close()


def tls_plain(name):
    there_and_back(by_tls(), name)


def tls_mutual(name):
    there_and_back(by_tls("client"), name)


def tls_external(name):
    external = pika.credentials.ExternalCredentials()
    # The broker checks that whoever publishes is who it says.
    there_and_back(by_tls("client", credentials=external), name, user_id="guest")


def tls_stranger(_):
    try:
        pika.BlockingConnection(by_tls("stranger"))
    except AMQPConnectionError:
        return
    raise AssertionError("a certificate of another authority was taken")


def run_tls():
    failures = 0
    for key, function in list(globals().items()):
        if key.startswith("tls_"):
            failures += run_one(key.replace("_", "-"), function)
    return failures


def run_one(title, function):
    try:
        function(f"{PREFIX}.{title}")
        print(f"ok {title}", flush=True)
        return 0
    except Exception as error:  # any failure at all is this scenario's, and the next one goes on
        print(f"FAIL {title}: {type(error).__name__}: {error}", flush=True)
        traceback.print_exc()
        return 1


def run_all():
    failures = 0
    for key, function in list(globals().items()):
        if not key.startswith("scenario_"):
            continue

        def play(name, function=function):
            connection = connect()
            function(connection, connection.channel(), name)
            if connection.is_open:
                connection.close()

        failures += run_one(key.removeprefix("scenario_").replace("_", "-"), play)
    return failures


if __name__ == "__main__":
    if sys.argv[1:2] == ["restart"]:
        failed = run_one(f"restart-{sys.argv[2]}", lambda _: restart(sys.argv[2]))
    elif sys.argv[1:2] == ["tls"]:
        failed = run_tls()
    else:
        failed = run_all()
    sys.exit(1 if failed else 0)
