"""A calculation tried on the first kilobytes of a file, for somebody at a browser: in a process of its own.

Whatever an expression does there, it can do no harm: it is checked as capture checks it and runs on the locked DuckDB
connection, in a process without credentials, whose memory, time and files are limited, and which is killed when its time is
up, or the reader is asked to end. Python functions are refused.

    run(request, stopping)           starts the process, gives it a request, returns its answer; both are JSON
    python -m millstream.trialbox    the process: request on stdin, answer on stdout
"""

import base64
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import Transient

SECONDS = 30.0
"""What a request may take, from the start of the process to its end."""

_LOOK = 0.2
"""Seconds between two looks at whether the reader is asked to end."""

CPU_SECONDS = 10
MEMORY = 4 * 2**30
"""Bytes of addresses, of which DuckDB and Arrow reserve far more than they use; what a calculation may use is CALCULATION."""

CALCULATION = "256MB"
FILES = 16 * 2**20
"""Bytes of the largest file that the process may write."""

ROWS = 20
"""Rows that are shown; more are computed, to say how many would be rejected."""

REASONS = 12
"""Kinds of reasons that are told."""

FURTHER = 1_000

_LIMITS = [
    (resource.RLIMIT_AS, MEMORY),
    (resource.RLIMIT_CPU, CPU_SECONDS),
    (resource.RLIMIT_FSIZE, FILES),
    (resource.RLIMIT_NOFILE, 64),
    (resource.RLIMIT_CORE, 0),
]


def run(request: bytes, stopping: Callable[[], bool]) -> bytes:
    """Return the answer to a request: a result, or `{"error": …}` with what a person can do about it.

    Raises Transient, with the process killed, as soon as `stopping()` says so.
    """
    code = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory(prefix="millstream-try-") as folder:
        environment = {"PATH": os.defpath, "PYTHONPATH": code, "TMPDIR": folder, "LANG": "C.UTF-8"}
        given = Path(
            folder, "request"
        )  # a file: communicate() forgets what it hasn't written when its time is up
        given.write_bytes(request)
        with (
            given.open("rb") as stdin,
            subprocess.Popen(
                [sys.executable, "-m", "millstream.trialbox"],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=environment,
                start_new_session=True,
            ) as process,
        ):
            try:
                found = _answer_of(process, stopping)
            finally:
                process.kill()  # leaving the block waits for it; one that has ended is let be
    if found is None:
        return _error(f"it took longer than {SECONDS:.0f} s: try something that computes less in a row")
    if process.returncode or not found:
        return _error("it took more memory or time than a try may")
    return found


def _answer_of(process: "subprocess.Popen[bytes]", stopping: Callable[[], bool]) -> bytes | None:
    """Return what a process answers, None where its time is up."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if stopping():
            raise Transient("the reader is ending: try it again")
        try:
            return process.communicate(timeout=_LOOK)[0]
        except subprocess.TimeoutExpired:
            continue
    return None


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what becomes of a file's first rows.

    `name`: the file's; `content`: its first bytes in base64; `whole`: whether these are all; `calculation`: TOML as in
    millstream.toml, or None to have one written from the columns. Raises MillstreamErrors.
    """
    from pipeline.dialect import DialectOverrides
    from pipeline.errors import InputError
    from pipeline.reasons import reasons
    from processor.calculate import Calculator
    from producer.content import merged
    from producer.prepare import prepare
    from producer.reader import read
    from producer.spool import spool

    data = _text(str(request["name"]), base64.b64decode(request["content"]), bool(request["whole"]))
    toml = request.get("calculation") or None
    calculation = None if toml is None else _calculation(toml)
    told = merged(calculation.dialect, DialectOverrides()) if calculation else DialectOverrides()
    with spool([data], str(request["name"]), tempfile.gettempdir(), encoding=told.encoding) as file:
        if calculation is None:
            toml = _suggest(str(request["name"]), file, told)
            calculation = _calculation(toml)
        prepared = prepare(calculation, file, told)
        bound = prepared.bound
        block = next(read(file.path, prepared.dialect, prepared.columns, block=FURTHER), None)
        if block is None:
            raise InputError("the file has a header and no rows")
        table = block.table()
        calculated = Calculator(bound, memory_limit=CALCULATION, seconds=5.0).run(table)
    names = [name for name, _ in bound.outputs]
    numbers = block.row_numbers.tolist()
    cells = dict(zip(numbers, (list(row.values()) for row in table.to_pylist()), strict=True))
    results = {
        numbers[place]: [row[name] for name in names]
        for place, row in zip(calculated.good.tolist(), calculated.outputs.to_pylist(), strict=True)
    }
    errors = {numbers[reject.index]: reject.error for reject in calculated.rejects}
    errors |= {malformed.row: f"line {malformed.line}: {malformed.error}" for malformed in block.malformed}
    shown = sorted({*results, *errors})[:ROWS]
    return {
        "calculation": toml,
        "dialect": prepared.dialect.describe(),
        "columns": list(prepared.columns),
        "outputs": [{"name": name, "type": kind.sql} for name, kind in bound.outputs],
        "rows": [
            {"row": row, "cells": cells.get(row, []), "results": results.get(row), "error": errors.get(row)}
            for row in shown
        ],
        "computed": block.rows,
        "rejected": len(errors),
        "reasons": [asdict(reason) for reason in reasons(dict(sorted(errors.items())))[:REASONS]],
    }


def _text(name: str, data: bytes, whole: bool) -> bytes:
    """Return the content unpacked, without a last line that is cut off."""
    import pyarrow as pa

    compression = {".gz": "gzip", ".zst": "zstd"}.get(Path(name).suffix)
    if compression is not None:
        stream, data = pa.input_stream(pa.py_buffer(data), compression=compression), b""
        try:
            while len(data) < 2**20 and (piece := stream.read(512)):
                data += piece
            whole = whole and len(data) < 2**20
        except OSError:
            whole = False
    return data if whole else data[: data.rfind(b"\n") + 1] or data


def _calculation(toml: str) -> Any:
    from pydantic import ValidationError

    from pipeline.calculations import Calculation
    from pipeline.errors import CalculationError

    try:
        found = tomllib.loads(toml).get("calculations", {})
        [(label, fields)] = found.items()
        return _without_python(Calculation.model_validate({"label": label} | fields))
    except tomllib.TOMLDecodeError as error:
        raise CalculationError(f"not valid TOML: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise CalculationError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from None
    except (TypeError, ValueError, AttributeError):
        raise CalculationError("write one calculation, as [calculations.NAME]") from None


def _without_python(calculation: Any) -> Any:
    from pipeline.errors import CalculationError

    if calculation.python is not None:
        raise CalculationError("python: functions are not run here; try them with  millstream try FILE")
    return calculation


def _suggest(name: str, file: Any, told: Any) -> str:
    import pyarrow as pa

    from millstream.init import SAMPLE, declaration, guess_types
    from producer.reader import read
    from producer.sniff import sniff

    dialect, columns = sniff(file.path, told, encoding=file.encoding)
    block = next(read(file.path, dialect, columns, block=SAMPLE), None)
    empty = pa.table({column: pa.array([], pa.string()) for column in columns})
    return declaration("mine", name, guess_types(block.table() if block is not None else empty), told)


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


def main() -> None:
    """Answer one request."""
    for kind, limit in _LIMITS:
        resource.setrlimit(kind, (limit, limit))
    from pipeline.errors import MillstreamError

    try:
        found = json.dumps(answer(json.load(sys.stdin)), ensure_ascii=False).encode()
    except MillstreamError as error:
        found = _error(str(error))
    sys.stdout.buffer.write(found)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
