"""Looking after the jobs that somebody left half done: every so often, every open mark is looked at."""

import time
from collections.abc import Collection as Keys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from pipeline import layout, records
from pipeline.errors import MillstreamError, Transient
from pipeline.jobs import Captured, End, Job
from pipeline.store import ObjectStore
from sink.publish import Publisher

log = structlog.get_logger("sink")

EVERY = 5.0
"""Seconds between two looks."""

RATIO = 20
"""A look is not made more often than this many times what the last one took."""


@dataclass(slots=True)
class Found:
    """What a look has found: jobs that have ended, and the accounts of those whose account was asked for."""

    ended: list[str] = field(default_factory=list)
    captured: dict[str, Captured] = field(default_factory=dict)


class Sweeper:
    """Looks at the open marks on a thread of its own."""

    def __init__(self, results: ObjectStore, publisher: Publisher) -> None:
        """`results` is the bucket."""
        self._store = results
        self._publisher = publisher
        self._pool = ThreadPoolExecutor(1, "sweep")
        self._running: Future[Found] | None = None
        self._due = 0.0

    def hurry(self) -> None:
        """Look at the next opportunity."""
        self._due = 0.0

    def start_if_due(self, busy: Keys[str], held: Keys[str], waiting: Sequence[str]) -> None:
        """Begin a look if it is time.

        `busy` jobs are left alone; of `held` ones it is wanted whether they ended elsewhere; of `waiting` ones the account.
        """
        if self._running is None and time.monotonic() >= self._due:
            self._running = self._pool.submit(self._look, frozenset(busy), frozenset(held), list(waiting))

    def take(self) -> Found:
        """Return what a look has found since the last call; nothing while it goes on."""
        if self._running is None or not self._running.done():
            return Found()
        done, self._running = self._running, None
        try:
            return done.result()
        except MillstreamError as error:
            log.warning("could not look at the open jobs", why=str(error))
            self._due = time.monotonic() + EVERY
            return Found()

    def close(self) -> None:
        """Finish."""
        self._pool.shutdown(cancel_futures=True)

    def _look(self, busy: frozenset[str], held: frozenset[str], waiting: list[str]) -> Found:
        started = time.monotonic()
        found = Found()
        marked = [head.key.removeprefix(layout.OPEN) for head in self._store.list(layout.OPEN)]
        for file_id in held - busy - frozenset(marked):
            if records.read(self._store, layout.end(file_id), End) is not None:
                found.ended.append(file_id)
        for file_id in marked:
            if file_id in busy:
                continue
            try:
                job = records.read(self._store, layout.job(file_id), Job)
                if job is not None and self._publisher.finish(job) is not None:
                    found.ended.append(file_id)
            except Transient:
                raise
            except MillstreamError as error:
                log.warning("an open job can't be read", job=file_id, why=str(error))
        for file_id in waiting:
            captured = records.read(self._store, layout.captured(file_id), Captured)
            if captured is not None:
                found.captured[file_id] = captured
        took = time.monotonic() - started
        self._due = time.monotonic() + max(EVERY, RATIO * took)
        return found
