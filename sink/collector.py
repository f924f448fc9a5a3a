"""The rows of a job that have come so far: recognised by number, counted, and held by block.

Pure bookkeeping on numpy arrays and Arrow tables: it knows nothing of Kafka, S3 or time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.events import first_partition
from pipeline.jobs import Captured, Job
from sink.tables import take

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Block:
    """One block: which of its rows have come, and the tables they came in."""

    seen: npt.NDArray[np.bool_]
    rows: list[Ints] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)


class Collection:
    """What is held of one job."""

    def __init__(self, job: Job) -> None:
        """Nothing yet."""
        self.job = job
        self.captured: Captured | None = None
        self.duplicates = 0
        self.size = 0
        self._blocks: dict[int, _Block] = {}
        self._rejects: dict[int, bytes] = {}
        self._results = 0

    @property
    def results(self) -> int:
        """Return how many rows have a result."""
        return self._results

    @property
    def rejected(self) -> int:
        """Return how many rows have a reject and no result."""
        return len(self._rejects)

    def add(self, rows: Ints, table: pa.Table) -> None:
        """Hold results: `rows` are row numbers, `table` has a row for each. Rows that are held already are duplicates."""
        if self.captured is not None and len(rows) and int(rows.max()) >= self.captured.rows:
            inside = np.flatnonzero(rows < self.captured.rows)
            rows, table = rows[inside], take(table, inside)
        size = self.job.block
        numbers = rows // size
        if len(numbers) and numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
            self._add_to(int(numbers[0]), rows, table)
        else:
            for number in np.unique(numbers):
                here = np.flatnonzero(numbers == number)
                self._add_to(int(number), rows[here], take(table, here))

    def _add_to(self, number: int, rows: Ints, table: pa.Table) -> None:
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = _Block(np.zeros(self.job.block, bool))
        at = rows - number * self.job.block
        fresh = np.flatnonzero(~block.seen[at])
        if len(fresh) and not _rising(at):
            fresh = fresh[np.sort(np.unique(at[fresh], return_index=True)[1])]
        self.duplicates += len(rows) - len(fresh)
        if not len(fresh):
            return
        if len(fresh) < len(rows):
            rows, at, table = rows[fresh], at[fresh], take(table, fresh)
        block.seen[at] = True
        block.rows.append(rows)
        block.tables.append(table)
        self._results += len(rows)
        self.size += table.nbytes
        if self._rejects:
            for row in rows[np.isin(rows, np.fromiter(self._rejects, np.int64, len(self._rejects)))]:
                self.size -= len(self._rejects.pop(int(row)))
                self.duplicates += 1

    def reject(self, row: int, value: bytes) -> None:
        """Hold a reject, unless the row has a result, which beats it, or a reject already."""
        if self.captured is not None and row >= self.captured.rows:
            return
        block = self._blocks.get(row // self.job.block)
        if row in self._rejects or (block is not None and block.seen[row % self.job.block]):
            self.duplicates += 1
            return
        self._rejects[row] = value
        self.size += len(value)

    def settle(self, captured: Captured) -> None:
        """Learn how many rows the file has. Rows above are none of it, and are let go."""
        self.captured = captured
        for row in [row for row in self._rejects if row >= captured.rows]:
            self.size -= len(self._rejects.pop(row))
        size = self.job.block
        for number in [number for number in self._blocks if (number + 1) * size > captured.rows]:
            block = self._release(number)
            for rows, table in zip(block.rows, block.tables, strict=True):
                inside = np.flatnonzero(rows < captured.rows)
                if len(inside):
                    self._add_to(number, rows[inside], take(table, inside))

    def _release(self, number: int) -> _Block:
        """Take a block out of the account."""
        block = self._blocks.pop(number)
        self._results -= int(block.seen.sum())
        self.size -= sum(table.nbytes for table in block.tables)
        return block

    def rejects_by_partition(self) -> dict[int, int]:
        """Return how many of the rejects came over each partition; partitions without are left out."""
        blocks = np.fromiter(self._rejects, np.int64, len(self._rejects)) // self.job.block
        partitions, counts = np.unique(
            (first_partition(self.job.file_id, self.job.partitions) + blocks) % self.job.partitions,
            return_counts=True,
        )
        return dict(zip(partitions.tolist(), counts.tolist(), strict=True))

    def is_complete(self) -> bool:
        """Whether every row is here, as a result or as a reject."""
        return self.captured is not None and self._results + len(self._rejects) == self.captured.rows

    def missing(self) -> Ints:
        """Return the blocks that lack rows; for a file whose size is known."""
        assert self.captured is not None
        size, total = self.job.block, self.captured.rows
        here = np.zeros(-(-total // size), np.int64)
        for number, block in self._blocks.items():
            here[number] += int(block.seen.sum())
        for row in self._rejects:
            here[row // size] += 1
        wanted = np.full(len(here), size, np.int64)
        if total % size:
            wanted[-1] = total % size
        return np.flatnonzero(here < wanted)

    def drop(self, partition: int) -> None:
        """Let go of what came over a partition: it is somebody else's, and its rows come again there."""
        size = self.job.block
        for number in [number for number in self._blocks if self.job.partition(number * size) == partition]:
            self._release(number)
        for row in [row for row in self._rejects if self.job.partition(row) == partition]:
            self.size -= len(self._rejects.pop(row))

    def freeze(self) -> "Frozen":
        """Return what is held now, for another thread to assemble; what is added later doesn't change it."""
        blocks = {number: (tuple(block.rows), tuple(block.tables)) for number, block in self._blocks.items()}
        assert self.captured is not None
        return Frozen(self.job, self.captured, blocks, dict(self._rejects), self._results, self.duplicates)


@dataclass(frozen=True, slots=True)
class Frozen:
    """A complete job, ready to be written."""

    job: Job
    captured: Captured
    blocks: dict[int, tuple[tuple[Ints, ...], tuple[pa.Table, ...]]]
    rejects: dict[int, bytes]
    results: int
    duplicates: int

    def in_order(self) -> Iterator[pa.Table]:
        """Yield the results in the input's row order, a block at a time."""
        for number in sorted(self.blocks):
            rows, tables = self.blocks[number]
            table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
            numbers = rows[0] if len(rows) == 1 else np.concatenate(rows)
            yield table if _rising(numbers) else table.take(pa.array(np.argsort(numbers, kind="stable")))


def _rising(numbers: Ints) -> bool:
    return bool((np.diff(numbers) > 0).all())
