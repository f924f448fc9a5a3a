"""Worker threads of `watch`: small uploads several at a time, large ones beside them, so that none waits behind a huge one.

What open jobs may be waiting for, repairs and ends, has workers of its own: captures wait where too much is in flight, and what
is in flight may be waiting for a repair. All captures wait for the same, and go on together.

Each worker has a publisher of its own. What fails for the moment is tried again, later each time, and said once; what fails for
good is given up, and said wherever one looks, until it is begun again. Nothing that a task raises ends a worker.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import structlog

from pipeline import backoff, metrics
from pipeline.errors import MillstreamError
from pipeline.kafka import Publisher
from pipeline.settings import Settings

log = structlog.get_logger("watch")

SMALL_LANES = 4
"""Small uploads that are worked on at the same time; most of it is waiting for S3."""

LARGE = 8 * 1024 * 1024
"""Bytes from which on an upload is a large one."""

_LARGE_LANES = 2
"""One is captured while the next is fetched: memory is bounded, and a newer upload of the same name isn't kept waiting."""

_OPEN_LANES = 2
"""Repairs and ends of open jobs."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0

T = TypeVar("T")


class Stopping(Exception):
    """We were told to stop."""


Task = Callable[[Publisher], None]

Troubles = dict[str, str]
"""What is being tried again just now, or was given up, and why."""


class Lanes:
    """The workers; `stop` ends what they do at the next block."""

    def __init__(self, settings: Settings, stop: threading.Event, troubles: Troubles | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._troubles = {} if troubles is None else troubles
        self._small = ThreadPoolExecutor(SMALL_LANES, "small")
        self._large = ThreadPoolExecutor(_LARGE_LANES, "large")
        self._open = ThreadPoolExecutor(_OPEN_LANES, "open")
        self._one_large, self._one_repair = threading.Lock(), threading.Lock()
        self._own = threading.local()

    def submit(self, size: int, name: str, task: Task) -> None:
        """Have a worker do `task`, which is about an upload of `size` bytes and may be done again when it fails.

        Nothing is begun once we were told to stop.
        """
        if self._stop.is_set():
            return
        (self._large if size >= LARGE else self._small).submit(self._run, name, task)

    def submit_for_open(self, name: str, task: Task) -> None:
        """Have a worker do what an open job may be waiting for; likewise, and never behind a capture."""
        if not self._stop.is_set():
            self._open.submit(self._run, name, task)

    @contextmanager
    def turn(self, size: int, *, repair: bool = False) -> Iterator[None]:
        """Wait until an upload of this size may be captured, or captured again in a repair."""
        if size < LARGE:
            yield
            return
        one = self._one_repair if repair else self._one_large
        while not one.acquire(timeout=0.5):
            self.check()
        try:
            yield
        finally:
            one.release()

    def forget(self, name: str) -> None:
        """Say no longer why an upload was given up: it is gone."""
        self._troubles.pop(name, None)

    def check(self) -> None:
        """Raise Stopping where we are to stop."""
        if self._stop.is_set():
            raise Stopping

    def close(self) -> None:
        """Wait until the workers have ended; what they haven't begun is dropped. `stop` has to be set."""
        for pool in (self._small, self._large, self._open):
            pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, name: str, task: Task) -> None:
        try:
            patiently(self._stop, name, self._troubles, lambda: self._try(task))
        except Stopping:
            return
        except MillstreamError as error:
            if not self._stop.is_set():
                log.error("given up until it changes, or until the next start", name=name, error=str(error))
                self._give_up(name, str(error))
        except Exception as error:
            log.exception("failed; given up until it changes, or until the next start", name=name)
            self._give_up(name, f"{type(error).__name__}: {error}")

    def _try(self, task: Task) -> None:
        publisher = self._publisher()
        try:
            task(publisher)
        except BaseException:
            publisher.forget()  # or it would tell the next one of this failure
            raise

    def _give_up(self, name: str, why: str) -> None:
        metrics.FILES.labels("capture", "given_up").inc()
        self._troubles[name] = f"given up: {why}"

    def _publisher(self) -> Publisher:
        self.check()
        if not hasattr(self._own, "publisher"):
            self._own.publisher = Publisher(self._settings, self.check)
        publisher: Publisher = self._own.publisher
        return publisher


def patiently(stop: threading.Event, doing: str, troubles: Troubles, work: Callable[[], T]) -> T:
    """Return what a function returns, called again and again while it raises Transient errors, until `stop` is set.

    It waits up to half a minute between two calls, says the first failure and no other, and keeps it in `troubles` meanwhile.
    """

    def say(failures: int, error: BaseException) -> None:
        metrics.RETRIES.labels("capture", "upload").inc()
        troubles[doing] = str(error)
        if failures == 0:
            log.warning("trying again until it works", name=doing, error=str(error))

    try:
        return backoff.until_it_works(work, stop, say, first=_FIRST_WAIT, longest=_LONGEST_WAIT)
    finally:
        troubles.pop(doing, None)
