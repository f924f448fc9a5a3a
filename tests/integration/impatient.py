"""`push orders.csv` and `watch` with all their patience cut: who captures writes down at once how far it is, and a claim that
stands still is taken over after four seconds.
"""

import sys
from pathlib import Path

from pipeline.claims import Observer
from pipeline.logs import configure
from pipeline.settings import load
from pipeline.signals import Ending
from producer import publish
from producer.heartbeat import Heartbeat
from producer.progress import Logged
from producer.push import push
from producer.watch import watch


def cut(function: object, name: str, seconds: float) -> None:
    """Set the default of a function's keyword."""
    defaults = getattr(function, "__kwdefaults__", None)
    assert defaults is not None
    assert name in defaults
    defaults[name] = seconds


if __name__ == "__main__":
    cut(Observer.__init__, "stale", 4.0)
    cut(Heartbeat.__init__, "every", 0.2)
    publish.CHECKPOINT = 0.2
    settings = load()
    configure(settings, sys.argv[1])
    if sys.argv[1] == "watch":
        with Ending() as ending:
            watch(settings, ending)
    else:
        push([Path("orders.csv")], settings, progress=Logged())
