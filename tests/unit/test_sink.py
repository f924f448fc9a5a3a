"""The sink's own thread, without a broker: what it does about what its other threads tell it."""

from pipeline import layout
from pipeline.errors import Permanent
from pipeline.jobs import Captured, End, Job
from pipeline.settings import Settings
from pipeline.store import MemoryStore
from sink.assemble import Assembler
from sink.finisher import Finisher
from sink.inventory import Inventory
from sink.publish import Publisher
from sink.store import Sink
from tests.jobs import WHEN, make_captured, make_job
from tests.unit.sink_doubles import add, open_job


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
