"""From an upload to a job, whoever else is at it and wherever the last one crashed."""

import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from pipeline import layout, records
from pipeline.dialect import DialectOverrides
from pipeline.errors import CalculationError, InputError, NameRefused, NotFound
from pipeline.jobs import End, Job, NameRecord
from producer.content import telling
from producer.ending import fail
from producer.stage import Stage
from producer.take_on import Look, Upload, take_on
from tests.unit.capture_doubles import Steps, csv, stage

NAME = "orders.csv"


@pytest.fixture
def contents() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def record(stage: Stage) -> NameRecord:
    found = records.read(stage.results, layout.name_record(NAME), NameRecord)
    assert found is not None
    return found


def end(stage: Stage, job: Job) -> str | None:
    found = records.read(stage.results, layout.end(job.file_id), End)
    return found.state if found is not None else None


def test_job_mark_and_record_are_written_in_this_order(contents: ExitStack) -> None:
    results = Steps()
    here = stage(results=results)
    here.uploads.put(NAME, csv(3))
    upload = take_on(here, NAME, contents)
    job = upload.job
    assert results.log == [
        f"put {layout.job(job.file_id)}",
        f"put {layout.open_mark(job.file_id)}",
        f"put {layout.name_record(NAME)}",
    ]
    assert (upload.new, upload.end) == (True, None)
    assert (job.name, job.generation, job.columns, job.partitions, job.block) == (
        NAME,
        1,
        ("order_id", "quantity"),
        3,
        4,
    )
    assert job.is_named_rightly()
    assert record(here).file_id == job.file_id
    assert upload.file is not None
    assert upload.file.path.read_bytes() == csv(3)


def test_the_same_content_is_known_and_again_makes_a_new_generation(contents: ExitStack) -> None:
    here = stage()
    here.uploads.put(NAME, csv(3))
    first = take_on(here, NAME, contents)
    second = take_on(here, NAME, contents)
    assert (second.job, second.new, second.end) == (first.job, False, None)
    third = take_on(here, NAME, contents, again=True)
    assert third.job.generation == 2
    assert end(here, first.job) == "superseded"


def test_other_content_takes_the_names_place(contents: ExitStack) -> None:
    here = stage()
    here.uploads.put(NAME, csv(3))
    first = take_on(here, NAME, contents)
    here.uploads.put(NAME, csv(4))
    second = take_on(here, NAME, contents)
    here.uploads.put(NAME, csv(3))
    third = take_on(here, NAME, contents)
    assert [upload.job.generation for upload in (first, second, third)] == [1, 2, 3]
    assert [end(here, upload.job) for upload in (first, second, third)] == ["superseded", "superseded", None]


def test_an_upload_replaced_before_it_is_read_is_looked_at_again(contents: ExitStack) -> None:
    uploads = Steps()
    here = stage(uploads)
    uploads.put(NAME, csv(3))
    uploads.before["open"] = partial(uploads.put, NAME, csv(5))
    upload = take_on(here, NAME, contents)
    assert upload.job.source.etag == uploads.head(NAME).etag
    assert upload.job.generation == 1


def test_a_listing_that_is_out_of_date_does_no_harm(contents: ExitStack) -> None:
    here = stage()
    here.uploads.put(NAME, csv(3))
    old = here.uploads.head(NAME)
    here.uploads.put(NAME, csv(5))
    assert take_on(here, NAME, contents, seen=old).job.source.etag == here.uploads.head(NAME).etag
    here.uploads.delete(NAME)
    with pytest.raises(NotFound):
        take_on(here, NAME, contents, seen=old)


def test_a_look_made_before_saves_one_and_does_no_harm_where_it_is_out_of_date(contents: ExitStack) -> None:
    uploads, results = Steps(), Steps()
    here = stage(uploads, results)
    uploads.put(NAME, csv(3))
    look = Look(None, uploads.head(NAME))
    del uploads.log[:]
    first = take_on(here, NAME, contents, look=look)
    assert uploads.log == [f"open {NAME}"]
    assert (first.job.generation, first.new) == (1, True)
    again = take_on(here, NAME, contents, look=look)
    assert (again.job, again.new) == (first.job, False)
    fail(results, first.job, "the upload is gone")
    over = take_on(here, NAME, contents, look=look)
    assert over.end is not None
    uploads.put(NAME, csv(4))
    newer = take_on(here, NAME, contents, look=Look(None, uploads.head(NAME)))
    assert newer.job.generation == 2
    known = records.read_with_etag(results, layout.name_record(NAME), NameRecord)
    results.put(layout.name_record(NAME), NameRecord(generation=7).dump())
    for stale in (known, None):
        anew = take_on(here, NAME, contents, look=Look(stale, uploads.head(NAME)))
        assert anew.job.generation == 8


def test_two_that_take_the_same_content_on_have_the_same_job(contents: ExitStack) -> None:
    results = Steps()
    here = stage(results=results)
    here.uploads.put(NAME, csv(3))
    others: list[Upload] = []
    results.before[f"put {layout.OPEN}"] = lambda: others.append(take_on(here, NAME, contents))
    assert take_on(here, NAME, contents).job == others[0].job
    assert record(here).generation == 1


def test_who_loses_the_record_to_newer_content_takes_its_own_no_further(contents: ExitStack) -> None:
    results = Steps()
    here = stage(results=results)
    here.uploads.put(NAME, csv(3))

    def newer() -> None:
        here.uploads.put(NAME, csv(4))
        take_on(here, NAME, contents)

    results.before[f"put {layout.NAMES}"] = newer
    upload = take_on(here, NAME, contents)
    assert upload.job.source.etag == here.uploads.head(NAME).etag
    assert record(here).file_id == upload.job.file_id


def test_two_that_want_it_again_make_one_new_generation(contents: ExitStack) -> None:
    results = Steps()
    here = stage(results=results)
    here.uploads.put(NAME, csv(3))
    take_on(here, NAME, contents)
    results.before[f"put {layout.NAMES}"] = partial(take_on, here, NAME, contents, again=True)
    assert take_on(here, NAME, contents, again=True).job.generation == 2


@pytest.mark.parametrize("step", [layout.OPEN, layout.NAMES])
def test_whoever_comes_after_a_crash_uses_the_job_that_is_there(step: str, contents: ExitStack) -> None:
    class Crash(BaseException):
        pass

    def crash() -> None:
        raise Crash

    results = Steps()
    here = stage(results=results)
    here.uploads.put(NAME, csv(3))
    results.before[f"put {step}"] = crash
    with pytest.raises(Crash):
        take_on(here, NAME, contents)
    [made] = [Job.load(results.get(head.key)[0]) for head in results.list(layout.JOBS)]
    assert take_on(here, NAME, contents).job == made


def test_a_job_that_ended_before_the_record_named_it_is_passed_over(contents: ExitStack) -> None:
    results = Steps()
    here = stage(results=results)
    here.uploads.put(NAME, csv(3))
    first = take_on(here, NAME, contents)
    results.delete(layout.name_record(NAME))
    fail(results, first.job, "the upload is gone")
    assert take_on(here, NAME, contents).job.generation == 2


def test_a_deleted_name_goes_on_counting(contents: ExitStack) -> None:
    here = stage()
    here.uploads.put(NAME, csv(3))
    here.results.put(layout.name_record(NAME), NameRecord(generation=4).dump())
    assert take_on(here, NAME, contents).job.generation == 5


def test_a_second_key_for_a_name_is_refused_while_the_first_is_there(contents: ExitStack) -> None:
    here = stage()
    here.uploads.put("a.csv", csv(3))
    take_on(here, "a.csv", contents)
    here.uploads.put("a.csv.gz", gzip.compress(csv(4)))
    with pytest.raises(InputError, match=r"belongs to the upload a\.csv;"):
        take_on(here, "a.csv.gz", contents)
    here.uploads.delete("a.csv")
    assert take_on(here, "a.csv.gz", contents).job.generation == 2


def test_what_was_told_at_the_upload_holds_for_whoever_takes_it_on(contents: ExitStack) -> None:
    here = stage()
    told = telling(DialectOverrides(delimiter=";", skip=1))
    here.uploads.put(NAME, b"a,b\norder_id;quantity\n1;2\n", metadata=told)
    job = take_on(here, NAME, contents).job
    assert (job.dialect.delimiter, job.dialect.skip, job.columns) == (";", 1, ("order_id", "quantity"))


@pytest.mark.parametrize(
    ("key", "data", "error"),
    [
        (NAME, b"", InputError),
        (NAME, b"a,b\n1,2\n", CalculationError),
        (NAME, b"order_id,order_id,quantity\n1,2,3\n", InputError),
        ("orders.txt", csv(1), CalculationError),
        ("x/../orders.csv", csv(1), NameRefused),
        ("_millstream/orders.csv", csv(1), NameRefused),
        ("/orders.csv", csv(1), NameRefused),
    ],
)
def test_what_no_job_can_be_made_of_leaves_nothing_behind(
    key: str, data: bytes, error: type[Exception], contents: ExitStack
) -> None:
    here = stage()
    here.uploads.put(key, data)
    with pytest.raises(error):
        take_on(here, key, contents)
    assert list(here.results.list()) == []
