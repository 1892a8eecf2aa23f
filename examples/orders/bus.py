"""How a Python service hears and tells: one queue, one message after the other.

What is told and the acknowledgement of what was heard are one transaction. When the connection is
lost the program ends; whoever started it starts it again.
"""

import json
import os
import sys

import pika
import pika.exceptions

import topology


def connect():
    return pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))


def news(key, order, **more_headers):
    """The properties of the news of an order: persistent, with its kind, in its customer's turn."""
    return pika.BasicProperties(
        delivery_mode=2,
        content_type="application/json",
        type=key,
        message_id=f"{order['id']}/{key}",
        headers={"x-group-id": order["customer"], **more_headers},
    )


def serve(queue, handle):
    """Calls handle(kind, order) for each message; its result is the news to tell, or None.

    A message that it cannot understand, whence KeyError, TypeError or ValueError, is rejected.
    """

    def heard(channel, method, properties, body):
        try:
            order = json.loads(body)
            key = handle(properties.type, order)
        except (KeyError, TypeError, ValueError) as error:
            print(f"rejected: {error!r} in {body[:200]}", flush=True)
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            if key:
                channel.basic_publish(topology.EXCHANGE, key, body, news(key, order))
            channel.basic_ack(method.delivery_tag)
        channel.tx_commit()

    try:
        channel = connect().channel()
        channel.tx_select()
        channel.basic_qos(prefetch_count=20)
        channel.basic_consume(queue, heard)
        channel.start_consuming()
    except pika.exceptions.AMQPError as error:
        sys.exit(f"the broker is gone: {error!r}")
