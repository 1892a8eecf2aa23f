"""The Dramatiq actors whose workers the driver starts. Each notes what it does in a file, which the
driver reads: there is no result backend over AMQP.
"""

import os
import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import CurrentMessage

WORK = os.environ["work"]

broker = RabbitmqBroker(url=os.environ["AMQP_URL"], confirm_delivery=True, max_priority=10)
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)


def note(name, text=""):
    with open(f"{WORK}/{name}", "a") as file:
        file.write(f"{text}\n")


@dramatiq.actor(queue_name="plain")
def record(name, text):
    note(name, text)


@dramatiq.actor(queue_name="failing", max_retries=3, min_backoff=200, max_backoff=1000)
def failing(name):
    """Fails in every run; after the last it goes to the dead letters."""
    retries = CurrentMessage.get_current_message().options.get("retries", 0)
    note(name, f"{retries} {time.time()}")
    raise RuntimeError("as asked")


@dramatiq.actor(queue_name="flaky", max_retries=5, min_backoff=200, max_backoff=400)
def flaky(name, times):
    retries = CurrentMessage.get_current_message().options.get("retries", 0)
    if retries < times:
        raise RuntimeError("not yet")
    note(name, retries)


@dramatiq.actor(queue_name="plain")
def clock(name):
    note(name, time.time())


@dramatiq.actor(queue_name="priority")
def ordered(name, number):
    note(name, number)


@dramatiq.actor(queue_name="slow", max_retries=0)
def slow(name, seconds):
    note(name, f"start {os.getpid()}")
    time.sleep(seconds)
    note(name, "end")


@dramatiq.actor(queue_name="limited", max_retries=0)
def limited(name, seconds):
    note(name, "start")
    time.sleep(seconds)


@dramatiq.actor(queue_name="aged", max_age=500)
def aged(name):
    note(name, "ran")
