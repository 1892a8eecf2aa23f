"""What the drivers of examples/ stand on: services that come back when they are killed, load at a
fixed rate, and the page that is printed.

A driver opens a `Page`, starts `Service`s, and ends in `page.close()`, whose exit code says whether
every check held. The services know nothing of this file.
"""

import concurrent.futures
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import checks

SHORT = bool(os.environ["SHORT"])
WORK = os.environ["work"]
TRIGGERS = f"{os.environ['MANAGEMENT_URL']}/api/triggers/%2F"


class Service:
    """A program that is started again whenever it ends, as systemd does with Restart=always.

    It has a process group of its own; its output goes to a file of its name.
    """

    running = []

    def __init__(self, name, *command, env=None):
        self.name, self.command = name, command
        self.env = {**os.environ, **(env or {})}
        self.log = open(f"{WORK}/{name}.log", "a")
        self.lock = threading.Lock()
        self.stopped = False
        self.process = self._start()
        threading.Thread(target=self._watch, daemon=True).start()
        Service.running.append(self)

    def _start(self):
        return subprocess.Popen(
            self.command,
            env=self.env,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def _watch(self):
        while True:
            self.process.wait()
            time.sleep(0.2)
            with self.lock:
                if self.stopped:
                    return
                self.process = self._start()

    def kill(self):
        """SIGKILL to the program and its children; it comes back."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had ended by itself a moment ago

    def stop(self):
        """Ends it for good."""
        with self.lock:
            self.stopped = True
            self.kill()
        self.process.wait()

    @classmethod
    def stop_all(cls):
        for service in cls.running:
            service.stop()


def post(url, body=b"", headers=None, seconds=30):
    """The status and the body of the answer to a POST; 599 when there was none."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 599, str(error).encode()


def set_trigger(name, trigger):
    """Tells the broker of a trigger in the default vhost."""
    checks.http(f"{TRIGGERS}/{name}", body=json.dumps(trigger), method="PUT")


def trigger_runs(name):
    """How the last runs of a trigger have ended, as the broker tells."""
    return json.loads(checks.http(f"{TRIGGERS}/{name}/runs"))


def at_rate(per_second, actions):
    """Calls each action when its time has come, whatever the others take; their results in order.

    So the load does not wait for a slow service, as real users do not.
    """
    start = time.monotonic()

    def run(number, action):
        time.sleep(max(0, start + number / per_second - time.monotonic()))
        return action()

    # As many at once as a service that takes 4 seconds makes wait.
    with concurrent.futures.ThreadPoolExecutor(math.ceil(per_second * 4)) as pool:
        return list(pool.map(run, range(len(actions)), actions))


def after(seconds, action):
    """Does something while other things go on; the thread, to wait for."""

    def run():
        time.sleep(seconds)
        action()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def timed(action):
    """What the action returns, and the seconds it took."""
    start = time.monotonic()
    result = action()
    return result, time.monotonic() - start


def percentile(values, percent):
    """The smallest value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(seconds):
    """Latencies in a few words."""
    p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
    return f"p50 {shown(p50)}, p99 {shown(p99)}"


def shown(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


class Page:
    """The result, printed as it grows."""

    def __init__(self, title):
        self.held = self.broken = 0
        self.started = time.monotonic()
        self.say(title)
        self.say("=" * len(title))

    def say(self, line=""):
        print(line, flush=True)

    def act(self, title):
        self.say(f"\n{title}")

    def row(self, label, text):
        self.say(f"  {label:<34} {text}")

    def check(self, what, holds, detail=""):
        """One thing that has to be so."""
        self.held += bool(holds)
        self.broken += not holds
        self.say(f"  {'ok  ' if holds else 'FAIL'} {what}{detail and ': '}{detail}")

    def close(self):
        """The last line, and the driver's end."""
        took = time.monotonic() - self.started
        self.say(f"\n{self.held} invariants hold, {self.broken} are broken; {took:.0f} s")
        sys.stdout.flush()
        # Threads of requests that hang would keep a failed driver from ending.
        os._exit(0 if self.held and not self.broken else 1)


def play(page, acts):
    """The acts in order; one that breaks off is a broken invariant and the end."""
    try:
        for act in acts:
            act()
    except Exception as error:  # whatever it is, the page has to say so and services have to end
        page.check(act.__name__, False, f"{type(error).__name__}: {error}")
    finally:
        Service.stop_all()
    page.close()
