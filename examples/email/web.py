"""The web server, in two builds: `web.py inline PORT` sends mails itself before it answers,
`web.py queued PORT` hands them to the broker.

POST /signup, /reset or /newsletter with {"to": address}. The header Idempotency-Key, a UUID, names
the request: a client that had no answer repeats it under the same key. Answers: 200 sent, 202 safe
in the queue, 422 it never will be, 503 not now.
"""

import http.server
import json
import sys
import uuid

import pika.exceptions

import mailer
import publisher

KINDS = {"/signup": "welcome", "/reset": "reset", "/newsletter": "newsletter"}


def inline(message_id, mail):
    outcome, why = mailer.send_once(message_id, mail)
    return {mailer.SENT: 200, mailer.LATER: 503, mailer.NEVER: 422}[outcome], why


class Queued:
    def __init__(self):
        self.pool = publisher.Pool(8)

    def __call__(self, message_id, mail):
        try:
            self.pool.publish(mail["kind"], message_id, mail)
            return 202, "it will be sent"
        except pika.exceptions.AMQPError as error:
            return 503, repr(error)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            kind = KINDS[self.path]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            mail = {"to": str(json.loads(body)["to"]), "kind": kind}
            message_id = str(uuid.UUID(self.headers["Idempotency-Key"]))
        except (KeyError, TypeError, ValueError) as error:
            return self.answer(400, repr(error))
        self.answer(*handle(message_id, mail))

    def answer(self, status, why):
        body = json.dumps({"why": why}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        pass  # one line per signup would be the load


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256


build, port = sys.argv[1:]
handle = {"inline": lambda: inline, "queued": Queued}[build]()
Server(("127.0.0.1", int(port)), Handler).serve_forever()
