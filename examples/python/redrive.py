"""Moves dead letters back to the queues in which they died, once their cause is mended.

Each moves in one transaction, so none is lost or doubled whatever fails on the way. One that died
again meanwhile is behind those that were there at the start, and stays.
"""

import collections


def redrive(connection, dead, mend=lambda body: body):
    """Moves what waits in `dead` now, its body as `mend` returns it; counts by (queue, reason).

    A message for which `mend` returns None stays.
    """
    moved = collections.Counter()
    channel = connection.channel()
    channel.tx_select()
    kept = []
    for _ in range(channel.queue_declare(dead, passive=True).method.message_count):
        method, properties, body = channel.basic_get(dead)
        if method is None:
            break
        body = mend(body)
        if body is None:
            kept.append(method.delivery_tag)
            continue
        # The broker's own account of where the message was and why it is not there any more.
        death = properties.headers["x-death"][0]
        properties.headers = {
            key: value for key, value in properties.headers.items() if key not in DIED
        }
        channel.basic_publish("", death["queue"], body, properties)
        channel.basic_ack(method.delivery_tag)
        channel.tx_commit()
        moved[death["queue"], death["reason"]] += 1
    for tag in kept:
        channel.basic_nack(tag)
    channel.tx_commit()
    channel.close()
    return moved


DIED = {
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-attempt",
    "x-delay",
    "x-delivery-count",
    # It comes out of turn, and not from its publisher.
    "x-publisher-name",
    "x-publisher-sequence",
}
"""Headers that tell of the message's earlier life; it starts anew."""
