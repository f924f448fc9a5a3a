"""Keeps the claim on a job while it is assembled, and notices that the job has ended or is assembled by another."""

from pipeline import layout
from pipeline.claims import RENEWAL, Held
from pipeline.errors import JobEnded, NotFound
from pipeline.jobs import Job
from pipeline.renewal import Renewal
from pipeline.store import ObjectStore


class Keeper(Renewal):
    """Renews while the `with` block runs. Where the job has ended, its claim is gone."""

    def __init__(self, results: ObjectStore, job: Job, held: Held, *, every: float = RENEWAL) -> None:
        super().__init__(job, held, every)
        self._results = results

    def progress(self) -> dict[str, int]:
        """Nobody goes on where another stopped."""
        return {}

    def look(self) -> None:
        """Raise JobEnded where it has."""
        try:
            self._results.head(layout.end(self._job.file_id))
        except NotFound:
            return
        raise JobEnded(f"{self._job.name} (generation {self._job.generation}) has ended meanwhile")
