"""Renews the claim on a job while it is captured, and notices when there is no point in going on: somebody has ended the job or
taken it over, or the upload isn't what it was.

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
from pipeline.errors import ClaimLost, JobEnded, MillstreamError, PreconditionFailed, Transient
from pipeline.jobs import End, Job
from producer.publish import Position
from producer.stage import Stage

log = structlog.get_logger("capture")


class Heartbeat:
    """Keeps a claim while the `with` block runs; gives it back, with how far the work came, when the block raises.

    After a block that ends well the claim stays as it is: `captured.json` says all that it said, but where a job is captured
    anew. Then it is given back, and says how far.
    """

    def __init__(
        self, stage: Stage, job: Job, held: Held, start: Position, *, every: float = RENEWAL
    ) -> None:
        self._stage = stage
        self._job = job
        self._held = held
        self._every = every
        self._position = start
        self._total = held.claim.total
        self._reason: MillstreamError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"claim {job.file_id}", daemon=True)

    @property
    def position(self) -> Position:
        """How far everything is acknowledged."""
        return self._position

    def expect(self, total: int) -> None:
        """Say how many bytes the file has as text."""
        self._total = total

    def advance(self, position: Position) -> None:
        """Say how far everything is acknowledged; written down with the next renewal."""
        self._position = position

    def check(self) -> None:
        """Raise ClaimLost or JobEnded; NotFound where the upload is gone, PreconditionFailed where it is another."""
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
        done = kind is None and not self._held.claim.anew
        if done or isinstance(self._reason, ClaimLost | JobEnded):
            return
        try:
            self._held.release(**self._progress())
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
        self._held.renew(**self._progress())
        end = records.read(self._stage.results, layout.end(self._job.file_id), End)
        if end is not None:
            raise JobEnded(ended(self._job, end))
        source = self._job.source
        if self._stage.uploads.head(source.key).etag != source.etag:
            raise PreconditionFailed(f"{source.key} was replaced while it was captured")

    def _progress(self) -> dict[str, int]:
        return asdict(self._position) | {"total": self._total}


def ended(job: Job, end: End) -> str:
    """Return a sentence about a job that ended."""
    return f"{job.name} (generation {job.generation}) was {end.state}" + (
        f": {end.reason}" if end.reason else ""
    )
