"""Publishes mails so that none is lost: persistent, routed somewhere, and confirmed by the broker.

A confirm means that the message is on disk. Without one, the same mail is published again under the
same message-id; whoever sends it knows by that id that it has been there.
"""

import json
import os
import queue
import time

import pika
import pika.exceptions

import topology

PATIENCE_SECONDS = 10  # longer than the broker needs to come back


class Publisher:
    """One channel with confirms. It belongs to one thread at a time."""

    def __init__(self):
        self.connection = None

    def publish(self, kind, message_id, mail):
        """Returns when the mail is safe; raises pika's error when it is not, after all patience."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        properties = pika.BasicProperties(
            delivery_mode=2,
            content_type="application/json",
            message_id=message_id,
            type=kind,
            priority=topology.PRIORITIES[kind],
        )
        while True:
            try:
                self.channel().basic_publish(
                    topology.EXCHANGE, kind, json.dumps(mail), properties, mandatory=True
                )
                return
            except pika.exceptions.AMQPConnectionError:
                self.connection = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def channel(self):
        if self.connection is None:
            self.connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
            self.open = self.connection.channel()
            self.open.confirm_delivery()
        return self.open


class Pool:
    """So many publishers for any number of threads, the last used first."""

    def __init__(self, size):
        self.idle = queue.LifoQueue()
        for _ in range(size):
            self.idle.put(Publisher())

    def publish(self, kind, message_id, mail):
        publisher = self.idle.get()
        try:
            publisher.publish(kind, message_id, mail)
        finally:
            self.idle.put(publisher)
