"""Runs oslo.messaging's functional tests with several settings of its rabbit driver, each test
reported by its own name, and then looks at what only an operator would see.

Run by apps/oslo.messaging/run. The settings are oslo.config's defaults: the tests need no change.
What is left out and why: test_rabbitmq starts RabbitMQ nodes of its own and kills them.
"""

import json
import os
import re
import subprocess
import sys
import time

import checks
from checks import equal, eventually, management, require

WORK = os.environ["work"]
FUNCTIONAL = "oslo_messaging.tests.functional.test_functional"
LOGGER = "oslo_messaging.tests.functional.notify.test_logger"
TOGETHER = [f"{FUNCTIONAL}.{name}TestCase" for name in ("Call", "Cast")]
# One of these counts what comes within two seconds, and the collector of metrics has a fixed port.
ALONE = [f"{FUNCTIONAL}.{name}TestCase" for name in ("Notify", "Metrics")]
SETTINGS = {
    "transient": {},
    "durable": {"amqp_durable_queues": True},
    "quorum": {
        "rabbit_quorum_queue": True,
        "rabbit_transient_quorum_queue": True,
        "rabbit_quorum_delivery_limit": 5,
        "rabbit_quorum_max_memory_length": 1000,
        "rabbit_transient_queues_ttl": 60,
        "heartbeat_timeout_threshold": 4,
        # No less than the batches that one of the tests expects.
        "rabbit_qos_prefetch_count": 100,
    },
}
# The settings do not go together in one virtual host: their exchanges differ. Each broker takes the
# ports ten thousand and more above its own, too.
PORTS = {"transient": 5672, "durable": 5682, "quorum": 5712}
# Each test by its name and outcome, a line each, whatever else the tests print.
DEFAULTS = """
import json, sys
from oslo_config import cfg
from oslo_messaging._drivers import amqp, impl_rabbit
cfg.set_defaults([*amqp.amqp_opts, *impl_rabbit.rabbit_opts], **json.loads(sys.argv.pop(1)))
"""
RUNNER = """
import unittest
class Result(unittest.TextTestResult):
    def note(self, word, test, why=""):
        name = test.id().split(".", 3)[-1].replace(" ", "")
        print(word, name, why, file=report, flush=True)
    def addSuccess(self, test): self.note("ok", test)
    def addSkip(self, test, why): self.note("skip", test, why)
    def addFailure(self, test, error): super().addFailure(test, error); self.note("FAIL", test)
    def addError(self, test, error): super().addError(test, error); self.note("FAIL", test)
report = open(sys.argv[1], "w")
program = unittest.main(
    module=None, argv=sys.argv[1:], exit=False,
    testRunner=unittest.TextTestRunner(resultclass=Result),
)
print("ran", program.result.testsRun, file=report)
"""


def url(setting):
    return f"rabbit://guest:guest@127.0.0.1:{PORTS[setting]}/"


def python(script, settings, *arguments):
    """The command that runs a script with these settings of the driver."""
    return [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        DEFAULTS + script,
        json.dumps(settings),
        *arguments,
    ]


def start(name, setting, tests):
    report = f"{WORK}/{name}"
    urls = {"RPC_TRANSPORT_URL": url(setting), "NOTIFY_TRANSPORT_URL": url(setting)}
    with open(f"{report}.log", "w") as log:
        return subprocess.Popen(
            python(RUNNER, SETTINGS[setting], report, *tests),
            env={**os.environ, **urls},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def report(name):
    """Prints a run's outcomes; whether one of them is a failure."""
    with open(f"{WORK}/{name}") as file:
        lines = file.read().splitlines()
    for line in lines[:-1]:
        word, test, *why = line.split(" ", 2)
        test = test.replace("LoggingNotificationHandlerTestCase.", "")
        setting = name.removesuffix("-alone")
        print(f"{word} {setting} {test}: {why[0]}" if "".join(why) else f"{word} {setting} {test}")
    complete = lines[-1:] == [f"ran {len(lines) - 1}"]
    if not complete:
        print(f"FAIL {name}: broke off after {len(lines)} tests")
    failed = not complete or any(line.startswith("FAIL") for line in lines)
    if failed:
        with open(f"{WORK}/{name}.log") as file:
            text = re.sub(r"(?m)^ +(DEBUG|TRACE) .*\n", "", file.read())
            print(text[text.find("=====") :], file=sys.stderr)
    sys.stdout.flush()
    return failed


def tests():
    """Plays all tests, and meanwhile collects the kinds of queue that they declare."""
    kinds = set()
    failed = False

    def look(setting):
        for found in management("queues/%2F", PORTS[setting] + 10000) or []:
            arguments = found.get("arguments", {})
            kinds.add((found.get("durable"), tuple(sorted(arguments.items()))))

    runs = {name: start(name, name, TOGETHER) for name in SETTINGS}
    runs["logger"] = start("logger", "transient", [LOGGER])
    while any(runs[name].poll() is None for name in SETTINGS):
        for setting in SETTINGS:
            look(setting)
        time.sleep(0.2)
    for setting in SETTINGS:
        process = start(f"{setting}-alone", setting, ALONE)
        while process.poll() is None:
            look(setting)
            time.sleep(0.5)
    runs["logger"].wait()
    for name in (*runs, *(f"{setting}-alone" for setting in SETTINGS)):
        failed |= report(name)
    return failed, kinds


def scenario_kinds_of_queue():
    """What the settings promise stood in the broker: seen in the management API meanwhile."""
    quorum = {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-max-in-memory-length": 1000}
    for durable, arguments in (
        (False, {}),
        (False, {"x-expires": 1800000}),
        (True, {}),
        (True, quorum),
        (True, {**quorum, "x-expires": 60000}),
    ):
        wanted = (durable, tuple(sorted(arguments.items())))
        require(wanted in kinds, f"no queue {wanted} among {sorted(map(str, kinds))}")


def scenario_heartbeat():
    """A client that only sends heartbeats stays, with the interval that it asked for."""
    script = (
        "import oslo_messaging\n"
        "class Endpoint:\n"
        "    def echo(self, ctxt, text): return text\n"
        "t = oslo_messaging.get_rpc_transport(cfg.CONF, url=%r)\n"
        "s = oslo_messaging.get_rpc_server(t, oslo_messaging.Target(topic='hb', server='one'),"
        " [Endpoint()], executor='threading')\n"
        "s.start()\n"
        "c = oslo_messaging.get_rpc_client(t, oslo_messaging.Target(topic='hb'))\n"
        "print(c.call({}, 'echo', text='first'), flush=True)\n"
        "input()\n"
        "print(c.call({}, 'echo', text='second'), flush=True)\n"
        "s.stop(); s.wait()\n" % url("transient")
    )
    process = subprocess.Popen(
        python(script, {"heartbeat_timeout_threshold": 4}),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    eventually("connections", lambda: len(management("connections")) >= 3)
    before = {found["name"] for found in management("connections")}
    time.sleep(10)
    after = management("connections")
    equal("connections ten seconds later", {found["name"] for found in after}, before)
    equal("heartbeats", {found["timeout"] for found in after}, {4})
    out, err = process.communicate("go on\n", timeout=30)
    equal(f"answers ({err[-300:]})", out.split(), ["first", "second"])


if __name__ == "__main__":
    extra = {name: f"{WORK}/broker-{name}" for name in ("durable", "quorum")}
    for name, directory in extra.items():
        subprocess.run(
            [os.environ["BROKER"], "start", directory, str(PORTS[name])],
            check=True,
            stdout=sys.stderr,
        )
    try:
        broke, kinds = (False, set()) if sys.argv[1:] else tests()
    finally:
        for directory in extra.values():
            subprocess.run([os.environ["BROKER"], "kill", directory], check=True, stdout=sys.stderr)
    checks.main(globals(), failed=broke)
