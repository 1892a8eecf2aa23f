"""The resident worker: takes mails one at a time, the most urgent first, and settles each by what
became of it. A refusal for now comes back later by way of `mail.later`; a refusal for ever, or one
too many, is rejected and so ends among the dead letters.

The channel is transactional: a mail leaves the queue and enters `mail.later` in one step or not at
all. When the connection is lost the program ends; whoever started it starts it again.
"""

import json
import os
import sys

import pika
import pika.exceptions

import mailer
import topology

ATTEMPTS_MAX = 5
DELAY_MS = 500  # doubled with every attempt


def handle(channel, method, properties, body):
    attempt = (properties.headers or {}).get("x-attempt", 1)
    outcome, why = mailer.send_once(properties.message_id, json.loads(body))
    if outcome == mailer.SENT:
        channel.basic_ack(method.delivery_tag)
    elif outcome == mailer.LATER and attempt < ATTEMPTS_MAX:
        properties.headers = {"x-attempt": attempt + 1, "x-delay": DELAY_MS * 2 ** (attempt - 1)}
        channel.basic_publish(topology.LATER, properties.type, body, properties)
        channel.basic_ack(method.delivery_tag)
    else:
        print(f"{properties.message_id} is dead after {attempt} attempts: {why}", flush=True)
        channel.basic_reject(method.delivery_tag, requeue=False)
    channel.tx_commit()


def main():
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.tx_select()
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("mail", handle)
    channel.start_consuming()


try:
    main()
except pika.exceptions.AMQPError as error:
    sys.exit(f"the broker is gone: {error!r}")
