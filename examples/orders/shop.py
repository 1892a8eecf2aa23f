"""What the driver does as the shop's customers and partners, and what it reads in the services'
books.

Nothing here changes what a service owns, but the first filling of the shelves.
"""

import collections
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import time

from checks import eventually

import store
from stage import WORK, post

API = "http://127.0.0.1:8001"
PATHS = {
    "ORDERS_DB": f"{WORK}/orders.db",
    "STOCK_DB": f"{WORK}/stock.db",
    "BANK_DB": f"{WORK}/bank.db",
    "PARCELS": f"{WORK}/parcels",
    "MAILS": f"{WORK}/mails",
    "SETTLEMENTS_DB": f"{WORK}/var/settlements.db",
    "API_PORT": "8001",
    "BANK_PORT": "8002",
    "BANK_URL": "http://127.0.0.1:8002",
}
PRICES = {"shirt": 1999, "mug": 899, "poster": 1250, "vinyl": 2990}
SCARCE = "vinyl"  # there is less of it than is ordered
CUSTOMERS = 6
WEIGHTS = [6, 2, 2]  # those whose card is good, whose card is empty, who want to pay later

chance = random.Random(7)
came = {}
"""How many pieces of each article came in."""


# --- customers ----------------------------------------------------------------------------------


def new_order(name):
    """An order as it comes; nothing is wrong with it, but it may be more than there is."""
    lines = [
        {"sku": sku, "quantity": chance.randint(1, 3), "cents": PRICES[sku]}
        for sku in chance.sample(sorted(PRICES), chance.randint(1, 2))
    ]
    card = chance.choices(["good", "empty", None], WEIGHTS)[0]
    customer = f"customer-{chance.randrange(CUSTOMERS)}"
    return {"id": name, "customer": customer, "lines": lines, "currency": "EUR", "card": card}


def misspelt(kind, number):
    """An order by which a service stumbles: a partner's, alone with its customer."""
    line = {"sku": "mug", "quantity": 1, "cents": PRICES["mug"]}
    order = {
        "id": f"{kind}-{number}",
        "customer": f"partner-{kind}-{number}",
        "lines": [line],
        "currency": "EUR",
        "card": "good",
    }
    if kind == "article":
        line["sku"] = "MUG"
    else:
        order["currency"] = "EURO"
    return order


def mended(body):
    """The body as the partner should have sent it."""
    order = json.loads(body)
    for line in order["lines"]:
        line["sku"] = line["sku"].lower()
    order["currency"] = order["currency"].replace("EURO", "EUR")
    return json.dumps(order).encode()


def place(order):
    """Places the order, again and again until it is taken; who wants to pay later may do so."""
    deadline = time.monotonic() + 60
    while post(f"{API}/orders", json.dumps(order).encode())[0] != 201:
        if time.monotonic() > deadline:
            raise AssertionError("an order was not taken for a minute")
        time.sleep(0.2)
    if order["card"] is None and chance.random() < 0.5:
        pay(order)


def pay(order):
    """Offers to pay until the shop says yes or that it is too late."""
    while post(f"{API}/orders/{order['id']}/payment")[0] not in (202, 410):
        time.sleep(0.2)


# --- the services' books ------------------------------------------------------------------------


def read(name, query):
    """The rows of a query in one of the databases."""
    with contextlib.closing(sqlite3.connect(PATHS[name], timeout=20)) as db:
        return db.execute(query).fetchall()


def fill_shelves(pieces):
    """So many of each article, fewer of the scarce one."""
    came.update({sku: pieces // 2 if sku == SCARCE else pieces for sku in PRICES})
    with contextlib.closing(sqlite3.connect(PATHS["STOCK_DB"], timeout=20)) as db, db:
        db.executemany("insert into articles values (?, ?)", came.items())


def states():
    """How many orders are in each state."""
    return collections.Counter(
        dict(read("ORDERS_DB", "select state, count(*) from orders group by 1"))
    )


def ended(count):
    """Waits until so many orders are in a final state."""

    def all_ended():
        found = states()
        return sum(found[state] for state in store.FINAL) == count

    eventually(f"{count} orders have ended", all_ended, 60)


def latencies(prefix, state="shipped"):
    """From the order to its end, in seconds, for orders that were not on account."""
    return [
        row[0]
        for row in read(
            "ORDERS_DB",
            f"""
        select ended_at - placed_at from orders
        where state = '{state}' and id like '{prefix}%' and content like '%"card": "good"%'
    """,
        )
    ]


def lines_of(name):
    """A journal's lines."""
    with open(PATHS[name]) as file:
        return file.read().split("\n")[:-1]


def report():
    """What analytics finds in the history."""
    out = subprocess.run(
        [f"{os.environ['GO_SERVICES']}/analytics"], check=True, capture_output=True
    )
    return json.loads(out.stdout)
