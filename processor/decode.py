"""A batch of row events to Arrow tables: one per calculation and columns, however many jobs share the batch."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import events
from pipeline.events import Kind
from pipeline.jobs import Job
from pipeline.json_batch import decode_objects
from pipeline.kafka_batch import Batch

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share a calculation and columns.

    `table` has the file's columns, all string, none null; `positions` are its rows' positions in the batch. `job` is one of
    the jobs concerned: they differ in nothing that a calculation looks at.
    """

    job: Job
    table: pa.Table
    positions: Ints


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch, read.

    `keys` are the batch's as Arrow has them, `malformed` and `ends` positions of events that are passed on as they are;
    `dropped` counts messages that are no event of a known, open job on its own partition.
    """

    keys: pa.Array
    groups: list[Group] = field(default_factory=list)
    malformed: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    ends: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    dropped: int = 0
    highest: list[tuple[Job, int]] = field(default_factory=list)
    """The jobs concerned, each with the highest of its row numbers here, -1 where there is but an end."""


def decode(batch: Batch, find: Callable[[str], Job | None]) -> Rows:
    """Read a batch of one partition of the rows topic; `find` gives the open job of a file_id, or None.

    Every message that isn't an event of an open job, on the partition where it belongs, is dropped and counted.
    """
    keys = events.parse_keys(batch.keys)
    jobs = [find(file_id) for file_id in keys.file_ids]
    wanted = keys.kinds != Kind.FOREIGN
    for number, job in enumerate(jobs):
        mine = keys.jobs == number
        if job is None:
            wanted &= ~mine
        else:
            wanted &= ~mine | job.belongs(keys.rows, batch.partition)
    kinds = np.where(wanted, keys.kinds, np.int8(Kind.FOREIGN))

    sets: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for number, job in enumerate(jobs):
        if job is not None:
            sets.setdefault((job.digest, job.columns), []).append(number)
    groups = []
    for numbers in sets.values():
        job = jobs[numbers[0]]
        assert job is not None
        here = np.flatnonzero((kinds == Kind.ROW) & np.isin(keys.jobs, numbers))
        if len(here):
            groups.append(_table(batch, job, here))

    malformed = np.flatnonzero(kinds == Kind.REJECTED)
    ends = np.flatnonzero(kinds == Kind.END)
    kept = sum(len(group.positions) for group in groups) + len(malformed) + len(ends)
    return Rows(keys.array, groups, malformed, ends, len(batch.keys) - kept, _highest(keys, kinds, jobs))


def _highest(keys: events.Keys, kinds: npt.NDArray[np.int8], jobs: list[Job | None]) -> list[tuple[Job, int]]:
    highest = np.full(len(jobs), -1, np.int64)
    mine = kinds != Kind.FOREIGN
    np.maximum.at(highest, keys.jobs[mine], keys.rows[mine])
    return [(job, row) for job, row in zip(jobs, highest.tolist(), strict=True) if job is not None]


def _table(batch: Batch, job: Job, positions: Ints) -> Group:
    whole = len(positions) == len(batch.values)
    values = batch.values if whole else [batch.values[position] for position in positions.tolist()]
    schema = pa.schema([(name, pa.string()) for name in job.columns])
    decoded = decode_objects(values, schema)
    table, index = decoded.table, decoded.index
    if any(column.null_count for column in table.columns):
        # A member was missing or null, which no row of a CSV has.
        full = np.logical_and.reduce(
            [column.is_valid().to_numpy(zero_copy_only=False) for column in table.columns]
        )
        table, index = table.filter(pa.array(full)), index[full]
    return Group(job, table.combine_chunks(), positions[index])
