"""Waiting for a job to end, for a command that a person waits for."""

import time
from collections.abc import Callable

from pipeline import layout, records
from pipeline.errors import JobEnded
from pipeline.jobs import End, Job, Receipt
from pipeline.store import ObjectStore
from producer.heartbeat import ended

FIRST_POLL, LONGEST_POLL = 0.2, 1.0
"""Seconds between two looks at S3: short files are there at once, long ones may take another second."""


def wait_for_end(
    results: ObjectStore, job: Job, *, sleep: Callable[[float], None] = time.sleep
) -> Receipt | None:
    """Return the receipt once the job is published; None where a newer one of its name was published meanwhile.

    Raises JobEnded, with the reason, where it ended otherwise.
    """
    pause = FIRST_POLL
    while True:
        end = records.read(results, layout.end(job.file_id), End)
        if end is not None and end.state != "published":
            raise JobEnded(ended(job, end))
        if end is not None:
            receipt = records.read(results, layout.receipt(job.name), Receipt)
            # The end is decided before the receipt is written, and the receipt may be of a newer job already.
            if receipt is not None and receipt.generation >= job.generation:
                return receipt if receipt.file_id == job.file_id else None
        sleep(pause)
        pause = min(1.5 * pause, LONGEST_POLL)
