"""One instance assembles what lies in parts; whoever comes too late, or dies in the middle, does no harm."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from pipeline import layout, missing, records
from pipeline.claims import Observer
from pipeline.errors import ClaimLost, JobEnded
from pipeline.jobs import Captured, End, Job, Receipt
from pipeline.store import Body, MemoryStore
from sink.assemble import Assembler
from sink.collector import Collection
from sink.inventory import Inventory
from sink.keeper import Keeper
from sink.publish import Publisher
from tests.jobs import WHEN, make_job
from tests.unit.sink_doubles import CONNECTION, REJECT, add, expected, open_job, spill

ROWS = 30


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def in_parts(store: MemoryStore, rows: int = ROWS, spilled: int | None = None) -> tuple[Job, Captured]:
    """Write down an open job of which so many rows are spilled: all, unless told otherwise."""
    job = make_job(partitions=3)
    captured = open_job(store, job, rows)
    assert captured is not None
    collection = Collection(job)
    add(collection, range(rows if spilled is None else spilled), {7: REJECT})
    spill(store, collection)
    return job, captured


def assembler(store: MemoryStore, now: Callable[[], float] = time.monotonic) -> Assembler:
    """Return what an instance that knows of nothing begins with."""
    return Assembler(store, Publisher(store), Inventory(store), now=now)


def keys(store: MemoryStore, prefix: str = "") -> list[str]:
    return [head.key for head in store.list(prefix)]


def assert_published(store: MemoryStore, job: Job) -> Receipt:
    receipt = records.read(store, layout.receipt(job.name), Receipt)
    assert receipt is not None
    assert receipt.output is not None
    assert store.get(receipt.output.key)[0] == expected(row for row in range(ROWS) if row != 7)
    assert (receipt.rows, receipt.results, receipt.rejected) == (ROWS, ROWS - 1, 1)
    assert keys(store, layout.PARTS) == keys(store, layout.OPEN) == []
    assert keys(store, layout.assembly(job.file_id)) == []
    return receipt


def test_a_job_whose_rows_are_all_in_parts_is_published_and_its_parts_are_gone() -> None:
    """The receipt says that nothing had to be asked for again."""
    store = MemoryStore()
    job, captured = in_parts(store)
    end = assembler(store).assemble(job, captured, 3, CONNECTION)
    assert end is not None
    receipt = assert_published(store, job)
    assert (receipt.duplicates, receipt.rounds) == (3, 0)


def test_rows_that_lack_leave_the_job_as_it_is() -> None:
    """Somebody else has them still."""
    store = MemoryStore()
    job, captured = in_parts(store, spilled=ROWS - 1)
    before = keys(store)
    assert assembler(store).assemble(job, captured, 0, CONNECTION) is None
    assert keys(store) == before


def test_a_claim_of_another_is_left_until_it_has_stood_still_for_long() -> None:
    """By the observer's own clock."""
    store, clock = MemoryStore(), Clock()
    job, captured = in_parts(store)
    other = Observer(store, layout.assembly(job.file_id)).take()
    assert other is not None
    ours = assembler(store, clock)
    assert ours.assemble(job, captured, 0, CONNECTION) is None
    clock.seconds = 29
    other.renew()
    assert ours.assemble(job, captured, 0, CONNECTION) is None
    clock.seconds = 58
    assert ours.assemble(job, captured, 0, CONNECTION) is None
    clock.seconds = 60
    assert ours.assemble(job, captured, 0, CONNECTION) is not None
    assert_published(store, job)


def test_one_that_wakes_up_after_it_was_taken_over_stops() -> None:
    """At its next renewal; what it had claimed is the other's."""
    store = MemoryStore()
    job = make_job()
    held = Observer(store, layout.assembly(job.file_id)).take()
    assert held is not None
    with Keeper(store, job, held, every=0.01) as keeper:
        keeper.check()
        assert Observer(store, layout.assembly(job.file_id), stale=0).take() is not None
        with pytest.raises(ClaimLost):
            wait(keeper)


def test_one_whose_job_was_ended_by_another_stops() -> None:
    """Cancelled, say."""
    store = MemoryStore()
    job = make_job()
    held = Observer(store, layout.assembly(job.file_id)).take()
    assert held is not None
    with Keeper(store, job, held, every=0.01) as keeper:
        end = End(state="cancelled", reason="x", nonce="n", ended=WHEN)
        records.create(store, layout.end(job.file_id), end)
        with pytest.raises(JobEnded):
            wait(keeper)


def wait(keeper: Keeper) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        keeper.check()
        time.sleep(0.005)


class Meanwhile(MemoryStore):
    """A store in which something happens when the n-th stretch of a part is fetched."""

    def __init__(self, at: int, then: Callable[[], object]) -> None:
        super().__init__()
        self._left, self._then = at, then

    def open(self, key: str, **options: object) -> AbstractContextManager[Body]:
        self._left -= key.startswith(layout.PARTS)
        if self._left == 0:
            self._left -= 1
            self._then()
        return super().open(key, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", range(1, 8))
def test_a_second_instance_that_publishes_in_the_middle_wins_once(at: int) -> None:
    """It had taken a stale claim over; the first finds the parts gone, or its end decided."""
    other: list[End | None] = []

    def publish() -> None:
        second = Assembler(store, Publisher(store), Inventory(store), stale=0)
        other.append(second.assemble(job, captured, 0, CONNECTION))

    store = Meanwhile(at, publish)
    job, captured = in_parts(store)
    first = assembler(store).assemble(job, captured, 0, CONNECTION)
    [second_end] = other
    assert first == second_end
    assert_published(store, job)


class Dies(Exception):
    """kill -9."""


@pytest.mark.parametrize("at", range(1, 8))
def test_one_that_dies_in_the_middle_is_followed_by_another(at: int) -> None:
    """Once its claim is stale."""

    def die() -> None:
        raise Dies

    store, clock = Meanwhile(at, die), Clock()
    job, captured = in_parts(store)
    with pytest.raises(Dies):
        assembler(store).assemble(job, captured, 0, CONNECTION)
    successor = assembler(store, clock)
    for clock.seconds in (0, 31):
        end = successor.assemble(job, captured, 0, CONNECTION)
    assert end is not None
    assert_published(store, job)


def test_the_receipt_says_how_often_rows_were_asked_for_again() -> None:
    """The most rounds that any share had."""
    store = MemoryStore()
    job, captured = in_parts(store)
    missing.request(store, job.file_id, 0, 1, [0])
    missing.request(store, job.file_id, 1, 2, [1])
    assembler(store).assemble(job, captured, 0, CONNECTION)
    assert assert_published(store, job).rounds == 2
