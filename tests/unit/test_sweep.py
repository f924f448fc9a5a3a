"""What somebody left half done is found by its open mark, and finished."""

import time

from pipeline import layout
from pipeline.jobs import End, NameRecord
from pipeline.store import MemoryStore
from sink.publish import Publisher
from sink.sweep import Found, Sweeper
from tests.jobs import WHEN, make_captured, make_job


def look(
    store: MemoryStore,
    busy: set[str] | None = None,
    held: set[str] | None = None,
    waiting: list[str] | None = None,
) -> Found:
    sweeper = Sweeper(store, Publisher(store))
    sweeper.start_if_due(busy or set(), held or set(), waiting or [])
    sweeper.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = sweeper.take()
        if found.ended or found.captured or sweeper._running is None:
            return found
    raise AssertionError("no end of a look")


def test_a_job_with_a_mark_and_an_end_loses_its_mark() -> None:
    """Its publisher died after the decision."""
    store, job = MemoryStore(), make_job()
    store.put(layout.job(job.file_id), job.dump())
    store.put(layout.open_mark(job.file_id), b"")
    store.put(layout.end(job.file_id), End(state="failed", reason="x", nonce="n", ended=WHEN).dump())
    assert look(store).ended == [job.file_id]
    assert list(store.list(layout.OPEN)) == []


def test_a_job_whose_name_belongs_to_a_newer_one_ends_superseded() -> None:
    """Nobody else may be there to say so."""
    store, job = MemoryStore(), make_job()
    store.put(layout.job(job.file_id), job.dump())
    store.put(layout.open_mark(job.file_id), b"")
    store.put(layout.name_record(job.name), NameRecord(generation=2, file_id="f" * 32).dump())
    assert look(store).ended == [job.file_id]
    assert End.load(store.get(layout.end(job.file_id))[0]).state == "superseded"


def test_a_job_under_way_is_left_alone_and_its_account_is_brought() -> None:
    """And one that is being published just now isn't looked at."""
    store, job = MemoryStore(), make_job()
    store.put(layout.job(job.file_id), job.dump())
    store.put(layout.open_mark(job.file_id), b"")
    store.put(layout.captured(job.file_id), make_captured(job, 5).dump())
    found = look(store, held={job.file_id}, waiting=[job.file_id])
    assert (found.ended, list(found.captured)) == ([], [job.file_id])
    assert look(store, busy={job.file_id}) == Found()


def test_a_held_job_that_ended_elsewhere_is_noticed_without_its_mark() -> None:
    """Else its rows would be held for ever, and no offset committed."""
    store, job = MemoryStore(), make_job()
    store.put(layout.end(job.file_id), End(state="cancelled", reason="x", nonce="n", ended=WHEN).dump())
    assert look(store, held={job.file_id, "0" * 32}).ended == [job.file_id]
