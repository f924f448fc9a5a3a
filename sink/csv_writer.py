"""Tables to CSV, byte for byte as DuckDB's COPY writes them."""

import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.duck import Connection, Error
from pipeline.errors import Transient
from pipeline.jobs import Job
from pipeline.sql_text import quote
from pipeline.types import ColumnType

CHUNK = 131_072
"""Rows of one COPY: enough to make DuckDB's 3 ms per query small."""

CHUNK_BYTES = 8 * 1024 * 1024
"""Bytes of its table, at which it is made shorter: rows may be long, and memory is to stay small."""

REJECTS = 8_192
REJECT_BYTES = 4 * 1024 * 1024
"""Rejects of one COPY, at most, in rows and in bytes: they are taken apart in Python, cell by cell."""

PIECE = 1024 * 1024
"""Bytes that are read back at once."""

_FULL = "No space left on device"


def results_csv(job: Job, tables: Iterable[pa.Table], connection: Connection) -> Iterator[bytes]:
    """Yield the output CSV of decoded results, which come in order: header, then rows.

    Columns that were decoded as text get their type back first, so that DuckDB writes what it would have written for it.
    """
    columns = [quote(name) for name in job.ids]
    columns += [
        f"CAST({quote(output.name)} AS {ColumnType.parse(output.type).sql})" for output in job.outputs
    ]
    names = [*job.ids, *(output.name for output in job.outputs)]
    select = ", ".join(f"{column} AS {quote(name)}" for column, name in zip(columns, names, strict=True))
    empty = pa.table({name: pa.array([], pa.string()) for name in names})
    yield from _copy(_chunks(tables), empty, select, connection)


def rejects_csv(job: Job, rejects: Iterable[tuple[int, bytes]], connection: Connection) -> Iterator[bytes]:
    """Yield the rejects, which come in order, as CSV: the input's columns, then `_row` (0-based) and `_error`."""
    names = [*job.columns, "_row", "_error"]
    aliases = [f"c{number}" for number in range(len(names))]
    select = ", ".join(f"{alias} AS {quote(name)}" for alias, name in zip(aliases, names, strict=True))

    def tables() -> Iterator[pa.Table]:
        cells: list[list[str | None]] = []
        size = 0
        for row, value in rejects:
            cells.append(_reject_cells(job, row, value))
            size += len(value)
            if len(cells) == REJECTS or size > REJECT_BYTES:
                yield _table(cells, aliases)
                cells, size = [], 0
        if cells:
            yield _table(cells, aliases)

    yield from _copy(tables(), _table([], aliases), select, connection)


def _reject_cells(job: Job, row: int, value: bytes) -> list[str | None]:
    reject: dict[str, Any] = json.loads(value)
    given = reject.get("row")
    cells = given if isinstance(given, dict) else {}
    error = str(reject["error"])
    if "line" in reject:
        error = f"line {reject['line']}: {error}: {reject.get('text', '')}"
    return [*(_text(cells.get(name)) for name in job.columns), str(row), error]


def _text(cell: Any) -> str | None:
    return cell if isinstance(cell, str) or cell is None else json.dumps(cell)


def _table(rows: list[list[str | None]], names: list[str]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pa.table([pa.array(column, pa.string()) for column in columns], names=names)


def _chunks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Regroup tables to about CHUNK rows or CHUNK_BYTES each."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        size += table.nbytes
        if rows >= CHUNK or size >= CHUNK_BYTES:
            yield pa.concat_tables(held)
            held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held)


def _copy(
    tables: Iterable[pa.Table], empty: pa.Table, select: str, connection: Connection
) -> Iterator[bytes]:
    """Yield what COPY writes for tables, one after the other; only the first brings the header, `empty` where there is none.

    While one is read back and sent, the next is written.
    """
    rest = iter(tables)
    first = next(rest, empty)
    with tempfile.TemporaryDirectory(prefix="millstream-") as folder:

        def write(number: int, table: pa.Table) -> Path:
            file = Path(folder, f"{number % 2}.csv")
            connection.register("chunk", table)
            header = "true" if number == 0 else "false"
            try:
                connection.execute(
                    f"COPY (SELECT {select} FROM chunk) TO '{file}' (FORMAT csv, HEADER {header})"
                ).fetchall()
            except Error as error:
                if _FULL in str(error):
                    raise Transient(f"the output is written by way of {folder}, which is full") from error
                raise
            connection.unregister("chunk")
            return file

        file = write(0, first)
        second = next(rest, None)
        if second is None:  # most files are small: no thread for them
            yield from _pieces(file)
            return
        with ThreadPoolExecutor(1, "csv") as writer:
            for number, table in enumerate(itertools.chain([second], rest), 1):
                ahead = writer.submit(write, number, table)
                yield from _pieces(file)
                file = ahead.result()
            yield from _pieces(file)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as written:
        while piece := written.read(PIECE):
            yield piece
