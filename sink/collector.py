"""The rows of a job that have come so far: recognised by number, counted, and held by block until they are on S3.

Pure bookkeeping on numpy arrays and Arrow tables: it knows nothing of Kafka, S3 or time.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.events import first_partition
from pipeline.jobs import Captured, Job
from sink.complete import Complete
from sink.seen import REJECT, RESULT, Seen, rising
from sink.tables import take

Ints = npt.NDArray[np.int64]

TABLE = 4096
"""Bytes that an Arrow table costs beside its cells, about."""

VALUE = 150
"""Bytes that a reject costs beside its text: an entry of a dictionary, a number, an object."""

_LOTS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Lot:
    """Rows of a share that leave memory together.

    `blocks` has, by number, pairs of row numbers and a table with a row for each; `rejects` each one's value by row.
    """

    number: int
    job: Job
    partition: int
    blocks: dict[int, list[tuple[Ints, pa.Table]]]
    rejects: dict[int, bytes]
    size: int


class Share:
    """The rows of a job that one partition carries.

    `size` is what is held, in bytes; `parts` are the keys of those known to lie on S3, `leaving` the numbers of lots on their
    way there. `lot` is the number of the lot that is being held, `end` one for the share's end, which whoever follows is to
    read again as long as rows lack; `rounds` are those whose ends have come. `since` and `stirred` are told by whoever knows
    the time: when the oldest row that is held came, and the newest of all.
    """

    def __init__(self, job: Job, partition: int) -> None:
        """Nothing yet."""
        self.job = job
        self.partition = partition
        self.seen = Seen(job.block)
        self.size = 0
        self.duplicates = 0
        self.lot = next(_LOTS)
        self.end = next(_LOTS)
        self.since = self.stirred = 0.0
        self.parts: set[str] = set()
        self.leaving: set[int] = set()
        self.rounds: set[int] = set()
        self._blocks: dict[int, list[tuple[Ints, pa.Table]]] = {}
        self._rejects: dict[int, bytes] = {}

    @property
    def is_held(self) -> bool:
        """Whether all that has come of it is in memory, and nowhere else."""
        return not self.parts and not self.leaving

    @property
    def held(self) -> int:
        """Return how many rows are held."""
        return len(self._rejects) + sum(len(rows) for pieces in self._blocks.values() for rows, _ in pieces)

    def add(self, number: int, rows: Ints, table: pa.Table) -> int:
        """Hold results of a block; return how many were news."""
        fresh, beaten = self.seen.add(number, rows - number * self.job.block, RESULT)
        self.duplicates += len(rows) - len(fresh) + beaten
        if not len(fresh):
            return 0
        if len(fresh) < len(rows):
            rows, table = rows[fresh], take(table, fresh)
        if beaten and self._rejects:
            for row in rows[np.isin(rows, np.fromiter(self._rejects, np.int64, len(self._rejects)))]:
                self.size -= len(self._rejects.pop(int(row))) + VALUE
        self._blocks.setdefault(number, []).append((rows, table))
        self.size += table.nbytes + TABLE
        return len(rows)

    def reject(self, number: int, rows: Ints, values: Sequence[bytes]) -> int:
        """Hold rejects of a block, but for rows that have come already; return how many were news."""
        fresh, _ = self.seen.add(number, rows - number * self.job.block, REJECT)
        self.duplicates += len(rows) - len(fresh)
        for at in fresh.tolist():
            self._rejects[int(rows[at])] = values[at]
            self.size += len(values[at]) + VALUE
        return len(fresh)

    def learn(self, key: str, results: Ints, rejects: Ints, total: int | None = None) -> None:
        """Note what a part holds that somebody else has put on S3, but for rows behind the end of a file of `total` rows."""
        self.parts.add(key)
        for rows, kind in ((rejects, REJECT), (results, RESULT)):
            self.seen.add_rows(rows if total is None else rows[rows < total], kind)

    def settle(self, total: int) -> None:
        """Let go of rows behind the end of the file."""
        self.seen.cut(total)
        for row in [row for row in self._rejects if row >= total]:
            self.size -= len(self._rejects.pop(row)) + VALUE
        for number in [number for number in self._blocks if (number + 1) * self.job.block > total]:
            pieces = self._blocks.pop(number)
            self.size -= sum(table.nbytes + TABLE for _, table in pieces)
            for rows, table in pieces:
                inside = np.flatnonzero(rows < total)
                if len(inside):
                    kept = take(table, inside)
                    self._blocks.setdefault(number, []).append((rows[inside], kept))
                    self.size += kept.nbytes + TABLE

    def cut(self) -> Lot:
        """Take out what is held, to be put on S3."""
        lot = Lot(self.lot, self.job, self.partition, self._blocks, self._rejects, self.size)
        self.leaving.add(self.lot)
        self.lot = next(_LOTS)
        self._blocks, self._rejects, self.size = {}, {}, 0
        return lot

    def copy(self) -> Lot:
        """Return what is held, for another thread to read; what is added later doesn't change it."""
        blocks = {number: list(pieces) for number, pieces in self._blocks.items()}
        return Lot(self.lot, self.job, self.partition, blocks, dict(self._rejects), self.size)


class Collection:
    """What has come of one job, by share."""

    def __init__(self, job: Job) -> None:
        """Nothing yet."""
        self.job = job
        self.captured: Captured | None = None
        self.shares: dict[int, Share] = {}

    @property
    def rows(self) -> int:
        """Return how many rows have come."""
        return sum(share.seen.rows for share in self.shares.values())

    @property
    def was_repaired(self) -> bool:
        """Return whether the end of a round of repair has come through."""
        return any(share.rounds - {0} for share in self.shares.values())

    def share(self, partition: int) -> Share:
        """Return the share that a partition carries."""
        found = self.shares.get(partition)
        if found is None:
            found = self.shares[partition] = Share(self.job, partition)
        return found

    def add(self, partition: int, rows: Ints, table: pa.Table) -> int:
        """Hold results that came over a partition, which they are dealt to; return how many were news.

        `rows` are row numbers, `table` has a row for each.
        """
        if self.captured is not None and len(rows) and int(rows.max()) >= self.captured.rows:
            inside = np.flatnonzero(rows < self.captured.rows)
            rows, table = rows[inside], take(table, inside)
        if not len(rows):
            return 0
        share = self.share(partition)
        numbers = rows // self.job.block
        if numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
            return share.add(int(numbers[0]), rows, table)
        fresh = 0
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            fresh += share.add(int(number), rows[here], take(table, here))
        return fresh

    def reject(self, partition: int, rows: Ints, values: Sequence[bytes]) -> int:
        """Hold rejects that came over a partition, `values` as they came; return how many were news."""
        if self.captured is not None:
            inside = np.flatnonzero(rows < self.captured.rows)
            rows, values = rows[inside], [values[at] for at in inside.tolist()]
        if not len(rows):
            return 0
        share, fresh = self.share(partition), 0
        numbers = rows // self.job.block
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            fresh += share.reject(int(number), rows[here], [values[at] for at in here.tolist()])
        return fresh

    def settle(self, captured: Captured) -> None:
        """Learn how many rows the file has. Rows above are none of it, and are let go."""
        self.captured = captured
        for share in self.shares.values():
            share.settle(captured.rows)

    def rejects_by_partition(self) -> dict[int, int]:
        """Return how many rows that came over each partition have a reject and no result; partitions without are left out."""
        counts = {partition: share.seen.rejects for partition, share in self.shares.items()}
        return {partition: count for partition, count in counts.items() if count}

    def is_complete(self) -> bool:
        """Whether every row has come, as a result or as a reject."""
        return self.captured is not None and self.rows == self.captured.rows

    def is_held(self) -> bool:
        """Whether every row is in memory."""
        return self.is_complete() and all(share.is_held for share in self.shares.values())

    def has_all_of(self, partition: int) -> bool:
        """Whether every row of a share has come; false as long as the file's account isn't known."""
        if self.captured is None:
            return False
        share = self.shares.get(partition)
        return (share.seen.rows if share else 0) == self.captured.shares.get(partition, 0)

    def lacking(self, partition: int) -> list[int]:
        """Return the blocks of a share that lack rows; for a file whose account is known."""
        assert self.captured is not None
        job, blocks = self.job, -(-self.captured.rows // self.job.block)
        first = (partition - first_partition(job.file_id, job.partitions)) % job.partitions
        return self.share(partition).seen.lacking(self.captured.rows, range(first, blocks, job.partitions))

    def drop(self, partition: int) -> None:
        """Let go of what came over a partition: it is somebody else's now."""
        self.shares.pop(partition, None)

    def freeze(self) -> "Frozen":
        """Return what is held now, for another thread to assemble; what is added later doesn't change it."""
        assert self.captured is not None
        lots = [share.copy() for share in self.shares.values()]
        return Frozen(
            job=self.job,
            captured=self.captured,
            results=sum(share.seen.results for share in self.shares.values()),
            rejected=sum(share.seen.rejects for share in self.shares.values()),
            duplicates=sum(share.duplicates for share in self.shares.values()),
            in_parts=False,
            blocks={number: pieces for lot in lots for number, pieces in lot.blocks.items()},
            rejects={row: value for lot in lots for row, value in lot.rejects.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen(Complete):
    """A complete job that is held whole in memory, ready to be written."""

    blocks: dict[int, list[tuple[Ints, pa.Table]]]
    rejects: dict[int, bytes]

    def in_order(self) -> Iterator[pa.Table]:
        """Yield the results in the input's row order, a block at a time."""
        for number in sorted(self.blocks):
            yield sorted_block(self.blocks[number])[1]

    def rejects_in_order(self) -> Iterator[tuple[int, bytes]]:
        """Yield row numbers and values of the rejects, in the input's row order."""
        return iter(sorted(self.rejects.items()))


def sorted_block(pieces: list[tuple[Ints, pa.Table]]) -> tuple[Ints, pa.Table]:
    """Return pieces of a block as one, by row number."""
    numbers, table = pieces[0]
    if len(pieces) > 1:
        numbers = np.concatenate([rows for rows, _ in pieces])
        table = pa.concat_tables([piece for _, piece in pieces])
    if rising(numbers):
        return numbers, table
    order = np.argsort(numbers, kind="stable")
    return numbers[order], table.take(pa.array(order))
