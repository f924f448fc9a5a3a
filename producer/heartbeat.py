"""Renews the claim on a job while it is captured, and notices when there is no point in going on: somebody has ended the job or
taken it over, or the upload isn't what it was.
"""

from dataclasses import asdict

from pipeline import layout, records
from pipeline.claims import RENEWAL, Held
from pipeline.errors import JobEnded, PreconditionFailed
from pipeline.jobs import End, Job
from pipeline.renewal import Renewal
from producer.publish import Position
from producer.stage import Stage


class Heartbeat(Renewal):
    """Keeps a claim while the `with` block runs, and says how far everything is acknowledged."""

    def __init__(
        self, stage: Stage, job: Job, held: Held, start: Position, *, every: float = RENEWAL
    ) -> None:
        super().__init__(job, held, every)
        self._stage = stage
        self._position = start
        self._total = held.claim.total

    def expect(self, total: int) -> None:
        """Say how many bytes the file has as text."""
        self._total = total

    def advance(self, position: Position) -> None:
        """Say how far everything is acknowledged; written down with the next renewal."""
        self._position = position

    def progress(self) -> dict[str, int]:
        """Return the position, and how many bytes the file has."""
        return asdict(self._position) | {"total": self._total}

    def look(self) -> None:
        """Raise JobEnded; NotFound where the upload is gone, PreconditionFailed where it is another."""
        end = records.read(self._stage.results, layout.end(self._job.file_id), End)
        if end is not None:
            raise JobEnded(ended(self._job, end))
        source = self._job.source
        if self._stage.uploads.head(source.key).etag != source.etag:
            raise PreconditionFailed(f"{source.key} was replaced while it was captured")


def ended(job: Job, end: End) -> str:
    """Return a sentence about a job that ended."""
    return f"{job.name} (generation {job.generation}) was {end.state}" + (f": {end.why}" if end.why else "")
