"""Which job a row belongs to: `job.json`, read once and kept."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pipeline import layout, records
from pipeline.errors import NotFound
from pipeline.jobs import Job
from pipeline.store import ObjectStore

KEPT = 10_000
"""Jobs that are remembered; the least recently used goes first."""

UNKNOWN_FOR = 5.0
"""Seconds that a job without `job.json` stays unknown before S3 is asked again: foreign messages must cost little."""

ENDED_CHECK = 10.0
"""Seconds after which a job that still has rows coming is looked at again: it may have been cancelled meanwhile."""


@dataclass(slots=True)
class _Entry:
    job: Job | None
    ended: bool
    checked: float


class JobBook:
    """The jobs whose rows come by. Not for several threads at once."""

    def __init__(self, results: ObjectStore, clock: Callable[[], float] = time.monotonic) -> None:
        """`results` is the bucket that the jobs lie in."""
        self._store = results
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def find(self, file_id: str) -> Job | None:
        """Return the job if its rows are wanted: None where it is unknown or has ended.

        Raises Transient errors, which have to be waited out: a row may only be dropped when S3 has said so; and Permanent
        where the job is of a format that this version doesn't know: then nothing may be acknowledged.
        """
        now = self._clock()
        entry = self._entries.get(file_id)
        if entry is None or self._is_stale(entry, now):
            entry = self._look(file_id, entry, now)
            self._entries[file_id] = entry
            if len(self._entries) > KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(file_id)
        return None if entry.ended else entry.job

    def name(self, file_id: str) -> str | None:
        """Return what the job's file is called, where that is known; asks nobody. For any thread."""
        entry = self._entries.get(file_id)
        return entry.job.name if entry is not None and entry.job is not None else None

    def forget(self, file_id: str) -> None:
        """Look at the job anew the next time: it is known to have changed."""
        self._entries.pop(file_id, None)

    def _is_stale(self, entry: _Entry, now: float) -> bool:
        if entry.job is None:
            return now - entry.checked > UNKNOWN_FOR
        return not entry.ended and now - entry.checked > ENDED_CHECK

    def _look(self, file_id: str, before: _Entry | None, now: float) -> _Entry:
        job = before.job if before else None
        if job is None:
            job = records.read(self._store, layout.job(file_id), Job)
        if job is None or job.file_id != file_id:
            return _Entry(None, False, now)
        return _Entry(job, self._has_ended(file_id), now)

    def _has_ended(self, file_id: str) -> bool:
        try:
            self._store.head(layout.end(file_id))
        except NotFound:
            return False
        return True
