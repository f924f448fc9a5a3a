"""The sink's own thread, without a broker: what it does about what its other threads tell it."""

import pytest

from pipeline import backoff, layout, records
from pipeline.duck import Error
from pipeline.errors import Permanent, Refused, Unreachable
from pipeline.jobs import Captured, End, Job
from pipeline.kafka_batch import Batch
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
from tests.wait import wait_until


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

    wait_until(turn)
    assert ended == {other.name: "published"}
    assert finisher.working == {troubled.file_id}
    assert finisher.stuck == {troubled.name: str(why)}
    store.why = None
    wait_until(lambda: len(turn()) == 2)
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
    wait_until(lambda: not sink._finisher.working)
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

    wait_until(gone)
    end = records.read(store, layout.end(job.file_id), End)
    assert end is not None
    assert end.state == "published"
    sink._finisher.close()


class Group:
    """A reader whose partitions go to another sink while this one waits."""

    def __init__(self, sink: Sink, partitions: list[int]) -> None:
        self.epoch = 0
        self.committed: dict[int, int] = {}
        self._sink, self._partitions = sink, partitions

    def pause(self) -> None:
        """Fetch nothing."""

    def resume(self) -> None:
        """Fetch again."""

    def idle(self, _seconds: float) -> None:
        self._sink._revoked(self._partitions)
        self.epoch += 1

    def commit(self, offsets: dict[int, int]) -> dict[int, int]:
        self.committed |= offsets
        return offsets


def results_of(job: Job, partition: int, rows: int, lacking: int = 0) -> Batch:
    """The results of a share and its end, the last of them lacking, as they come in one run from offset 50."""
    share = [row for row in range(rows) if job.partition(row) == partition]
    keys = [b"%s:%d" % (job.file_id.encode(), row) for row in share[: len(share) - lacking]]
    values = [b'{"order_id":"id%d","total":%d.00}' % (row, row * 10) for row in share[: len(share) - lacking]]
    end = b'{"rows":%d,"round":0}' % len(share)
    keys, values = [*keys, b"%s:end" % job.file_id.encode()], [*values, end]
    return Batch("results", partition, 50, 49 + len(keys), [*keys], [*values])


@pytest.mark.parametrize("lacking", [0, 1])
def test_partitions_that_go_while_the_account_is_waited_for_are_read_again_by_whoever_follows(
    lacking: int,
) -> None:
    """From the share's end on: without it, nobody would ask for rows that lack. The rows are on S3 by then."""
    job = make_job(partitions=1)
    store = Hiding(layout.captured(job.file_id), Unreachable("S3 is silent"))
    open_job(store, job, 20)
    batch = results_of(job, 0, 20, lacking)
    first = Sink(Settings(), store)
    first._mine = {0}
    group = Group(first, [0])
    first._reader = group  # type: ignore[assignment]
    first._take_all(group, [batch])  # type: ignore[arg-type]
    assert (first._collections, first._mine) == ({}, set())
    assert group.committed == {0: 50}
    assert sum(part.rows for part in Inventory(store).of_job(job.file_id)) == 20 - lacking

    store.why = None
    second = Sink(Settings(), store)
    second._mine = {0}
    second._parts = {job.file_id: Inventory(store).of_job(job.file_id)}
    following = Group(second, [0])
    second._take_all(following, [batch])  # type: ignore[arg-type]
    if lacking:
        [share] = second._collections[job.file_id].shares.values()
        assert share.rounds == {0}
        assert second._collections[job.file_id].lacking(0) == [4]
        assert second._ledger.committable() == {0: 50}
    else:
        assert second._ledger.committable() == {0: 50 + 21}
    for sink in (first, second):
        sink._finisher.close()
        sink._spiller.close()


def test_a_sink_that_is_stopped_while_it_waits_for_an_account_leaves_the_end_to_the_next() -> None:
    """It waits no longer, and commits nothing behind it."""
    job = make_job(partitions=1)
    store = Hiding(layout.captured(job.file_id), Unreachable("S3 is silent"))
    open_job(store, job, 20)
    sink = Sink(Settings(), store)
    sink._mine = {0}
    group = Group(sink, [])
    group.idle = lambda _seconds: sink.stop()  # type: ignore[method-assign]
    sink._take_all(group, [results_of(job, 0, 20, 1)])  # type: ignore[arg-type]
    sink._empty({0}, 20)
    sink._commit(group)  # type: ignore[arg-type]
    assert group.committed == {0: 50}
    assert sum(part.rows for part in Inventory(store).of_job(job.file_id)) == 19
    sink._spiller.close()
