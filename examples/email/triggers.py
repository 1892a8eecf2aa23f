"""The triggers of the shop that has no worker: what the broker does when mails wait.

Who may set them needs administrator's rights; what they start is a program that the operator has
put into a file, and nothing else.
"""

URGENT = {
    # A password reset is sent at once, four at a time at most.
    "queue": "mail.now",
    "condition": {"type": "every"},
    "mode": "deliver",
    "action": {"type": "program", "name": "send-one"},
    "concurrency": 4,
    "retry_delay_ms": 500,
}


def bulk(max_wait_ms):
    """Newsletters are sent by tens; those that have waited so long, though they are fewer."""
    return {
        "queue": "mail.bulk",
        "condition": {"type": "depth", "count": 10, "min_priority": 0, "max_wait_ms": max_wait_ms},
        "mode": "deliver",
        "action": {"type": "program", "name": "send-batch"},
        "batch_max": 10,
        "retry_delay_ms": 500,
    }
