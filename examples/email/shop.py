"""What the driver knows of the shop: what its users were promised, and what the relay has seen.

`accepted` has every request that the web server said yes to; the relay's journal says which mails
went out; the rest must be among the dead letters.
"""

import json
import os
import time
import uuid

import pika
from checks import URL, eventually, queue

import topology
from stage import WORK, post

INLINE, QUEUED = "http://127.0.0.1:8001", "http://127.0.0.1:8002"
GONE, MISSPELT = "gone.example", "tpyo.example"  # domains that the relay rejects

accepted = {}
"""The message-id of every mail that was accepted, and when (seconds since the epoch)."""

asked = {}
"""The path and the address of every request that must be accepted, by message-id."""

repeats = []
"""The requests that had to be made again, by message-id."""


def relay_is(delay_ms, unknown=(GONE, MISSPELT)):
    """How the relay behaves from now on."""
    path = f"{WORK}/relay.json"
    with open(f"{path}.new", "w") as file:
        json.dump({"delay_ms": delay_ms, "unknown": unknown}, file)
    os.replace(f"{path}.new", path)


def ask(web, path, to):
    """One request as a user makes it; the message-id, and the answer's status."""
    message_id = str(uuid.uuid4())
    return message_id, _ask(web, path, to, message_id)


def insist(path, to):
    """A request that is repeated, under its key, until it is accepted; the message-id."""
    message_id = str(uuid.uuid4())
    asked[message_id] = path, to
    again(message_id)
    return message_id


def again(message_id):
    """The same request once more, as of a user who has had no answer."""
    path, to = asked[message_id]
    deadline = time.monotonic() + 60
    while _ask(QUEUED, path, to, message_id) != 202:
        if time.monotonic() > deadline:
            raise AssertionError(f"{path} was not accepted for a minute")
        repeats.append(message_id)
        time.sleep(0.2)


def _ask(web, path, to, message_id):
    body = json.dumps({"to": to}).encode()
    status, _ = post(web + path, body, {"Idempotency-Key": message_id})
    if status in (200, 202):
        accepted.setdefault(message_id, time.time())
    return status


def taken():
    """The mails that the relay has taken, in its order."""
    with open(f"{WORK}/relay.journal") as file:
        return [json.loads(line) for line in file]


def taken_at():
    """When the relay took each mail first."""
    return {mail["id"]: mail["at"] for mail in reversed(taken())}


def dead():
    """How many mails have been given up."""
    return queue(topology.DEAD)["messages"]


def settled(seconds=60):
    """Waits until every accepted mail is sent or dead."""

    def ended():
        return len(accepted.keys() & taken_at().keys()) + dead() >= len(accepted)

    eventually("every accepted mail is sent or dead", ended, seconds)


class Broker:
    """An own connection to the broker, for what the driver does there by hand."""

    def __enter__(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(URL))
        return self.connection

    def __exit__(self, *_):
        self.connection.close()
