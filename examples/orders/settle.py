"""Settles shipped orders, which come on standard input: all that it is given, as one sum. Python.

A trigger starts it when there are a hundred; programs/settle.toml allows it. Killed, or run again
for orders that it has had because the broker was killed, it settles none of them twice.
"""

import json
import os
import sqlite3
import sys

SCHEMA = """
create table if not exists settled (id text primary key, cents integer not null, run integer);
"""

db = sqlite3.connect(os.environ["SETTLEMENTS_DB"], timeout=20)
db.executescript(SCHEMA)
orders = [json.loads(json.loads(line)["body"]) for line in sys.stdin]
with db:
    db.executemany(
        "insert or ignore into settled values (?, ?, ?)",
        [(order["id"], order["cents"], int(os.environ["LEVERET_RUN"])) for order in orders],
    )
