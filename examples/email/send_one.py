"""What a trigger runs for each mail, where no worker waits: the mail comes on standard input, and
the exit code says what became of it. programs/send-one.toml allows it.
"""

import json
import os
import sys

import mailer

EXIT_CODES = {mailer.SENT: 0, mailer.LATER: 75, mailer.NEVER: 65}

outcome, why = mailer.send_once(os.environ["LEVERET_MESSAGE_ID"], json.load(sys.stdin))
print(why, file=sys.stderr)
sys.exit(EXIT_CODES[outcome])
