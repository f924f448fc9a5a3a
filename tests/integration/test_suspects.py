"""Rows that kill their worker, by a crash, a loop without end, or all the memory: they become rejects, and no others do."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline import layout, records
from pipeline.calculations import Calculation
from pipeline.errors import Hold, Transient
from pipeline.events import file_id
from pipeline.jobs import Job, Output
from pipeline.kafka_batch import Batch
from pipeline.messages import Messages
from pipeline.s3 import S3Store, client
from pipeline.settings import Settings
from processor.suspects import Suspects
from tests.integration.chain import millstream, settings
from tests.integration.stack import stack
from tests.integration.test_store_contract import settings_of
from tests.jobs import make_job
from tests.services.kafka import Broker
from tests.services.s3 import S3

DEADLY = """
import ctypes
import os

def weigh(row):
    weight = row["weight"]
    if weight == "crash":
        ctypes.string_at(0)
    if weight == "loop":
        while True:
            pass
    if weight == "hog":
        os.kill(os.getpid(), 9)  # as the kernel does where memory runs out
    if weight == "exit":
        os._exit(3)
    return {"cost": weight * 2}
"""

PARCELS = """
[calculations.parcels]
match = "*.csv"
id = "parcel"
python = "deadly:weigh"
version = "1"
per_row = true
outputs = { cost = "VARCHAR" }
"""

CALCULATION = Calculation.model_validate(
    {
        "label": "parcels",
        "match": "*.csv",
        "id": "parcel",
        "python": "deadly:weigh",
        "version": "1",
        "per_row": True,
        "outputs": {"cost": "VARCHAR"},
    }
)


@pytest.fixture
def job(s3: S3) -> Job:
    """A job of that calculation, on S3."""
    digest = CALCULATION.digest
    made = make_job("parcels.csv", columns=("parcel", "weight"), block=1 << 20).model_copy(
        update={
            "calculation": CALCULATION,
            "digest": digest,
            "outputs": (Output(name="cost", type="VARCHAR"),),
        }
    )
    made = made.model_copy(update={"file_id": file_id(made.name, made.generation, made.source.etag, digest)})
    with closing(client(settings_of(s3))) as connection:
        records.create(S3Store(connection, s3.results), layout.job(made.file_id), made)
    return made


@pytest.fixture
def suspects(tmp_path: Path, s3: S3, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suspects]:
    """What looks at suspect batches, in a folder with the deadly function; a row has two seconds."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    chosen: Settings = settings(
        broker, s3, "none", calculations={"parcels": CALCULATION.model_dump(exclude_defaults=True)}
    )
    looking = Suspects(chosen, seconds=2)
    yield looking
    looking.close()


def batch(job: Job, weights: list[str]) -> Batch:
    """Return rows, and the end of their share."""
    keys: list[bytes | None] = [f"{job.file_id}:{row}".encode() for row in range(len(weights))]
    values: list[bytes | None] = [
        json.dumps({"parcel": f"P{row}", "weight": weight}).encode() for row, weight in enumerate(weights)
    ]
    end = f"{job.file_id}:end".encode()
    return Batch("rows", job.partition(0), 0, len(weights), [*keys, end], [*values, b'{"rows":1,"round":0}'])


@pytest.mark.parametrize(("how", "said"), [("crash", "SIGSEGV"), ("loop", "longer than 2 s")])
def test_the_row_that_kills_is_rejected_and_no_other(
    how: str, said: str, suspects: Suspects, job: Job
) -> None:
    weights = [str(row) for row in range(300)]
    weights[170] = how
    found = suspects.process(batch(job, weights))
    assert (found.results, found.rejected, found.dropped) == (299, 1, 0)
    messages = dict(iter(Messages.joined(found.messages)))
    assert len(messages) == 300
    [key] = [key for key in messages if key.endswith(b":rejected")]
    assert key == f"{job.file_id}:170:rejected".encode()
    reject = json.loads(messages[key])
    assert said in reject["error"]
    assert reject["row"] == {"parcel": "P170", "weight": how}
    assert found.end_keys == [f"{job.file_id}:end".encode()]


def test_memory_that_runs_out_is_the_row_s_own_reject(suspects: Suspects, job: Job, tmp_path: Path) -> None:
    """The child may grow by so much and no more: the function's own MemoryError comes first."""
    hog = "hog = []\n        while True:\n            hog.append(bytearray(50_000_000))"
    (tmp_path / "deadly.py").write_text(DEADLY.replace("os.kill(os.getpid(), 9)", hog))
    suspects = Suspects(suspects._settings, seconds=60)
    found = suspects.process(batch(job, ["1", "hog", "3"]))
    suspects.close()
    assert (found.results, found.rejected) == (2, 1)
    [reject] = [value for key, value in Messages.joined(found.messages) if b"rejected" in key]
    assert "MemoryError" in json.loads(reject)["error"]


def test_a_calculation_that_kills_with_every_row_is_given_up_soon(
    suspects: Suspects, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are found one by one up to a number; what kills after that is rejected as it is, and what doesn't is computed."""
    monkeypatch.setattr("processor.suspects.PIECES", 2)
    monkeypatch.setattr("processor.suspects.MOST", 1)
    found = suspects.process(batch(job, ["exit"] * 5 + ["7"] * 3))
    assert (found.results, found.rejected) == (3, 5)
    assert len(dict(iter(Messages.joined(found.messages)))) == 8


def test_what_can_not_be_loaded_is_no_row_s_fault(suspects: Suspects, job: Job, tmp_path: Path) -> None:
    """A module that kills whoever imports it: the batch is held, and nothing is rejected."""
    (tmp_path / "deadly.py").write_text("import os\nos._exit(1)\n")
    with pytest.raises(Hold, match="before it came to them"):
        suspects.process(batch(job, ["1"]))
    (tmp_path / "deadly.py").unlink()
    with pytest.raises(Transient, match="can't be loaded"):
        suspects.process(batch(job, ["1"]))


@pytest.mark.skipif(sys.platform != "linux", reason="signals are named as Linux does")
def test_a_row_that_kills_every_worker_costs_itself_and_no_other_job(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Three workers die of it; the fourth finds it, and the file behind it comes through too."""
    (tmp_path / "millstream.toml").write_text(PARCELS)
    (tmp_path / "deadly.py").write_text(DEADLY)
    deadly = "".join(f"P{row},{'crash' if row == 50 else row}\n" for row in range(100))
    (tmp_path / "deadly.csv").write_text("parcel,weight\n" + deadly)
    (tmp_path / "good.csv").write_text("parcel,weight\nP1,5\n")
    with stack(tmp_path, broker, s3, topic_prefix, "sink", "serve") as chain:
        for name in ("deadly.csv", "good.csv"):
            pushed = millstream("push", name, folder=tmp_path, env=chain.env)
            assert pushed.returncode == 0, pushed.stderr
        for _ in range(3):
            chain.start("process")
            assert chain.processes.pop("process").wait(60) == -11
        chain.start("process")
        answer = chain.get("/results/deadly.csv", wait="60")
        assert answer.status_code == 200, chain.logs()
        assert len(answer.text.splitlines()) == 100
        assert "P50," not in answer.text
        rejects = chain.get("/rejects/deadly.csv").text
        assert "SIGSEGV" in rejects
        chain.assert_result("good.csv", "parcel,cost\nP1,55\n")
