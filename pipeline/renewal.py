"""Keeps a claim while its holder works, and notices when there is no point in going on.

A thread of its own does both, since the holder may be busy for longer than a claim lives: finding its place again in a large
file takes a minute, an overloaded broker or S3 as long as they like.
"""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import structlog

from pipeline.claims import Held
from pipeline.errors import ClaimLost, JobEnded, MillstreamError, Transient
from pipeline.jobs import Job

log = structlog.get_logger("claim")


class Renewal(ABC):
    """Renews a claim every so many seconds while the `with` block runs; gives it back, with `progress`, when the block raises.

    After a block that ends well the claim stays as it is: what the block has written says all that it said.
    """

    def __init__(self, job: Job, held: Held, every: float) -> None:
        """`job` is what the claim is on."""
        self._job = job
        self._held = held
        self._every = every
        self._reason: MillstreamError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"claim {job.file_id}", daemon=True)

    @abstractmethod
    def progress(self) -> dict[str, int]:
        """Return how far the work is: fields of Claim."""

    @abstractmethod
    def look(self) -> None:
        """Raise what leaves no point in going on; Transient errors, where that can't be told, are as good as nothing."""

    def beat(self) -> None:
        """Renew, and look."""
        self._held.renew(**self.progress())
        self.look()

    def check(self) -> None:
        """Raise ClaimLost where another has the claim by now, and what `look` has raised."""
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
        if kind is None or isinstance(self._reason, ClaimLost | JobEnded):
            return
        try:
            self._held.release(**self.progress())
        except MillstreamError as failure:  # whoever comes next waits until the claim is stale
            log.debug("claim not given back", job=self._job.file_id, error=str(failure))

    def _run(self) -> None:
        said = False
        while self._reason is None and not self._over.wait(self._every):
            try:
                self.beat()
            except Transient as error:
                # The claim goes stale before long, and another takes it over: that does no harm.
                if not said:
                    log.warning("claim not renewed, trying again", name=self._job.name, error=str(error))
                said = True
            except MillstreamError as error:
                self._reason = error
