"""The computed CSV as Parquet, Arrow and JSON: the same values, with the job's types."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import duck
from pipeline.errors import Permanent
from pipeline.jobs import Job
from sink import http_formats
from sink.http_formats import converted
from sink.http_negotiation import Format
from tests.jobs import make_job

TYPES = {
    "flag": "BOOLEAN",
    "small": "TINYINT",
    "big": "BIGINT",
    "unsigned": "UBIGINT",
    "money": "DECIMAL(38,10)",
    "part": "DECIMAL(4,4)",
    "single": "FLOAT",
    "double": "DOUBLE",
    "text": "VARCHAR",
    "day": "DATE",
    "at": "TIME",
    "moment": "TIMESTAMP",
    "zoned": "TIMESTAMPTZ",
    "uuid": "UUID",
}
ROWS = [
    "'007', true, -128, 9223372036854775807, 18446744073709551615, 1234567890123456789012345678.0123456789, 0.1234, 1.5, 1e300,"
    "'x', DATE '2024-02-29', TIME '23:59:59.999999', TIMESTAMP '2024-02-29 12:00:00.123456',"
    "TIMESTAMPTZ '2024-02-29 12:00:00+00', UUID '12345678-1234-5678-1234-567812345678'",
    "'', false, 0, 0, 0, 0, -0.0001, 'nan', '-inf', '', DATE '1900-01-01', TIME '00:00:00', TIMESTAMP '1900-01-01', "
    "TIMESTAMPTZ '1900-01-01 00:00:00+00', UUID '00000000-0000-0000-0000-000000000000'",
    "'a \"quoted\", id\nof two lines', " + ", ".join(["NULL"] * len(TYPES)),
    "'ü', true, 1, -1, 1, -1.5, 0, 'inf', 0.1, "
    "'null \\ \"', DATE '9999-12-31', TIME '01:02:03', TIMESTAMP '9999-12-31 01:02:03', "
    "TIMESTAMPTZ '2024-06-01 00:00:00+00', UUID 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
]


@pytest.fixture
def job() -> Job:
    return make_job(columns=("id",), outputs=tuple(TYPES.items()))


def oracle(rows: list[str]) -> str:
    """The typed values as a query of DuckDB's."""
    columns = ", ".join(
        ["c0 AS id", *(f"CAST(c{n} AS {kind}) AS {name}" for n, (name, kind) in enumerate(TYPES.items(), 1))]
    )
    names = ", ".join(f"c{number}" for number in range(len(TYPES) + 1))
    unions = " UNION ALL ".join(f"SELECT {row}" for row in rows)
    return f"SELECT {columns} FROM ({unions}) t({names})"


def csv_of(query: str, folder: Path) -> bytes:
    """What the sink writes of it."""
    with duck.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{folder / 'out.csv'}' (FORMAT csv, HEADER)")
    return (folder / "out.csv").read_bytes()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def convert(form: Format, job: Job, csv: bytes, size: int = 7) -> bytes:
    return b"".join(converted(form, job, pieces(csv, size), 1000))


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("rows", [ROWS, []], ids=["values", "no rows"])
def test_tables_have_the_types_and_the_values_that_duckdb_computed(
    job: Job, tmp_path: Path, form: Format, rows: list[str]
) -> None:
    query = oracle(rows or ROWS[:1]) + (" WHERE false" if not rows else "")
    with duck.connect() as connection:
        expected: Any = connection.execute(query).to_arrow_table()
    data = convert(form, job, csv_of(query, tmp_path))
    found: Any = pq.read_table(io.BytesIO(data)) if form == "parquet" else pa.ipc.open_stream(data).read_all()
    assert found.schema.equals(expected.schema)
    assert str(found.to_pylist()) == str(expected.to_pylist())  # as text, since NaN is not NaN


def test_json_has_numbers_with_all_their_digits_and_text_for_the_rest(job: Job, tmp_path: Path) -> None:
    text = convert("json", job, csv_of(oracle(ROWS), tmp_path)).decode()
    first, second, third, fourth = json.loads(text, parse_float=str, parse_int=str)
    assert first == {
        "id": "007",
        "flag": True,
        "small": "-128",
        "big": "9223372036854775807",
        "unsigned": "18446744073709551615",
        "money": "1234567890123456789012345678.0123456789",
        "part": "0.1234",
        "single": "1.5",
        "double": "1e+300",
        "text": "x",
        "day": "2024-02-29",
        "at": "23:59:59.999999",
        "moment": "2024-02-29 12:00:00.123456",
        "zoned": "2024-02-29 12:00:00+00",
        "uuid": "12345678-1234-5678-1234-567812345678",
    }
    assert (second["id"], second["text"], second["single"], second["double"]) == ("", "", "nan", "-inf")
    assert third == {"id": 'a "quoted", id\nof two lines'} | dict.fromkeys(TYPES)
    assert fourth["text"] == 'null \\ "'
    assert text.count("\n") == 6  # one line for each row, and one for each bracket


def test_json_of_no_rows_is_an_empty_array(job: Job, tmp_path: Path) -> None:
    assert convert("json", job, csv_of(oracle(ROWS) + " WHERE false", tmp_path)) == b"[]\n"


@pytest.mark.parametrize("form", ["json", "parquet", "arrow"])
def test_the_bytes_are_the_same_however_they_come_in(
    job: Job, tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_formats, "GROUP", 3)
    monkeypatch.setattr(http_formats, "_BLOCK", 5000)
    csv = csv_of(oracle(ROWS * 12), tmp_path)
    assert convert(form, job, csv, 11) == convert(form, job, csv, 100_000)
    if form == "parquet":
        assert pq.ParquetFile(io.BytesIO(convert(form, job, csv))).num_row_groups == 16


def test_what_is_not_the_jobs_output_is_refused(job: Job) -> None:
    with pytest.raises(Permanent, match="has the columns"):
        convert("json", job, b"id,other\n1,2\n")
    narrow = make_job(columns=("id",), outputs=(("total", "INTEGER"),))
    with pytest.raises(Permanent, match="doesn't fit its job's types"):
        convert("parquet", narrow, b"id,total\n1,x\n")
    with pytest.raises(Permanent, match="can't be read as CSV"):
        convert("json", narrow, b"id,total\n1,2,3\n")
