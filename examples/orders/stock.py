"""The stock service: reserves goods, takes them out when they are shipped, and gives back what a
cancelled order had reserved. Python.

Invariant: of each article, what is free, reserved and taken together is what came in.
"""

import os
import sqlite3

from bus import serve

SCHEMA = """
create table if not exists articles (sku text primary key, free integer not null);
create table if not exists reservations (
  id text, sku text, quantity integer not null, state text not null, primary key (id, sku)
);
"""

db = sqlite3.connect(os.environ["STOCK_DB"], timeout=20, isolation_level=None)
db.execute("pragma journal_mode = wal")
db.execute("pragma synchronous = normal")
db.executescript(SCHEMA)


def heard(news, order):
    db.execute("begin immediate")
    try:
        told = ACTIONS[news](order)
    except BaseException:
        db.execute("rollback")
        raise
    db.execute("commit")
    return told


def reserve(order):
    """All of the order's articles or none; when it is asked again the answer is the same."""
    known = db.execute("select state from reservations where id = ?", (order["id"],)).fetchone()
    if known:
        return "stock.refused" if known[0] == "refused" else "stock.reserved"
    free = dict(db.execute("select sku, free from articles"))
    enough = all(free[line["sku"]] >= line["quantity"] for line in order["lines"])
    state = "reserved" if enough else "refused"
    for line in order["lines"]:
        sku, quantity = line["sku"], line["quantity"]
        db.execute(
            "insert into reservations values (?, ?, ?, ?)", (order["id"], sku, quantity, state)
        )
        if enough:
            db.execute("update articles set free = free - ? where sku = ?", (quantity, sku))
    return f"stock.{state}"


def release(order):
    reserved = db.execute(
        "select sku, quantity from reservations where id = ? and state = ?",
        (order["id"], "reserved"),
    ).fetchall()
    for sku, quantity in reserved:
        db.execute("update articles set free = free + ? where sku = ?", (quantity, sku))
    move(order, "released")


def take(order):
    move(order, "taken")


def move(order, state):
    db.execute(
        "update reservations set state = ? where id = ? and state = 'reserved'",
        (state, order["id"]),
    )


ACTIONS = {"order.placed": reserve, "order.cancelled": release, "order.shipped": take}

if __name__ == "__main__":
    serve("stock", heard)
