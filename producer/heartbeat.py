"""Renews the claim on a job while it is captured, and notices that somebody has ended the job or taken it over.

A thread of its own does both, since capture may be busy for longer than a claim lives: finding its place again in a large file
takes a minute, an overloaded broker as long as it likes.
"""

import threading
from dataclasses import asdict
from types import TracebackType
from typing import Self

import structlog

from pipeline import layout, records
from pipeline.claims import RENEWAL, Held
from pipeline.errors import JobEnded, MillstreamError, Transient
from pipeline.jobs import End, Job
from pipeline.store import ObjectStore
from producer.publish import Position

log = structlog.get_logger("capture")


class Heartbeat:
    """Keeps a claim while the `with` block runs; gives it back, with how far the work came, when the block raises.

    After a block that ends well the claim stays as it is: `captured.json` says all that it said.
    """

    def __init__(
        self, results: ObjectStore, job: Job, held: Held, start: Position, *, every: float = RENEWAL
    ) -> None:
        self._results = results
        self._job = job
        self._held = held
        self._every = every
        self._position = start
        self._reason: MillstreamError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"claim {job.file_id}", daemon=True)

    @property
    def position(self) -> Position:
        """How far everything is acknowledged."""
        return self._position

    def advance(self, position: Position) -> None:
        """Say how far everything is acknowledged; written down with the next renewal."""
        self._position = position

    def check(self) -> None:
        """Raise ClaimLost or JobEnded where there is no point in going on."""
        if self._reason is not None:
            raise self._reason

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None or self._reason is not None:
            return
        try:
            self._held.release(**asdict(self._position))
        except MillstreamError as failure:  # whoever comes next waits until the claim is stale
            log.debug("claim not given back", job=self._job.file_id, error=str(failure))

    def _run(self) -> None:
        said = False
        while self._reason is None and not self._over.wait(self._every):
            try:
                self._beat()
            except Transient as error:
                if not said:
                    log.warning("claim not renewed, trying again", name=self._job.name, error=str(error))
                said = True
            except MillstreamError as error:
                self._reason = error

    def _beat(self) -> None:
        self._held.renew(**asdict(self._position))
        end = records.read(self._results, layout.end(self._job.file_id), End)
        if end is not None:
            raise JobEnded(ended(self._job, end))


def ended(job: Job, end: End) -> str:
    """Return a sentence about a job that ended."""
    return f"{job.name} (generation {job.generation}) was {end.state}" + (
        f": {end.reason}" if end.reason else ""
    )
