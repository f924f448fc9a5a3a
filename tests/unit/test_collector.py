"""A job is complete when every row is there once, whatever came twice, late, or in another order."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink.collector import Collection
from sink.ledger import Ledger
from tests.jobs import make_captured, make_job

JOB = make_job(block=4, partitions=3)
REJECT = b'{"error":"no"}'


def table(rows: list[int]) -> pa.Table:
    return pa.table({"order_id": [f"id{row}" for row in rows], "total": [row * 10 for row in rows]})


def add(collection: Collection, rows: list[int]) -> None:
    """Let rows come over the partitions that they are dealt to."""
    for partition in range(JOB.partitions):
        here = [row for row in rows if JOB.partition(row) == partition]
        collection.add(partition, np.array(here, np.int64), table(here))


def reject(collection: Collection, row: int) -> None:
    collection.reject(JOB.partition(row), np.array([row], np.int64), [REJECT])


def missing(collection: Collection) -> list[int]:
    return sorted(number for partition in range(JOB.partitions) for number in collection.lacking(partition))


def written(collection: Collection) -> list[int]:
    return [
        total // 10 for part in collection.freeze().in_order() for total in part.column("total").to_pylist()
    ]


@given(st.data())
def test_any_order_with_any_duplicates_gives_the_rows_in_order(data: st.DataObject) -> None:
    """Batches of rows of one file, shuffled and repeated, some rows rejected first, some after."""
    total = data.draw(st.integers(1, 30))
    rejected = data.draw(st.sets(st.integers(0, total - 1)))
    batches = data.draw(st.lists(st.lists(st.integers(0, total - 1), max_size=12), max_size=12))
    collection = Collection(JOB)
    settle_at = data.draw(st.integers(0, len(batches)))
    expected: set[int] = set()
    for number, batch in enumerate(batches):
        if number == settle_at:
            collection.settle(make_captured(JOB, total))
        add(collection, [row for row in batch if row not in rejected])
        for row in batch:
            if row in rejected:
                reject(collection, row)
        expected |= set(batch)
        assert collection.rows == len(expected)
    collection.settle(make_captured(JOB, total))
    assert collection.is_complete() == (len(expected) == total)
    assert written(collection) == sorted(expected - rejected)
    assert missing(collection) == sorted({row // 4 for row in set(range(total)) - expected})


def test_a_result_beats_a_reject_of_the_same_row_in_either_order() -> None:
    """A later, better worker computes what an earlier one couldn't."""
    for first in ("reject", "result"):
        collection = Collection(JOB)
        collection.settle(make_captured(JOB, 1))
        for step in [first, "result", "reject"]:
            if step == "reject":
                reject(collection, 0)
            else:
                add(collection, [0])
        assert collection.is_complete()
        frozen = collection.freeze()
        assert (frozen.results, frozen.rejected, frozen.rejects) == (1, 0, {})


def test_rows_behind_the_end_of_the_file_are_let_go() -> None:
    """A forged row number makes no file longer, whether it comes before or after the account."""
    collection = Collection(JOB)
    add(collection, [0, 1, 2, 3, 4, 5, 6, 99])
    reject(collection, 77)
    collection.settle(make_captured(JOB, 6))
    add(collection, [6, 98])
    reject(collection, 7)
    assert collection.is_complete()
    assert written(collection) == [0, 1, 2, 3, 4, 5]


def test_what_came_over_a_partition_is_dropped_with_it() -> None:
    """And comes again for whoever has it then."""
    collection = Collection(JOB)
    add(collection, list(range(12)))
    reject(collection, 12)
    collection.settle(make_captured(JOB, 13))
    collection.drop(JOB.partition(4))
    assert missing(collection) == [1]
    collection.drop(JOB.partition(12))
    assert missing(collection) == ([0, 1, 3] if JOB.partition(12) == JOB.partition(0) else [1, 3])


def test_a_file_without_rows_is_complete_at_once() -> None:
    """A header only."""
    collection = Collection(JOB)
    assert not collection.is_complete()
    collection.settle(make_captured(JOB, 0))
    assert collection.is_complete()


def test_a_frozen_job_does_not_change_when_more_comes() -> None:
    """It is read by another thread."""
    collection = Collection(JOB)
    collection.settle(make_captured(JOB, 8))
    add(collection, [0, 1])
    frozen = collection.freeze()
    add(collection, [2, 3])
    assert [n for part in frozen.in_order() for n in part.column("total").to_pylist()] == [0, 10]


def test_offsets_are_committed_up_to_the_oldest_row_in_memory() -> None:
    """Per partition, whichever lot it is in."""
    ledger = Ledger()
    ledger.read(0, 20, 99)
    assert ledger.hold(0, 1, 20)
    assert not ledger.hold(0, 1, 60)
    ledger.hold(0, 2, 50)
    ledger.read(1, 0, 9)
    assert ledger.committable() == {0: 20, 1: 10}
    ledger.committed({0: 20, 1: 10})
    ledger.release(0, 1)
    assert ledger.committable() == {0: 50}
    ledger.release(0, 2)
    assert ledger.committable() == {0: 100}
    ledger.forget(0)
    assert ledger.committable() == {}


@pytest.mark.parametrize(
    "value", [b'{"error":"x","row":{"order_id":"7"}}', b'{"error":"x","line":3,"text":"a,b"}']
)
def test_rejects_of_both_kinds_are_objects_with_an_error(value: bytes) -> None:
    """As the sink expects them."""
    assert isinstance(json.loads(value)["error"], str)


def test_rows_held_when_a_topic_is_made_anew_still_hold_back_its_offsets() -> None:
    """They come again as duplicates, which hold nothing: a kill would leave them neither in memory nor before the offset."""
    ledger = Ledger()
    ledger.read(0, 0, 99)
    ledger.hold(0, 1, 40)
    ledger.begin_again(0)
    assert ledger.committable() == {}
    ledger.read(0, 0, 49)
    assert ledger.committable() == {0: 0}
    ledger.read(0, 50, 59)
    ledger.read(0, 20, 29)  # once more, and nobody told of it
    assert ledger.committable() == {0: 20}
    ledger.release(0, 1)
    assert ledger.committable() == {0: 30}
