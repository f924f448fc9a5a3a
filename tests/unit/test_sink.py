"""The sink's own thread, without a broker: what it does about what its other threads tell it."""

import time
from collections.abc import Callable

import pytest

from pipeline import backoff, layout, records
from pipeline.duck import Error
from pipeline.errors import Permanent, Refused, Unreachable
from pipeline.jobs import Captured, End, Job
from pipeline.settings import Settings
from pipeline.store import Head, MemoryStore
from sink.assemble import Assembler
from sink.collector import Collection
from sink.finisher import Finisher
from sink.inventory import Inventory
from sink.publish import Publisher
from sink.store import Sink
from tests.jobs import WHEN, make_captured, make_job
from tests.unit.sink_doubles import add, open_job, spill


def test_parts_that_are_written_while_it_stops_begin_nothing_new() -> None:
    """Its other threads have ended by then; offsets are to be committed, and the group to be left."""
    store, job = MemoryStore(), make_job(partitions=3)
    captured = open_job(store, job, 30)
    assert captured is not None
    sink = Sink(Settings(), store)
    collection = sink._collection(job)
    collection.settle(captured)
    add(collection, range(30))
    sink._mine = {0}
    for share in collection.shares.values():
        sink._spill(share)
    sink._spiller._pool.shutdown()  # all three are on S3, and not taken note of
    sink.stop()
    sink._spiller.close()
    sink._finisher.close()
    sink._note_done()
    assert all(share.parts and not share.leaving for share in collection.shares.values())


class Refusing(Assembler):
    """Finds that a job's parts aren't what they should be."""

    def assemble(self, job: Job, *_: object) -> End | None:
        raise Permanent("no such row")


def test_a_job_that_could_not_be_finished_and_ended_elsewhere_stands_in_nobodys_way() -> None:
    """Readiness says why it is stuck for as long as it is."""
    store, job = MemoryStore(), make_job()
    captured: Captured = make_captured(job, 3)
    finisher = Finisher(store, Publisher(store), Refusing(store, Publisher(store), Inventory(store)))
    finisher.assemble(job, captured, 0)
    finisher._assemblers.submit(lambda: None).result(20)  # it does one after the other
    assert (finisher.busy, finisher.working, list(finisher.stuck)) == ({job.file_id}, set(), [job.name])
    finisher.forget(job.file_id)
    assert (finisher.busy, finisher.failed, finisher.stuck) == (set(), {}, {})
    finisher.close()


def test_how_a_stuck_job_ended_is_asked_for() -> None:
    """Its mark went with its end, and nothing of it may be held here."""
    store, job = MemoryStore(), make_job()
    store.put(layout.end(job.file_id), End(state="cancelled", nonce="n", ended=WHEN).dump())
    sink = Sink(Settings(), store)
    sink._finisher.failed[job.file_id] = job.name
    assert sink._sweeper.look(sink._wanted()).ended == [job.file_id]


class Hiding(MemoryStore):
    """A store that can't tell what lies under a prefix, as long as it has a reason."""

    def __init__(self, prefix: str, why: Exception) -> None:
        super().__init__()
        self.prefix = prefix
        self.why: Exception | None = why

    def get(self, key: str) -> tuple[bytes, Head]:
        if self.why is not None and key.startswith(self.prefix):
            raise self.why
        return super().get(key)


def in_parts(store: MemoryStore, job: Job) -> Captured:
    """A job whose rows all lie in parts."""
    captured = open_job(store, job, 20)
    assert captured is not None
    add(collection := Collection(job), range(20))
    spill(store, collection)
    return captured


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    "why", [Unreachable("S3 is silent"), Refused("not yours")], ids=["silent", "refused"]
)
def test_a_job_with_lasting_trouble_is_put_back_behind_the_others(
    why: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one thread that assembles. Readiness says what the trouble is; once it is over the job is published."""
    troubled, other = make_job(), make_job("other.csv")
    store = Hiding(layout.name_record(troubled.name), why)
    accounts = [in_parts(store, job) for job in (troubled, other)]
    finisher = Sink(Settings(), store)._finisher
    monkeypatch.setattr(backoff, "pause", lambda tries: 0.01)
    for job, captured in zip((troubled, other), accounts, strict=True):
        finisher.assemble(job, captured, 0)
    ended: dict[str, str] = {}

    def turn() -> dict[str, str]:
        ended.update({job.name: end.state for job, end in finisher.done() if end is not None})
        return ended

    until(turn)
    assert ended == {other.name: "published"}
    assert finisher.working == {troubled.file_id}
    assert finisher.stuck == {troubled.name: str(why)}
    store.why = None
    until(lambda: len(turn()) == 2)
    assert ended[troubled.name] == "published"
    assert (finisher.busy, finisher.stuck) == (set(), {})
    finisher.close()


def test_a_database_that_does_not_open_is_said_and_leaves_no_job_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else nobody here would ever look at it again, and nothing would say why."""

    def broken() -> None:
        raise Error("no memory")

    sink = Sink(Settings(), MemoryStore())
    monkeypatch.setattr("sink.finisher.duck.connect", broken)
    job = make_job()
    sink._finisher.assemble(job, make_captured(job, 3), 0)
    until(lambda: not sink._finisher.working)
    assert list(sink._finisher.failed) == [job.file_id]
    assert f"{job.name} can't be published: Error: no memory" in sink.why_not_ready()
    sink._finisher.close()


def test_a_part_that_was_written_while_its_job_was_looked_at_is_looked_at_right_after() -> None:
    """And not only when the sweeper comes round: the look may have been too early to see it."""
    store, job = MemoryStore(), make_job()
    captured = in_parts(store, job)
    sink = Sink(Settings(), store)
    collection = sink._collection(job)
    collection.settle(captured)
    sink._parts = {job.file_id: Inventory(store).of_job(job.file_id)}
    sink._mine = set(captured.shares)
    sink._learn(collection)
    sink._finisher.busy.add(job.file_id)
    sink._consider(collection, look=True)
    assert records.read(store, layout.end(job.file_id), End) is None
    sink._finisher._done.put((job, None))  # the look that was under way has found rows lacking
    sink._note_done()

    def gone() -> bool:
        sink._note_done()
        return job.file_id not in sink._collections

    until(gone)
    end = records.read(store, layout.end(job.file_id), End)
    assert end is not None
    assert end.state == "published"
    sink._finisher.close()
