"""Keeps the claim on a job while it is assembled, and notices that the job has ended or is assembled by another."""

import threading
from types import TracebackType
from typing import Self

from pipeline import layout
from pipeline.claims import RENEWAL, Held
from pipeline.errors import JobEnded, MillstreamError, NotFound, Transient
from pipeline.jobs import Job
from pipeline.store import ObjectStore


class Keeper:
    """Renews while the `with` block runs, and gives the claim back at its end: where the job has ended it is gone already."""

    def __init__(self, results: ObjectStore, job: Job, held: Held, *, every: float = RENEWAL) -> None:
        self._results = results
        self._job = job
        self._held = held
        self._every = every
        self._reason: MillstreamError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"assembly {job.file_id}", daemon=True)

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
        if kind is not None and self._reason is None:
            try:
                self._held.release()
            except MillstreamError as failure:
                self._reason = failure  # whoever comes next waits until the claim is stale

    def _run(self) -> None:
        while self._reason is None and not self._over.wait(self._every):
            try:
                self._held.renew()
                self._results.head(layout.end(self._job.file_id))
                self._reason = JobEnded(
                    f"{self._job.name} (generation {self._job.generation}) has ended meanwhile"
                )
            except NotFound:
                continue
            except Transient:
                continue  # the claim goes stale before long, and another takes it over: that does no harm
            except MillstreamError as failure:
                self._reason = failure
