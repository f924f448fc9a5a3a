"""`push` when another upload of the same name comes between."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline import layout, records
from pipeline.dialect import DialectOverrides
from pipeline.errors import InputError, JobEnded
from pipeline.jobs import Job, NameRecord
from pipeline.kafka import Publisher
from producer.progress import Silent
from producer.push import _File, _look_at, _name, _Push, _push
from producer.refuse import FEW, Forgiving, refuse, refused_keys
from producer.stage import Stage
from producer.take_on import take_on
from tests.unit.capture_doubles import SETTINGS, Recorder, Steps, csv, stage


def looked_at(tmp_path: Path, rows: int, contents: ExitStack) -> _File:
    path = tmp_path / "orders.csv"
    path.write_bytes(csv(rows))
    return _look_at(path, SETTINGS, None, DialectOverrides(), contents, Silent())


def pushed(here: Stage, file: _File, contents: ExitStack, sender: Recorder | None = None) -> Job | None:
    """Push a file, with the name as it is now."""
    publisher, forgiving = cast(Publisher, sender or Recorder()), Forgiving(here.results, [file.key])
    all_files = _Push(here, DialectOverrides(), False, publisher, forgiving, contents, Silent())
    return _push(all_files, file, _name(here, file))


def test_who_is_replaced_before_being_captured_is_told_so(tmp_path: Path) -> None:
    """Never that its file was captured, or published: what was is another."""

    class Overtaken(Steps):
        def upload(self, key: str, chunks: Any, **more: Any) -> str:
            etag = super().upload(key, chunks, **more)
            self.put(key, csv(5))
            return etag

    sender = Recorder()
    with ExitStack() as contents:
        file = looked_at(tmp_path, 3, contents)
        with pytest.raises(JobEnded, match=r"another upload called orders\.csv took its place"):
            pushed(stage(Overtaken()), file, contents, sender)
        assert sum(not key.endswith(b":end") for _, key, _ in sender.messages) == 5
        pushed(stage(), file, contents)


@pytest.mark.parametrize("meanwhile", ["deleted", "taken on and deleted", "taken on"])
def test_what_became_of_the_name_during_the_upload_counts(tmp_path: Path, meanwhile: str) -> None:
    """The name is looked at before the upload, and only there where the record's compare-and-set says that it still holds."""
    with ExitStack() as contents:
        file = looked_at(tmp_path, 3, contents)
        here = stage()
        if meanwhile == "deleted":
            first = pushed(here, file, contents)
            assert first is not None

        class Meanwhile(Steps):
            def upload(self, key: str, chunks: Any, **more: Any) -> str:
                etag = super().upload(key, chunks, **more)
                if meanwhile.startswith("taken on"):
                    take_on(here, key, contents)
                if meanwhile.endswith("deleted"):
                    self.delete(key)
                    generation = 2 if meanwhile == "deleted" else 3
                    record = NameRecord(generation=generation)
                    here.results.put(layout.name_record(file.name), record.dump())
                    super().upload(key, [csv(3)])
                return etag

        here = replace(here, uploads=Meanwhile())
        job = pushed(here, file, contents)
        assert job is not None
        assert job.generation == {"deleted": 3, "taken on and deleted": 4, "taken on": 1}[meanwhile]
        record = records.read(here.results, layout.name_record(file.name), NameRecord)
        assert record is not None
        assert (record.file_id, record.generation) == (job.file_id, job.generation)


@pytest.mark.parametrize("uploads", [1, FEW, FEW + 1])
def test_refusals_go_once_their_uploads_are_taken_on(uploads: int) -> None:
    """Those that were there, and those that another process wrote meanwhile; others stay."""
    results = Steps()
    keys = [f"{number}.csv" for number in range(uploads)]
    error = InputError("no")
    for key in (keys[0], "other.csv"):
        refuse(results, key, "etag", error, "configuration")
    forgiving = Forgiving(results, keys)
    forgiving.taken_on(keys[0])
    assert refused_keys(results) == {"other.csv"}
    refuse(results, keys[-1], "etag", error, "configuration")
    forgiving.taken_on(keys[-1])
    forgiving.finish()
    assert refused_keys(results) == {"other.csv"}
