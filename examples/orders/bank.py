"""The outside world: a bank that charges cards, each Idempotency-Key once.

POST /charges with {card, cents, customer, sequence}: 200 charged, 402 declined, the same again for
the same key. What it was asked stands in its table in the order of the first asking; `sequence` is
the shop's own number, by which one can see whether that order was the shop's.
"""

import http.server
import json
import os
import sqlite3

SCHEMA = """
create table if not exists charges (
  number integer primary key autoincrement, key text unique, customer text not null,
  sequence integer, cents integer not null, charged integer not null
);
"""


def connect():
    db = sqlite3.connect(os.environ["BANK_DB"], timeout=20)
    db.execute("pragma synchronous = off")  # it is the world: it never fails
    return db


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        charged = asked["card"] != "empty"
        with connect() as db:
            db.execute(
                "insert or ignore into charges values (null, ?, ?, ?, ?, ?)",
                (key, asked["customer"], asked["sequence"], asked["cents"], charged),
            )
        db.close()
        self.send_response(200 if charged else 402)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, code="-", size="-"):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256


connect().executescript(SCHEMA)
Server(("127.0.0.1", int(os.environ["BANK_PORT"])), Handler).serve_forever()
