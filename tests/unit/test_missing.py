"""What the sink asks capture for, and how capture learns of it."""

from pipeline import layout, missing, records
from pipeline.store import MemoryStore

JOB = "78312d16389890d46450c3e746f8e9a6"


def bucket() -> MemoryStore:
    store = MemoryStore()
    records.mark(store, layout.open_mark(JOB))
    return store


def mark(store: MemoryStore) -> bool:
    [head] = store.list(layout.OPEN)
    return missing.lacks(head)


def test_one_listing_of_the_marks_tells_that_blocks_are_asked_for() -> None:
    store = bucket()
    assert not mark(store)
    missing.request(store, JOB, 2, 1, [9, 5])
    assert mark(store)
    [(partition, (asked, _))] = missing.requested(store, JOB).items()
    assert (partition, asked.round, asked.blocks, asked.captured) == (2, 1, (5, 9), False)


def test_rounds_only_go_up() -> None:
    store = bucket()
    assert missing.current(store, JOB, 0) is None
    first = missing.request(store, JOB, 0, 1, [1, 2])
    assert missing.request(store, JOB, 0, 1, [1, 2, 3]) == first
    second = missing.request(store, JOB, 0, 2, [2])
    assert missing.request(store, JOB, 0, 1, [1, 2]) == second
    assert missing.current(store, JOB, 0) == second


def test_a_round_that_was_overtaken_cant_be_settled() -> None:
    store = bucket()
    missing.request(store, JOB, 0, 1, [1])
    [(asked, etag)] = missing.requested(store, JOB).values()
    missing.request(store, JOB, 0, 2, [1])
    assert not missing.settle(store, JOB, 0, asked, etag)
    [(asked, etag)] = missing.requested(store, JOB).values()
    assert missing.settle(store, JOB, 0, asked, etag)
    now = missing.current(store, JOB, 0)
    assert now is not None
    assert (now.round, now.captured) == (2, True)


def test_a_mark_that_was_removed_isnt_made_anew() -> None:
    store = MemoryStore()
    missing.request(store, JOB, 0, 1, [1])
    assert list(store.list(layout.OPEN)) == []
