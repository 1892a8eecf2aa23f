"""The order service's ear: moves orders on by what the other services tell. Python."""

import os

from bus import serve
from store import Store

store = Store(os.environ["ORDERS_DB"])


def heard(news, order):
    store.hear(order["id"], news)


serve("saga", heard)
