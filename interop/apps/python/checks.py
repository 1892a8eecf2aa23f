"""What the Python drivers of interop/apps share: scenarios, waiting, programs and the broker.

A driver defines functions named `scenario_...` and calls `main(globals())`. Each is played once, in
the order of the file, and reported as one line: `ok NAME`, `FAIL NAME: why` or `skip NAME: why`.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request

URL = os.environ["AMQP_URL"]
WAIT_SECONDS = 20


class Skip(Exception):
    """The scenario cannot be played, and why."""


def equal(what, actual, expected):
    if actual != expected:
        raise AssertionError(f"{what}: {actual!r} instead of {expected!r}")


def require(condition, what):
    if not condition:
        raise AssertionError(what)


def raises(exception, action):
    """The action must fail so; the exception is the result."""
    try:
        result = action()
    except exception as error:
        return error
    raise AssertionError(f"{result!r} instead of {exception.__name__}")


def eventually(what, condition, seconds=WAIT_SECONDS):
    """The first true value of `condition`, asked again until it is one."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def http(url, user="guest:guest", body=None, method=None):
    """The answer's body as text: to a GET, or to a POST of the body that is given."""
    request = urllib.request.Request(url, data=body and body.encode(), method=method)
    if user:
        token = base64.b64encode(user.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
        return response.read().decode()


def management(path, port=15672):
    """The management API's answer to GET /api/PATH, or None where it says 404."""
    try:
        return json.loads(http(f"http://127.0.0.1:{port}/api/{path}"))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def queue(name, vhost="%2F"):
    """What the management API says of a queue; nothing, an empty dict, while there is none."""
    return management(f"queues/{vhost}/{name}") or {}


def restart_broker(how="term"):
    subprocess.run(
        [os.environ["BROKER"], "restart", os.environ["BROKER_DIR"], how],
        check=True,
        stdout=sys.stderr,
    )


class Program:
    """A program in the background, in a process group of its own; its output goes to a file."""

    running = []

    def __init__(self, *command, env=None, cwd=None):
        number = len(Program.running)
        self.path = os.path.join(os.environ["work"], f"program-{number}.log")
        self.log = open(self.path, "w")
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        Program.running.append(self)

    def output(self):
        with open(self.path, errors="replace") as file:
            return file.read()

    def says(self, text, seconds=WAIT_SECONDS * 2):
        """Waits until the program has printed the text."""

        def said():
            if text in self.output():
                return True
            require(self.process.poll() is None, f"ended without saying {text!r}")
            return False

        eventually(f"the program says {text!r}", said, seconds)
        return self

    def signal(self, number):
        """To the program itself, not its children."""
        os.kill(self.process.pid, number)

    def kill(self):
        """The program and all of its children at once, with SIGKILL."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def stop(self, seconds=WAIT_SECONDS):
        """SIGTERM, as an operator would; its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)


def main(names, failed=False):
    """Plays the scenarios, or those that the command line names; `failed` if another thing did."""
    scenarios = {
        key.removeprefix("scenario_").replace("_", "-"): value
        for key, value in list(names.items())
        if key.startswith("scenario_")
    }
    chosen = sys.argv[1:] or list(scenarios)
    try:
        for name in chosen:
            try:
                scenarios[name]()
                print(f"ok {name}", flush=True)
            except Skip as reason:
                print(f"skip {name}: {reason}", flush=True)
            except Exception as error:  # any failure is this scenario's, and the next one goes on
                failed = True
                why = f"{type(error).__name__}: {error}".replace("\n", " ")
                print(f"FAIL {name}: {why[:500]}", flush=True)
                traceback.print_exc()
    finally:
        for program in Program.running:
            program.kill()
            if failed:
                print(f"--- {' '.join(map(str, program.process.args))}", file=sys.stderr)
                print("\n".join(program.output().splitlines()[-25:]), file=sys.stderr)
    # Libraries leave threads behind that would keep a failed driver from ending.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failed else 0)
