"""Parts to one job in the input's row order: a streaming merge that holds a block of each share it reads ahead on.

Row order follows from the dealing of blocks: block after block, each from the parts of its own partition. Where several parts
have the same row, a result beats a reject, and of results that of the part is taken which begins first.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.errors import Permanent
from pipeline.jobs import Job
from pipeline.store import ObjectStore
from sink.decode import schema_of
from sink.parts import Group, OpenPart, columns_of, first_row, part_partition
from sink.seen import REJECT, RESULT, Seen, States

AHEAD = 4
"""Blocks that are fetched at a time, each of another share."""

STRETCH_BYTES = 4 * 1024 * 1024
"""Bytes that are taken of a share at once, about: where rows are long, that is less than a block."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Rows of one block, from `start` to before `stop`."""

    block: int
    start: int
    stop: int


class Merge:
    """The parts of a job whose rows are all there."""

    def __init__(
        self,
        store: ObjectStore,
        job: Job,
        rows: int,
        keys: Sequence[str],
        seen: Seen,
        width: float,
        check: Callable[[], None],
    ) -> None:
        """`seen` is what the parts have together, `width` how many bytes a row has in them.

        `check` is called before each block, and may raise, to stop.
        """
        self._store = store
        self._job = job
        self._blocks = -(-rows // job.block)
        self._rows = rows
        self._keys = sorted(keys, key=lambda key: (first_row(key), key))
        self._seen = seen
        self._step = max(1, min(job.block, int(STRETCH_BYTES / max(1.0, width))))
        self._check = check

    def results(self) -> Iterator[pa.Table]:
        """Yield the results, a block or less at a time, with the columns of `schema_of`."""
        names = schema_of(self._job).names
        columns = columns_of(len(names))
        for stretch, rows in self._each_stretch(range(self._blocks), narrow=False):
            table = _first_of_each(rows.filter(rows.column("reject").is_null()))
            self._compare(stretch, table.num_rows, RESULT)
            if table.num_rows:
                yield table.select(columns).rename_columns(names)

    def rejects(self) -> Iterator[tuple[int, bytes]]:
        """Yield row numbers and values of the rows that have no result."""
        wanted = (number for number in range(self._blocks) if (self._seen.state(number) == REJECT).any())
        for stretch, rows in self._each_stretch(wanted, narrow=True):
            table = _first_of_each(rows.filter(rows.column("reject").is_valid()))
            numbers = table.column("row").to_numpy()
            without = np.flatnonzero(self._state(stretch)[numbers - stretch.start] == REJECT)
            self._compare(stretch, len(without), REJECT)
            values = table.column("reject").take(pa.array(without)).to_pylist()
            yield from zip(numbers[without].tolist(), values, strict=True)

    def _state(self, stretch: _Stretch) -> States:
        first = stretch.block * self._job.block
        return self._seen.state(stretch.block)[stretch.start - first : stretch.stop - first]

    def _compare(self, stretch: _Stretch, found: int, kind: int) -> None:
        wanted = int((self._state(stretch) == kind).sum())
        if found != wanted:
            raise Permanent(
                f"{self._job.name}: of rows {stretch.start:,} to {stretch.stop - 1:,} the parts of job {self._job.file_id} "
                f"have {found:,}, and their footers say {wanted:,}: remove the parts, and push the file with --again"
            )

    def _stretches(self, numbers: Iterable[int]) -> Iterator[_Stretch]:
        for number in numbers:
            first, last = number * self._job.block, min((number + 1) * self._job.block, self._rows)
            for start in range(first, last, self._step):
                yield _Stretch(number, start, min(start + self._step, last))

    def _each_stretch(self, numbers: Iterable[int], *, narrow: bool) -> Iterator[tuple[_Stretch, pa.Table]]:
        """Yield blocks, in stretches, with all that any part has of them; some are fetched ahead."""
        partitions = self._job.partitions
        shares: dict[int, _ShareReader] = {}
        coming: deque[tuple[_Stretch, Future[pa.Table]]] = deque()

        def first() -> tuple[_Stretch, pa.Table]:
            self._check()
            stretch, ready = coming.popleft()
            return stretch, ready.result()

        with ThreadPoolExecutor(AHEAD, "merge") as pool:
            try:
                for stretch in self._stretches(numbers):
                    # Of one share one stretch at a time is read: those ahead are of others.
                    while coming and (
                        len(coming) >= AHEAD
                        or stretch.block - coming[0][0].block >= partitions
                        or stretch.block == coming[-1][0].block
                    ):
                        yield first()
                    partition = self._job.partition(stretch.start)
                    if partition not in shares:
                        mine = [key for key in self._keys if part_partition(key) == partition]
                        shares[partition] = _ShareReader(self._store, mine, schema_of(self._job), narrow)
                    read = shares[partition].read
                    coming.append((stretch, pool.submit(read, stretch.start, stretch.stop)))
                while coming:
                    yield first()
            finally:
                pool.shutdown(cancel_futures=True)
                for share in shares.values():
                    share.close()


class _ShareReader:
    """Reads the parts of one share by rising row numbers; of each it holds the row group that is being read."""

    def __init__(self, store: ObjectStore, keys: list[str], schema: pa.Schema, narrow: bool) -> None:
        self._store = store
        self._keys = deque(keys)
        self._narrow = narrow
        self._open: list[_PartReader] = []
        fields = [("row", pa.int64()), ("reject", pa.binary())]
        if not narrow:
            fields += list(zip(columns_of(len(schema)), schema.types, strict=True))
        self._nothing = pa.schema(fields).empty_table()

    def read(self, start: int, stop: int) -> pa.Table:
        """Return all rows from `start` to before `stop`, those of each part together."""
        while self._keys and first_row(self._keys[0]) < stop:
            self._open.append(_PartReader(OpenPart(self._store, self._keys.popleft()), self._narrow))
        found = [self._nothing]
        for part in list(self._open):
            found += part.read(start, stop)
            if part.is_over:
                part.close()
                self._open.remove(part)
        return pa.concat_tables(found)

    def close(self) -> None:
        for part in self._open:
            part.close()


class _PartReader:
    def __init__(self, part: OpenPart, narrow: bool) -> None:
        self._part = part
        self._narrow = narrow
        self._groups: deque[Group] = deque(part.groups)
        self._rest: pa.Table | None = None

    @property
    def is_over(self) -> bool:
        return not self._groups and self._rest is None

    def read(self, start: int, stop: int) -> Iterator[pa.Table]:
        while True:
            if self._rest is None:
                while self._groups and self._groups[0].last < start:
                    self._groups.popleft()
                if not self._groups or self._groups[0].first >= stop:
                    return
                group = self._groups.popleft()
                if self._narrow and not group.rejects:
                    continue
                self._rest = self._part.read(group, narrow=self._narrow)
            first, last = np.searchsorted(self._rest.column("row").to_numpy(), [start, stop])
            yield self._rest.slice(int(first), int(last - first))
            if last < self._rest.num_rows:
                self._rest = self._rest.slice(int(last))
                return
            self._rest = None

    def close(self) -> None:
        self._part.close()


def _first_of_each(table: pa.Table) -> pa.Table:
    """Return the rows by rising number, the first of each."""
    rows = table.column("row").to_numpy()
    if len(rows) < 2 or (np.diff(rows) > 0).all():
        return table
    return table.take(pa.array(np.unique(rows, return_index=True)[1]))
