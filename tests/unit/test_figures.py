"""A file's figures: what S3 knows and what the stages tell, put together."""

from datetime import datetime, timedelta

import pytest

from pipeline.figures import Figures, figures
from pipeline.picture import InstancePicture, JobPicture
from pipeline.progress import InstanceEvent
from pipeline.states import State, look
from tests.files import Files
from tests.jobs import WHEN

NOW = WHEN + timedelta(seconds=100)


def state(rows: int | None) -> State:
    """A file that is captured, with so many rows, or on its way to be."""
    files = Files()
    files.upload()
    job = files.take_on()
    if rows is None:
        files.claim(job, 2)
    else:
        files.capture(job, rows)
    return look(files.uploads, files.results, "orders.csv")


def picture(rows: dict[str, int], rates: dict[str, float], share: float | None = None) -> JobPicture:
    return JobPicture("0" * 32, "orders.csv", 1, NOW.timestamp(), rows, rates, 3, None, share)


def process(stage: str, *waits: str) -> InstancePicture:
    said = InstanceEvent(at=NOW.timestamp(), started=WHEN.timestamp(), waits=list(waits))
    return InstancePicture(stage, "here-1", said, 0.0)


def test_the_slowest_stage_says_how_long_it_takes() -> None:
    told = picture({"compute": 600, "store": 500}, {"compute": 100.0, "store": 50.0})
    found = figures(state(1000), told, [process("process"), process("sink")], NOW)
    assert (found.captured, found.total, found.computed, found.stored) == (1000, 1000, 600, 500)
    assert found.eta == pytest.approx(10)
    assert found.rejected == 3
    assert found.waits_for is None
    assert found.age == pytest.approx(100)


def test_what_is_stored_was_computed_though_nobody_told() -> None:
    found = figures(state(1000), picture({"store": 500}, {}), [], NOW)
    assert (found.computed, found.stored) == (500, 500)
    assert found.eta is None


def test_before_all_is_captured_the_total_is_an_estimate() -> None:
    told = picture({"capture": 300}, {"capture": 10.0}, share=0.25)
    found = figures(state(None), told, [process("watch")], NOW)
    assert (found.total, found.expected, found.captured) == (None, 1200, 300)
    assert found.part("capture") == 0.25
    assert found.part("store") is None


def test_who_is_missing_is_said_with_what_to_do() -> None:
    found = figures(state(1000), picture({}, {}), [process("watch"), process("sink")], NOW)
    assert found.waits_for == "no worker is running: start one with  millstream process"
    found = figures(state(1000), picture({"compute": 1000}, {}), [process("process")], NOW)
    assert found.waits_for == "no sink is running: start one with  millstream sink"


def test_what_a_process_waits_for_is_what_its_files_wait_for() -> None:
    held = process("process", "held: S3 doesn't answer")
    assert figures(state(1000), None, [held], NOW).waits_for == "process here-1: held: S3 doesn't answer"


def test_of_what_a_process_waits_for_a_file_names_what_is_its_own() -> None:
    watch = process("watch", "a.csv: S3 is silent", "orders.csv: given up: S3 says no")
    found = figures(state(None), None, [watch], NOW)
    assert found.waits_for == "watch here-1: orders.csv: given up: S3 says no"


def test_without_news_of_anybody_only_s3_speaks() -> None:
    found = figures(state(1000), None, [], NOW)
    assert (found.captured, found.total, found.computed, found.rates) == (1000, 1000, None, {})
    later = figures(state(1000), None, [process("process")], NOW)
    assert later.waits_for == "nothing heard of its worker for 100 s"


def test_a_published_file_has_its_receipts_figures() -> None:
    files = Files()
    files.published()
    found = figures(look(files.uploads, files.results, "orders.csv"), None, [], datetime.now(NOW.tzinfo))
    assert (found.total, found.captured, found.computed, found.stored, found.rejected) == (1, 1, 1, 1, 0)
    assert found.waits_for is None


def test_a_file_without_rows_is_done_with_as_soon_as_it_is_captured() -> None:
    assert Figures(total=0, stored=0).part("store") == 1.0
