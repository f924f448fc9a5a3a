"""The capture service: takes on whatever appears in the uploads bucket, and goes on with what was left half done.

The main thread lists; workers take uploads on and capture them, small ones several at a time. What one upload does wrong is
written down and stops nobody else.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from pipeline import health
from pipeline.errors import SettingsError, Transient
from pipeline.settings import Settings
from producer.intake import Intake
from producer.lanes import Lanes, patiently
from producer.marks import Reminders, marked
from producer.stage import Stage, open_stage

log = structlog.get_logger("watch")

LOOK_EVERY = 1.0
"""Seconds between two listings of the uploads, at least."""

SHARE = 20
"""A listing that takes long is made more seldom: only every so many times what it takes."""

MARKS_EVERY = 60.0
"""Seconds between two listings of the open marks."""


def watch(settings: Settings, *, reload: Callable[[], Settings | None] = lambda: None) -> None:
    """Capture until SIGINT or SIGTERM; must be the main thread.

    `reload` returns the settings where they have changed since it was last asked: their calculations then hold for whatever
    is taken on later. Raises Unreachable where S3 or Kafka don't answer at the start.
    """
    stop = threading.Event()
    with _signals(stop):
        stage = open_stage(settings, "watch")
        if settings.health_port is not None:
            health.serve(settings.http.host, settings.health_port, list)
        log.info("watching", uploads=settings.s3.uploads, kafka=settings.kafka)
        try:
            run(stage, stop, reload)
        finally:
            stage.teller.close()
    log.info("stopped")


def run(stage: Stage, stop: threading.Event, reload: Callable[[], Settings | None] = lambda: None) -> None:
    """Capture until `stop` is set."""
    lanes = Lanes(stage.settings, stop)
    intake = Intake(stage, lanes)
    patient = patiently(stop, "listing the buckets")
    rounds = Rounds()
    try:
        for file_id in patient(lambda: list(marked(stage.results))):
            intake.resume(file_id)
        while not stop.is_set():
            _reload(reload, intake)
            began = time.monotonic()
            uploads = patient(lambda: list(stage.uploads.list()))
            took = time.monotonic() - began
            intake.look(uploads)
            intake.again()
            for file_id in rounds.due(lambda: patient(lambda: set(marked(stage.results)))):
                intake.remind(file_id)
            stop.wait(max(LOOK_EVERY, SHARE * took))
    except Transient:
        if not stop.is_set():
            raise
    finally:
        stop.set()
        lanes.close()


def _reload(reload: Callable[[], Settings | None], intake: Intake) -> None:
    try:
        changed = reload()
    except SettingsError as error:
        log.warning(
            "the settings have changed and can't be used; going on with the old ones", error=str(error)
        )
        return
    if changed is not None:
        intake.configure(changed)


class Rounds:
    """Looks at the open marks every so often, for jobs whose ends are to be sent again."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next = now()
        self._reminders = Reminders()

    def due(self, marks: Callable[[], set[str]]) -> list[str]:
        """Return whose ends are due; `marks` is only called when it is time to."""
        now = self._now()
        if now < self._next:
            return []
        self._next = now + MARKS_EVERY
        return self._reminders.due(marks(), now)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Have SIGINT and SIGTERM end us cleanly, at the next block."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
