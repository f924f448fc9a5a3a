"""Reads a spooled CSV file as blocks of rows, values exactly as they are in the file.

As long as nothing in it has to be understood, `producer.plain` makes events of its text. From the first block on where
something has, DuckDB reads the values; `producer.outline` walks beside it over the same bytes, and gives what DuckDB doesn't:
the line and the text of a row that can't be read, and the certainty that no row was lost or made up. Where the
two count differently the file is refused.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike, stat

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dialect import NO_FIELD, Dialect, read_csv_sql
from pipeline.duck import FILE_MEMORY, Connection, Error, connect, is_out_of_memory, message, shared, stream
from pipeline.errors import InputError
from pipeline.events import TEXT_LIMIT
from pipeline.json_batch import decode_objects
from pipeline.json_text import string_objects
from pipeline.lines import whole
from producer.ahead import Ahead
from producer.outline import Extents, Outline
from producer.plain import Plain

BLOCK = 8192

SMALL = 256 * 1024
"""Bytes of a file that is read at once."""

_LOOKS_MISSING = (
    f"a field holds just {NO_FIELD!r}, the text that stands for a missing field; put it in quotes"
)

_MOST_MEMORY = 6144
"""MB. DuckDB has to hold 2,048 rows at once: where these are too wide for FILE_MEMORY, reading goes on with four
times as much, up to this."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that can't be read: 0-based row, 1-based line where it starts, and its text, cut to `TEXT_LIMIT`."""

    row: int
    line: int
    error: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows: `rows` of them, malformed ones included, from row `first_row` on.

    `columns` are the file's. `objects` has the well-formed ones, each a JSON object of strings, as `large_binary`;
    `row_numbers` has their row numbers. `end` is how many bytes of the file lie before the block's end. `locate` gives the line
    and the text of a row of `objects` by its index there, as Malformed has them, as long as the file is being read.
    """

    number: int
    first_row: int
    rows: int
    columns: Sequence[str]
    objects: pa.Array
    row_numbers: npt.NDArray[np.int64]
    malformed: list[Malformed]
    end: int
    locate: Callable[[int], tuple[int, str]]

    def table(self) -> pa.Table:
        """Return `objects` as columns, all of them strings: what calculations get to see."""
        schema = pa.schema([(column, pa.string()) for column in self.columns])
        table = decode_objects(self.objects.to_pylist(), schema).table
        assert table.num_rows == len(self.objects), "each is an object of strings"
        return table


def read(
    path: str | PathLike[str],
    dialect: Dialect,
    columns: Sequence[str],
    *,
    block: int = BLOCK,
    from_block: int = 0,
) -> Generator[Block, None, None]:
    """Yield the file's blocks from `from_block` on: `block` rows each, the last one maybe fewer.

    `path` is a spooled file: UTF-8, not compressed. Raises InputError where the file can't be read to its end
    without losing rows, naming the line: a row too long, or one that a faulty quote made swallow so many others
    that its text would have to be cut.
    """
    spooled = dialect.model_copy(update={"encoding": "utf-8"})
    with Outline(path, spooled) as outline:
        _pass_over(outline, from_block * block)
        done = from_block
        for plain in _plain(outline, spooled, columns, block, from_block):
            yield plain
            done = plain.number + 1
        if not outline.has_more():
            return
        tables = _tables(path, spooled, columns, block, done * block, outline)
        for number, rows in enumerate(tables, done):
            yield _block(number, number * block, columns, rows, outline)
        if len(outline.take(1)):
            raise _disagreement(outline)


def _plain(
    outline: Outline, dialect: Dialect, columns: Sequence[str], size: int, number: int
) -> Iterator[Block]:
    """Yield blocks as long as their text is plain."""
    plain = Plain(dialect, columns)
    while plain.possible and len(extents := outline.take(size)):
        start, end, rows = int(extents.starts[0]), int(extents.ends[-1]), len(extents)
        objects = None
        if not extents.faults and plain.has_room_for(end - start, rows):
            objects = plain.objects(outline.text(start, end), rows)
        if objects is None:
            outline.put_back(extents)
            break
        first = number * size
        locate = partial(_locate, extents, outline, np.arange(rows))
        yield Block(number, first, rows, columns, objects, np.arange(first, first + rows), [], end, locate)
        number += 1


def _block(number: int, first_row: int, columns: Sequence[str], rows: pa.Table, outline: Outline) -> Block:
    """Pair what DuckDB read with what the outline found: `rows` has the columns, strings, and the flag of malformed rows."""
    extents = outline.take(rows.num_rows)
    if len(extents) != rows.num_rows:
        raise _disagreement(outline)
    flags = rows.column(rows.num_columns - 1).to_numpy()
    table = rows.select(range(rows.num_columns - 1))
    good, malformed = np.arange(rows.num_rows), list[Malformed]()
    if extents.faults or flags.any():
        bad = flags.copy()
        bad[list(extents.faults)] = True
        malformed = [
            _malformed(first_row + int(i), int(i), table.num_columns, extents, outline)
            for i in np.flatnonzero(bad)
        ]
        good = np.flatnonzero(~bad)
        table = table.take(good)
    _check_complete(table, extents.lines[good])
    objects = string_objects(columns, [whole(column) for column in table.columns])
    locate = partial(_locate, extents, outline, good)
    end = int(extents.ends[-1]) if len(extents) else 0
    return Block(number, first_row, rows.num_rows, columns, objects, first_row + good, malformed, end, locate)


def _locate(extents: Extents, outline: Outline, rows: npt.NDArray[np.int64], index: int) -> tuple[int, str]:
    """Return the line and the text of the row at `rows[index]`."""
    return _line_and_text(extents, outline, int(rows[index]))


def _line_and_text(extents: Extents, outline: Outline, index: int) -> tuple[int, str]:
    """Return the line of a row, and its text, cut to `TEXT_LIMIT`."""
    start, end, line = (int(a[index]) for a in (extents.starts, extents.ends, extents.lines))
    return line, outline.text(start, min(end, start + TEXT_LIMIT)).decode(errors="ignore")


def _malformed(row: int, index: int, columns: int, extents: Extents, outline: Outline) -> Malformed:
    start, end = int(extents.starts[index]), int(extents.ends[index])
    line, text = _line_and_text(extents, outline, index)
    error = extents.faults.get(index)
    if error is not None:
        if end - start > TEXT_LIMIT and ("\n" in text or "\r" in text):
            raise InputError(
                f"line {line}: {error}, and so the lines after it were read as part of this row, "
                f"{end - start:,} bytes in all; mend the quote, or name the right quote and escape"
            )
        return Malformed(row, line, error, text)
    found = outline.fields(start, end)
    if found == columns:
        raise InputError(f"line {line}: {_LOOKS_MISSING}")
    return Malformed(row, line, f"expected {columns} fields, found {found}", text)


def _check_complete(table: pa.Table, lines: npt.NDArray[np.int64]) -> None:
    """Raise InputError where a field that is there came as a missing one."""
    for column in table.columns:
        if column.null_count:
            where = lines[np.flatnonzero(column.is_null().to_numpy())[0]]
            raise InputError(f"line {where}: {_LOOKS_MISSING}")


def _disagreement(outline: Outline) -> InputError:
    return InputError(
        f"near line {outline.line}: the rows can't be told apart for certain, so none are guessed; look for "
        "faulty quotes there, or name the delimiter, quote and escape"
    )


def _pass_over(outline: Outline, rows: int) -> None:
    step = 1_000_000
    while rows > 0 and len(taken := outline.take(min(rows, step))):
        rows -= len(taken)


def _tables(
    path: str | PathLike[str],
    dialect: Dialect,
    columns: Sequence[str],
    block: int,
    first: int,
    outline: Outline,
) -> Generator[pa.Table, None, None]:
    """Yield DuckDB's rows a block at a time; raise InputError where it reads no further."""
    running: list[Connection] = []
    tables = _read(path, dialect, columns, block, first, running)
    try:
        # A thread for a file that is read at once costs as much as reading it.
        if stat(path).st_size <= SMALL:
            yield from tables
        else:
            with Ahead(tables, interrupt=partial(_interrupt, running)) as ahead:
                yield from ahead
    except (Error, OSError) as error:
        line = outline.line
        _pass_over(outline, 2**62)  # which says so where a row is too long
        raise InputError(f"after line {line}: {message(error)}") from error


def _interrupt(running: Sequence[Connection]) -> None:
    """Have the queries on these connections end: one that begins late in a file may take seconds to get there."""
    for con in running:
        with suppress(Error):  # closed by now
            con.interrupt()


def _read(
    path: str | PathLike[str],
    dialect: Dialect,
    columns: Sequence[str],
    block: int,
    first: int,
    running: list[Connection],
) -> Generator[pa.Table, None, None]:
    """Yield DuckDB's rows in tables of `block` rows, the flag for malformed rows last.

    `running` holds the connection that is used, for another thread to interrupt it.
    """
    done = first
    memory = FILE_MEMORY
    while True:
        con = shared() if memory == FILE_MEMORY else connect(memory_limit=f"{memory}MB")
        running[:] = [con]
        try:
            con.execute("SET enable_progress_bar = false")  # it would be drawn on standard output
            query = f"{read_csv_sql(path, dialect, columns)} OFFSET {done}"
            whole = stat(path).st_size <= SMALL
            for table in _in_blocks(stream(con, query, block, whole=whole), block):
                yield table
                done += table.num_rows
            return
        except (Error, OSError) as error:
            if not is_out_of_memory(error):
                raise
            if memory >= _MOST_MEMORY:
                raise InputError(f"after row {done:,}: 2,048 rows don't fit in {memory} MB") from error
            memory *= 4
        finally:
            running.clear()
            con.close()


def _in_blocks(reader: pa.RecordBatchReader, size: int) -> Iterator[pa.Table]:
    """Yield the rows of a reader in tables of exactly `size` rows, the last one maybe smaller."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        held.append(batch)
        count += batch.num_rows
        if count >= size:
            table = pa.Table.from_batches(held)
            whole = count - count % size
            for at in range(0, whole, size):
                yield table.slice(at, size)
            count -= whole
            held = table.slice(whole).to_batches()
    if count:
        yield pa.Table.from_batches(held)
