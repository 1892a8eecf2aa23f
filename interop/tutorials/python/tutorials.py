"""RabbitMQ's seven tutorials with pika: each program of them is one subcommand.

Use: AMQP_URL=amqp://guest:guest@localhost python tutorials.py send
Receiving programs print `waiting` once they are ready and then run until they are stopped.
"""

import os
import sys
import time
import uuid

import pika

QUORUM = {"x-queue-type": "quorum"}
PERSISTENT = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)


def say(*words):
    print(*words, flush=True)


def connect():
    return pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))


# 1. Hello World: one queue between two programs.


def send(channel):
    channel.queue_declare("hello", durable=True, arguments=QUORUM)
    channel.basic_publish("", "hello", b"Hello World!")
    say("sent Hello World!")


def receive(channel):
    channel.queue_declare("hello", durable=True, arguments=QUORUM)
    channel.basic_consume(
        "hello",
        lambda _channel, _method, _properties, body: say("received", body.decode()),
        auto_ack=True,
    )
    say("waiting")
    channel.start_consuming()


# 2. Work queues: tasks shared by workers, none lost when a worker dies.


def new_task(channel, *words):
    task = " ".join(words)
    channel.queue_declare("task_queue", durable=True, arguments=QUORUM)
    channel.basic_publish("", "task_queue", task.encode(), PERSISTENT)
    say("sent", task)


def worker(channel):
    def work(_channel, method, _properties, body):
        task = body.decode()
        say("received", task)
        time.sleep(0.1 * task.count("."))
        say("done", task)
        channel.basic_ack(method.delivery_tag)

    channel.queue_declare("task_queue", durable=True, arguments=QUORUM)
    # One task at a time: a busy worker is passed over.
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("task_queue", work)
    say("waiting")
    channel.start_consuming()


# 3 to 5. Publish/subscribe, routing and topics: exchanges and temporary queues.


def emit(channel, exchange, kind, key, words):
    channel.exchange_declare(exchange, kind)
    message = " ".join(words)
    channel.basic_publish(exchange, key, message.encode())
    say("sent", message)


def subscribe(channel, exchange, kind, keys):
    channel.exchange_declare(exchange, kind)
    queue = channel.queue_declare("", exclusive=True).method.queue
    for key in keys:
        channel.queue_bind(queue, exchange, key)
    channel.basic_consume(
        queue,
        lambda _channel, method, _properties, body: say(
            "received", f"[{method.routing_key}]", body.decode()
        ),
        auto_ack=True,
    )
    say("waiting")
    channel.start_consuming()


def emit_log(channel, *words):
    emit(channel, "logs", "fanout", "", words)


def receive_logs(channel):
    subscribe(channel, "logs", "fanout", [""])


def emit_log_direct(channel, severity, *words):
    emit(channel, "direct_logs", "direct", severity, words)


def receive_logs_direct(channel, *severities):
    subscribe(channel, "direct_logs", "direct", severities)


def emit_log_topic(channel, key, *words):
    emit(channel, "topic_logs", "topic", key, words)


def receive_logs_topic(channel, *keys):
    subscribe(channel, "topic_logs", "topic", keys)


# 6. RPC: a reply queue of the client's own, answers told apart by correlation id.


def fibonacci(number):
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


def rpc_server(channel):
    def answer(_channel, method, properties, body):
        result = fibonacci(int(body))
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, str(result).encode(), reply)
        channel.basic_ack(method.delivery_tag)
        say("answered", body.decode())

    channel.queue_declare("rpc_queue", durable=True, arguments=QUORUM)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("rpc_queue", answer)
    say("waiting")
    channel.start_consuming()


def rpc_client(channel, number):
    replies = channel.queue_declare("", exclusive=True).method.queue
    correlation_id = str(uuid.uuid4())
    request = pika.BasicProperties(reply_to=replies, correlation_id=correlation_id)
    channel.basic_publish("", "rpc_queue", number.encode(), request)
    for _method, properties, body in channel.consume(replies, auto_ack=True):
        if properties.correlation_id == correlation_id:
            say("got", body.decode())
            break
    channel.cancel()


# 7. Publisher confirms. This client waits for each one as it publishes.


def publisher_confirms(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(50):
        # Raises an exception unless the broker acknowledges the message.
        channel.basic_publish("", queue, str(number).encode(), mandatory=True)
    say("confirmed", channel.queue_declare(queue, passive=True).method.message_count)


PROGRAMS = (
    send,
    receive,
    new_task,
    worker,
    emit_log,
    receive_logs,
    emit_log_direct,
    receive_logs_direct,
    emit_log_topic,
    receive_logs_topic,
    rpc_server,
    rpc_client,
    publisher_confirms,
)

if __name__ == "__main__":
    programs = {program.__name__: program for program in PROGRAMS}
    if len(sys.argv) < 2 or sys.argv[1] not in programs:
        sys.exit(f"usage: tutorials.py PROGRAM [ARGUMENT...]\nprograms: {' '.join(programs)}")
    connection = connect()
    programs[sys.argv[1]](connection.channel(), *sys.argv[2:])
    connection.close()
