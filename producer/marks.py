"""The open marks: jobs that somebody isn't finished with, looked at by whoever watches.

At its start `watch` goes on with all of them; later it sends their ends again, at growing intervals: an end may have been lost
with the broker, or never sent because its capture died.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pipeline import layout, records
from pipeline.errors import NotFound
from pipeline.jobs import Captured, End, Job, NameRecord
from pipeline.missing import requested
from pipeline.store import Head, ObjectStore
from producer.ending import fail, is_superseded, outrun
from producer.publish import Sender, publish_ends, shares_of
from producer.stage import Stage

FIRST, LONGEST = 60.0, 3600.0
"""Seconds until a job's ends are sent again, for the first time and at most; each time twice as many."""


def marked(results: ObjectStore) -> dict[str, Head]:
    """Return the open marks by file_id."""
    return {head.key[len(layout.OPEN) :]: head for head in results.list(layout.OPEN)}


def unfinished(stage: Stage, file_id: str) -> Job | None:
    """Return a marked job if it is still to be worked on; end it where its name or its upload has gone."""
    job = records.read(stage.results, layout.job(file_id), Job)
    if job is None or records.read(stage.results, layout.end(file_id), End) is not None:
        return None
    record = records.read(stage.results, layout.name_record(job.name), NameRecord)
    if record is not None and is_superseded(job, record):
        outrun(stage.results, file_id, record)
        return None
    if record is not None and record.file_id == file_id:
        return job
    # It was being taken on: whoever looks at the upload again goes on with that.
    try:
        stage.uploads.head(job.source.key)
    except NotFound:
        fail(stage.results, job, f"the upload {job.source.key} is gone")
    return None


def send_ends_again(stage: Stage, file_id: str, sender: Sender) -> bool:
    """Send the current ends of an open job that is captured; nothing for any other.

    Return whether blocks of it are to be captured again first: of those shares no end is sent.
    """
    captured = records.read(stage.results, layout.captured(file_id), Captured)
    job = unfinished(stage, file_id) if captured is not None else None
    if job is None or captured is None:
        return False
    rounds = dict.fromkeys(shares_of(job, captured), 0)
    requests = {partition: asked for partition, (asked, _) in requested(stage.results, file_id).items()}
    lost = {partition for partition, asked in requests.items() if not asked.captured}
    rounds |= {partition: asked.round for partition, asked in requests.items() if partition in rounds}
    current = {partition: round for partition, round in rounds.items() if partition not in lost}
    publish_ends(job, captured, sender, stage.settings.rows_topic, current)
    return bool(lost)


@dataclass(slots=True)
class _Due:
    at: float
    interval: float


class Reminders:
    """When each open job's ends are due. Pure: it is told the time and the marks."""

    def __init__(self) -> None:
        self._due: dict[str, _Due] = {}

    def due(self, marks: Collection[str], now: float) -> list[str]:
        """Return whose ends are to be sent now; jobs without a mark are forgotten."""
        self._due = {file_id: due for file_id, due in self._due.items() if file_id in marks}
        found = []
        for file_id in sorted(marks):
            due = self._due.setdefault(file_id, _Due(now + FIRST, FIRST))
            if now >= due.at:
                due.interval = min(2 * due.interval, LONGEST)
                due.at = now + due.interval
                found.append(file_id)
        return found
