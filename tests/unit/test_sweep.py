"""What somebody left half done is found by its open mark, and finished."""

import io
from collections.abc import Iterator
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sink.sweep
from pipeline import layout, missing
from pipeline.errors import Throttled
from pipeline.jobs import Claim, End, Job, NameRecord
from pipeline.pace import LONGEST
from pipeline.store import Head, MemoryStore, Unfinished
from sink.collector import Collection
from sink.inventory import Inventory
from sink.parts import part_job
from sink.publish import Publisher
from sink.repair import Doubt
from sink.sweep import FAILURES, Found, Sweeper, Wanted
from tests.jobs import WHEN, make_captured, make_job
from tests.unit.sink_doubles import add, open_job, spill

NOTHING = Wanted()


def look(store: MemoryStore, wanted: Wanted = NOTHING) -> Found:
    return Sweeper(store, Publisher(store), Inventory(store)).look(wanted)


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
    found = look(store, Wanted(held={job.file_id}, waiting={job.file_id}))
    assert (found.ended, list(found.captured)) == ([], [job.file_id])
    assert look(store, Wanted(busy={job.file_id})) == Found()


def test_a_held_job_that_ended_elsewhere_is_noticed_without_its_mark() -> None:
    """Else its rows would be held for ever, and no offset committed."""
    store, job = MemoryStore(), make_job()
    store.put(layout.end(job.file_id), End(state="cancelled", reason="x", nonce="n", ended=WHEN).dump())
    assert look(store, Wanted(held={job.file_id, "0" * 32})).ended == [job.file_id]


def test_parts_of_jobs_that_have_ended_are_removed_and_those_of_open_ones_stay() -> None:
    """A sink wrote them that learned of the end too late."""
    store, job, other = MemoryStore(), make_job(), make_job("other.csv")
    for one in (job, other):
        open_job(store, one, 20)
        add(collection := Collection(one), range(9))
        spill(store, collection)
    Publisher(store).end(job, "cancelled", "x")
    add(late := Collection(job), [11])
    spill(store, late)
    found = look(store)
    assert list(found.parts) == [other.file_id]
    assert {part_job(head.key) for head in store.list(layout.PARTS)} == {other.file_id}
    assert found.ready == []


def test_a_job_whose_rows_are_all_in_parts_is_found_whoever_put_them_there() -> None:
    """Its sinks died before they assembled it."""
    store, job = MemoryStore(), make_job()
    captured = open_job(store, job, 20)
    add(collection := Collection(job), range(20))
    spill(store, collection)
    assert look(store).ready == [(job, captured)]
    assert look(store, Wanted(busy={job.file_id})).ready == []


def test_a_mark_of_a_job_that_is_no_more_is_removed() -> None:
    """Nobody could ever do anything about it."""
    store = MemoryStore()
    store.put(layout.open_mark("0" * 32), b"")
    look(store)
    assert list(store.list(layout.OPEN)) == []


class Uploading(MemoryStore):
    """A store with multipart uploads under way."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self.uploads = [Unfinished(key, str(number)) for number, key in enumerate(keys)]

    def unfinished(self) -> Iterator[Unfinished]:
        """See ObjectStore."""
        return iter(list(self.uploads))

    def abort(self, upload: Unfinished) -> None:
        """See ObjectStore."""
        self.uploads.remove(upload)


def test_uploads_that_no_open_job_can_be_about_are_aborted() -> None:
    """Outputs by their job, copies by their name; what an open job may be writing just now is left alone."""
    job, over = make_job(), make_job("over.csv")
    ours = [layout.output(job.file_id, "n"), job.name]
    store = Uploading(*ours, layout.output(over.file_id, "n"), over.name)
    open_job(store, job)
    look(store)
    assert [upload.key for upload in store.uploads] == ours
    Publisher(store).end(job, "failed", "x")
    look(store)
    assert store.uploads == []


def doubt(job: Job, rows: int, lacking: tuple[int, ...], rounds: set[int], parts: set[str]) -> Doubt:
    partition = job.partition(lacking[0] * job.block)
    captured = make_captured(job, rows)
    return Doubt(job, captured, partition, lacking, frozenset(rounds), frozenset(parts))


def test_lost_rows_are_asked_for_round_after_round_and_then_the_job_fails() -> None:
    """Never before the end of the round before has come through."""
    store, job = MemoryStore(), make_job()
    open_job(store, job, 20)
    rounds: set[int] = set()
    assert look(store, Wanted(doubts=(doubt(job, 20, (1,), rounds, set()),))).repaired == set()
    for number in range(missing.ROUNDS + 1):
        rounds.add(number)
        for _ in range(2):
            found = look(store, Wanted(doubts=(doubt(job, 20, (1,), rounds, set()),)))
            asked = missing.current(store, job.file_id, job.partition(4))
            if number < missing.ROUNDS:
                assert asked is not None
                assert (asked.round, asked.blocks) == (number + 1, (1,))
                assert found.repaired == {job.file_id}
    assert asked is None, "a job that has ended asks for nothing"
    end = End.load(store.get(layout.end(job.file_id))[0])
    assert end.state == "failed"
    assert end.reason is not None
    assert end.reason.startswith("rows 4 to 7 have gaps after 5 rounds of repair")


def test_rows_that_turn_out_to_lie_in_a_part_are_not_asked_for() -> None:
    """The share came from another instance, whose parts weren't known yet."""
    store, job = MemoryStore(), make_job()
    open_job(store, job, 20)
    add(collection := Collection(job), range(4, 6))
    spill(store, collection)
    keys = {head.key for head in store.list(layout.PARTS)}
    for known, asked in ((set[str](), False), (keys, True)):
        look(store, Wanted(doubts=(doubt(job, 20, (1,), {0}, known),)))
        assert (missing.current(store, job.file_id, job.partition(4)) is not None) == asked


def test_a_job_that_has_ended_is_not_repaired() -> None:
    """It ended elsewhere, a moment ago."""
    store, job = MemoryStore(), make_job()
    open_job(store, job, 20)
    Publisher(store).end(job, "cancelled", "x")
    look(store, Wanted(doubts=(doubt(job, 20, (1,), {0}, set()),)))
    assert missing.current(store, job.file_id, job.partition(4)) is None


def test_a_request_whose_asker_died_before_the_mark_told_of_it_is_told_of() -> None:
    """Whoever watches learns of it from the mark alone."""
    store, job = MemoryStore(), make_job()
    open_job(store, job, 20)
    doubts = Wanted(doubts=(doubt(job, 20, (1,), {0}, set()),))
    missing.request(store, job.file_id, job.partition(4), 1, [1])
    store.put(layout.open_mark(job.file_id), b"")
    assert look(store, doubts).repaired == {job.file_id}
    mark = store.head(layout.open_mark(job.file_id))
    assert missing.lacks(mark)
    look(store, doubts)
    assert store.head(layout.open_mark(job.file_id)) == mark, "told once"


@pytest.mark.parametrize("broken", ["parts", "captured", "end"])
def test_what_cannot_be_read_of_one_job_hides_no_other(broken: str) -> None:
    """Strangers' objects among the parts, and records of a later format, are left alone."""
    store, job, other = MemoryStore(), make_job(), make_job(name="other.csv")
    for one in (job, other):
        open_job(store, one)
    store.put(layout.captured(other.file_id), make_captured(other, 5).dump())
    if broken == "parts":
        table = pa.table({"row": [1]})
        out = io.BytesIO()
        pq.write_table(table, out, write_statistics=False)
        for key in ("0-0-x.parquet", "strange.parquet", "readme.txt"):
            store.put(f"{layout.PARTS}{job.file_id}/{key}", out.getvalue())
    else:
        store.put({"captured": layout.captured, "end": layout.end}[broken](job.file_id), b"[]")
    found = look(store, Wanted(held={job.file_id, other.file_id}, waiting={job.file_id, other.file_id}))
    assert list(found.captured) == [other.file_id]
    assert found.ended == []
    assert layout.open_mark(job.file_id) in {head.key for head in store.list(layout.OPEN)}


class Refusing(MemoryStore):
    """Takes no writes for some keys."""

    refused: frozenset[str] = frozenset()

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        if key in self.refused:
            raise Throttled(f"{key}: InternalError")
        super().delete(key, if_match=if_match)


def ended_jobs(store: MemoryStore, count: int) -> list[Job]:
    jobs = [make_job(f"{number}.csv") for number in range(count)]
    for job in jobs:
        open_job(store, job)
        store.put(layout.claim(job.file_id), Claim(nonce="c").dump())
        store.put(layout.end(job.file_id), End(state="failed", reason="x", nonce="n", ended=WHEN).dump())
    return jobs


def test_a_mark_is_passed_over_at_the_look_that_finds_it_first() -> None:
    """Most jobs are gone by the next; what there was at the start isn't, whoever left it."""
    store = MemoryStore()
    [old] = ended_jobs(store, 1)
    sweeper = Sweeper(store, Publisher(store), Inventory(store))
    assert sweeper.look(NOTHING).ended == [old.file_id]
    _, new = ended_jobs(store, 2)
    assert sweeper.look(NOTHING).ended == [old.file_id]
    assert sweeper.look(NOTHING).ended == [new.file_id]
    assert list(store.list(layout.OPEN)) == []


@pytest.mark.parametrize("why", ["parts", "lost rows", "an upload that may be its own"])
def test_a_mark_is_looked_at_at_once_where_there_is_something_to_be_done(why: str) -> None:
    class Uploading(MemoryStore):
        broken: tuple[Unfinished, ...] = ()

        def unfinished(self) -> Iterator[Unfinished]:
            return iter(self.broken)

    store, job = Uploading(), make_job()
    sweeper = Sweeper(store, Publisher(store), Inventory(store))
    assert sweeper.look(NOTHING) == Found()
    open_job(store, job, 9)
    if why == "parts":
        collection = Collection(job)
        add(collection, range(9))
        spill(store, collection)
    elif why == "lost rows":
        missing.request(store, job.file_id, 0, 1, [0])
    else:
        store.broken = (Unfinished(layout.output(job.file_id, "n"), "1"),)
    store.put(layout.end(job.file_id), End(state="failed", reason="x", nonce="n", ended=WHEN).dump())
    assert sweeper.look(NOTHING).ended == [job.file_id]


def test_a_job_whose_keys_are_refused_for_ever_keeps_no_other_from_being_cleared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SeaweedFS whose disk was full refused to delete one key, and no mark was removed any more; and each look said so."""
    store = Refusing()
    jobs = ended_jobs(store, 4)
    store.refused = frozenset({layout.claim(jobs[0].file_id)})
    sweeper = Sweeper(store, Publisher(store), Inventory(store))
    for _ in range(3):
        sweeper.look(NOTHING)
    assert [head.key for head in store.list(layout.OPEN)] == [layout.open_mark(jobs[0].file_id)]
    assert capsys.readouterr().out.count("could not look at a job") == 1
    store.refused = frozenset()
    assert sweeper.look(NOTHING).ended == [jobs[0].file_id]
    assert list(store.list(layout.OPEN)) == []


def test_a_look_is_given_up_where_s3_fails_with_one_job_after_another() -> None:
    """It is away: each further call would take its full time."""
    store = Refusing()
    store.refused = frozenset(layout.claim(job.file_id) for job in ended_jobs(store, FAILURES + 2))
    with pytest.raises(Throttled):
        look(store)


def test_a_look_that_took_long_for_no_reason_of_its_own_is_made_again_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S3 did not answer, or the process was asleep: what ended elsewhere would be held, and nothing assembled, for hours."""
    now = 100.0

    class Slow(MemoryStore):
        def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
            nonlocal now
            now += 600.0
            return super().list(prefix, delimiter=delimiter)

    monkeypatch.setattr(sink.sweep, "time", SimpleNamespace(monotonic=lambda: now))
    store = Slow()
    sweeper = Sweeper(store, Publisher(store), Inventory(store))
    sweeper.start_if_due(lambda: NOTHING)
    sweeper._pool.submit(lambda: None).result(20)  # it does one after the other
    assert sweeper.take() is not None
    now += LONGEST
    sweeper.start_if_due(lambda: NOTHING)
    assert sweeper._running is not None
    sweeper.close()
