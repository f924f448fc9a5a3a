"""Parts: pieces of shares on S3, as Parquet files that are named by their content.

A part's columns are `row` (int64, rising), `reject` (the reject's value, null for a result), then `c0`, `c1` …: the ids and
outputs as they were decoded. A row group has the rows of one block, or of as many small ones as make up GROUP rows, so that
whoever merges parts needs one group of each share at a time. Which rows a part has stands in the file's footer as well: its end
is enough to know that.
"""

import base64
import io
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import layout
from pipeline.errors import Permanent
from pipeline.store import ObjectStore
from sink.collector import Lot, sorted_block
from sink.decode import schema_of
from sink.seen import from_runs, to_runs

Ints = npt.NDArray[np.int64]

GROUP = 8192
"""Rows of a row group, at least, where a part has that many; a block's at most."""

GROUP_BYTES = 4 * 1024 * 1024
"""Bytes of a row group, about, at most: where rows are long it has fewer."""

TAIL = 64 * 1024
"""Bytes from a part's end that are read first: mostly the whole footer."""

_COVERAGE = b"millstream.rows"


@dataclass(frozen=True, slots=True)
class Part:
    """Which rows a part has, as runs (`sink.seen.to_runs`); `width` is how many bytes one has in memory, on average."""

    key: str
    partition: int
    results: Ints
    rejects: Ints
    width: float

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return _count(self.results) + _count(self.rejects)


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its rows are in `first` to `last`, its bytes from `start` to `stop`; how many of its rows are rejects.

    `narrow` is where its columns `row` and `reject` end.
    """

    number: int
    first: int
    last: int
    rejects: int
    start: int
    narrow: int
    stop: int


def part_partition(key: str) -> int:
    """Return the partition that a part's key is of."""
    return int(key.rpartition("/")[2].split("-")[0])


def first_row(key: str) -> int:
    """Return a part's lowest row number, by its key."""
    return int(key.rpartition("/")[2].split("-")[1])


def part_job(key: str) -> str:
    """Return the file_id that a part's key is of."""
    return key.removeprefix(layout.PARTS).partition("/")[0]


def columns_of(count: int) -> list[str]:
    """Return the names of a part's columns of data."""
    return [f"c{number}" for number in range(count)]


def encode(lot: Lot) -> tuple[Part, bytes]:
    """Return a lot as a part: what it has, and its content."""
    schema = schema_of(lot.job)
    results = _runs([rows for pieces in lot.blocks.values() for rows, _ in pieces])
    rejects = _runs([np.fromiter(lot.rejects, np.int64, len(lot.rejects))])
    written = pa.schema(
        [pa.field("row", pa.int64()), pa.field("reject", pa.binary())]
        + [pa.field(name, field.type) for name, field in zip(columns_of(len(schema)), schema, strict=True)],
    )
    out = io.BytesIO()
    writer = pq.ParquetWriter(
        out,
        written,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=["row", "reject"],
        column_encoding={"row": "DELTA_BINARY_PACKED"},
        store_schema=False,
    )
    with writer:
        for group in _groups(lot, schema, written):
            writer.write_table(group, row_group_size=max(1, group.num_rows))
        writer.add_key_value_metadata({_COVERAGE: _dump(results, rejects)})
    content = out.getvalue()
    first = min(int(runs[0]) for runs in (results, rejects) if len(runs))
    key = layout.part(lot.job.file_id, lot.partition, first, blake2b(content, digest_size=8).hexdigest())
    return Part(
        key, lot.partition, results, rejects, lot.size / max(1, _count(results) + _count(rejects))
    ), content


def _groups(lot: Lot, schema: pa.Schema, written: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows by rising number, in tables of a block or more."""
    rejects: dict[int, list[int]] = {}
    for row in sorted(lot.rejects):
        rejects.setdefault(row // lot.job.block, []).append(row)
    held: list[pa.Table] = []
    count = 0
    for number in sorted(lot.blocks.keys() | rejects.keys()):
        table = _block(lot, number, rejects.get(number, []), schema, written)
        held.append(table)
        count += table.num_rows
        if count >= GROUP or table.nbytes >= GROUP_BYTES:
            yield from _cut(pa.concat_tables(held))
            held, count = [], 0
    if held:
        yield from _cut(pa.concat_tables(held))


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table, in pieces where it is too large for one row group."""
    step = max(1, math.ceil(table.num_rows * min(1.0, GROUP_BYTES / max(1, table.nbytes))))
    for start in range(0, table.num_rows, step):
        yield table.slice(start, step)


def _block(lot: Lot, number: int, rejects: list[int], schema: pa.Schema, written: pa.Schema) -> pa.Table:
    tables, numbers = [], []
    if number in lot.blocks:
        rows, table = sorted_block(lot.blocks[number])
        nothing = pa.nulls(len(rows), pa.binary())
        tables.append(pa.table([pa.array(rows), nothing, *table.columns], schema=written))
        numbers.append(rows)
    if rejects:
        values = pa.array([lot.rejects[row] for row in rejects], pa.binary())
        blank = [pa.nulls(len(rejects), field.type) for field in schema]
        tables.append(pa.table([pa.array(rejects, pa.int64()), values, *blank], schema=written))
        numbers.append(np.array(rejects, np.int64))
    if len(tables) == 1:
        return tables[0]
    order = np.argsort(np.concatenate(numbers), kind="stable")
    return pa.concat_tables(tables).take(pa.array(order))


def _runs(pieces: list[Ints]) -> Ints:
    return to_runs(np.sort(np.concatenate(pieces))) if pieces else np.zeros(0, np.int64)


def _count(runs: Ints) -> int:
    return int((runs[1::2] - runs[0::2]).sum())


def _dump(results: Ints, rejects: Ints) -> bytes:
    """Return runs as text: differences, compressed."""
    fields = [
        base64.b64encode(zlib.compress(np.diff(runs, prepend=0).astype("<i8").tobytes(), 1)).decode()
        for runs in (results, rejects)
    ]
    return json.dumps({"results": fields[0], "rejects": fields[1]}).encode()


def _load(text: bytes) -> tuple[Ints, Ints]:
    read = json.loads(text)
    fields = (zlib.decompress(base64.b64decode(read[name])) for name in ("results", "rejects"))
    results, rejects = (np.cumsum(np.frombuffer(field, "<i8")).astype(np.int64) for field in fields)
    return results, rejects


class File(io.RawIOBase):
    """A part on S3 for a Parquet reader: what was fetched last is read from memory, all else is one request each."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        """Fetch the part's end."""
        self._store = store
        self._key = key
        self._size = store.head(key).size
        self._at = 0
        self._start, self._data = 0, b""
        self.fetch(max(0, self._size - TAIL), self._size)

    def fetch(self, start: int, stop: int) -> None:
        """Fetch a stretch of bytes, in place of what was fetched before."""
        if start >= self._start and stop <= self._start + len(self._data):
            return
        with self._store.open(self._key, start=start, length=stop - start) as body:
            self._data = b"".join(body.chunks)
        self._start = start

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the place on."""
        stop = self._size if size < 0 else min(self._size, self._at + size)
        if stop <= self._at:
            return b""
        self.fetch(self._at, stop)
        data = self._data[self._at - self._start : stop - self._start]
        self._at = stop
        return data


class OpenPart:
    """A part that is being read."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        """Read its footer; raises NotFound where it is gone, Permanent where it is no part."""
        self.key = key
        self._file = File(store, key)
        try:
            self._reader = pq.ParquetFile(self._file)
            self.groups = [self._group(number) for number in range(self._reader.metadata.num_row_groups)]
        except (pa.ArrowException, AttributeError, IndexError, OSError) as error:
            raise Permanent(f"{key} is no part of a job: {error}") from error

    def coverage(self) -> Part:
        """Return which rows it has."""
        metadata = self._reader.metadata.metadata or {}
        if _COVERAGE not in metadata:
            raise Permanent(f"{self.key} is no part of a job: its footer doesn't say which rows it has")
        read = self._reader.metadata
        size = sum(read.row_group(number).total_byte_size for number in range(read.num_row_groups))
        width = size / max(1, read.num_rows)
        return Part(self.key, part_partition(self.key), *_load(metadata[_COVERAGE]), width)

    def read(self, group: Group, *, narrow: bool = False) -> pa.Table:
        """Return a row group, with one request; `narrow` leaves the columns of data out."""
        self._file.fetch(group.start, group.narrow if narrow else group.stop)
        columns = ["row", "reject"] if narrow else None
        return self._reader.read_row_group(group.number, columns=columns, use_threads=False)

    def close(self) -> None:
        """Let go of it."""
        self._reader.close()

    def _group(self, number: int) -> Group:
        group = self._reader.metadata.row_group(number)
        row, reject = group.column(0), group.column(1)
        chunks = [_stretch(group.column(at)) for at in range(group.num_columns)]
        return Group(
            number,
            int(row.statistics.min),
            int(row.statistics.max),
            group.num_rows - int(reject.statistics.null_count),
            min(start for start, _ in chunks),
            max(stop for _, stop in chunks[:2]),
            max(stop for _, stop in chunks),
        )


def _stretch(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def read_part(store: ObjectStore, key: str) -> Part:
    """Return which rows a part on S3 has."""
    opened = OpenPart(store, key)
    try:
        return opened.coverage()
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise Permanent(f"{key} is no part of a job: {error!r}") from error
    finally:
        opened.close()


def runs_to_rows(part: Part) -> tuple[Ints, Ints]:
    """Return the row numbers of a part's results, and of its rejects."""
    return from_runs(part.results), from_runs(part.rejects)
