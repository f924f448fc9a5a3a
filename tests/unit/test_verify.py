"""`verify`: what was published is held against its receipt, and with `deep` against the upload itself."""

import hashlib
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pytest

from millstream.verify import Unbalanced, verify
from millstream.verify_deep import Unlike
from pipeline import layout, records
from pipeline.errors import NotFound, Permanent, PreconditionFailed
from pipeline.jobs import Captured, Job, Receipt, Stored, now
from producer.stage import Stage
from producer.take_on import take_on
from tests.unit.capture_doubles import csv, stage

NAME = "orders.csv"
SOURCE = b'order_id,quantity,note\n1,1,\n2,x,\n3,3,\n4\n5,"5","a\n""b"""\n'
OUTPUT = b"order_id,twice\n1,2\n3,6\n5,10\n"
REJECTS = b'order_id,quantity,note,_row,_error\n2,x,,1,no number\n,,,3,"expected 3 fields, found 1"\n'


def store(here: Stage, key: str, data: bytes) -> Stored:
    here.results.put(key, data)
    return Stored(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def published(
    source: bytes = SOURCE, output: bytes = OUTPUT, rejects: bytes | None = REJECTS, rows: int = 5
) -> tuple[Stage, Job]:
    """A published file, as capture and sink write it."""
    here = stage()
    here.uploads.put(NAME, source)
    with ExitStack() as contents:
        job = take_on(here, NAME, contents).job
    rejected = rejects.count(b"\n") - 1 if rejects else 0
    receipt = Receipt(
        name=NAME,
        generation=1,
        file_id=job.file_id,
        rows=rows,
        results=rows - rejected,
        rejected=rejected,
        source=job.source,
        input_sha256=hashlib.sha256(source).hexdigest(),
        output=store(here, layout.output(job.file_id, "1"), output),
        rejects=store(here, layout.rejects(job.file_id, "1"), rejects) if rejects else None,
        published=now(),
    )
    account = Captured(
        rows=rows, malformed=1, shares=job.shares(rows), sha256=hashlib.sha256(source).hexdigest(),
        size=len(source), started=now(), finished=now(),
    )  # fmt: skip
    records.create(here.results, layout.captured(job.file_id), account)
    records.create(here.results, layout.receipt(NAME), receipt)
    return here, job


def found(here: Stage, *, deep: bool = True) -> list[str]:
    return list(verify(here.uploads, here.results, NAME, deep=deep))


def test_what_was_published_rightly_is_found_so() -> None:
    here, _ = published()
    assert "the output is what the job's SQL gives for the upload: 3 rows, computed anew" in found(here)
    assert not any("anew" in line for line in found(here, deep=False))


def test_deep_computes_what_duckdb_alone_computes(tmp_path: Path) -> None:
    source, output = tmp_path / "source.csv", tmp_path / "output.csv"
    source.write_bytes(csv(20_000))
    query = (
        f"SELECT order_id, quantity * 2 AS twice FROM read_csv('{source}', types = {{'order_id': 'VARCHAR'}})"
    )
    duckdb.sql(f"COPY ({query}) TO '{output}' (FORMAT csv, HEADER)")
    here, _ = published(source.read_bytes(), output.read_bytes(), None, 20_000)
    assert found(here)[-2].endswith("20,000 rows, computed anew")


@pytest.mark.parametrize(
    ("output", "difference"),
    [
        (OUTPUT.replace(b"3,6", b"3,7"), "row 2 of the output is '3,7'; computed from the upload: '3,6'"),
        (OUTPUT.replace(b"5,10", b"3,6"), "row 3 of the output is '3,6'; computed from the upload: '5,10'"),
        (
            OUTPUT.replace(b"3,6", b'"3",6'),
            "row 2 of the output is '\"3\",6'; computed from the upload: '3,6'",
        ),
    ],
)
def test_deep_names_the_first_row_that_is_another(output: bytes, difference: str) -> None:
    """Its hash was taken of the wrong bytes: nothing but computing anew tells."""
    here, _ = published(output=output)
    found(here, deep=False)
    with pytest.raises(Unlike) as unlike:
        found(here)
    assert difference in str(unlike.value)


def test_a_row_that_was_rejected_for_its_size_may_compute_here_and_no_other() -> None:
    rejects = REJECTS + b'5,5,"a\n""b""",4,"the result has 99 bytes, Kafka takes 9"\n'
    here, _ = published(output=OUTPUT.removesuffix(b"5,10\n"), rejects=rejects.replace(b"a\n", b"a "))
    assert "2 rows, computed anew" in found(here)[-2]
    here, _ = published(output=OUTPUT.removesuffix(b"5,10\n"), rejects=REJECTS + b"5,5,,4,wrongly rejected\n")
    with pytest.raises(Unlike, match=r"row 2 of the output is the last; computed .* there is also '5,10'"):
        found(here)


def test_a_result_without_some_rows_of_the_upload_is_found_out() -> None:
    """All of the account agrees with itself, but not with the file."""
    here, _ = published(csv(9), b"order_id,twice\n00000,0\n00001,2\n", None, 2)
    found(here, deep=False)
    with pytest.raises(Unlike, match="rows of the upload: 9; rows of the receipt: 2"):
        found(here)


def test_rejects_have_to_be_rows_of_the_file() -> None:
    here, _ = published(rejects=REJECTS.replace(b",3,", b",5,"))
    with pytest.raises(Unbalanced, match="row numbers of the rejects that are within the file: 1"):
        found(here, deep=False)


def test_sql_that_isnt_the_calculations_is_never_run(tmp_path: Path) -> None:
    here, job = published()
    evil = job.model_copy(update={"oracle": f"SELECT 1) TO '{tmp_path}/evil' (FORMAT csv); SELECT (1"})
    here.results.put(layout.job(job.file_id), evil.dump())
    with pytest.raises(Permanent, match="its SQL isn't its calculation's"):
        found(here)
    assert list(tmp_path.iterdir()) == []


def test_without_the_upload_there_is_nothing_to_compute_from() -> None:
    here, _ = published()
    here.uploads.put(NAME, csv(1))
    with pytest.raises(PreconditionFailed, match="is another by now"):
        found(here)
    here.uploads.delete(NAME)
    with pytest.raises(NotFound, match=r"the upload orders\.csv is gone"):
        found(here)
