"""`push orders.csv` and `watch` with all their patience cut: who captures writes down at once how far it is, and a claim that
stands still is taken over after four seconds. Blocks are sent slowly: whoever is to be met in mid-capture is there long enough,
however fast the machine is.
"""

import sys
import time
from pathlib import Path
from unittest import mock

from pipeline.claims import Observer
from pipeline.kafka import Publisher
from pipeline.logs import configure
from pipeline.messages import Messages
from pipeline.settings import load
from pipeline.signals import Ending
from producer import publish
from producer.heartbeat import Heartbeat
from producer.progress import Logged
from producer.push import push
from producer.watch import watch

SEND = Publisher.send
PACE = 0.06
"""Seconds for each block: 400,000 rows take three."""


def cut(function: object, name: str, seconds: float) -> None:
    """Set the default of a function's keyword."""
    defaults = getattr(function, "__kwdefaults__", None)
    assert defaults is not None
    assert name in defaults
    defaults[name] = seconds


def slowly(publisher: Publisher, topic: str, partition: int, messages: Messages) -> None:
    """Hand a block over, in PACE seconds at least."""
    time.sleep(PACE)
    SEND(publisher, topic, partition, messages)


if __name__ == "__main__":
    cut(Observer.__init__, "stale", 4.0)
    cut(Heartbeat.__init__, "every", 0.2)
    publish.CHECKPOINT = 0.2
    mock.patch.object(Publisher, "send", slowly).start()
    settings = load()
    configure(settings, sys.argv[1])
    if sys.argv[1] == "watch":
        with Ending() as ending:
            watch(settings, ending)
    else:
        push([Path("orders.csv")], settings, progress=Logged())
