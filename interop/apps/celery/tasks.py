"""The Celery application whose workers the driver starts, configured by the environment.

QUORUM=1 makes every queue a quorum queue, which turns on native delayed delivery; RESULTS names the
result backend.
"""

import os
import signal
import time

from celery import Celery, Task
from celery.exceptions import Reject
from kombu import Exchange, Queue

QUORUM = os.environ.get("QUORUM") == "1"
WORK = os.environ["work"]

app = Celery("interop", broker=os.environ["AMQP_URL"], backend=os.environ.get("RESULTS", "rpc://"))
app.conf.update(
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    result_expires=600,
    broker_heartbeat=5,
    broker_transport_options={"confirm_publish": True},
)
if QUORUM:
    app.conf.update(
        task_default_queue="interop.quorum",
        task_default_queue_type="quorum",
        task_default_exchange_type="topic",
        worker_detect_quorum_queues=True,
    )
else:
    app.conf.update(
        task_default_queue=os.environ.get("DEFAULT_QUEUE", "celery"),
        task_queues=[
            Queue("celery"),
            Queue("interop.priority", queue_arguments={"x-max-priority": 10}),
            Queue(
                "interop.rejecting",
                queue_arguments={
                    "x-dead-letter-exchange": "interop.dead",
                    "x-dead-letter-routing-key": "rejected",
                },
            ),
            Queue("interop.dead", Exchange("interop.dead"), routing_key="rejected"),
        ],
    )


def note(name, text):
    """Adds a line to a file that the driver reads: it sees runs even of tasks that die."""
    with open(f"{WORK}/{name}", "a") as file:
        file.write(f"{text}\n")


@app.task
def add(x, y):
    return x + y


@app.task
def fail():
    raise ValueError("as asked")


@app.task(bind=True, max_retries=5)
def flaky(self: Task, times, countdown):
    """Fails `times` times, then says how often it was retried."""
    if self.request.retries < times:
        raise self.retry(countdown=countdown, exc=RuntimeError("not yet"))
    return self.request.retries


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def suicidal(self: Task, name):
    """Kills its own process in its first run, and says in the second that it is one."""
    redelivered = self.request.delivery_info["redelivered"]
    note(name, redelivered)
    if not redelivered:
        os.kill(os.getpid(), signal.SIGKILL)
    return redelivered


@app.task(bind=True, acks_late=True)
def slow(self: Task, name, seconds):
    note(name, f"{self.request.hostname} {self.request.delivery_info['redelivered']}")
    time.sleep(seconds)
    return self.request.hostname


@app.task
def record(name, text):
    note(name, text)
    return text


@app.task(acks_late=True)
def rejecting():
    raise Reject("as asked", requeue=False)


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def now():
    return time.time()
