"""What a trigger runs for ten newsletters: they come on standard input, one a line, and what became
of each goes to descriptor 3. programs/send-batch.toml allows it.
"""

import json
import os
import sys

import mailer

RESULTS = {mailer.SENT: "ack", mailer.LATER: "retry", mailer.NEVER: "reject"}

with os.fdopen(3, "w", buffering=1) as results:
    for line in sys.stdin:
        message = json.loads(line)
        message_id, mail = message["properties"]["message_id"], json.loads(message["body"])
        outcome, why = mailer.send_once(message_id, mail)
        print(message_id, why, file=sys.stderr)
        print(json.dumps({"id": message["id"], "result": RESULTS[outcome]}), file=results)
