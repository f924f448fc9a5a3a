"""A receipt recomputed from the stored bytes: does what it says still hold?"""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from millstream.verify_deep import compare
from pipeline import layout, records
from pipeline.dialect import Dialect, malformed_name, read_csv_sql
from pipeline.duck import connect, errors
from pipeline.errors import NotFound, Permanent
from pipeline.jobs import Captured, Job, Receipt, Stored
from pipeline.states import counted
from pipeline.store import ObjectStore

REJECT_COLUMNS = ("_row", "_error")
"""What rejects have beside the input's columns: the row's number, and why it has no result."""


class Unbalanced(Permanent):
    """What is stored isn't what the receipt says: the first difference."""


def verify(uploads: ObjectStore, results: ObjectStore, name: str, *, deep: bool = False) -> Iterator[str]:
    """Yield a sentence for each thing that was found right; raise Unbalanced at the first that isn't.

    With `deep` the result is computed anew from the upload, too; see `verify_deep.compare` for what that raises. Raises
    NotFound where the name has no receipt.
    """
    receipt = records.read(results, layout.receipt(name), Receipt)
    if receipt is None or receipt.state != "published" or receipt.output is None:
        raise NotFound(f"{name} has no receipt: nothing was published")
    job = records.read(results, layout.job(receipt.file_id), Job)
    captured = records.read(results, layout.captured(receipt.file_id), Captured)
    if job is None or captured is None:
        raise Unbalanced(f"{name}: the job of its receipt, {receipt.file_id}, is gone from {layout.JOBS}")
    yield from _account(receipt, job, captured)
    yield from _input(uploads, receipt)
    with tempfile.TemporaryDirectory(prefix="millstream-verify-") as folder:
        output = _fetch(results, receipt.output, Path(folder) / "output.csv")
        yield f"the output is as it was written: {receipt.output.size:,} bytes, SHA-256 {receipt.output.sha256}"
        yield from _output(receipt, job, output)
        rejects = Path(folder) / "rejects.csv"
        yield from _rejects(results, receipt, job, rejects)
        if deep:
            yield from compare(uploads, receipt, job, output, rejects if receipt.rejects else None)
    yield f"{counted(receipt.rows, 'row')} in = {counted(receipt.results, 'result')} + {receipt.rejected:,} rejected"


def _account(receipt: Receipt, job: Job, captured: Captured) -> Iterator[str]:
    _same("rows captured", captured.rows, "rows of the receipt", receipt.rows)
    _same("rows of the receipt", receipt.rows, "results and rejects", receipt.results + receipt.rejected)
    if receipt.input_sha256 is not None:
        _same("SHA-256 of the input when captured", captured.sha256, "the receipt's", receipt.input_sha256)
    if not job.is_named_rightly():
        raise Unbalanced(f"job {job.file_id}: its id isn't the one that its name, generation and source give")
    yield f"generation {receipt.generation}, job {receipt.file_id}: its records agree"


def _input(uploads: ObjectStore, receipt: Receipt) -> Iterator[str]:
    """Compare the upload's bytes, where it is still the one that was computed."""
    source = receipt.source
    if source is None or receipt.input_sha256 is None:
        return
    try:
        with uploads.open(source.key) as body:
            if body.head.etag != source.etag:
                yield f"not compared: the upload {source.key} is another by now"
                return
            digest = hashlib.sha256()
            for chunk in body.chunks:
                digest.update(chunk)
    except NotFound:
        yield f"not compared: the upload {source.key} is gone"
        return
    _same("SHA-256 of the upload", digest.hexdigest(), "the receipt's", receipt.input_sha256)
    yield f"the upload is the one that was computed: SHA-256 {receipt.input_sha256}"


def _output(receipt: Receipt, job: Job, path: Path) -> Iterator[str]:
    columns = (*job.calculation.id, *(output.name for output in job.outputs))
    rows, malformed, _ = _count(path, columns)
    _same("rows of the output", rows, "results of the receipt", receipt.results)
    _same("rows of the output that aren't whole", malformed, "what it may have", 0)
    yield f"the output has {counted(rows, 'row')} of {counted(len(columns), 'column')}"


def _rejects(results: ObjectStore, receipt: Receipt, job: Job, path: Path) -> Iterator[str]:
    if receipt.rejects is None:
        _same("rejects stored", 0, "rejects of the receipt", receipt.rejected)
        return
    _fetch(results, receipt.rejects, path)
    rows, malformed, numbers = _count(path, (*job.columns, *REJECT_COLUMNS), within=receipt.rows)
    _same("rows of the rejects", rows, "rejects of the receipt", receipt.rejected)
    _same("rows of the rejects that aren't whole", malformed, "what they may have", 0)
    _same(
        "row numbers of the rejects that are within the file",
        numbers,
        "rejects of the receipt",
        receipt.rejected,
    )
    yield f"the rejects have {counted(rows, 'row')}, each of another row of the input"


def _fetch(results: ObjectStore, stored: Stored, path: Path) -> Path:
    """Fetch an object and compare its bytes with what is known of it."""
    digest, size = hashlib.sha256(), 0
    try:
        with results.open(stored.key) as body, path.open("wb") as file:
            for chunk in body.chunks:
                digest.update(chunk)
                size += file.write(chunk)
    except NotFound:
        raise Unbalanced(f"{stored.key}, which the receipt names, is gone") from None
    _same(f"bytes of {stored.key}", size, "the receipt's", stored.size)
    _same(f"SHA-256 of {stored.key}", digest.hexdigest(), "the receipt's", stored.sha256)
    return path


def _count(path: Path, columns: tuple[str, ...], within: int | None = None) -> tuple[int, int, int]:
    """Return the rows of a CSV of ours, how many of them aren't whole, and how many different row numbers there are.

    Row numbers are those of rejects, and count where they are of a file of `within` rows.
    """
    inner = tuple(f"c{place}" for place in range(len(columns)))
    distinct = "0"
    if within is not None:
        number = f"TRY_CAST({inner[-len(REJECT_COLUMNS)]} AS BIGINT)"
        distinct = f"count(DISTINCT {number}) FILTER ({number} BETWEEN 0 AND {within - 1})"
    source = read_csv_sql(path, Dialect(), inner)
    con = connect()
    try:
        with errors(Unbalanced, f"{path.name} can't be read as CSV"):
            [(rows, bad, different)] = con.execute(
                f"SELECT count(*), count(*) FILTER ({malformed_name(inner)}), {distinct} FROM ({source})"
            ).fetchall()
    finally:
        con.close()
    return int(rows), int(bad), int(different)


def _same(what: str, found: object, other: str, expected: object) -> None:
    if found != expected:
        raise Unbalanced(f"{what}: {_text(found)}; {other}: {_text(expected)}")


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
