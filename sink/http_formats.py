"""The computed CSV in another format, typed with the job's columns, as it goes by: CSV bytes in, Parquet, Arrow or JSON out.

The CSV is read as text, which loses nothing: an empty cell is null, `""` is empty. Types are DuckDB's casts of that text,
as they were when the CSV was written.
"""

import io
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from pipeline import duck, lines
from pipeline.errors import Permanent
from pipeline.jobs import Job
from pipeline.json_text import objects, typed
from pipeline.sql_text import quote
from pipeline.types import ColumnType
from sink.http_negotiation import Format

GROUP = 65_536
"""Rows of one row group of Parquet, and of one batch of Arrow."""

_BLOCK = 4 * 1024 * 1024
"""Bytes of CSV that are parsed at once; a row has to fit in, so it is more where messages may be larger."""


def converted(form: Format, job: Job, pieces: Iterable[bytes], longest_row: int) -> Iterator[bytes]:
    """Yield the output of `job`, given as the pieces of its CSV, in another format.

    Parquet is compressed inside (zstd); Arrow is the streaming format of IPC; JSON is one array of objects, one on each line,
    with numbers and booleans as tokens and all else, NaN and infinities included, as text. `longest_row`: bytes.

    Raises Permanent where it isn't the CSV of this job.
    """
    names = [*job.ids, *(output.name for output in job.outputs)]
    types = [ColumnType("VARCHAR")] * len(job.ids) + [ColumnType.parse(output.type) for output in job.outputs]
    with closing(_groups(names, pieces, max(_BLOCK, 4 * longest_row))) as groups:
        if form == "json":
            yield from _json(names, types, groups)
        else:
            yield from _written(form, names, types, groups)


def _groups(names: list[str], pieces: Iterable[bytes], block: int) -> Generator[pa.Table]:
    """Yield tables of GROUP rows, all columns text."""
    text = pa.string()
    try:
        with pv.open_csv(
            pa.PythonFile(_Pieces(pieces), "r"),
            pv.ReadOptions(block_size=block, use_threads=False),
            pv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            pv.ConvertOptions(
                column_types=dict.fromkeys(names, text),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ) as batches:
            if batches.schema.names != names:
                raise Permanent(f"the output has the columns {batches.schema.names}, and its job {names}")
            held: list[pa.RecordBatch] = []
            rows = 0
            for batch in batches:
                held.append(batch)
                rows += batch.num_rows
                while rows >= GROUP:
                    table = pa.Table.from_batches(held, batches.schema)
                    yield table.slice(0, GROUP).combine_chunks()
                    held, rows = table.slice(GROUP).to_batches(), rows - GROUP
            if rows:
                yield pa.Table.from_batches(held, batches.schema).combine_chunks()
    except pa.ArrowInvalid as error:
        raise Permanent(f"the output can't be read as CSV: {error}") from error


def _written(
    form: Format, names: list[str], types: list[ColumnType], groups: Iterable[pa.Table]
) -> Iterator[bytes]:
    columns = ", ".join(
        f"CAST({quote(name)} AS {kind.sql}) AS {quote(name)}" for name, kind in zip(names, types, strict=True)
    )
    connection = duck.locked()

    def cast(group: pa.Table) -> pa.Table:
        connection.register("chunk", group)
        with duck.errors(Permanent, "the output doesn't fit its job's types"):
            return _settled(connection.execute(f"SELECT {columns} FROM chunk").to_arrow_table())

    empty = cast(pa.table({name: pa.array([], pa.string()) for name in names}))
    out = _Drained()
    with (
        connection,
        (
            pq.ParquetWriter(out, empty.schema, compression="zstd")
            if form == "parquet"
            else pa.ipc.new_stream(out, empty.schema)
        ) as writer,
    ):
        for group in groups:
            writer.write_table(cast(group))
            yield out.drain()
    yield out.drain()


def _settled(table: pa.Table) -> pa.Table:
    """Return the same table without what happens to stand in memory where a value is null: Arrow's bytes would show it."""
    everything = pa.array(range(table.num_rows), pa.int64())
    return table.take(everything)


def _json(names: list[str], types: list[ColumnType], groups: Iterable[pa.Table]) -> Iterator[bytes]:
    lead = b"[\n"
    for group in groups:
        values = [
            typed(column, kind) for column, kind in zip(map(lines.whole, group.columns), types, strict=True)
        ]
        yield lead + lines.text(objects(names, values), b",\n")
        lead = b",\n"
    yield b"[]\n" if lead == b"[\n" else b"\n]\n"


class _Pieces(io.RawIOBase):
    """Pieces as a file. It reads as many bytes as are asked for until the end: batches are then the same each time."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = bytearray()

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """See io.RawIOBase."""
        while size < 0 or len(self._held) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held += piece
        stop = len(self._held) if size < 0 else size
        found = bytes(self._held[:stop])
        del self._held[:stop]
        return found


class _Drained(io.RawIOBase):
    """A file that gives what was written since it was last asked."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written in all."""
        return self._at

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        """See io.RawIOBase."""
        self._written.append(bytes(data))
        self._at += len(data)
        return len(data)

    def drain(self) -> bytes:
        """Return what there is, and forget it."""
        found = b"".join(self._written)
        self._written.clear()
        return found
