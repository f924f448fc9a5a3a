"""Waiting for a job to end, for a command that a person waits for."""

import time
from collections.abc import Callable

from pipeline import layout, records
from pipeline.errors import JobEnded, Transient
from pipeline.jobs import End, Job, Receipt
from pipeline.kafka import PATIENCE
from pipeline.store import ObjectStore
from producer.heartbeat import ended

FIRST_POLL, LONGEST_POLL = 0.2, 1.0
"""Seconds between two looks at S3: short files are there at once, long ones may take another second."""


def wait_for_end(
    results: ObjectStore,
    job: Job,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Receipt | None:
    """Return the receipt once the job is published; None where a newer one of its name was published meanwhile.

    Raises JobEnded, with the reason, where it ended otherwise; Unreachable where S3 hasn't answered for PATIENCE seconds.
    """
    pause = FIRST_POLL
    answered = now()
    while True:
        try:
            receipt = _published(results, job)
            answered = now()
        except Transient as error:
            if now() - answered >= PATIENCE:
                error.add_note(f"{job.name} is captured, and the computing goes on when S3 is back")
                raise
            receipt = None
        if receipt is not None:
            return receipt if receipt.file_id == job.file_id else None
        sleep(pause)
        pause = min(1.5 * pause, LONGEST_POLL)


def _published(results: ObjectStore, job: Job) -> Receipt | None:
    """Return the receipt once it is this job's, or a newer one's of its name; None where it isn't there yet."""
    end = records.read(results, layout.end(job.file_id), End)
    if end is None:
        return None
    if end.state != "published":
        raise JobEnded(ended(job, end))
    # The end is decided before the receipt is written, and the receipt may be of a newer job already.
    receipt = records.read(results, layout.receipt(job.name), Receipt)
    if receipt is None or receipt.generation < job.generation:
        return None
    if receipt.state == "deleted":
        raise JobEnded(f"{job.name} (generation {job.generation}) was published, and has been deleted since")
    return receipt
