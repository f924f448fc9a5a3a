"""The whole result computed anew, by the SQL that the job keeps, straight from the upload: is it what was published?"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pipeline import layout
from pipeline.bind import bind
from pipeline.dialect import malformed_name, read_csv_sql
from pipeline.duck import connect, errors
from pipeline.errors import CalculationError, NotFound, Permanent, PreconditionFailed, UsageError
from pipeline.jobs import Job, Receipt
from pipeline.sql_text import literal
from pipeline.states import counted
from pipeline.store import READ_CHUNK, ObjectStore
from producer.spool import Spool, spool

SHOWN = 200
"""Characters of a row that are shown where it is unlike the one computed."""

TOOK_TOO_MUCH = (
    b"(message_bytes)",
    b" bytes, Kafka takes ",
    b"than the limit of",
    b"the row can't be computed: ",
)
"""What reasons of rejects say that are of no concern to SQL: the row, its result or its computing was too large, or killed."""


class Unlike(Permanent):
    """What was published isn't what the upload gives: the first difference."""


def compare(
    uploads: ObjectStore, receipt: Receipt, job: Job, output: Path, rejects: Path | None
) -> Iterator[str]:
    """Compute the result from the upload, and yield a sentence where it is what lies in `output`, byte by byte.

    The computed result may have rows more that were rejected for what they took; `rejects` tells how many. Raises Unlike with
    the first difference, NotFound or PreconditionFailed where the upload isn't there as it was, UsageError for a Python
    calculation, which has no SQL.
    """
    with _spooled(uploads, job) as file, tempfile.TemporaryDirectory(prefix="millstream-verify-") as folder:
        computed = Path(folder) / "computed.csv"
        rows = _compute(job, file, computed, folder)
        if rows != receipt.rows:
            raise Unlike(f"rows of the upload: {rows:,}; rows of the receipt: {receipt.rows:,}")
        if not _same_bytes(output, computed):
            _first_difference(output, computed, _took_too_much(rejects))
    yield f"the output is what the job's SQL gives for the upload: {counted(receipt.results, 'row')}, computed anew"


def _spooled(uploads: ObjectStore, job: Job) -> Spool:
    source = job.source
    try:
        with uploads.open(source.key, if_match=source.etag) as body:
            return spool(body.chunks, source.key, tempfile.gettempdir(), encoding=job.dialect.encoding)
    except NotFound:
        raise NotFound(f"the upload {source.key} is gone: there is nothing to compute from") from None
    except PreconditionFailed:
        raise PreconditionFailed(
            f"the upload {source.key} is another by now: there is nothing to compute from"
        ) from None


def _compute(job: Job, file: Spool, target: Path, folder: str) -> int:
    """Write the result that the job's SQL gives; return the rows of the file."""
    oracle = _checked(job, read_csv_sql(job.source.key, job.dialect, job.columns))
    read = read_csv_sql(file.path, job.dialect.model_copy(update={"encoding": "utf-8"}), job.columns)
    if oracle != job.oracle:
        raise Permanent(
            f"{layout.job(job.file_id)}: its SQL isn't its calculation's: it was written by another version, or changed"
        )
    con = connect(temp_directory=folder)
    try:
        with errors(Unlike, "the job's SQL fails for the upload"):
            con.execute("SET enable_progress_bar = false")
            con.execute(f"COPY ({_checked(job, read)}) TO {literal(str(target))} (FORMAT csv, HEADER)")
            [(rows,)] = con.execute(f"SELECT count(*) FROM ({read})").fetchall()
    finally:
        con.close()
    return int(rows)


def _checked(job: Job, read: str) -> str:
    """Return the job's SQL over `read`, made from its calculation: what lies on a bucket is never run as it is."""
    try:
        sql = bind(job.calculation, job.columns).oracle_sql(f"({read})", malformed_name(job.columns))
    except CalculationError as error:
        raise CalculationError(f"{layout.job(job.file_id)}: {error}") from None
    if sql is None:
        raise UsageError(
            f"{job.name} was computed by a Python function, which has no SQL to compare with: verify it without --deep"
        )
    return sql


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while chunk := left.read(READ_CHUNK):
            if chunk != right.read(READ_CHUNK):
                return False
    return True


def _first_difference(output: Path, computed: Path, passed_over: int) -> None:
    """Raise Unlike at the first row that is another; up to `passed_over` computed rows may be without one in the output."""
    with output.open("rb") as stored, computed.open("rb") as wanted:
        others = _rows(wanted)
        number = -1
        for number, row in enumerate(_rows(stored)):
            for other in others:
                if row == other:
                    break
                passed_over -= 1
                if passed_over < 0:
                    raise Unlike(
                        f"{_place(number)} is {_text(row)}; computed from the upload: {_text(other)}"
                    )
            else:
                raise Unlike(
                    f"{_place(number)} is {_text(row)}; computed from the upload there is no such row"
                )
        left = list(islice(others, passed_over + 1))
        if len(left) > passed_over:
            raise Unlike(
                f"{_place(number)} is the last; computed from the upload there is also {_text(left[0])}"
            )


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rows of a CSV as DuckDB writes it: a row ends where a line does, unless a quote is open."""
    held: list[bytes] = []
    is_open = False
    for line in file:
        held.append(line)
        is_open ^= line.count(b'"') % 2 == 1
        if not is_open:
            yield b"".join(held)
            held = []
    if held:
        yield b"".join(held)


def _place(number: int) -> str:
    return "the header" if number <= 0 else f"row {number:,} of the output"


def _text(row: bytes) -> str:
    text = row.rstrip(b"\n").decode(errors="replace")
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def _took_too_much(rejects: Path | None) -> int:
    """Return how many rows were rejected for what they took: the SQL knows nothing of messages and workers."""
    if rejects is None:
        return 0
    with rejects.open("rb") as file:
        return sum(any(reason in row for reason in TOOK_TOO_MUCH) for row in _rows(file))
