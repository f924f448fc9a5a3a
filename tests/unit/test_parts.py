"""Rows leave memory as parts, in any order, twice and in pieces, and come back as the file's own order."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import layout
from pipeline.errors import NotFound, Permanent
from pipeline.store import MemoryStore
from sink.collector import Collection
from sink.inventory import Inventory, seen_of
from sink.merge import STRETCH_BYTES, Merge
from sink.parts import OpenPart, encode, first_row, part_job, part_partition, runs_to_rows
from sink.seen import REJECT as REJECTED
from sink.seen import RESULT, Seen, from_runs, to_runs
from tests.jobs import make_captured, make_job
from tests.unit.sink_doubles import (
    REJECT,
    add,
    expected,
    merge,
    merged_csv,
    merged_rejects,
    spill,
    table,
)

JOB = make_job(block=4, partitions=3)


@given(st.data())
def test_rows_spilled_at_any_moment_in_any_order_merge_into_the_files_order(data: st.DataObject) -> None:
    """Batches shuffled and repeated, some rows rejected in one batch and computed in another, sinks that know of nothing."""
    total = data.draw(st.integers(1, 40))
    rejected = data.draw(st.sets(st.integers(0, total - 1)))
    later = data.draw(st.sets(st.sampled_from(sorted(rejected)))) if rejected else set()
    rest = list(range(total))
    batches = data.draw(st.lists(st.lists(st.integers(0, total - 1), max_size=12), max_size=8))
    store, collection = MemoryStore(), Collection(JOB)
    for batch in [*batches, rest]:
        add(collection, batch, dict.fromkeys(rejected, REJECT))
        if data.draw(st.booleans()):
            spill(store, collection)
        if data.draw(st.booleans()):
            spill(store, collection)
            collection = Collection(JOB)  # its successor begins with nothing
    add(collection, sorted(later))
    spill(store, collection)
    bad = sorted(rejected - later)
    width = data.draw(st.sampled_from([20.0, STRETCH_BYTES / 3]))
    assert merged_csv(store, JOB, total, width) == expected(row for row in range(total) if row not in bad)
    assert [row for row, _ in merge(store, JOB, total).rejects()] == bad


def test_a_part_is_named_by_what_is_in_it() -> None:
    """Partition, first row and digest; the same rows give the same part, so that writing it again changes nothing."""
    parts = []
    for _ in range(2):
        collection = Collection(JOB)
        add(collection, range(4, 8))
        [share] = collection.shares.values()
        part, content = encode(share.cut())
        parts.append((part.key, content))
    assert parts[0] == parts[1]
    key = parts[0][0]
    assert key.startswith(layout.parts(JOB.file_id))
    assert key.endswith(".parquet")
    assert (part_job(key), part_partition(key), first_row(key)) == (JOB.file_id, JOB.partition(4), 4)


def test_any_parquet_reader_sees_rows_values_and_rejects(tmp_path: Path) -> None:
    """A part is no secret: DuckDB reads it."""
    collection = Collection(JOB)
    add(collection, range(4), {2: REJECT})
    [share] = collection.shares.values()
    (tmp_path / "part.parquet").write_bytes(encode(share.cut())[1])
    with duckdb.connect() as con:
        rows = con.sql(f"FROM '{tmp_path / 'part.parquet'}'").fetchall()
    assert [(row, reject, name) for row, reject, name, _ in rows] == [
        (0, None, "id0"),
        (1, None, "id1"),
        (2, REJECT, None),
        (3, None, "id3"),
    ]


def test_a_parts_end_tells_which_rows_it_has() -> None:
    """Results and rejects; what two parts have both is counted."""
    store, collection = MemoryStore(), Collection(JOB)
    add(collection, range(20), {7: REJECT})
    spill(store, collection)
    add(again := Collection(JOB), range(8), {3: REJECT})
    spill(store, again)
    parts = Inventory(store).of_job(JOB.file_id)
    seen, twice = seen_of(JOB, 20, parts)
    assert (seen.results, seen.rejects, seen.rows) == (20, 0, 20)
    assert twice == 8
    assert seen_of(JOB, 10, parts)[0].rows == 10


def test_rows_behind_the_end_of_the_file_are_left_in_their_parts() -> None:
    """A forged row may have been spilled before the account was known."""
    store, collection = MemoryStore(), Collection(JOB)
    add(collection, [*range(6), 6, 9, 30], {9: REJECT, 6: REJECT})
    spill(store, collection)
    assert merged_csv(store, JOB, 6) == expected(range(6))
    assert merged_rejects(store, JOB, 6).count(b"\n") == 1


def test_parts_that_are_not_what_their_footers_said_are_not_published() -> None:
    """The merge counts every block on its way; a part that is gone says so."""
    store, collection = MemoryStore(), Collection(JOB)
    add(collection, range(12))
    spill(store, collection)
    parts = Inventory(store).of_job(JOB.file_id)
    seen, _ = seen_of(JOB, 12, parts)
    keys = [part.key for part in parts]
    with pytest.raises(Permanent, match="have 0, and their footers say 4"):
        list(Merge(store, JOB, 12, keys[1:], seen, 20, lambda: None).results())
    store.delete(keys[0])
    with pytest.raises(NotFound):
        list(Merge(store, JOB, 12, keys, seen, 20, lambda: None).results())


def test_what_is_no_part_is_refused() -> None:
    """Somebody else's object below parts/."""
    store = MemoryStore()
    store.put(f"{layout.parts(JOB.file_id)}0-0-x.parquet", b"hello" * 10)
    with pytest.raises(Permanent, match="is no part of a job"):
        OpenPart(store, f"{layout.parts(JOB.file_id)}0-0-x.parquet")
    add(collection := Collection(JOB), range(9))
    spill(store, collection)
    parts = Inventory(store).of_all()[JOB.file_id]
    assert seen_of(JOB, 9, parts)[0].rows == 9, "and stands in nobody's way"


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 40), max_size=20)), max_size=10),
    st.integers(1, 9),
)
def test_seen_is_a_set_of_rows_in_which_results_beat_rejects(
    batches: list[tuple[bool, list[int]]], block: int
) -> None:
    """Against two plain sets."""
    seen, results, rejects = Seen(block), set[int](), set[int]()
    for is_result, rows in batches:
        for number in sorted({row // block for row in rows}):
            here = [row for row in rows if row // block == number]
            fresh, beaten = seen.add(
                number, np.array(here) - number * block, RESULT if is_result else REJECTED
            )
            news = [row for row in dict.fromkeys(here) if row not in results]
            if is_result:
                assert beaten == len(set(here) & rejects - results)
                results |= set(here)
                rejects -= results
            else:
                news = [row for row in news if row not in rejects]
                rejects |= set(here) - results
            assert [here[at] for at in fresh] == news
    assert (seen.results, seen.rejects) == (len(results), len(rejects))
    blocks = range(-(-30 // block))
    wanted = [n for n in blocks if set(range(n * block, min(30, (n + 1) * block))) - results - rejects]
    seen.cut(30)
    assert seen.lacking(30, blocks) == wanted
    assert seen.rows == len({row for row in results | rejects if row < 30})


@given(st.sets(st.integers(0, 60)))
def test_runs_are_the_row_numbers_and_back(rows: set[int]) -> None:
    """Starts and stops."""
    numbers = np.array(sorted(rows), np.int64)
    assert from_runs(to_runs(numbers)).tolist() == sorted(rows)


def test_a_whole_job_of_a_hundred_million_rows_is_known_in_little_memory() -> None:
    """What is known of rows that have left memory grows with blocks, and not with rows."""
    seen = Seen(8192)
    every = np.arange(8192)
    for number in range(2000):
        seen.add(number, every, RESULT)
    assert seen.results == 2000 * 8192
    assert not seen._states
    assert all(packed is None for packed in seen._whole.values())


def test_collections_learn_what_others_have_spilled() -> None:
    """A successor neither holds those rows again nor waits for them."""
    store, before = MemoryStore(), Collection(JOB)
    add(before, range(10), {5: REJECT})
    spill(store, before)
    after = Collection(JOB)
    for part in Inventory(store).of_job(JOB.file_id):
        after.share(part.partition).learn(part.key, from_runs(part.results), from_runs(part.rejects))
    after.settle(make_captured(JOB, 12))
    add(after, range(10), {5: REJECT})
    assert sum(share.size for share in after.shares.values()) == 0
    assert [after.has_all_of(partition) for partition in range(3)].count(False) == 1
    add(after, [10, 11, 5])
    assert after.is_complete()
    assert not after.is_held()
    spill(store, after)
    assert merged_csv(store, JOB, 12) == expected(range(12))


def test_long_rows_are_kept_and_fetched_in_small_pieces() -> None:
    """Of rows of 100 KB a row group has forty, and so many are fetched at once, though a block has more."""
    store, job = MemoryStore(), make_job(block=128, partitions=2)
    collection = Collection(job)
    text = [f"{row:03}" * 33_000 for row in range(100)]
    rows = table(range(100)).set_column(0, "order_id", pa.array(text))
    collection.add(job.partition(0), np.arange(100), rows)
    spill(store, collection)
    [part] = Inventory(store).of_job(job.file_id)
    opened = OpenPart(store, part.key)
    assert [(group.first, group.last) for group in opened.groups] == [(0, 42), (43, 85), (86, 99)]
    assert 99_000 < part.width < 100_000
    found = list(merge(store, job, 100, part.width).results())
    assert [len(piece) for piece in found] == [42, 42, 16]
    assert pa.concat_tables(found).column("order_id").to_pylist() == text


def test_rows_behind_the_end_in_a_part_are_not_learnt() -> None:
    """Somebody's forged row was spilled before the account was known: it completes nothing, and puts nothing in doubt."""
    store, before = MemoryStore(), Collection(JOB)
    add(before, [*range(10), 10, 11])
    spill(store, before)
    after = Collection(JOB)
    after.settle(make_captured(JOB, 10))
    for part in Inventory(store).of_job(JOB.file_id):
        after.share(part.partition).learn(part.key, *runs_to_rows(part), 10)
    assert after.is_complete()
    assert all(after.has_all_of(partition) for partition in range(3))
