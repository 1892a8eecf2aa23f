"""Sends one mail, once: what every way of sending in this example comes down to.

Needs Python's standard library alone, so that a trigger can run it anywhere. Reads SMTP_HOST,
SMTP_PORT and LEDGER, a folder with a file for each message-id. Invariants: of two that have the
same message-id in hand only one sends; an id that is in the ledger as sent is never sent again.
What is left is the moment between the relay's taking a mail and the ledger: who is killed there
sends twice, and no protocol without a commit closes that gap.
"""

import email.message
import fcntl
import hashlib
import os
import smtplib

SENT = "sent"
LATER = "later"  # the relay cannot now, or another process is at it
NEVER = "never"  # the relay will not: trying again is no use

SUBJECTS = {
    "reset": "Reset your password",
    "welcome": "Welcome",
    "newsletter": "What is new",
}


def send_once(message_id, mail):
    """Sends the mail {"to", "kind"} unless it was sent before; what became of it, and why."""
    name = hashlib.sha256(message_id.encode()).hexdigest()
    with open(os.path.join(os.environ["LEDGER"], name), "a+") as entry:
        try:
            # Held until this process has closed the file or is dead, however it dies.
            fcntl.flock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return LATER, "another process is sending it"
        entry.seek(0)
        if entry.read() == SENT:
            return SENT, "it was sent before"
        return send(message_id, mail, entry)


def send(message_id, mail, entry):
    message = email.message.EmailMessage()
    message["From"] = "shop@example.com"
    message["To"] = mail["to"]
    message["Subject"] = SUBJECTS[mail["kind"]]
    message["Message-ID"] = f"<{message_id}@example.com>"
    message.set_content("Hello,\n\nthis is what you have been waiting for.\n")
    try:
        host, port = os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"])
        with smtplib.SMTP(host, port, timeout=10) as relay:
            relay.send_message(message)
            # At once, not after the relay's goodbye.
            entry.write(SENT)
            entry.flush()
        return SENT, "250"
    except smtplib.SMTPRecipientsRefused as refused:
        code, text = refused.recipients[mail["to"]]
        return judge(code, text)
    except smtplib.SMTPResponseException as refused:
        return judge(refused.smtp_code, refused.smtp_error)
    except (OSError, smtplib.SMTPServerDisconnected) as error:
        return LATER, str(error)


def judge(code, text):
    """4xx is for now and 5xx for ever (RFC 5321, 4.2.1)."""
    return (LATER if code < 500 else NEVER), f"{code} {text.decode(errors='replace')}"
