"""A shop's orders, act by act, and what must add up in the end. Run by orders/run.

shop.py has the customers and the services' books; stage.py says how services live and what a check
is.
"""

import collections
import functools
import os
import random
import sys
import time

from checks import eventually, queue, restart_broker

import audit
import bus
import shop
import topology
import triggers
from redrive import redrive
from stage import SHORT, Page, Service, after, at_rate, play, set_trigger, spread

PER_SECOND = 20 if SHORT else 25
CALM, STORMY = (120, 160) if SHORT else (250, 750)
POISON = 3  # of each kind
PAYERS = 4
BROKER_KILLED = 2 if SHORT else 5
SERVICES_KILLED = 8 if SHORT else 30

page = Page("Order processing")
services = []
killed = collections.Counter()
dice = random.Random(9)


def service(name, *command):
    started = Service(name, *command, env=shop.PATHS)
    services.append(started)
    return started


def python(name):
    return service(name, sys.executable, f"{sys.path[0]}/{name}.py")


def orders(prefix, count):
    """Customers order at the rate; how long it took until the last order had been placed."""
    start = time.monotonic()
    placing = [
        functools.partial(shop.place, shop.new_order(f"{prefix}-{number}"))
        for number in range(count)
    ]
    at_rate(PER_SECOND, placing)
    return time.monotonic() - start


# --- the acts -----------------------------------------------------------------------------------


def opening():
    """The broker knows the queues, the shelves are full, and everybody is at work."""
    channel = bus.connect().channel()
    topology.declare(channel)
    channel.connection.close()
    for name in ("bank", "stock", "saga", "outbox", "api"):
        python(name)
    for name in ("shipping", "mail"):
        service(name, "node", f"{sys.path[0]}/node/{name}.js")
    for number in range(PAYERS):
        service(f"payment-{number}", f"{os.environ['GO_SERVICES']}/payment")
    eventually("payment's workers are there", lambda: queue("payment")["consumers"] == PAYERS)
    for name in ("saga", "stock", "shipping", "mail"):
        eventually(f"{name} is there", lambda name=name: queue(name)["consumers"] == 1)
    set_trigger("settlement", triggers.SETTLEMENT)
    shop.fill_shelves(CALM + STORMY)


def calm():
    page.act(f"{CALM} orders, nothing fails")
    took = orders("calm", CALM)
    shop.ended(CALM)
    page.row("ordered", f"{CALM / took:.0f} a second")
    page.row("from the order to the parcel", spread(shop.latencies("calm-")))


def poison():
    page.act("A partner writes articles and currencies its own way")
    for number in range(POISON):
        shop.place(shop.misspelt("article", number))
        shop.place(shop.misspelt("currency", number))
    eventually("all are dead letters", lambda: queue(topology.DEAD)["messages"] == 2 * POISON, 60)
    page.row("dead letters", f"{2 * POISON} of {2 * POISON}")


def storm():
    """Services and the broker are killed at moments of the dice's choosing."""
    page.act(f"{STORMY} orders, while services and the broker are killed")
    seconds = STORMY / PER_SECOND
    plan = [
        after(dice.uniform(0.05, 0.95) * seconds, service_killed) for _ in range(SERVICES_KILLED)
    ]
    # One after the other: its restarts must not overlap.
    plan += [
        after((number + 0.5) / BROKER_KILLED * seconds, broker_killed)
        for number in range(BROKER_KILLED)
    ]
    took = orders("stormy", STORMY)
    for crash in plan:
        crash.join()
    shop.ended(CALM + STORMY)
    page.row("ordered", f"{STORMY / took:.0f} a second")
    page.row("from the order to the parcel", spread(shop.latencies("stormy-")))
    page.row("killed (-9)", ", ".join(f"{name} {count}" for name, count in killed.items()))


def service_killed():
    one = dice.choice([one for one in services if one.name != "bank"])
    killed[one.name.partition("-")[0]] += 1
    one.kill()


def broker_killed():
    killed["broker"] += 1
    restart_broker("kill")


def the_dead_are_mended():
    page.act("Dead letters")
    connection = bus.connect()
    moved = redrive(connection, topology.DEAD, shop.mended)
    connection.close()
    for (name, reason), count in sorted(moved.items()):
        page.row(f"mended, back to {name}", f"{count}, dead because {reason}")
    page.check(
        "each died of what was wrong with it, and nothing else did",
        moved == {("stock", "rejected"): POISON, ("payment", "delivery_limit"): POISON},
    )
    shop.ended(CALM + STORMY + 2 * POISON)


if __name__ == "__main__":
    play(page, [opening, calm, poison, storm, the_dead_are_mended, *audit.acts(page)])
