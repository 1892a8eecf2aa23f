"""What a user of Dramatiq relies on, checked against real workers in processes of their own.

Run by apps/dramatiq/run. See interop/apps/lib.sh for the environment and python/checks.py for how
scenarios are reported.
"""

import json
import os
import sys
import time

import checks
import pika
from checks import Program, equal, eventually, management, queue, require

import actors

WORK = os.environ["work"]


def worker(*queues, threads=2, **env):
    program = Program(
        sys.executable, "-m", "dramatiq", "actors", "--processes", "1", "--threads", str(threads),
        "--queues", *queues,
        env=env,
    )  # fmt: skip
    return program.says("Worker process is ready for action.")


def lines(name):
    try:
        with open(f"{WORK}/{name}") as file:
            return file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def noted(name, count, seconds=checks.WAIT_SECONDS):
    eventually(
        f"{count} notes of {name}: {lines(name)}", lambda: len(lines(name)) >= count, seconds
    )
    return lines(name)


def get(name):
    """One message of a queue as (properties, decoded body), taken out of it."""
    connection = pika.BlockingConnection(pika.URLParameters(checks.URL))
    try:
        method, properties, body = connection.channel().basic_get(name, auto_ack=True)
        return method and (properties, json.loads(body))
    finally:
        connection.close()


def scenario_queues():
    """A worker declares three queues for each: the messages', the delayed and the dead."""
    for name in ("plain", "plain.DQ"):
        eventually(f"a consumer of {name}", lambda: queue(name).get("consumers") == 1)
        found = queue(name)
        equal("arguments", found["arguments"], {
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "plain.XQ",
            "x-max-priority": 10,
        })  # fmt: skip
        equal("durable", found["durable"], True)
    equal("dead letters", queue("plain.XQ")["arguments"], {"x-message-ttl": 20000})


def scenario_many():
    for number in range(300):
        actors.record.send("many", number)
    equal("each once", sorted(map(int, noted("many", 300))), list(range(300)))
    text = "x" * 1_000_000
    actors.record.send("large", text)
    equal("a megabyte", noted("large", 1), [text])


def scenario_prefetch():
    """The prefetch is a consumer's own: dramatiq_queue_prefetch, here four messages."""
    one = worker("limited", threads=1, dramatiq_queue_prefetch="4")
    consumers = eventually(
        "its consumer", lambda: [
            found for found in management("consumers/%2F") if found["queue"]["name"] == "limited"
        ],
    )  # fmt: skip
    equal("prefetch", consumers[0]["prefetch_count"], 4)
    for _ in range(10):
        actors.limited.send("limited", 15)
    eventually("four are out", lambda: queue("limited").get("messages_unacknowledged") == 4)
    equal("ready", queue("limited")["messages_ready"], 6)
    one.kill()
    eventually("all are given back", lambda: queue("limited").get("messages_ready") == 10)


def scenario_delay():
    """A delayed message waits in a consumer of the delay queue, and moves to the queue in time."""
    start = time.time()
    actors.clock.send_with_options(args=("delay",), delay=5000)
    actors.clock.send("delay-now")
    require(float(noted("delay-now", 1)[0]) - start < 5, "a message waited for a delayed one")
    late = float(noted("delay", 1)[0]) - start
    require(5 <= late < 9, f"ran after {late:.1f} s")
    eventually("the delay queue is empty", lambda: queue("plain.DQ").get("messages") == 0)


def scenario_retries():
    actors.flaky.send("retries", 3)
    equal("retries", noted("retries", 1, 30), ["3"])
    time.sleep(1.5)
    equal("dead", queue("flaky.XQ")["messages"], 0)


def scenario_dead_letters():
    """After the last retry the message is rejected and goes to the .XQ queue by dead-lettering."""
    actors.failing.send("failing")
    runs = noted("failing", 4, 30)
    equal("runs", [line.split()[0] for line in runs], ["0", "1", "2", "3"])
    properties, body = eventually("a dead letter", lambda: get("failing.XQ"))
    equal("actor", body["actor_name"], "failing")
    equal("retries", body["options"]["retries"], 3)
    death = properties.headers["x-death"][0]
    equal(
        "x-death",
        (death["reason"], death["queue"], death["exchange"], death["routing-keys"], death["count"]),
        ("rejected", "failing", "", ["failing"], 1),
    )
    equal("delivery mode", properties.delivery_mode, 2)


def scenario_max_age():
    actors.aged.send_with_options(args=("aged",), delay=1500)
    eventually("a dead letter", lambda: get("aged.XQ"))
    equal("runs", lines("aged"), [])


def scenario_unknown_actor():
    """What no actor can run is rejected."""
    actors.broker.enqueue(actors.aged.message("nothing").copy(actor_name="nobody"))
    _, body = eventually("a dead letter", lambda: get("aged.XQ"))
    equal("actor", body["actor_name"], "nobody")


def scenario_dead_letters_expire():
    actors.broker.channel.basic_publish("", "plain.XQ", b"{}")
    eventually("it is there", lambda: queue("plain.XQ").get("messages") == 1)
    eventually("it expires", lambda: queue("plain.XQ").get("messages") == 0, 30)


def scenario_priorities():
    """broker_priority: x-max-priority gives the highest first."""
    for number in (1, 5, 9, 3, 0, 7):
        actors.ordered.send_with_options(args=("priorities", number), broker_priority=number)
    eventually("they wait", lambda: queue("priority").get("messages_ready") == 6)
    one = worker("priority", threads=1, dramatiq_queue_prefetch="1")
    equal("order", noted("priorities", 6), ["9", "7", "5", "3", "1", "0"])
    one.stop()


def scenario_worker_killed():
    """A killed worker's messages go back, and its heir runs them."""
    doomed = worker("slow", threads=1)
    actors.slow.send("killed", 3)
    noted("killed", 1)
    doomed.kill()
    heir = worker("slow", threads=1)
    runs = noted("killed", 3)
    equal("the second run ends", runs[2], "end")
    require(runs[0] != runs[1], "the dead worker ran it again")
    eventually("acknowledged", lambda: queue("slow").get("messages") == 0)
    equal("exit code", heir.stop(), 0)


def scenario_queue_lost():
    """With confirms, a message for a queue that was deleted is returned; the queue is made anew."""
    channel = actors.broker.channel
    actors.broker.declare_queue("lost", ensure=True)
    channel.queue_delete("lost")
    actors.broker.enqueue(actors.record.message("lost", 1).copy(queue_name="lost"))
    eventually("it is there", lambda: queue("lost").get("messages") == 1)


def scenario_flush():
    actors.broker.flush("lost")
    eventually("nothing is left", lambda: queue("lost").get("messages") == 0)


def scenario_broker_restart():
    """Workers connect again, and neither waiting nor delayed messages are lost."""
    start = time.time()
    actors.clock.send_with_options(args=("restart-late",), delay=4000)
    checks.restart_broker("term")
    actors.record.send("restart", "term")
    equal("after a stop", noted("restart", 1, 40), ["term"])
    checks.restart_broker("kill")
    actors.record.send("restart", "kill")
    # The kill may have lost the other's acknowledgement, so that it runs again.
    eventually("it runs after a kill", lambda: "kill" in lines("restart"), 40)
    late = float(noted("restart-late", 1, 40)[0]) - start
    require(late >= 4, f"the delayed message ran after {late:.1f} s")


def scenario_shutdown():
    """A worker that is told to end finishes its messages and gives back the others."""
    actors.slow.send("shutdown", 2)
    last = worker("slow", threads=1)
    noted("shutdown", 1)
    equal("exit code", last.stop(), 0)
    equal("finished", noted("shutdown", 2)[1], "end")
    equal("main's exit code", main.stop(), 0)
    eventually("no consumer is left", lambda: queue("plain").get("consumers") == 0)


if __name__ == "__main__":
    main = worker("plain", "failing", "flaky", "aged")
    checks.main(globals())
