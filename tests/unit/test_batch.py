"""The way of a row through processor and sink, as functions: no Faust, no Kafka, no S3."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import duck, events, json_text
from pipeline.bind import bind
from pipeline.calculations import Calculation
from pipeline.jobs import Job, Output
from pipeline.kafka_batch import Batch
from pipeline.messages import Messages
from pipeline.settings import Settings
from pipeline.store import MemoryStore
from processor.batch import Results, process
from processor.calculators import CalculatorCache
from sink.collector import Collection
from sink.csv_writer import results_csv
from sink.decode import Decoder, look
from tests.jobs import make_captured, make_job
from tests.unit.sink_doubles import merged_csv, spill

LIMIT = 1_000_000
CALCULATORS = CalculatorCache(Settings())
CONNECTION = duck.connect()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def job_of(columns: tuple[str, ...], calculation: Calculation, **options: int) -> Job:
    """Return a job of this calculation, with its outputs typed as `bind` derives them."""
    bound = bind(calculation, columns)
    outputs = tuple(Output(name=name, type=kind.sql) for name, kind in bound.outputs)
    update = {"calculation": calculation, "outputs": outputs, "digest": calculation.digest}
    return make_job(columns=columns, **options).model_copy(update=update)  # type: ignore[arg-type]


def row_batch(job: Job, rows: Sequence[Sequence[str]], first: int = 0) -> Batch:
    """Return row events of one partition, as capture sends them."""
    columns = [pa.array([row[at] for row in rows], pa.string()) for at in range(len(job.columns))]
    values = json_text.string_objects(job.columns, columns)
    keys = events.row_keys(job.file_id, np.arange(first, first + len(rows)))
    return batch(job.partition(first), keys.to_pylist(), values.to_pylist())


def batch(partition: int, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> Batch:
    return Batch("t", partition, 0, len(keys) - 1, list(keys), list(values))


def sent(results: Results) -> tuple[list[bytes], list[bytes]]:
    """Return the keys and the values of what goes out, without the ends."""
    messages = Messages.joined(results.messages)
    return messages.keys.to_pylist(), messages.values.to_pylist()


def run(job: Job, rows: Batch, others: Mapping[str, Job] | None = None) -> Results:
    jobs = {job.file_id: job} | dict(others or {})
    return process(rows, jobs.get, CALCULATORS, LIMIT)


def csv_of(job: Job, results: Results, total: int, partition: int) -> bytes:
    """Return the output CSV that the sink makes of result events."""
    decoded = Decoder(CONNECTION).decode(look(batch(partition, *sent(results)), {job.file_id: job}.get))
    collection = Collection(job)
    for piece in decoded.pieces:
        collection.add(partition, piece.rows, piece.table)
    for rejects in decoded.rejects:
        collection.reject(partition, np.array(rejects.rows), rejects.values)
    collection.settle(make_captured(job, total))
    assert collection.is_complete(), collection.lacking(partition)
    assert decoded.dropped == 0
    written = b"".join(results_csv(job, collection.freeze().in_order(), CONNECTION))
    store = MemoryStore()
    spill(store, collection)
    assert merged_csv(store, job, total) == written, "over parts on S3 it is the same"
    return written


EDGES = {
    "DECIMAL(38,10)": ["1234567890123456789012345678.0123456789", "-0.0000000001", "0", "1.1000000000"],
    "BIGINT": ["9223372036854775807", "-9223372036854775808", "0"],
    "UBIGINT": ["18446744073709551615", "0"],
    "TINYINT": ["-128", "127"],
    "DOUBLE": ["-0.0", "1e-7", "1e300", "nan", "inf", "-inf", "0.1", "1", "123456789.123456789", "5e-324"],
    "FLOAT": ["0.1", "-0.0", "nan", "3.4028235e38", "1e-7"],
    "BOOLEAN": ["true", "false"],
    "DATE": ["1969-12-31", "9999-12-31", "12024-02-29", "0044-03-15 (BC)", "2024-02-29", "infinity"],
    "TIME": ["00:00:00", "23:59:59.999999"],
    "TIMESTAMP": ["1969-12-31 23:59:59.999999", "20000-01-01 00:00:00", "2024-01-01 12:00:00"],
    "TIMESTAMPTZ": ["2024-01-01 12:00:00+02", "1969-12-31 23:59:59.999999+00"],
    "UUID": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "VARCHAR": [
        "null",
        "NULL",
        "a,b",
        'say "x"',
        "two\nlines",
        "cr\rx",
        "😀",
        "  ",
        "'",
        "nul\0byte",
        "007",
        "\\N",
    ],
}


@pytest.mark.parametrize("kind", EDGES)
def test_values_at_the_edges_of_their_type_come_out_as_duckdb_writes_them(kind: str, tmp_path: Path) -> None:
    """Through both events and the sink, byte for byte; NULL beside them."""
    cells = [*EDGES[kind], ""]
    columns = {} if kind == "VARCHAR" else {"v": kind}
    job = job_of(
        ("id", "v"), Calculation(match="*", id="id", columns=columns, outputs={"out": "v"}), block=64
    )
    rows = [(f"id{n}", cell) for n, cell in enumerate(cells)]
    results = run(job, row_batch(job, rows))
    assert results.rejected == 0
    with duckdb.connect() as oracle:
        oracle.execute("SET TimeZone = 'UTC'")
        oracle.register("cells", pa.table({"id": [row[0] for row in rows], "v": cells}))
        typed = "v" if kind == "VARCHAR" else f"CAST(CASE WHEN v <> '' THEN v END AS {kind})"
        oracle.execute(
            f"COPY (SELECT id, {typed} AS out FROM cells) TO '{tmp_path}/o.csv' (FORMAT csv, HEADER)"
        )
    assert csv_of(job, results, len(rows), job.partition(0)) == (tmp_path / "o.csv").read_bytes()


@pytest.mark.parametrize("kind", EDGES)
def test_a_result_is_json_that_anybody_can_read(kind: str) -> None:
    """Numbers and booleans are tokens, the rest strings, NULL is null."""
    columns = {} if kind == "VARCHAR" else {"v": kind}
    job = job_of(
        ("id", "v"), Calculation(match="*", id="id", columns=columns, outputs={"out": "v"}), block=64
    )
    results = run(job, row_batch(job, [(f"id{n}", cell) for n, cell in enumerate(EDGES[kind])]))
    for value, cell in zip(sent(results)[1], EDGES[kind], strict=True):
        out = json.loads(value, parse_constant=pytest.fail)["out"]
        token = kind in {"BOOLEAN", "BIGINT", "UBIGINT", "TINYINT", "FLOAT", "DOUBLE"} or kind.startswith(
            "DECIMAL"
        )
        assert isinstance(out, str) != (token and cell not in {"nan", "inf", "-inf"})


def test_the_events_are_those_that_the_design_shows() -> None:
    """Key, and value with the id as text and the total with its scale."""
    job = job_of(
        ("order_id", "quantity", "price"),
        Calculation(
            match="*",
            id="order_id",
            columns={"quantity": "BIGINT", "price": "DECIMAL(18,2)"},
            outputs={"total": "quantity * price"},
        ),
    )
    results = run(job, row_batch(job, [("007", "3", "9.99"), ("008", "1", "9,99")]))
    assert dict(zip(*sent(results), strict=True)) == {
        f"{job.file_id}:0".encode(): b'{"order_id":"007","total":29.97}',
        f"{job.file_id}:1:rejected".encode(): (
            b'{"error":"price: \'9,99\' is not DECIMAL(18,2)","column":"price",'
            b'"row":{"order_id":"008","quantity":"1","price":"9,99"}}'
        ),
    }


@given(
    rows=st.lists(
        st.tuples(TEXT, st.one_of(TEXT, st.integers().map(str), st.just(""))), min_size=1, max_size=40
    ),
    flips=st.lists(st.sampled_from([b"", b"null", b"{}", b'{"id":1}', b"\xff", None]), max_size=5),
)
def test_any_rows_with_any_broken_messages_between_come_out_as_the_oracle_says(
    rows: list[tuple[str, str]], flips: list[bytes | None]
) -> None:
    """Results and rejects are exactly those that a DuckDB query on the same cells gives."""
    calculation = Calculation(
        match="*", id="id", columns={"v": "INTEGER"}, outputs={"o": "v * 1000", "t": "id || '!'"}
    )
    job = job_of(("id", "v"), calculation, block=64)
    good = row_batch(job, rows)
    keys: list[bytes | None] = [*good.keys]
    values: list[bytes | None] = [*good.values]
    for number, flip in enumerate(flips):
        keys.insert(number, f"{job.file_id}:{number % len(rows)}".encode())
        values.insert(number, flip)
    results = run(job, batch(good.partition, keys, values))
    with duckdb.connect() as oracle:
        oracle.register(
            "file", pa.table({"n": range(len(rows)), "id": [r[0] for r in rows], "v": [r[1] for r in rows]})
        )
        expected = oracle.sql(
            "SELECT id, try_cast(v AS INTEGER)::BIGINT * 1000 AS o, id || '!' FROM file "
            "WHERE (v = '' OR try_cast(v AS INTEGER) IS NOT NULL) "
            "AND coalesce(abs(try_cast(v AS INTEGER)::BIGINT * 1000) < 2147483648, true) ORDER BY n"
        ).fetchall()
    made = [
        tuple(json.loads(value).values())
        for key, value in zip(*sent(results), strict=True)
        if b"rej" not in key
    ]
    assert made == expected
    assert results.results + results.rejected == len(rows)
    assert results.dropped == len(flips)


def test_many_small_jobs_share_one_calculation() -> None:
    """One query for all of them, and each row keeps its own key."""
    calculation = Calculation(match="*", id="id", columns={"v": "BIGINT"}, outputs={"o": "v + 1"})
    jobs = [job_of(("id", "v"), calculation, generation=g, block=64, partitions=1) for g in range(1, 20)]
    batches = [row_batch(job, [(f"{n}", str(n)) for n in range(5)]) for job in jobs]
    keys = [key for part in batches for key in part.keys]
    values = [value for part in batches for value in part.values]
    results = run(jobs[0], batch(0, keys, values), {job.file_id: job for job in jobs})
    made, computed = sent(results)
    assert made == keys
    assert [json.loads(value)["o"] for value in computed] == [n + 1 for _ in jobs for n in range(5)]


def test_what_is_not_an_event_of_an_open_job_on_its_partition_is_dropped() -> None:
    """Unknown job, other partition, no key, a null cell, a missing column."""
    calculation = Calculation(match="*", id="id", outputs={"o": "v"})
    job = job_of(("id", "v"), calculation, block=1, partitions=4)
    row = b'{"id":"1","v":"2"}'
    elsewhere = next(n for n in range(8) if job.partition(n) != job.partition(0))
    keys: list[bytes | None] = [
        f"{job.file_id}:0".encode(),
        b"0" * 32 + b":0",
        f"{job.file_id}:{elsewhere}".encode(),
        None,
        f"{job.file_id}:0".encode(),
        f"{job.file_id}:0".encode(),
    ]
    results = run(
        job, batch(job.partition(0), keys, [row, row, row, row, b'{"id":"1","v":null}', b'{"id":"1"}'])
    )
    assert sent(results)[0] == [f"{job.file_id}:0".encode()]
    assert results.dropped == 5


def test_malformed_rows_and_ends_are_passed_on_as_they_are() -> None:
    """Ends apart, since they have to wait for the rest."""
    job = job_of(("id", "v"), Calculation(match="*", id="id", outputs={"o": "v"}))
    malformed = events.malformed_value("expected 2 fields, found 1", 3, "x")
    keys = [events.rejected_key(job.file_id, 1), events.end_key(job.file_id)]
    results = run(job, batch(job.partition(0), keys, [malformed, events.end_value(2, 0)]))
    assert sent(results) == (keys[:1], [malformed])
    assert (results.end_keys, results.end_values) == (keys[1:], [b'{"rows":2,"round":0}'])


def test_a_result_too_large_for_kafka_is_a_reject_and_a_reject_too_large_leaves_its_row_out() -> None:
    """The other rows of the batch are computed as ever."""
    job = job_of(("id", "v"), Calculation(match="*", id="id", outputs={"o": "repeat(v, 1000)"}))
    rows = row_batch(job, [("1", "x"), ("2", "y" * 2000), ("3", "z")])
    results = run(job, rows)
    assert sent(results)[0] == [
        f"{job.file_id}:0".encode(),
        f"{job.file_id}:2".encode(),
        f"{job.file_id}:1:rejected".encode(),
    ]
    reject = json.loads(sent(results)[1][-1])
    assert "Kafka takes" in reject["error"]
    assert reject["row"]["v"] == "y" * 2000
    small = process(rows, {job.file_id: job}.get, CALCULATORS, 1500)
    reject = json.loads(dict(zip(*sent(small), strict=True))[f"{job.file_id}:1:rejected".encode()])
    assert "row" not in reject


def test_a_calculation_that_this_worker_refuses_rejects_its_rows_with_the_reason() -> None:
    """A `job.json` that capture would not have written."""
    job = job_of(("id", "v"), Calculation(match="*", id="id", outputs={"o": "v"}))
    forged = job.model_copy(
        update={"calculation": Calculation(match="*", id="id", outputs={"o": "getenv('HOME')"})}
    )
    results = run(forged, row_batch(forged, [("1", "x")]))
    assert results.results == 0
    assert "getenv" in json.loads(sent(results)[1][0])["error"]


def test_foreign_results_are_dropped_by_the_sink() -> None:
    """Missing members, text that is no date, other types, ids of null."""
    calculation = Calculation(match="*", id="id", columns={"d": "DATE"}, outputs={"day": "d", "t": "id"})
    job = job_of(("id", "d"), calculation, block=64)
    values = [
        b'{"id":"1","day":"2024-01-01","t":null}',
        b'{"id":"2","day":"2024-13-01","t":"x"}',
        b'{"id":"3","t":"x"}',
        b'{"id":null,"day":null,"t":"x"}',
        b'{"id":"5","day":null,"t":7}',
        b'{"id":"6","day":null,"t":"x"}',
    ]
    keys = events.row_keys(job.file_id, np.arange(len(values))).to_pylist()
    decoded = Decoder(CONNECTION).decode(look(batch(job.partition(0), keys, values), {job.file_id: job}.get))
    assert [piece.rows.tolist() for piece in decoded.pieces] == [[0, 5]]
    assert decoded.dropped == 4
