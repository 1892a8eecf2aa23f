"""What must add up when all orders have ended: each service's books against the others'."""

import collections
import json

from checks import eventually, queue

import shop
import store
import triggers


def acts(page):
    """The last acts of the driver, which write to its page."""

    def history():
        page.act("Analytics replays the history")
        first = shop.report()
        kinds = first["kinds"]
        page.row("news", f"{sum(kinds.values())} of {len(kinds)} kinds")
        page.check("a second replay finds the same", shop.report() == first)
        placed = shop.read("ORDERS_DB", "select count(*) from orders")[0][0]
        shipped = ended_as("shipped")
        cancelled = len(ended_as(*store.FINAL)) - len(shipped)
        reported = (
            kinds["order.placed"],
            kinds["order.cancelled"],
            kinds["order.shipped"],
            kinds["payment.charged"],
            first["cents_shipped"],
            first["pieces_shipped"],
        )
        booked = (
            placed,
            cancelled,
            len(shipped),
            len(charged()),
            sum(order["cents"] for order in shipped.values()),
            sum(pieces(shipped.values()).values()),
        )
        page.check(
            "the report is what the databases say",
            reported == booked,
            f"{reported[2]} shipped for {reported[4] / 100:.2f} EUR"
            if reported == booked
            else f"{reported} but {booked}",
        )

    def books():
        page.act("The books")
        states = shop.states()
        page.row("orders", ", ".join(f"{count} {state}" for state, count in states.most_common()))
        page.check("every order is in one final state", set(states) <= set(store.FINAL))
        shipped = ended_as("shipped")
        page.check(
            "charged is what is shipped, cent by cent",
            charged() == {id: order["cents"] for id, order in shipped.items()},
        )
        page.check(
            "each has one parcel, and nothing else has",
            sorted(shop.lines_of("PARCELS")) == sorted(shipped),
        )
        page.check(
            "each customer was told once how it ended",
            sorted(shop.lines_of("MAILS"))
            == sorted(
                f"{id} order.{'shipped' if id in shipped else 'cancelled'}"
                for id in ended_as(*store.FINAL)
            ),
        )
        free = dict(shop.read("STOCK_DB", "select sku, free from articles"))
        page.check("no shelf is below zero", min(free.values()) >= 0, f"{free}")
        page.check(
            "free and shipped is what came in",
            collections.Counter(free) + pieces(shipped.values()) == shop.came,
        )
        asked = shop.read(
            "BANK_DB",
            "select customer, sequence from charges where sequence not null order by number",
        )
        page.check(
            "each customer's charges came in order, from workers side by side",
            in_order(asked),
            f"{len(asked)} of {len({who for who, _ in asked})}",
        )

    def settlements():
        page.act("Settlements, started by a trigger")
        shipped = ended_as("shipped")

        def settled():
            return shop.read("SETTLEMENTS_DB", "select id, cents, run from settled")

        def left():
            return queue("settlement")["messages"]

        eventually(
            "what is not settled waits for more",
            lambda: len(settled()) + left() == len(shipped) and left() < triggers.HUNDRED,
        )
        runs = collections.Counter(run for _, _, run in settled())
        cents = sum(cents for _, cents, _ in settled())
        page.row(
            "settled", f"{len(runs)} times, {cents / 100:.2f} EUR; {left()} orders wait for more"
        )
        page.check(
            "a hundred at once, none twice, each for what it cost",
            max(runs.values()) == triggers.HUNDRED
            and all(shipped[id]["cents"] == cents for id, cents, _ in settled()),
        )

    return [history, books, settlements]


def ended_as(*states):
    """The orders in these states, by id."""
    marks = ", ".join(f"'{state}'" for state in states)
    rows = shop.read("ORDERS_DB", f"select id, content from orders where state in ({marks})")
    return {id: json.loads(content) for id, content in rows}


def pieces(orders):
    """How many pieces of each article the orders have; however a partner spells it."""
    found = collections.Counter()
    for order in orders:
        for line in order["lines"]:
            found[line["sku"].lower()] += line["quantity"]
    return found


def charged():
    """What the bank has charged, by order."""
    return dict(shop.read("BANK_DB", "select key, cents from charges where charged"))


def in_order(asked):
    """Whether each customer's numbers rise."""
    last = {}
    for customer, sequence in asked:
        if sequence <= last.get(customer, 0):
            return False
        last[customer] = sequence
    return True
