"""What `top` and `status` know of what runs: open jobs and refusals from S3, figures from what the stages tell."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from millstream.stores import Stores
from pipeline import layout
from pipeline.figures import Figures, figures
from pipeline.jobs import Job, Refusal
from pipeline.kafka_progress import Watcher
from pipeline.picture import InstancePicture, Picture
from pipeline.records import read
from pipeline.settings import Settings
from pipeline.states import State, look

CATCH_UP = 3.0
"""Seconds that are waited for what the stages told before; without a broker the picture stays empty."""

MOST = 50
"""Open jobs and refusals that are looked at."""


@dataclass(frozen=True, slots=True)
class Running:
    """What runs: files on their way with their figures, processes, and what went wrong, as sentences."""

    files: list[tuple[State, Figures]]
    open: int
    processes: list[InstancePicture]
    errors: list[str]


@contextmanager
def watching(settings: Settings) -> Iterator[Picture]:
    """A picture of what the stages tell, caught up, and kept up until the block ends."""
    picture = Picture()
    watcher = Watcher(settings, picture)
    watcher.start()
    try:
        watcher.wait_for_the_end(CATCH_UP)
        yield picture
    finally:
        watcher.close()


@dataclass(slots=True)
class Look:
    """Looks at what runs, again and again; a job's record is read once."""

    stores: Stores
    picture: Picture
    _jobs: dict[str, Job] = field(default_factory=dict)

    def __call__(self) -> Running:
        """Return what runs now. Raises where S3 can't be asked."""
        results = self.stores.results
        marked = [head.key.removeprefix(layout.OPEN) for head in results.list(layout.OPEN)]
        processes = self.picture.processes()
        files = []
        errors = [
            f"{process.stage} {process.instance}: {why}"
            for process in processes
            for why in process.said.waits
        ]
        for file_id in marked[:MOST]:
            job = self._jobs.get(file_id) or read(results, layout.job(file_id), Job)
            if job is None:
                continue
            self._jobs[file_id] = job
            state = look(self.stores.uploads, results, job.name)
            if state.file_id == file_id and state.pending:
                found = figures(state, self.picture.job(file_id), processes, datetime.now(UTC))
                files.append((state, found))
        for head in list(results.list(layout.REFUSED))[:MOST]:
            if (refusal := read(results, head.key, Refusal)) is not None:
                key = head.key.removeprefix(layout.REFUSED).removesuffix(".json")
                errors.append(f"{key} was refused: {refusal.reason.splitlines()[0]}")
        return Running(files, len(marked), processes, errors)
