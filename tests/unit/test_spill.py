"""Rows leave memory when they are too many or too old, and nobody is told that they are on S3 before they are."""

import time

import numpy as np
import pytest

from pipeline import layout
from pipeline.errors import Unreachable
from pipeline.jobs import End, Job
from pipeline.store import MemoryStore
from sink.collector import Collection, Share
from sink.inventory import Inventory
from sink.room import too_much, too_old
from sink.spill import Spilled, Spiller
from sink.tables import take
from tests.jobs import WHEN, make_job
from tests.unit.sink_doubles import add, expected, merged_csv, table

JOB = make_job(partitions=1)


def share_of(rows: range, job: Job = JOB) -> Share:
    collection = Collection(job)
    add(collection, rows)
    [share] = collection.shares.values()
    return share


def wait(spiller: Spiller, count: int = 1) -> list[Spilled]:
    found: list[Spilled] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += spiller.done(timeout=0.1)
    return found


class Failing(MemoryStore):
    """A store that takes nothing, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def put(self, key: str, data: bytes, **options: object) -> str:
        """See MemoryStore."""
        if key.startswith(layout.PARTS) and self.left:
            self.left -= 1
            raise Unreachable("no answer")
        return super().put(key, data, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("failures", [0, 2])
def test_a_lot_is_told_to_be_on_s3_once_it_is(failures: int) -> None:
    """After as many tries as it takes; meanwhile its bytes count."""
    store = Failing(failures)
    spiller = Spiller(store, Inventory(store))
    share = share_of(range(9))
    size = share.size
    lot = share.cut()
    spiller.put(lot)
    assert (spiller.size, share.size) == (size, 0)
    [spilled] = wait(spiller)
    assert spilled.lot == lot.number
    assert spilled.part is not None
    assert [head.key for head in store.list(layout.PARTS)] == [spilled.part.key]
    assert merged_csv(store, JOB, 9) == expected(range(9))
    assert spiller.size == 0
    spiller.close()


def test_rows_of_a_job_that_has_ended_are_not_written() -> None:
    """Nobody wants them."""
    store = MemoryStore()
    store.put(layout.end(JOB.file_id), End(state="cancelled", nonce="n", ended=WHEN).dump())
    spiller = Spiller(store, Inventory(store))
    spiller.put(share_of(range(9)).cut())
    assert [spilled.part for spilled in wait(spiller)] == [None]
    assert list(store.list(layout.PARTS)) == []
    spiller.close()


def test_a_lot_that_was_given_up_or_cut_off_by_the_end_is_never_told_to_be_anywhere() -> None:
    """Its offsets would be committed, and the rows lost."""
    store = Failing(1000)
    spiller = Spiller(store, Inventory(store))
    given_up, cut_off = share_of(range(9)).cut(), share_of(range(9)).cut()
    spiller.put(given_up)
    spiller.put(cut_off)
    spiller.give_up([given_up.number])
    deadline = time.monotonic() + 20
    while spiller.size > cut_off.size and time.monotonic() < deadline:
        assert spiller.done(timeout=0.1) == []
    assert spiller.trouble is not None
    spiller.close()
    assert spiller.done() == []


def test_the_largest_shares_leave_until_half_the_room_is_free() -> None:
    """In few large parts rather than in many small ones."""
    shares = [share_of(range(rows)) for rows in (5, 3000, 10, 900, 1500)]
    size = sum(share.size for share in shares)
    assert too_much(shares, size, size) == []
    chosen = too_much(shares, size, size - 1)
    assert [shares.index(share) for share in chosen] == [1]
    assert too_much(shares, size, 0) == sorted(shares, key=lambda share: -share.size)


def test_shares_that_hold_rows_for_long_leave() -> None:
    """And those that hold none don't."""
    old, young, empty = share_of(range(5)), share_of(range(5)), share_of(range(5))
    old.since, young.since, empty.since = 0.0, 50.0, 0.0
    empty.cut()
    assert too_old([old, young, empty], 61.0, 60.0) == [old]


def test_a_few_rows_of_a_batch_do_not_keep_all_of_it_in_memory() -> None:
    """A slice would; most of a batch is a slice, since copying it saves nothing."""
    batch = table(range(1000))
    buffers = {column.chunk(0).buffers()[-1].address for column in batch.columns}
    for count, copied in ((100, True), (900, False)):
        picked = take(batch, np.arange(count))
        assert picked.num_rows == count
        assert (
            buffers.isdisjoint({column.chunk(0).buffers()[-1].address for column in picked.columns}) == copied
        )
