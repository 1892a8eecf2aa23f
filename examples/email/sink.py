"""The outside world: an SMTP relay that is slow, refuses for a while (451) or for ever (550).

How it is today stands in the file SINK_SETTINGS, {"delay_ms": 0, "unknown": ["domain"]}, which it
reads for every mail. Addresses like busy2-anna@... are refused so many times first. Every mail that
it has taken becomes a line of SINK_JOURNAL: {"id", "to", "subject", "at"}.
"""

import asyncio
import collections
import email
import json
import os
import re
import time

from aiosmtpd.smtp import SMTP

SETTINGS = os.environ["SINK_SETTINGS"]


def settings():
    with open(SETTINGS) as file:
        return json.load(file)


class Relay:
    def __init__(self):
        self.journal = open(os.environ["SINK_JOURNAL"], "a", buffering=1)
        self.refusals = collections.Counter()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.partition("@")[2] in settings()["unknown"]:
            return "550 5.1.1 no such mailbox"
        busy = re.match(r"busy(\d+)-", address)
        if busy and self.refusals[address] < int(busy[1]):
            self.refusals[address] += 1
            return "451 4.3.0 busy, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content)
        await asyncio.sleep(settings()["delay_ms"] / 1000)
        taken = {
            "id": mail["Message-ID"][1:].partition("@")[0],
            "to": mail["To"],
            "subject": mail["Subject"],
            "at": time.time(),
        }
        self.journal.write(json.dumps(taken) + "\n")
        return "250 OK"


async def main():
    relay = Relay()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(relay, hostname="relay.example"),
        os.environ["SMTP_HOST"],
        int(os.environ["SMTP_PORT"]),
        backlog=256,
    )
    await server.serve_forever()


asyncio.run(main())
