"""A day of a shop's mails, act by act, and what must be true of them. Run by email/run.

shop.py has what the shop and the relay did; stage.py says how services live and what a check is.
"""

import functools
import os
import random
import sys
import time

from checks import eventually, queue, restart_broker

import shop
import topology
import triggers
from redrive import redrive
from stage import (
    SHORT,
    WORK,
    Page,
    Service,
    after,
    at_rate,
    percentile,
    play,
    set_trigger,
    shown,
    spread,
    timed,
    trigger_runs,
)

SIGNUPS_PER_SECOND = 40
SIGNUPS = 80 if SHORT else 200
NEWSLETTERS = 100 if SHORT else 300
TROUBLE_PER_SECOND = 25
TROUBLE_SECONDS = 8 if SHORT else 24
WORKERS = 2
ASKED_TWICE = 20
MAX_WAIT_SECONDS = 5 if SHORT else 30
LEDGER = f"{WORK}/ledger"

page = Page("E-mail in the background")
chance = random.Random(8)
workers = []


def program(name, *arguments):
    relay = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": "2525",
        "LEDGER": LEDGER,
        "SINK_SETTINGS": f"{WORK}/relay.json",
        "SINK_JOURNAL": f"{WORK}/relay.journal",
    }
    script = f"{sys.path[0]}/{arguments[0]}"
    return Service(name, sys.executable, script, *arguments[1:], env=relay)


def someone(share_busy=0.0, share_rejected=0.0):
    """An address; some are busy for now (451), some do not exist (550), half of these misspelt."""
    name, dice = f"user{chance.randrange(10**9)}", chance.random()
    if dice < share_busy:
        return f"busy2-{name}@example.com"
    if dice < share_busy + share_rejected:
        return f"{name}@{chance.choice([shop.GONE, shop.MISSPELT])}"
    return f"{name}@example.com"


def signups(web, addresses):
    """The same users come at the same rate; how long each waited, and what they were told."""
    asked = [
        functools.partial(timed, lambda to=to: shop.ask(web, "/signup", to)) for to in addresses
    ]
    answers = at_rate(SIGNUPS_PER_SECOND, asked)
    return [took for _, took in answers], [status for (_, status), _ in answers]


def ask_for(count, path, per_second, *shares):
    """So many requests, each until it is accepted; their message-ids."""
    return at_rate(
        per_second, [functools.partial(shop.insist, path, someone(*shares)) for _ in range(count)]
    )


def newsletters(count):
    """So many newsletters that are all there is, until all are seen to; when they were begun."""
    begun = time.time()
    ids = ask_for(count, "/newsletter", 100)
    shop.settled(MAX_WAIT_SECONDS + 30)
    page.row(f"{count} newsletters waited", spread(waited(ids)))
    return begun


def waited(ids):
    """How long mails took from being accepted to the relay."""
    at = shop.taken_at()
    return [at[id] - shop.accepted[id] for id in ids]


# --- the acts -----------------------------------------------------------------------------------


def opening():
    """Everything is up, but nobody who sends."""
    os.mkdir(LEDGER)
    shop.relay_is(delay_ms=2000)
    program("relay", "sink.py")
    program("web-inline", "web.py", "inline", "8001")
    program("web-queued", "web.py", "queued", "8002")
    with shop.Broker() as connection:
        topology.declare(connection.channel(), topology.RESIDENT)
    for web in (shop.INLINE, shop.QUEUED):
        eventually(f"{web} answers", lambda web=web: shop.ask(web, "/nothing", "")[1] == 400)


def inline_or_queued():
    page.act(f"The relay takes 2 s, {SIGNUPS_PER_SECOND} people sign up per second")
    people = [someone(share_busy=0.05, share_rejected=0.05) for _ in range(SIGNUPS)]
    inline, told = signups(shop.INLINE, people)
    inline = [seconds for seconds, status in zip(inline, told) if status == 200]
    page.row("the web server sends by itself", f"{spread(inline)}, {SIGNUPS - len(inline)} refused")
    queued, told = signups(shop.QUEUED, people)
    refused = SIGNUPS - told.count(202)
    page.row("the web server enqueues", f"{spread(queued)}, {refused} refused")
    page.check("whoever enqueues turns nobody away", refused == 0)
    # Its slowest one tells how busy the machine is, and no more.
    usual = percentile(queued, 50)
    page.check(
        "who sends by itself waits for the relay, who enqueues does not",
        usual < 2 <= min(inline),
        f"{shown(usual)} and {shown(min(inline))}",
    )


def the_relay_recovers():
    for number in range(WORKERS):
        workers.append(program(f"worker-{number}", "worker.py"))
    eventually("the workers are there", lambda: queue("mail")["consumers"] == WORKERS)
    shop.relay_is(delay_ms=20)
    _, took = timed(shop.settled)
    page.row(f"the relay is fast, {WORKERS} workers", f"all sent or given up after {shown(took)}")


def urgent_first():
    page.act(f"Password resets amid {NEWSLETTERS} newsletters")
    shop.relay_is(delay_ms=40)
    letters = ask_for(NEWSLETTERS, "/newsletter", 200)
    resets = ask_for(10, "/reset", 20)
    shop.settled()
    shop.relay_is(delay_ms=20)
    page.row(f"{len(letters)} newsletters waited", spread(waited(letters)))
    page.row(f"{len(resets)} resets waited", spread(waited(resets)))
    at = shop.taken_at()
    overtaken = max(
        sum(shop.accepted[reset] < at[letter] < at[reset] for letter in letters) for reset in resets
    )
    # Each worker has one in hand, and the broker may just have handed it the next.
    page.check(
        "a reset waits for what is being sent, not for what is queued",
        overtaken <= 2 * WORKERS,
        f"{overtaken} sent before it at most",
    )


def trouble():
    """Workers and the broker are killed while mails come that are refused for now and for ever."""
    count = TROUBLE_PER_SECOND * TROUBLE_SECONDS
    page.act(f"{count} signups in {TROUBLE_SECONDS} s; workers and the broker are killed")
    plan = [
        after(TROUBLE_SECONDS * (number + 1) / (len(CRASHES) + 1), CRASHES[number])
        for number in range(len(CRASHES))
    ]
    asked = [functools.partial(shop.insist, "/signup", someone(0.1, 0.06)) for _ in range(count)]
    answers = at_rate(TROUBLE_PER_SECOND, [functools.partial(timed, ask) for ask in asked])
    waits = [took for _, took in answers]
    for crash in plan:
        crash.join()
    _, took = timed(shop.settled)
    page.row("accepted", f"{count}, {spread(waits)}, {len(shop.repeats)} asked again")
    page.row("killed (-9)", f"a worker and the broker, {len(CRASHES) // 2} times each")
    page.row("after the last one", f"all sent or given up after {shown(took)}")
    sent = shop.taken_at()
    twice = [id for id, _ in answers if id in sent][:ASKED_TWICE]
    for message_id in twice:
        shop.again(message_id)
    eventually("the repeated ones are seen to", lambda: queue("mail")["messages"] == 0)
    page.row("asked twice, by the same key", f"{len(twice)}")


def worker_killed():
    chance.choice(workers).kill()


def broker_killed():
    restart_broker("kill")


CRASHES = [worker_killed, broker_killed] * (2 if SHORT else 5)


def the_dead_are_driven_again():
    page.act("Dead letters")
    before = shop.dead()
    page.row("given up for good (550)", f"{before}")
    shop.relay_is(delay_ms=20, unknown=[shop.GONE])
    with shop.Broker() as connection:
        moved = redrive(connection, topology.DEAD)
    for (name, reason), count in moved.items():
        page.row(
            "the misspelt domain is mended", f"{count} back to {name}, which had {reason} them"
        )
    shop.settled()
    page.check("every one was moved", moved.total() == before)
    page.check(
        "what was mended is sent, the rest is dead again",
        0 < shop.dead() < before,
        f"{before - shop.dead()} sent, {shop.dead()} dead",
    )


def no_worker():
    page.act("No worker at all: triggers start programs")
    for worker in workers:
        worker.stop()
    with shop.Broker() as connection:
        topology.declare(connection.channel(), topology.TRIGGERED, instead_of=topology.RESIDENT)
    set_trigger("urgent", triggers.URGENT)
    set_trigger("bulk", triggers.bulk(MAX_WAIT_SECONDS * 1000))
    resets = ask_for(20, "/reset", 5)
    shop.settled()
    page.row("20 resets waited", spread(waited(resets)))
    ten = newsletters(10)
    five = newsletters(5)
    eventually("two runs", lambda: len(trigger_runs("bulk")) == 2)
    last, first = trigger_runs("bulk")
    batches = [first["messages"], last["messages"]]
    page.check("one program was started for each lot", batches == [10, 5], f"{batches}")
    # What counts is when the broker started it, not how long Python and the relay took then.
    ten, five = first["started_ms"] / 1000 - ten, last["started_ms"] / 1000 - five
    page.check(
        "ten are handed over at once, fewer when they have waited long enough",
        ten < MAX_WAIT_SECONDS <= five,
        f"after {shown(ten)} and {shown(five)}",
    )
    killed = after(1.5, broker_killed)
    ask_for(60, "/signup", 20, 0.1, 0.06)
    killed.join()
    _, took = timed(shop.settled)
    page.row("60 signups, broker killed (-9)", f"all sent or given up {shown(took)} after the last")


def the_sum():
    page.act("In the end")
    with shop.Broker() as connection:
        dead = dead_letters(connection.channel())
    taken = [mail["id"] for mail in shop.taken()]
    sent, promised = set(taken), shop.accepted.keys()
    page.row("accepted", f"{len(promised)} = {len(sent)} sent + {len(dead)} dead")
    page.check("every accepted mail was sent or is dead", sent | set(dead) == promised)
    page.check("none is both, or dead twice", len(sent) + len(dead) == len(sent | set(dead)))
    # Between the relay's taking a mail and the ledger there is a moment that nobody can close; only
    # what a killed worker had in hand can have been there, or a program that went with the broker.
    twice = len(taken) - len(sent)
    killed = CRASHES.count(worker_killed) + triggers.URGENT["concurrency"]
    page.check(
        "the relay has seen none twice, but what was in a hand that was killed",
        twice <= killed,
        f"{twice} of at most {killed}",
    )


def dead_letters(channel):
    """The message-ids of the dead, which stay there."""
    found = []
    while True:
        method, properties, _ = channel.basic_get(topology.DEAD)
        if method is None:
            return found
        found.append(properties.message_id)


if __name__ == "__main__":
    play(
        page,
        [
            opening,
            inline_or_queued,
            the_relay_recovers,
            urgent_first,
            trouble,
            the_dead_are_driven_again,
            no_worker,
            the_sum,
        ],
    )
