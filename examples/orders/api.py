"""The order API. It writes to its database and nothing else, so it takes orders whether or not
there is a broker just now.

POST /orders with {id, customer, lines: [{sku, quantity, cents}], currency, card}: 201, and again
201 for the same id. POST /orders/ID/payment for an order on account: 202 if it will be charged, 409
while it is not known whether there are goods, 410 when it is too late.
"""

import http.server
import json
import os

from store import Store


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        store = Store(os.environ["ORDERS_DB"])
        try:
            status = self.route(store, body)
        except (KeyError, TypeError, ValueError):
            status = 400
        finally:
            store.db.close()
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def route(self, store, body):
        match self.path.split("/")[1:]:
            case ["orders"]:
                store.place(json.loads(body))
                return 201
            case ["orders", order, "payment"]:
                state = store.hear(order, "payment.offered")
                if state is None:
                    return 404
                if state.startswith("placed"):
                    return 409
                return 202 if state in ("paying", "paid", "shipped") else 410
        return 404

    def log_request(self, code="-", size="-"):
        pass  # one line per order would be the load


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256


Server(("127.0.0.1", int(os.environ["API_PORT"])), Handler).serve_forever()
