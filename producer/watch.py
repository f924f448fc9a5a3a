"""The capture service: takes on whatever appears in the uploads bucket, and goes on with what was left half done.

The main thread lists; workers take uploads on and capture them, small ones several at a time. What one upload does wrong is
written down and stops nobody else.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from pipeline import backoff, health, runtime, traces
from pipeline.errors import MillstreamError, SettingsError, Transient
from pipeline.kafka import admin_client, ensure_topics
from pipeline.kafka_topic import Identity
from pipeline.pace import rest
from pipeline.settings import Settings
from pipeline.signals import Ending
from pipeline.store import Head
from pipeline.teller import Work
from producer.intake import Intake
from producer.lanes import Lanes, Troubles, patiently
from producer.marks import Reminders, marked
from producer.stage import Stage, open_stage

log = structlog.get_logger("watch")

T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between two listings of the uploads, at least."""

MARKS_EVERY = 10.0
"""Seconds between two listings of the open marks, at least."""

CLAIMS_EVERY = 3.0
"""Seconds between two looks at claims of others."""

MISSING_FOR = 5.0
"""Seconds that a topic has to be gone until it is made here."""

TOLD = 20
"""Troubles that are told to whoever looks at the progress, at most; readiness has all of them."""


def watch(
    settings: Settings, ending: Ending, *, reload: Callable[[], Settings | None] = lambda: None
) -> None:
    """Capture until the process is asked to end.

    `reload` returns the settings where they have changed since it was last asked: their calculations then hold for whatever
    is taken on later. Waits where S3 or Kafka don't answer at the start.
    """
    runtime.tune()
    traces.configure(settings, "capture")
    troubles: Troubles = {}
    waiting = ["starting"]
    if settings.health_port is not None:
        health.serve(settings.http.host, settings.health_port, lambda: list(waiting) or _reasons(troubles))

    def work() -> Work:
        return Work(waits=_reasons(troubles)[:TOLD])

    stage = backoff.until_there(lambda: open_stage(settings, "watch", work), waiting)
    stop = threading.Event()
    ending.then(stop.set)
    log.info("watching", uploads=settings.s3.uploads, kafka=settings.kafka)
    try:
        run(stage, stop, reload, troubles)
    finally:
        stage.teller.close()
    traces.close()
    log.info("stopped")


def run(
    stage: Stage,
    stop: threading.Event,
    reload: Callable[[], Settings | None] = lambda: None,
    troubles: Troubles | None = None,
) -> None:
    """Capture until `stop` is set; what has to be tried again, or was given up, is in `troubles` until it works."""
    troubles = {} if troubles is None else troubles
    lanes = Lanes(stage.settings, stop, troubles)
    intake = Intake(stage, lanes)

    def patient(work: Callable[[], T]) -> T:
        return patiently(stop, "listing the buckets", troubles, work)

    rounds = Rounds()
    claims = Every(CLAIMS_EVERY)
    topics = _Topics(stage.settings, stage.partitions)
    replaced = True  # what is open at the start is treated as if its topics had been replaced: nothing is known of them
    try:
        topics.begin()
        while not stop.is_set():
            if replaced:
                for file_id in patient(lambda: marked(stage.results)):
                    intake.resume(file_id)
            _reload(reload, intake)
            began = time.monotonic()
            uploads = patient(lambda: list(stage.uploads.list()))
            took = time.monotonic() - began
            intake.look(uploads)
            if claims.due():
                intake.again()
            for file_id in rounds.due(lambda: patient(lambda: marked(stage.results)), intake.look_at_marks):
                intake.remind(file_id)
            stop.wait(rest(LOOK_EVERY, took))
            replaced = topics.are_replaced()
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


class _Topics:
    """The topics of rows and results: whether they were made anew; where they stay away, they are made here.

    Whoever deletes a topic to make it otherwise has MISSING_FOR seconds for that. Where a broker has lost its data, nobody
    else makes topics while the stages run.
    """

    def __init__(self, settings: Settings, partitions: int) -> None:
        """`partitions` is how many they have: made anew they are to have as many, since rows are dealt to all of them."""
        admin = admin_client(settings)
        self._settings = settings.model_copy(update={"partitions": partitions})
        self._topics = [Identity(admin, topic) for topic in settings.topics]
        self._missing_since: float | None = None

    def begin(self) -> None:
        """Find out which they are."""
        for topic in self._topics:
            topic.has_changed(wait=True)

    def are_replaced(self) -> bool:
        """Whether one of them is another than before."""
        replaced = [topic.has_changed() for topic in self._topics]
        now = time.monotonic()
        if not any(topic.gone for topic in self._topics):
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since >= MISSING_FOR:
            self._missing_since = None
            log.warning("a topic is gone: making it", topics=list(self._settings.topics))
            try:
                ensure_topics(self._settings)
            except MillstreamError as error:  # it is tried again
                log.warning("the topics can't be made", error=str(error))
        if any(replaced):
            log.warning("a topic was made anew: what is open is sent again")
        return any(replaced)


def _reasons(troubles: Troubles) -> list[str]:
    """Return why the service isn't ready."""
    return [f"{doing}: {why}" for doing, why in list(troubles.items())]


class Every:
    """Says whether it is time again."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._next = now()

    def due(self) -> bool:
        """Whether so many seconds have gone by since this last said so."""
        now = self._now()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Rounds:
    """Looks at the open marks every so often, and says of which jobs the ends are to be sent again."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next = now()
        self._reminders = Reminders()

    def due(
        self, marks: Callable[[], Mapping[str, Head]], look: Callable[[Mapping[str, Head]], None]
    ) -> list[str]:
        """Return whose ends are due; when it is time to, `marks` is called, and `look` with what it returned."""
        began = self._now()
        if began < self._next:
            return []
        found = marks()
        now = self._now()
        self._next = now + rest(MARKS_EVERY, now - began)
        look(found)
        return self._reminders.due(found, now)
