"""Progress as data: what is told, and the picture that is folded from it."""

import random
import threading
from collections.abc import Sequence

import pytest

from pipeline.errors import Unreachable
from pipeline.picture import Picture
from pipeline.progress import JobEvent, job_key, parse_instance_key, parse_job_key, rows_up_to
from pipeline.teller import AT_ONCE, KEPT, Teller, Work
from tests.jobs import WHEN, make_job

NOW = WHEN.timestamp() + 100


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Outlet:
    """Keeps what it is sent, or fails."""

    def __init__(self, fail: int = 0) -> None:
        self.events: list[tuple[str, bytes | None]] = []
        self.fail = fail
        self.sent = threading.Event()

    def send(self, events: Sequence[tuple[str, bytes | None]]) -> None:
        self.sent.set()
        if self.fail:
            self.fail -= 1
            raise Unreachable("no broker")
        self.events += events

    def close(self) -> None:
        pass


def teller(clock: Clock) -> Teller:
    return Teller("watch", Outlet, clock=clock)


def job_events(told: Teller) -> dict[str, JobEvent]:
    found = {key: JobEvent.load(value or b"") for key, value in told.due() if parse_job_key(key)}
    return {key: event for key, event in found.items() if event is not None}


@pytest.mark.parametrize("block", [1, 3, 8])
def test_the_highest_row_says_how_many_rows_of_a_share_came_before_it(block: int) -> None:
    """Compared with the shares that capture deals."""
    job = make_job().model_copy(update={"block": block})
    for rows in range(100):
        shares = job.shares(rows)
        found = {partition: rows_up_to(job, partition, rows - 1) for partition in range(job.partitions)}
        assert {partition: count for partition, count in found.items() if count} == shares


def test_keys_are_told_apart_and_foreign_ones_are_neither() -> None:
    job = make_job()
    assert parse_job_key(job_key(job.file_id, "compute", 3)) == (job.file_id, "compute", "3")
    assert parse_instance_key("instance:sink:host-12") == ("sink", "host-12")
    for foreign in ("", "x:compute:1", f"{job.file_id}:elsewhere:1", "instance:sink:", "instance::a"):
        assert parse_job_key(foreign) is None
        assert parse_instance_key(foreign) is None


def test_only_the_last_figure_of_a_second_is_sent_and_nothing_twice() -> None:
    told, job = teller(Clock()), make_job()
    for rows in range(1000):
        told.tell("capture", job, rows=rows)
    assert {key: event.rows for key, event in job_events(told).items()} == {
        job_key(job.file_id, "capture"): 999
    }
    assert job_events(told) == {}


def test_a_job_that_is_over_within_a_second_is_never_told_of() -> None:
    clock = Clock()
    told, job = teller(clock), make_job().model_copy(update={"created": WHEN})
    clock.now = WHEN.timestamp() + 0.5
    told.tell("capture", job, rows=5)
    assert job_events(told) == {}  # not yet
    told.over("capture", job)
    clock.now += 5
    assert job_events(told) == {}
    told.tell("capture", job, rows=6)
    told.over("capture", job)
    assert len(job_events(told)) == 1  # by now it is a second old


def test_what_waits_and_what_is_sent_at_a_time_is_bounded() -> None:
    told = teller(Clock())
    for number in range(KEPT + 50):
        told.tell("capture", make_job(f"{number}.csv"), rows=1)
    seen = 0
    while events := job_events(told):
        assert len(events) <= AT_ONCE
        seen += len(events)
    assert seen == KEPT


def test_a_process_says_that_it_is_there_what_it_waits_for_and_at_the_end_that_it_has_gone() -> None:
    outlet, picture = Outlet(), Picture()
    told = Teller("sink", lambda: outlet, lambda: Work([1, 0], {0: 7, 1: 5}, ["held: S3"]))
    told.start()
    assert outlet.sent.wait(10)
    told.close()
    for event in outlet.events[:1]:
        picture.apply(*event)
    [process] = picture.processes()
    assert (process.stage, process.said.partitions, process.lag) == ("sink", [0, 1], 12)
    assert process.said.waits == ["held: S3"]
    picture.apply(*outlet.events[-1])
    assert picture.processes() == []


def test_what_can_not_be_sent_holds_nobody_up_and_the_next_second_is_told() -> None:
    outlet, job = Outlet(fail=1), make_job()
    told = Teller("sink", lambda: outlet)
    told.start()
    told.tell("store", job, 0, rows=1)
    assert outlet.sent.wait(10)
    told.tell("store", job, 0, rows=2)
    told.close()
    sent = [JobEvent.load(value or b"") for key, value in outlet.events if parse_job_key(key)]
    assert [event.rows for event in sent if event] == [2]


def test_without_an_outlet_nothing_is_kept() -> None:
    told = Teller("", None)
    told.start()
    told.tell("capture", make_job(), rows=1)
    assert job_events(told) == {}
    told.close()


def feed(picture: Picture, stage: str, part: int, *figures: tuple[float, int], **more: object) -> str:
    job = make_job()
    for at, rows in figures:
        event = JobEvent.model_validate({"at": at, "name": job.name, "generation": 1, "rows": rows, **more})
        picture.apply(f"{job.file_id}:{stage}:{part}".encode(), event.dump())
    return job.file_id


def test_a_picture_adds_parts_up_and_takes_rates_from_what_was_told() -> None:
    clock = Clock()
    picture = Picture(clock)
    for part in range(2):
        feed(picture, "compute", part, *[(NOW - 4 + second, 100 * second) for second in range(5)])
    file_id = feed(picture, "store", 0, (NOW, 300), rejected=7)
    found = picture.job(file_id)
    assert found is not None
    assert found.rows == {"compute": 800, "store": 300}
    assert found.rates["compute"] == pytest.approx(200)
    assert (found.rejected, found.total) == (7, None)
    clock.now += 30
    stopped = picture.job(file_id)
    assert stopped is not None
    assert stopped.rates["compute"] == 0
    assert picture.jobs(since=10) == []


def test_events_twice_and_in_any_order_make_the_same_picture() -> None:
    events: list[tuple[str, bytes]] = []
    job = make_job()
    for stage in ("compute", "store"):
        for part in range(3):
            for second in range(6):
                event = JobEvent(at=NOW + second, name=job.name, generation=1, rows=10 * second)
                events.append((f"{job.file_id}:{stage}:{part}", event.dump()))
    once = Picture(Clock())
    for told in events:
        once.apply(*told)
    wanted = once.job(job.file_id)
    for seed in range(5):
        shuffled = events * 2
        random.Random(seed).shuffle(shuffled)
        again = Picture(Clock())
        for told in shuffled:
            again.apply(*told)
        found = again.job(job.file_id)
        assert found is not None
        assert wanted is not None
        assert found.rows == wanted.rows


def test_a_replay_that_begins_anew_is_no_negative_rate() -> None:
    picture = Picture(Clock())
    file_id = feed(picture, "compute", 0, (NOW - 3, 1000), (NOW - 2, 2000), (NOW - 1, 500), (NOW, 600))
    found = picture.job(file_id)
    assert found is not None
    assert found.rates["compute"] == pytest.approx(100)


def test_broken_messages_are_counted_and_dropped() -> None:
    picture, job = Picture(Clock()), make_job()
    for key, value in [
        (None, b"{}"),
        (b"\xff\xfe", b"{}"),
        (b"elsewhere", b"{}"),
        (f"{job.file_id}:store:0".encode(), b"{"),
        (f"{job.file_id}:store:0".encode(), b'{"at":"now"}'),
        (b"instance:sink:a", b"[]"),
    ]:
        picture.apply(key, value)
    assert picture.broken == 6
    assert picture.jobs(since=1e9) == []


def test_how_a_job_ended_is_remembered_and_its_rates_are_over() -> None:
    picture = Picture(Clock())
    feed(picture, "store", 0, (NOW - 1, 5), (NOW, 10))
    file_id = feed(picture, "publish", 0, (NOW, 0), state="published")
    found = picture.job(file_id)
    assert found is not None
    assert (found.ended, found.rates) == ("published", {})


def test_a_history_has_a_sample_a_second_of_what_runs() -> None:
    clock = Clock()
    picture = Picture(clock)
    for second in range(3):
        file_id = feed(picture, "capture", 0, (NOW + second, 50 * second))
        clock.now = NOW + second
        picture.sample()
    found = picture.job(file_id)
    assert found is not None
    assert [sample[1] for sample in found.history] == pytest.approx([0, 50, 50])
