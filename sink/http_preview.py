"""What a file's page shows of its content: the first rows with what became of them, and why rows were rejected.

It reads the first kilobytes of the upload, the output and the rejects, and never more, whatever their size.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from pipeline.dialect import Dialect
from pipeline.errors import CalculationError, NotFound, Permanent, PreconditionFailed
from pipeline.expressions import check
from pipeline.jobs import Job, Receipt, Source
from pipeline.reasons import Reason, reasons
from pipeline.sql_text import fold
from pipeline.store import ObjectStore

ROWS = 8
"""Rows that are shown."""

HEAD = 128 * 1024
"""Bytes that are read of the upload, and of the output."""

REJECTS_HEAD = 2 * 1024 * 1024
"""Bytes that are read of the rejects: their reasons are counted as far as these go."""

REASONS = 12
"""Kinds of reasons that are shown one by one."""

FEW = 8
"""Columns of a file that all have room beside the results."""

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: its number and cells, and its results or why there are none; both None where it isn't computed."""

    number: int
    cells: list[str]
    results: list[str] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """The first rows, and all kinds of reasons of rejects; `counted` of them were looked at.

    Of the columns `beside` are to be seen at once, beside the results.
    """

    columns: list[str]
    beside: list[str]
    outputs: list[str]
    rows: list[Row]
    reasons: list[Reason]
    counted: int


def preview(uploads: ObjectStore, results: ObjectStore, job: Job, receipt: Receipt | None) -> Preview:
    """Return what there is to be shown of a job; `receipt` is its own, where it is published. Raises Transient errors."""
    rejects = (
        _records(_head(results, receipt.rejects.key, REJECTS_HEAD)) if receipt and receipt.rejects else []
    )
    width = len(job.columns)
    errors = {int(record[width]): record[width + 1] for record in rejects[1:] if len(record) == width + 2}
    output = _records(_head(results, receipt.output.key, HEAD)) if receipt and receipt.output else []
    outputs = [name for name in (output[0] if output else []) if name not in job.ids]
    outputs = outputs or [item.name for item in job.outputs]
    rows = _joined(_input(uploads, job.source, job.dialect, width), errors, iter(output[1:]), len(job.ids))
    return Preview(list(job.columns), columns_shown(job), outputs, rows, reasons(errors), len(errors))


def columns_shown(job: Job) -> list[str]:
    """Return which of the file's columns stand beside the results: those that the calculation uses, or all where there are few.

    Of a function it isn't known what it uses: then they are those with a type. The ids are in the results already.
    """
    if len(job.columns) <= FEW:
        return list(job.columns)
    used = {fold(name) for name in job.calculation.columns}
    if job.calculation.python is None:
        for expression in job.calculation.outputs.values():
            with suppress(CalculationError):  # it was computed, so it is one
                used |= {fold(name) for name in check(expression, job.columns)}
    return [name for name in job.columns if fold(name) in used or name in job.ids]


def _joined(
    cells: list[list[str]], errors: dict[int, str], results: Iterator[list[str]], ids: int
) -> list[Row]:
    rows = []
    for number, row in enumerate(cells):
        if number in errors:
            rows.append(Row(number, row, error=errors[number]))
            continue
        result = next(results, None)
        rows.append(Row(number, row, None if result is None else result[ids:]))
    return rows


def _input(uploads: ObjectStore, source: Source, dialect: Dialect, width: int) -> list[list[str]]:
    data = _head(uploads, source.key, HEAD, source.etag)
    compression = next((kind for suffix, kind in _COMPRESSIONS.items() if source.key.endswith(suffix)), None)
    if compression is not None:
        stream = pa.input_stream(pa.py_buffer(data), compression=compression)
        data = b""
        with suppress(OSError):  # the file goes on after what was read of it
            while len(data) < HEAD and (piece := stream.read(512)):
                data += piece
    encoding = "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding
    text = data.decode(encoding, errors="replace")
    lines = text.splitlines(keepends=True)
    if len(data) >= HEAD:
        lines = lines[:-1]  # the last one is cut off
    return _records("".join(lines[dialect.skip :]), dialect, ROWS + 1)[1:]


def _head(store: ObjectStore, key: str, length: int, etag: str | None = None) -> bytes:
    """Return an object's first bytes; nothing where it is gone, or another by now."""
    try:
        with store.open(key, if_match=etag, length=length) as body:
            return b"".join(body.chunks)
    except (NotFound, PreconditionFailed, Permanent):
        return b""


def _records(
    content: bytes | str, dialect: Dialect | None = None, limit: int | None = None
) -> list[list[str]]:
    """Parse as much as there is; a record that is cut off at the end is left out."""
    text = content if isinstance(content, str) else content.decode(errors="ignore")
    if isinstance(content, bytes) and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
    dialect = dialect or Dialect()
    if not dialect.delimiter:
        return [[line] for line in text.splitlines()[:limit]]
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        doublequote=dialect.escape == dialect.quote,
        escapechar=dialect.escape if dialect.escape != dialect.quote else None,
    )
    found: list[list[str]] = []
    with suppress(csv.Error):
        for record in reader:
            if record:
                found.append(record)
            if limit is not None and len(found) >= limit:
                break
    return found
