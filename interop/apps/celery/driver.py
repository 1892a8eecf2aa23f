"""What a user of Celery and Flower relies on, checked against workers in processes of their own.

Run by apps/celery/run. See interop/apps/lib.sh for the environment and python/checks.py for how
scenarios are reported.
"""

import json
import os
import re
import subprocess
import sys
import time

import checks
from celery import chord, group
from celery.exceptions import TaskRevokedError, TimeoutError
from checks import Program, equal, eventually, http, management, queue, raises, require

import tasks
from tasks import app

WORK = os.environ["work"]
# A virtual environment that was moved has no working scripts, but its interpreter works.
CELERY = (sys.executable, "-m", "celery", "-A", "tasks")
FLOWER = "http://127.0.0.1:5555"


def worker(name, *arguments, env=None):
    program = Program(
        *CELERY, "worker", "-n", f"{name}@interop", "-E", "-l", "INFO",
        *(arguments or ("-c", "2", "-Q", "celery,interop.priority,interop.rejecting")),
        env=env,
    )  # fmt: skip
    return program.says(f"{name}@interop ready.")


def celery(*arguments, code=0, env=None):
    """The output of a `celery -A tasks ...` command."""
    done = subprocess.run(
        [*CELERY, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )
    equal(f"exit code of celery {arguments[0]}: {done.stdout}{done.stderr}", done.returncode, code)
    return done.stdout


def client(script, **env):
    """What a program of its own prints, which uses the tasks."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **env},
    )
    equal(f"exit code of a client: {done.stderr[-400:]}", done.returncode, 0)
    return done.stdout.strip()


def lines(name):
    try:
        with open(f"{WORK}/{name}") as file:
            return file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def result(handle, seconds=checks.WAIT_SECONDS):
    return handle.get(timeout=seconds)


def scenario_results():
    """Results come back over rpc://, of many tasks at once, and errors as what they were."""
    equal("sum", result(tasks.add.delay(2, 3)), 5)
    many = group(tasks.add.s(number, number) for number in range(200))()
    equal("sums", result(many), [2 * number for number in range(200)])
    equal("error", str(raises(ValueError, lambda: result(tasks.fail.delay()))), "as asked")
    equal("chain", result((tasks.add.s(1, 2) | tasks.add.s(10) | tasks.add.s(100))()), 113)
    large = "x" * 2_000_000
    equal("two megabytes", result(tasks.record.delay("large", large)), large)
    # The client's own queue for results: gone with its connection, expiring otherwise.
    names = [found["name"] for found in management("queues/%2F") if found["auto_delete"]]
    require(app.thread_oid in names, f"no reply queue {app.thread_oid} among {names}")
    raises(NotImplementedError, lambda: chord([tasks.add.s(1, 1)])(tasks.total.s()))


def scenario_retries():
    """A retry with a countdown waits in the worker and comes back as a new message."""
    started = time.monotonic()
    equal("retries", result(tasks.flaky.delay(3, 1)), 3)
    require(3 <= time.monotonic() - started < 10, f"took {time.monotonic() - started:.1f} s")
    error = raises(RuntimeError, lambda: result(tasks.flaky.apply_async((9, 0.1)), 30))
    equal("after the last retry", str(error), "not yet")


def scenario_eta():
    """Tasks with an ETA wait in the worker. Where it may raise the channel's prefetch count, which
    Celery does with RabbitMQ before 4.0, the others pass them; else they keep the others waiting.
    """
    start = time.time()
    later = [tasks.now.apply_async(countdown=3) for _ in range(10)]
    meanwhile = [result(tasks.add.delay(number, 0)) for number in range(10)]
    equal("meanwhile", meanwhile, list(range(10)))
    with app.connection_for_read() as connection:
        blocking = connection.qos_semantics_matches_spec
    equal("tasks without an ETA waited", time.time() - start > 3, blocking)
    for handle in later:
        late = result(handle) - start
        require(3 <= late < 10, f"ran after {late:.1f} s")


def scenario_revoke():
    """A waiting task is revoked before its time, and a running one is killed."""
    waiting = tasks.add.apply_async((1, 1), countdown=4)
    running = tasks.slow.delay("revoked", 60)
    eventually("the slow task runs", lambda: lines("revoked"))
    app.control.revoke(waiting.id)
    app.control.revoke(running.id, terminate=True, signal="SIGKILL")
    raises(TaskRevokedError, lambda: result(running))
    raises(TaskRevokedError, lambda: result(waiting))


def scenario_expires():
    app.control.cancel_consumer("celery", reply=True)
    expired = tasks.add.apply_async((1, 1), expires=0.5)
    kept = tasks.add.apply_async((2, 2))
    time.sleep(1)
    app.control.add_consumer("celery", reply=True)
    equal("kept", result(kept), 4)
    raises((TaskRevokedError, TimeoutError), lambda: result(expired, 2))


def scenario_worker_child_lost():
    """task_reject_on_worker_lost: the message of a task whose process dies is given back."""
    equal("redelivered", result(tasks.suicidal.delay("suicidal")), True)
    equal("runs", lines("suicidal"), ["False", "True"])


def scenario_worker_killed():
    """acks_late: what a killed worker held goes to another."""
    doomed = worker("doomed", "-c", "1", "-Q", "interop.moved")
    handle = tasks.slow.apply_async(("killed", 4), queue="interop.moved")
    eventually("the task runs", lambda: lines("killed"))
    doomed.kill()
    heir = worker("heir", "-c", "1", "-Q", "interop.moved")
    equal("run by", result(handle), "heir@interop")
    equal("runs", lines("killed"), ["doomed@interop False", "heir@interop True"])
    equal("exit code", heir.stop(), 0)


def scenario_priorities():
    """With x-max-priority the queue gives the highest first."""
    equal("maximum", queue("interop.priority")["arguments"], {"x-max-priority": 10})
    app.control.cancel_consumer("interop.priority", reply=True)
    handles = [
        tasks.record.apply_async(("priorities", number), queue="interop.priority", priority=number)
        for number in (1, 5, 9, 3, 0, 7)
    ]
    eventually("the tasks wait", lambda: queue("interop.priority").get("messages_ready") == 6)
    # One process, so that the order of starting is the order of running.
    one = worker("one", "-c", "1", "-Q", "interop.priority")
    for handle in handles:
        result(handle)
    equal("order", lines("priorities"), ["9", "7", "5", "3", "1", "0"])
    one.stop()
    app.control.add_consumer("interop.priority", reply=True)


def scenario_dead_letter():
    """A rejected task goes to its queue's dead-letter exchange, with x-death."""
    with app.connection_for_read() as connection:
        dead = app.amqp.queues["interop.dead"].bind(connection.channel())
        dead.declare()
        tasks.rejecting.apply_async(queue="interop.rejecting")
        message = eventually("a dead letter", lambda: dead.get(no_ack=True))
    death = message.headers["x-death"][0]
    equal("reason", (death["reason"], death["queue"]), ("rejected", "interop.rejecting"))
    equal("task", message.headers["task"], "tasks.rejecting")


def scenario_inspect():
    """Remote control: broadcasts over a fanout exchange, replies to the asking program."""
    pongs = json.loads(celery("inspect", "ping", "--json"))
    equal("ping", pongs, {"main@interop": {"ok": "pong"}})
    require("1 node online." in celery("inspect", "ping"), "celery inspect ping")
    require("1 node online." in celery("status"), "celery status")
    celery("inspect", "ping", "-d", "nobody@interop", code=69)
    held = tasks.slow.delay("inspected", 3)
    eventually("the task runs", lambda: lines("inspected"))
    active = json.loads(celery("inspect", "active", "--json"))["main@interop"]
    equal("active", [task["name"] for task in active], ["tasks.slow"])
    queues = json.loads(celery("inspect", "active_queues", "--json"))["main@interop"]
    require("celery" in [found["name"] for found in queues], f"queues {queues}")
    require("OK" in celery("control", "pool_grow", "1"), "pool_grow")
    require("OK" in celery("control", "rate_limit", "tasks.add", "100/s"), "rate_limit")
    result(held)


def scenario_events():
    """`celery events --dump` sees the workers' and tasks' events."""
    dump = Program(*CELERY, "events", "--dump", env={"PYTHONUNBUFFERED": "1"})
    dump.says("] heartbeat")
    equal("sum", result(tasks.add.delay(20, 22)), 42)
    dump.says("task succeeded: tasks.add")
    dump.says("task received: tasks.add")
    dump.says("main@interop")
    dump.stop()
    exchange = management("exchanges/%2F/celeryev")
    equal("event exchange", (exchange["type"], exchange["durable"]), ("topic", True))


def scenario_flower():
    """Flower's API knows the worker and its tasks; its broker page reads the management API."""
    flower = Program(
        *CELERY, "flower", "--address=127.0.0.1", "--port=5555",
        "--broker-api=http://guest:guest@127.0.0.1:15672/api/",
        env={"FLOWER_UNAUTHENTICATED_API": "true"},
    )  # fmt: skip
    flower.says("Connected to")

    def api(path):
        return json.loads(http(f"{FLOWER}/api/{path}", user=None))

    workers = eventually(
        "Flower knows the worker",
        lambda: "main@interop" in api("workers?refresh=1") and api("workers"),
    )
    names = [found["name"] for found in workers["main@interop"]["active_queues"]]
    require("celery" in names, f"active queues {names}")
    handle = tasks.add.delay(1, 41)
    equal("sum", result(handle), 42)
    task = eventually("Flower knows the task", lambda: api("tasks").get(handle.id))
    eventually("it succeeded", lambda: api("tasks")[handle.id]["state"] == "SUCCESS")
    equal("its name", task["name"], "tasks.add")
    posted = http(f"{FLOWER}/api/task/apply/tasks.add", user=None, body='{"args": [40, 2]}')
    equal("posted task", json.loads(posted)["result"], 42)

    app.control.cancel_consumer("interop.priority", reply=True)
    for number in range(3):
        tasks.record.apply_async(("waiting", number), queue="interop.priority")
    eventually(
        "the length of a queue",
        lambda: ("interop.priority", 3)
        in [(found["name"], found["messages"]) for found in api("queues/length")["active_queues"]],
    )
    page = http(f"{FLOWER}/broker", user=None)
    row = page[page.index("<td>interop.priority</td>") :].split("</tr>")[0]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", row)
    equal("row of the broker page", cells[:5], ["interop.priority", "3", "0", "3", "0"])
    app.control.add_consumer("interop.priority", reply=True)
    require("main@interop" in http(f"{FLOWER}/workers", user=None), "no worker on the workers page")
    flower.stop()


def scenario_purge():
    for number in range(5):
        tasks.add.apply_async((number, 0), queue="interop.purged")
    eventually("they wait", lambda: queue("interop.purged").get("messages_ready") == 5)
    require("Purged 5 messages" in celery("purge", "-f", "-Q", "interop.purged"), "purge")
    declared = celery("amqp", "queue.declare", "interop.purged", "true", "true", "false")
    require("messages:0" in declared.replace(" ", ""), f"celery amqp said {declared!r}")


def scenario_chord():
    """Chords, with a result backend that has them: unlocking polls by retries with countdown."""
    settings = {"RESULTS": f"file://{WORK}/results", "DEFAULT_QUEUE": "interop.chords"}
    os.makedirs(f"{WORK}/results")
    backed = worker("chords", "-c", "2", "-Q", "interop.chords", env=settings)
    printed = client(
        "from celery import chord; import tasks;"
        "body = chord(tasks.add.s(n, n) for n in range(10))(tasks.total.s());"
        "print(body.get(timeout=40))",
        **settings,
    )
    equal("sum of the chord", printed, "90")
    backed.stop()


def scenario_quorum():
    """Quorum queues: no global prefetch, and delays by Celery's 28 levels of delaying queues."""
    quorum = {"QUORUM": "1"}
    program = worker("quorum", "-c", "2", env=quorum)
    found = queue("interop.quorum")
    equal("type", (found["type"], found["durable"]), ("quorum", True))
    levels = [found["name"] for found in management("queues/%2F")]
    for level in range(28):
        require(f"celery_delayed_{level}" in levels, f"no queue celery_delayed_{level}")
    printed = client(
        "import time, tasks; start = time.time();"
        "print(tasks.add.delay(1, 2).get(timeout=20));"
        "late = [tasks.now.apply_async(countdown=n) for n in (1, 2, 3, 5, 6)];"
        "print(*[round(t.get(timeout=30) - start, 1) for t in late]);"
        "print(tasks.flaky.delay(2, 1).get(timeout=30));"
        "print(tasks.suicidal.delay('quorum').get(timeout=30));",
        **quorum,
    )
    plain, delays, retries, redelivered = printed.split("\n")
    equal("plain", (plain, retries, redelivered), ("3", "2", "True"))
    for wanted, took in zip((1, 2, 3, 5, 6), map(float, delays.split()), strict=True):
        # An ETA is in whole seconds of delay; the worker holds back what comes a little early.
        require(wanted - 0.5 <= took < wanted + 2, f"ran after {delays} s")
    program.stop()


def scenario_broker_restart():
    """Workers come back after the broker does, and tasks wait for them meanwhile."""
    # Programs of their own: a client's results do not survive its connection.
    later = "import tasks; print(tasks.flaky.delay(1, 1).get(timeout=60))"
    checks.restart_broker("term")
    equal("retries after a stop", client(later), "1")
    waiting = tasks.slow.apply_async(("restarted", 0), queue="interop.purged")
    eventually("it waits", lambda: queue("interop.purged").get("messages_ready") == 1)
    checks.restart_broker("kill")
    equal("retries after a kill", client(later), "1")
    heir = worker("restarted", "-c", "1", "-Q", "interop.purged")
    eventually("the task that waited runs", lambda: lines("restarted"))
    require(waiting.id in heir.output(), "another task ran")
    heir.stop()


def scenario_shutdown():
    """A broadcast ends the worker in good order."""
    client("import tasks; tasks.app.control.shutdown(destination=['main@interop'])")
    eventually("the worker ends", lambda: main.process.poll() is not None)
    equal("exit code", main.process.returncode, 0)
    eventually("no consumer is left", lambda: queue("celery").get("consumers") == 0)


if __name__ == "__main__":
    main = worker("main")
    checks.main(globals())
