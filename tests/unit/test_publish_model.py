"""Publishing as a model: sinks in any interleaving, call by call, with crashes and lost answers, while newer uploads come."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline import duck, layout, records
from pipeline.errors import Unreachable
from pipeline.jobs import End, Job, Receipt
from pipeline.store import MemoryStore
from sink.collector import Collection, Frozen
from sink.publish import Publisher
from tests.jobs import make_captured, make_job
from tests.unit.stepped import Fate, Process, Stepped, World
from tests.unit.test_publish import keys, open_job

CONNECTION = duck.connect()
"""For all actors: only one of them runs at a time."""

ROWS = 6
MOST_ACTORS = 4


class Actor:
    """A sink that publishes a job: it tries again where an answer is lost, and ends where it crashes."""

    def __init__(self, world: World, store: MemoryStore, job: Job, done: Frozen) -> None:
        self.job = job
        self.end: End | None = None
        self._done = done
        process = Process(world)
        self._store: Any = Stepped(process, store)  # it has the methods by name
        self._main = process.start("publish", self._run)

    @property
    def alive(self) -> bool:
        return not self._main.over

    def _run(self) -> None:
        publisher = Publisher(self._store)
        while self.end is None:
            try:
                self.end = publisher.finish(self.job) or publisher.publish(self._done, CONNECTION)
            except Unreachable:
                continue

    def step(self, fate: Fate) -> None:
        """Let the next call through."""
        self._main.step(fate)


def collected(job: Job, order: list[int], dropped: int) -> Frozen:
    """Return what a sink has of a job whose rows came in an order, some twice, with a partition lost on the way."""
    collection = Collection(job)

    def add(row: int) -> None:
        total = pa.array([row * job.generation]).cast(pa.decimal128(38, 2))
        table = pa.table({"order_id": [f"id{row}"], "total": total})
        collection.add(job.partition(row), np.array([row], np.int64), table)

    for row in order:
        add(row)
    collection.drop(dropped)
    collection.settle(make_captured(job, ROWS))
    for row in (*order, *range(ROWS)):
        add(row)
    assert collection.is_complete()
    return collection.freeze()


def csv_of(generation: int) -> bytes:
    return ("order_id,total\n" + "".join(f"id{row},{row * generation}.00\n" for row in range(ROWS))).encode()


class Publishing(RuleBasedStateMachine):
    """One name, generation after generation, published by whoever happens to."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.store = MemoryStore()
        self.jobs: list[Job] = []
        self.actors: list[Actor] = []
        self.ends: dict[str, set[str]] = {}
        self.published = 0

    @precondition(lambda self: len(self.jobs) < 3)
    @rule()
    def a_newer_upload(self) -> None:
        generation = len(self.jobs) + 1
        job = make_job(generation=generation, etag=f"{generation:032x}", block=2)
        open_job(self.store, job)
        self.jobs.append(job)

    @precondition(lambda self: self.jobs and len(self.actors) < MOST_ACTORS)
    @rule(
        which=st.integers(0, 2),
        order=st.lists(st.integers(0, ROWS - 1), max_size=10),
        dropped=st.integers(0, 3),
    )
    def a_sink_has_all_rows(self, which: int, order: list[int], dropped: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        self.actors.append(Actor(self.world, self.store, job, collected(job, order, dropped)))

    @precondition(lambda self: self.actors)
    @rule(
        which=st.integers(0, MOST_ACTORS - 1),
        steps=st.integers(1, 6),
        fate=st.sampled_from(("right", "right", "failed", "lost", "again", "crash before", "crash after")),
    )
    def a_sink_goes_on(self, which: int, steps: int, fate: Fate) -> None:
        actor = self.actors[which % len(self.actors)]
        for number in range(steps):
            if actor.alive:
                actor.step(fate if number == steps - 1 else "right")
            self.what_the_reader_serves_is_of_the_receipts_job()
        if not actor.alive:
            self._over(actor)

    def _over(self, actor: Actor) -> None:
        self.actors.remove(actor)
        if actor.end is not None:
            ends = self.ends.setdefault(actor.job.file_id, set())
            ends.add(actor.end.nonce)
            assert len(ends) == 1, "two publishers won"

    @invariant()
    def what_the_reader_serves_is_of_the_receipts_job(self) -> None:
        receipt = records.read(self.store, layout.receipt("orders.csv"), Receipt)
        if receipt is None:
            return
        assert receipt.generation >= self.published, "an older job replaced a newer one's receipt"
        self.published = receipt.generation
        assert receipt.output is not None
        assert self.store.get(receipt.output.key)[0] == csv_of(receipt.generation)

    def teardown(self) -> None:
        """Nothing fails any more, and a sink that knows nothing looks at the marks: the newest upload's result is there."""
        for actor in list(self.actors):
            while actor.alive:
                actor.step("right")
            self._over(actor)
        if not self.jobs:
            return
        publisher = Publisher(self.store)
        for job in self.jobs:
            if layout.open_mark(job.file_id) in keys(self.store, layout.OPEN):
                publisher.finish(job) or publisher.publish(collected(job, [], 0), CONNECTION)
        newest = self.jobs[-1].generation
        self.what_the_reader_serves_is_of_the_receipts_job()
        assert self.published == newest
        assert self.store.get("orders.csv")[0] == csv_of(newest)
        assert keys(self.store, layout.OPEN) == []
        outputs = [key for key in keys(self.store, layout.JOBS) if "/out-" in key]
        assert len(outputs) == 1, outputs


TestPublishing = Publishing.TestCase
TestPublishing.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
