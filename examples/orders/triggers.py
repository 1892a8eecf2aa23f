"""What the broker does by itself in this shop: a settlement for every hundred shipped orders."""

HUNDRED = 100

SETTLEMENT = {
    "queue": "settlement",
    "condition": {"type": "depth", "count": HUNDRED},
    "mode": "deliver",
    "action": {"type": "program", "name": "settle"},
    "batch_max": HUNDRED,
}
