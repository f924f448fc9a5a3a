"""Asking for rows that were lost between capture and here.

A share has lost rows when the end of its current round has come through and no new row of it for a while; nothing else says so.
"""

from dataclasses import dataclass

import structlog

from pipeline import metrics, missing
from pipeline.jobs import Captured, Job
from pipeline.missing import ROUNDS
from pipeline.store import ObjectStore
from sink.publish import Publisher

log = structlog.get_logger("sink")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A share that seems to have lost rows: the blocks it lacks, the rounds whose ends have come, the parts known of it."""

    job: Job
    captured: Captured
    partition: int
    lacking: tuple[int, ...]
    rounds: frozenset[int]
    parts: frozenset[str]


def repair(results: ObjectStore, publisher: Publisher, doubt: Doubt, *, told: bool) -> bool:
    """Ask for the next round of a share, or fail its job after the last; return whether there is news of the job.

    Nothing is asked for while the current round is under way: its end hasn't come through. `told` says that the job's mark
    tells of lost blocks: where it doesn't, whoever asked died before that.
    """
    job, partition = doubt.job, doubt.partition
    asked = missing.current(results, job.file_id, partition)
    current = asked.round if asked else 0
    if current not in doubt.rounds:
        if asked is None or asked.captured or told:
            return False
        missing.request(results, job.file_id, partition, current, asked.blocks)
        return True
    if current >= ROUNDS:
        lost = missing.described(job, doubt.captured.rows, doubt.lacking)
        reason = f"{lost} have gaps after {ROUNDS} rounds of repair: sent again, and never back from partition {partition}"
        publisher.end(job, "failed", reason)
        return True
    missing.request(results, job.file_id, partition, current + 1, doubt.lacking)
    metrics.REPAIRS.inc()
    log.warning(
        "rows were lost, asking for them again",
        job=job.file_id,
        name=job.name,
        partition=partition,
        blocks=len(doubt.lacking),
        round=current + 1,
    )
    return True
