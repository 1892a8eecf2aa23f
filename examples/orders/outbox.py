"""Publishes what stands in the outbox, in its order. Python.

A batch is one transaction of the broker's. Whoever is killed after its commit publishes the batch
again; each message bears the publisher's name and its number in the outbox, by which queues drop
what they have had.
"""

import json
import os
import sys

import pika.exceptions

import topology
from bus import connect, news
from store import Store


def publish(channel, row):
    order = json.loads(row["content"])
    if row["delay_ms"]:
        # It will come late, so its number would not rise.
        exchange, more = topology.LATER, {"x-delay": row["delay_ms"]}
    else:
        exchange = topology.EXCHANGE
        more = {"x-publisher-name": "orders", "x-publisher-sequence": row["sequence"]}
    channel.basic_publish(exchange, row["key"], row["content"], news(row["key"], order, **more))


def main():
    store = Store(os.environ["ORDERS_DB"])
    connection = connect()
    channel = connection.channel()
    channel.tx_select()
    while True:
        rows = store.unsent(100)
        if not rows:
            connection.process_data_events(0.01)  # heartbeats, and a moment's rest
            continue
        for row in rows:
            publish(channel, row)
        channel.tx_commit()
        store.sent(rows[-1]["sequence"])


try:
    main()
except pika.exceptions.AMQPError as error:
    sys.exit(f"the broker is gone: {error!r}")
