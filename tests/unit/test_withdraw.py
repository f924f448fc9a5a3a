"""`cancel` and `delete`: cut off anywhere, in a race with anybody, they end right."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline import layout, records
from pipeline.errors import NotFound, PreconditionFailed, Unreachable
from pipeline.jobs import End, Job, NameRecord, Receipt
from pipeline.states import look
from pipeline.store import MemoryStore
from producer.ending import fail
from producer.marks import unfinished
from producer.take_on import take_on
from sink.publish import Publisher
from sink.withdraw import cancel, delete
from tests.files import Files
from tests.unit.capture_doubles import csv, stage

NAME = "orders.csv"


@dataclass
class Cuts:
    """Which write of several stores is cut off: before it takes effect, or after."""

    left: int = -1
    after: bool = False


class Cut(MemoryStore):
    """A store whose writes may be cut off."""

    def __init__(self, cuts: Cuts) -> None:
        super().__init__()
        self._cuts = cuts

    def _call(self, work: Callable[[], Any]) -> Any:
        self._cuts.left -= 1
        if self._cuts.left == 0 and not self._cuts.after:
            raise Unreachable("cut before")
        result = work()
        if self._cuts.left == 0:
            raise Unreachable("cut after")
        return result

    def put(self, key: str, data: bytes, **options: Any) -> str:
        return str(self._call(lambda: super(Cut, self).put(key, data, **options)))

    def delete(self, key: str, **options: Any) -> None:
        self._call(lambda: super(Cut, self).delete(key, **options))


def published(files: Files) -> Job:
    """A published file, with rejects."""
    files.upload()
    job = files.take_on()
    receipt = files.publish(job, rejects=b"order_id,_row,_error\n1,1,no\n")
    assert receipt.output is not None
    files.results.copy(receipt.output.key, NAME, metadata={"file_id": job.file_id})
    return job


def newer(files: Files) -> Job:
    """A newer upload of the same name, on its way."""
    files.upload(content=b"order_id,quantity,price\n008,1,1.00\n")
    job = files.take_on(generation=2)
    records.mark(files.results, layout.open_mark(job.file_id))
    return job


def keys(files: Files) -> set[str]:
    return {head.key for head in files.results.list()}


def sweep(files: Files) -> None:
    """As any sink does."""
    for head in list(files.results.list(layout.OPEN)):
        job = records.read(files.results, layout.job(head.key.removeprefix(layout.OPEN)), Job)
        assert job is not None
        Publisher(files.results).finish(job)


def assert_deleted(files: Files, generation: int, *jobs: Job) -> None:
    """The one right state: nothing of it can be had, and nothing is left over."""
    state = look(files.uploads, files.results, NAME)
    assert (state.state, state.served, state.upload) == ("deleted", None, None)
    receipt = records.read(files.results, layout.receipt(NAME), Receipt)
    assert receipt is not None
    assert (receipt.state, receipt.generation) == ("deleted", generation)
    assert NAME not in keys(files)
    assert not [key for key in keys(files) if "/out-" in key or "/rejects-" in key or layout.OPEN in key]
    for job in jobs:
        assert records.read(files.results, layout.end(job.file_id), End) is not None


def test_a_published_file_is_gone_with_its_upload_result_rejects_and_receipt() -> None:
    files = Files()
    job = published(files)
    assert delete(files.uploads, files.results, NAME) == 2
    assert_deleted(files, 2, job)


def test_a_running_job_ends_deleted_and_the_older_result_goes_too() -> None:
    files = Files()
    old, job = published(files), newer(files)
    assert delete(files.uploads, files.results, NAME) == 3
    assert_deleted(files, 3, old, job)
    end = records.read(files.results, layout.end(job.file_id), End)
    assert end is not None
    assert end.state == "deleted"


@pytest.mark.parametrize("after", [False, True], ids=["call lost", "answer lost"])
@pytest.mark.parametrize("step", range(1, 22))
def test_cut_off_at_any_write_it_can_be_gone_on_with(step: int, after: bool) -> None:
    """By a sweeper alone, once the name's record says so; by deleting again at any time."""
    cuts = Cuts()
    files = Files(Cut(cuts), Cut(cuts))
    old, job = published(files), newer(files)
    cuts.left, cuts.after = step, after
    try:
        delete(files.uploads, files.results, NAME)
    except Unreachable:
        sweep(files)
        record = records.read(files.results, layout.name_record(NAME), NameRecord)
        assert record is not None
        if record.file_id is not None:
            assert delete(files.uploads, files.results, NAME) == 3
    assert_deleted(files, 3, old, job)
    assert delete(files.uploads, files.results, NAME) == 3, "again, it changes nothing"


def test_a_newer_upload_that_comes_in_meanwhile_is_left_alone() -> None:
    class Racing(MemoryStore):
        def delete(self, key: str, *, if_match: str | None = None) -> None:
            if if_match is not None:
                self.put(key, b"order_id,quantity,price\n009,1,1.00\n")
            super().delete(key, if_match=if_match)

    files = Files(uploads=Racing())
    published(files)
    with pytest.raises(PreconditionFailed, match=r"another upload orders\.csv came in meanwhile"):
        delete(files.uploads, files.results, NAME)
    state = look(files.uploads, files.results, NAME)
    assert state.state == "uploaded"
    assert state.served is not None


def test_a_job_that_is_published_at_the_same_time_leaves_nothing_behind() -> None:
    """The sink has decided the end and written the receipt; then comes the delete, then the sink goes on with `<name>`."""
    files = Files()
    files.upload()
    job = files.take_on()
    records.mark(files.results, layout.open_mark(job.file_id))
    files.publish(job)
    delete(files.uploads, files.results, NAME)
    end = records.read(files.results, layout.end(job.file_id), End)
    assert end is not None
    Publisher(files.results)._finish(job, end)
    assert_deleted(files, 2, job)


def test_a_refused_upload_and_one_that_nobody_took_on_can_be_deleted_too() -> None:
    files = Files()
    files.refuse(NAME, files.upload())
    assert delete(files.uploads, files.results, NAME) == 1
    assert keys(files) == {layout.name_record(NAME)}
    assert look(files.uploads, files.results, NAME).state == "deleted"


def test_a_name_that_nobody_knows_cant_be_deleted() -> None:
    files = Files()
    with pytest.raises(NotFound, match=r"orders\.csv: there is no upload and no result"):
        delete(files.uploads, files.results, NAME)


def test_an_upload_after_a_delete_is_a_new_generation() -> None:
    here = stage()
    here.uploads.put(NAME, csv(3))
    with ExitStack() as contents:
        first = take_on(here, NAME, contents).job
        delete(here.uploads, here.results, NAME)
        assert unfinished(here, first.file_id) is None
        here.uploads.put(NAME, csv(3))
        again = take_on(here, NAME, contents)
    assert again.new
    assert again.job.generation == 3


def test_whoever_watches_ends_a_job_of_a_deleted_name_as_deleted() -> None:
    """The delete was cut off right after the name's record."""
    here = stage()
    here.uploads.put(NAME, csv(3))
    with ExitStack() as contents:
        job = take_on(here, NAME, contents).job
    here.results.put(layout.name_record(NAME), NameRecord(generation=2).dump())
    assert unfinished(here, job.file_id) is None
    end = records.read(here.results, layout.end(job.file_id), End)
    assert end is not None
    assert end.state == "deleted"


def test_a_cancelled_job_ends_so_and_an_older_result_stays() -> None:
    files = Files()
    published(files)
    job = newer(files)
    end = cancel(files.results, NAME, "a test")
    assert (end.state, end.reason) == ("cancelled", "cancelled by a test")
    sweep(files)
    state = look(files.uploads, files.results, NAME)
    assert (state.state, state.file_id) == ("cancelled", job.file_id)
    assert state.served is not None
    assert NAME in keys(files)
    assert cancel(files.results, NAME, "another") == end


def test_a_job_that_has_ended_isnt_cancelled() -> None:
    files = Files()
    files.upload()
    job = files.take_on()
    fail(files.results, job, "for a test")
    assert cancel(files.results, NAME, "a test").state == "failed"
    with pytest.raises(NotFound, match="there is no job to cancel"):
        cancel(files.results, "other.csv", "a test")
