"""Who hears what. All news goes to the topic exchange `orders`; each service has a queue bound to
the kinds that concern it, and knows no other service.

News of one customer carries the customer as x-group-id: queues with message groups let one message
of a customer go at a time, in order, whatever the number of workers. The outbox numbers what it
publishes, so that queues with deduplication take what it repeats after a crash once.
"""

EXCHANGE, LATER, DEAD = "orders", "orders.later", "orders.dead"

TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
GROUPED = {"x-message-groups": True}
ONCE = {"x-message-deduplication": True}
# A message that has killed five workers is not given to a sixth.
LIMITED = {"x-queue-type": "quorum", "x-delivery-limit": 5}

QUEUES = {
    "saga": (
        ["stock.*", "payment.charged", "payment.declined", "shipment.sent"],
        GROUPED | TO_DEAD,
    ),
    "stock": (["order.placed", "order.cancelled", "order.shipped"], GROUPED | ONCE | TO_DEAD),
    "payment": (["payment.requested"], GROUPED | LIMITED | TO_DEAD),
    "shipping": (["order.paid"], TO_DEAD),
    "mail": (["order.shipped", "order.cancelled"], TO_DEAD),
    "settlement": (["order.shipped"], ONCE),
    "history": (["#"], ONCE),
}


def declare(channel):
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    channel.exchange_declare(
        LATER, "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"}
    )
    channel.queue_declare(DEAD, durable=True)
    for queue, (keys, arguments) in QUEUES.items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
        for key in keys:
            channel.queue_bind(queue, EXCHANGE, key)
    channel.queue_bind("saga", LATER, "payment.due")
