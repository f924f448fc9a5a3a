"""A small file's cost is its calls of S3: these, in this order, and no other. ARCHITECTURE.md has them as a table."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipeline import duck, layout, records
from pipeline.dialect import DialectOverrides
from pipeline.jobbook import JobBook
from pipeline.jobs import Captured, Job
from pipeline.kafka import Publisher as Sender
from pipeline.store import Head, MemoryStore
from producer.progress import Silent
from producer.push import _look_at, _name, _Push, _push
from producer.refuse import Forgiving
from sink.collector import Collection
from sink.decode import schema_of
from sink.publish import Publisher
from tests.unit.capture_doubles import SETTINGS, Recorder, csv, stage

FILES = [f"{number}.csv" for number in range(20)]


class Counting(MemoryStore):
    """Writes down each call; `label` parts one bucket from the other."""

    def __init__(self, label: str, log: list[str]) -> None:
        super().__init__()
        self._label = label
        self._log = log

    def _note(self, call: str, key: str) -> None:
        self._log.append(f"{call} {self._label}{key}")

    def get(self, key: str) -> tuple[bytes, Head]:
        self._note("get", key)
        return super().get(key)

    def head(self, key: str) -> Head:
        self._note("head", key)
        return super().get(key)[1]

    def put(self, key: str, data: bytes, **more: Any) -> str:
        self._note("put", key)
        return super().put(key, data, **more)

    def delete(self, key: str, **more: Any) -> None:
        self._note("delete", key)
        super().delete(key, **more)

    def list(self, prefix: str = "", **more: Any) -> Iterator[Head]:
        self._note("list", prefix)
        return super().list(prefix, **more)


def test_a_small_file_takes_these_calls(tmp_path: Path) -> None:
    log: list[str] = []
    uploads, results = Counting("uploads:", log), Counting("", log)
    here = stage(uploads, results)
    path = tmp_path / "0.csv"
    path.write_bytes(csv(9))
    with ExitStack() as contents:
        file = _look_at(path, SETTINGS, None, DialectOverrides(), contents, Silent())
        forgiving = Forgiving(results, FILES)
        del log[:]
        name = _name(here, file)
        pushing = _Push(
            here, DialectOverrides(), False, cast(Sender, Recorder()), forgiving, contents, Silent()
        )
        job = _push(pushing, file, name)
    assert job is not None
    record, mark, folder = (
        layout.name_record("0.csv"),
        layout.open_mark(job.file_id),
        f"{layout.JOBS}{job.file_id}/",
    )
    assert log == [
        f"get {record}",
        "put uploads:0.csv",
        "head uploads:0.csv",
        f"put {folder}job.json",
        f"put {mark}",
        f"put {record}",
        f"put {folder}claim.json",
        f"put {folder}captured.json",
    ]

    del log[:]
    assert JobBook(results).find(job.file_id) == job
    looked = [f"get {folder}job.json", f"head {folder}end.json"]
    assert log == looked, "the processor, and then the sink"

    del log[:]
    captured = records.read(results, layout.captured(job.file_id), Captured)
    assert captured is not None
    end = Publisher(results).publish(_collected(job, captured), duck.connect())
    assert end.receipt is not None
    assert end.receipt.output is not None
    assert log == [
        f"get {folder}captured.json",
        f"get {record}",
        f"put {end.receipt.output.key}",
        f"put {folder}end.json",
        f"put {layout.receipt('0.csv')}",
        "put 0.csv",
        f"get {layout.receipt('0.csv')}",
        f"list {folder}",
        f"delete {folder}claim.json",
        f"delete {mark}",
    ]


def _collected(job: Job, captured: Captured) -> Any:
    collection = Collection(job)
    for partition in range(job.partitions):
        rows = np.array([row for row in range(9) if job.partition(row) == partition], np.int64)
        cells = {"order_id": [f"{row:05}" for row in rows], "twice": [2 * int(row) for row in rows]}
        collection.add(
            partition, rows, schema_of(job).empty_table().from_pydict(cells, schema=schema_of(job))
        )
    collection.settle(captured)
    return collection.freeze()
