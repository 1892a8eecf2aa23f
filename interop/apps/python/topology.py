"""A channel with confirms for the drivers that replay what a .NET framework declares, and a way to
collect deliveries. The frameworks themselves come from a registry that this project does not use.
"""

import time

import pika
from checks import URL, WAIT_SECONDS, equal

PERSISTENT = 2


def connect(**changes):
    parameters = pika.URLParameters(URL)
    for name, value in changes.items():
        setattr(parameters, name, value)
    return pika.BlockingConnection(parameters)


class Channel:
    """One connection with one confirming channel, and what its consumers were given."""

    def __init__(self, connection_name):
        self.connection = connect(client_properties={"connection_name": connection_name})
        self.raw = self.connection.channel()
        self.raw.confirm_delivery()
        self.got = []

    def publish(self, exchange, key="", body=b"", headers=None, mandatory=True, **properties):
        """Raises where the broker returns or refuses it."""
        properties = pika.BasicProperties(
            delivery_mode=PERSISTENT, headers=headers or {}, **properties
        )
        if isinstance(body, str):
            body = body.encode()
        self.raw.basic_publish(exchange, key, body, properties, mandatory=mandatory)

    def consume(self, queue, handle=None, prefetch=16, **arguments):
        """Collects (time, method, properties, body); acknowledges unless `handle` does."""

        def received(channel, method, properties, body):
            self.got.append((time.time(), method, properties, body.decode()))
            if handle:
                handle(channel, method, properties, body)
            else:
                channel.basic_ack(method.delivery_tag)

        self.raw.basic_qos(prefetch_count=prefetch)
        return self.raw.basic_consume(queue, received, **arguments)

    def wait(self, count, seconds=WAIT_SECONDS):
        """Until so many deliveries have come; the list of them."""
        deadline = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < deadline:
            self.connection.process_data_events(0.1)
        equal("deliveries", len(self.got), count)
        return self.got

    def rest(self, seconds=0.3):
        """What comes within the time, all in all."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.connection.process_data_events(0.05)
        return self.got

    def bodies(self):
        return [body for _, _, _, body in self.got]

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.connection.is_open:
            self.close()
