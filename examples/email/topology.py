"""Where mails wait. The web publishes to the exchange `mail` with the mail's kind as the key, and
knows no queue; which queues there are, and who empties them, is decided here.

What comes too early goes through `mail.later`, which keeps a message for its x-delay and passes it
on to `mail`. What nobody can send ends in `mail.dead`.
"""

EXCHANGE, LATER, DEAD = "mail", "mail.later", "mail.dead"
PRIORITIES = {"reset": 9, "welcome": 5, "newsletter": 0}

RESIDENT = {"mail": tuple(PRIORITIES)}
"""A worker that stays takes them all, by priority."""

TRIGGERED = {"mail.now": ("reset", "welcome"), "mail.bulk": ("newsletter",)}
"""Nobody waits: the broker starts a program for each of the first, for ten of the others."""


def declare(channel, queues, instead_of=()):
    """The exchanges and these queues; the others get no more mails."""
    channel.exchange_declare(EXCHANGE, "direct", durable=True)
    channel.exchange_declare(
        LATER, "x-delayed-message", durable=True, arguments={"x-delayed-type": "fanout"}
    )
    channel.exchange_bind(EXCHANGE, LATER)
    channel.queue_declare(DEAD, durable=True)
    for queue, kinds in queues.items():
        channel.queue_declare(
            queue,
            durable=True,
            arguments={
                "x-max-priority": 9,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": DEAD,
            },
        )
        for kind in kinds:
            channel.queue_bind(queue, EXCHANGE, kind)
    for queue in instead_of:
        for kind in instead_of[queue]:
            channel.queue_unbind(queue, EXCHANGE, kind)
