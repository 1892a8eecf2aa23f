"""The order service's database: orders, and the outbox with what has to be told about them.

Invariants: an order changes its state and leaves the news of it in the outbox in one transaction,
so there is never one without the other; news that does not fit the present state changes nothing,
so what comes twice is done once.
"""

import contextlib
import json
import sqlite3
import time

DUE_MS = 2500  # how long an order on account may stay unpaid

MOVES = {
    # (state, news): (new state, what is told)
    ("placed", "stock.reserved"): ("paying", "payment.requested"),
    ("placed on account", "stock.reserved"): ("awaiting payment", "payment.due"),
    ("placed", "stock.refused"): ("sold out", "order.cancelled"),
    ("placed on account", "stock.refused"): ("sold out", "order.cancelled"),
    ("awaiting payment", "payment.offered"): ("paying", "payment.requested"),
    ("awaiting payment", "payment.due"): ("unpaid", "order.cancelled"),
    ("paying", "payment.charged"): ("paid", "order.paid"),
    ("paying", "payment.declined"): ("declined", "order.cancelled"),
    ("paid", "shipment.sent"): ("shipped", "order.shipped"),
}
FINAL = ("shipped", "sold out", "unpaid", "declined")

SCHEMA = """
create table if not exists orders (
  id text primary key, state text not null, cents integer not null, content text not null,
  placed_at real not null, ended_at real
);
create table if not exists outbox (
  sequence integer primary key autoincrement, key text not null, content text not null,
  delay_ms integer not null, sent integer not null default 0
);
create index if not exists unsent on outbox (sequence) where not sent;
"""


class Store:
    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=20, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("pragma journal_mode = wal")
        self.db.execute("pragma synchronous = normal")
        self.db.executescript(SCHEMA)

    @contextlib.contextmanager
    def transaction(self):
        self.db.execute("begin immediate")
        try:
            yield self.db
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")

    def place(self, order):
        """Takes an order {id, customer, lines, currency, card or null}; again, it is the same."""
        order["cents"] = sum(line["quantity"] * line["cents"] for line in order["lines"])
        state = "placed" if order["card"] else "placed on account"
        content = json.dumps(order)
        with self.transaction() as db:
            placed = db.execute(
                "insert or ignore into orders values (?, ?, ?, ?, ?, null)",
                (order["id"], state, order["cents"], content, time.time()),
            )
            if placed.rowcount:
                self._tell("order.placed", content)

    def hear(self, order, news):
        """What follows from the news for an order; its state then, or None if there is no such."""
        with self.transaction() as db:
            row = db.execute("select * from orders where id = ?", (order,)).fetchone()
            if row is None or (row["state"], news) not in MOVES:
                return row and row["state"]
            state, key = MOVES[row["state"], news]
            ended = time.time() if state in FINAL else None
            db.execute(
                "update orders set state = ?, ended_at = ? where id = ?", (state, ended, order)
            )
            self._tell(key, row["content"])
            return state

    def _tell(self, key, content):
        delay_ms = DUE_MS if key == "payment.due" else 0
        self.db.execute(
            "insert into outbox (key, content, delay_ms) values (?, ?, ?)", (key, content, delay_ms)
        )

    def unsent(self, count):
        return self.db.execute(
            "select * from outbox where not sent order by sequence limit ?", (count,)
        ).fetchall()

    def sent(self, up_to):
        self.db.execute("update outbox set sent = 1 where not sent and sequence <= ?", (up_to,))
