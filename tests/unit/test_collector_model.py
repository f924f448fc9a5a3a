"""The sink as a model: instances in any interleaving, call by call, that come, crash, sleep, lose answers and partitions, while
rows come more than once, out of order and late, and newer uploads take the name over.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pipeline.renewal
import sink.ahead
import sink.csv_writer
import sink.finisher
import sink.merge
import sink.spill
import sink.store
import sink.sweep
from pipeline import duck, layout, records
from pipeline.events import end_key, end_value, rejected_key
from pipeline.jobs import End, Job, Receipt
from pipeline.kafka_batch import Batch
from pipeline.settings import Settings
from pipeline.store import MemoryStore
from producer.ending import supersede
from producer.publish import shares_of
from sink.parts import read_part, runs_to_rows
from sink.publish import Publisher
from sink.store import Sink
from tests.jobs import make_captured, make_job
from tests.unit.sink_doubles import CONNECTION, REJECT, expected, open_job
from tests.unit.stepped import QUEUE, THREADING, Fate, Inline, Pool, Process, Stepped, World, here, time_of

ROWS, BLOCK, PARTITIONS = 11, 2, 3
REJECTED, BOTH = {3, 8}, {0, 5, 6}
"""Rows that come as rejects, and rows that come as a result and as a reject, in either order."""

MOST_SINKS, MOST_JOBS = 3, 2

JOB, SINK = st.integers(0, MOST_JOBS - 1), st.integers(0, MOST_SINKS - 1)
MEMORY = st.sampled_from(("1KB", "16KB", "64MB", "in flight"))
"""What a sink may hold; of the last, what it may hold commits back by: 4 messages or so."""

AGE = st.sampled_from((2.0, 60.0))
SOME_ROWS = st.lists(st.integers(0, ROWS + 1), max_size=20) | st.permutations(range(ROWS))
PACE = st.sampled_from((0.0, 0.1, 1.0))
"""Seconds that a call takes."""

Callback = Callable[[list[int]], None]


class Topic:
    """Results by partition, and what the group has committed."""

    def __init__(self) -> None:
        self.logs: list[list[tuple[bytes, bytes]]] = [[] for _ in range(PARTITIONS)]
        self.committed = dict.fromkeys(range(PARTITIONS), 0)
        self.starts = dict.fromkeys(range(PARTITIONS), 0)
        """Where each begins: what was before was removed."""
        self.members: list[Member] = []
        self.shift = 0

    def join(self, member: "Member") -> None:
        self.members.append(member)
        self.rebalance()

    def leave(self, member: "Member") -> None:
        """Take a member out, that says so or hasn't been heard of for too long."""
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def rebalance(self) -> None:
        """Have all members give up what they have."""
        for member in self.members:
            member.is_to_give_up, member.assigned = bool(member.partitions), None
        self.settle()

    def settle(self) -> None:
        """Deal the partitions once all members have given up theirs."""
        if self.members and not any(member.is_to_give_up for member in self.members):
            for number, member in enumerate(self.members):
                mine = (number + self.shift) % len(self.members)
                member.assigned = [p for p in range(PARTITIONS) if p % len(self.members) == mine]


class Member:
    """A sink's reader, as `pipeline.kafka_reader.Reader` is one: eager, from the committed offsets."""

    def __init__(self, model: "Sinking", callbacks: Mapping[str, Callback]) -> None:
        self.epoch = 0
        self.starts: dict[int, int] = {}
        self.partitions: dict[int, int] = {}
        """Where each of ours is to be read on."""
        self.assigned: list[int] | None = None
        self.is_to_give_up = False
        self._process = here().process
        self._model, self._topic = model, model.topic
        self._callbacks = callbacks
        self._topic.join(self)

    def read(self, timeout: float) -> list[Batch]:
        self._process.pause("read")
        epoch = self.epoch
        self._serve()
        if epoch != self.epoch:
            return []
        found = []
        for partition, place in sorted(self.partitions.items()):
            first = max(place, self._topic.starts[partition])
            messages = self._topic.logs[partition][first : first + self._model.batch]
            if messages:
                keys, values = (list(column) for column in zip(*messages, strict=True))
                self.partitions[partition] = first + len(messages)
                found.append(Batch("results", partition, first, first + len(messages) - 1, keys, values))
        return found

    def idle(self, seconds: float) -> None:
        self._process.pause("idle")
        self._process.world.now += seconds
        self._serve()

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def high(self, partition: int) -> int:
        return len(self._topic.logs[partition])

    def commit(self, offsets: Mapping[int, int]) -> dict[int, int]:
        def work() -> dict[int, int]:
            if self not in self._topic.members:
                return {}
            done = {
                partition: offset for partition, offset in offsets.items() if partition in self.partitions
            }
            for partition, offset in done.items():
                self._model.is_committed(partition, offset)
                self._topic.committed[partition] = offset
            return done

        return self._process.call("commit", work) if offsets else {}

    def close(self) -> None:
        self._topic.leave(self)

    def _serve(self) -> None:
        mine = list(self.partitions)
        if self not in self._topic.members:
            if mine:
                self._callbacks["on_lost"](mine)
            self._give_up()
            self._topic.join(self)
        elif self.is_to_give_up:
            self._callbacks["on_revoke"](mine)
            self._give_up()
            self._topic.settle()
        elif self.assigned is not None:
            self.epoch += 1
            self.starts = {partition: self._topic.committed[partition] for partition in self.assigned}
            self.partitions, self.assigned = dict(self.starts), None
            self._callbacks["on_assign"](list(self.partitions))

    def _give_up(self) -> None:
        self.epoch += 1
        self.partitions, self.is_to_give_up = {}, False


class Instance:
    """A process that runs a sink."""

    def __init__(self, model: "Sinking", ahead: float, memory: str, age: float) -> None:
        self.process = Process(model.world, ahead)
        self._model = model
        if memory == "in flight":
            self._settings = Settings(sink_age=age).model_copy(update={"in_flight": "1KB"})
        else:
            self._settings = Settings(sink_memory=memory, sink_age=age)
        self.main = self.process.start("main", self._run)

    @property
    def member(self) -> Member:
        reader: Any = self.sink._reader
        assert isinstance(reader, Member)
        return reader

    def _run(self) -> None:
        store: Any = Stepped(self.process, self._model.store)  # it has the methods by name
        self.sink = Sink(self._settings, store)
        self.sink._book._clock = self._model.world.monotonic
        self.sink._finisher._assembler._now = self._model.world.monotonic
        self.sink.run()


class Bucket(MemoryStore):
    """The results, where each receipt is looked at as it is written."""

    def __init__(self, model: "Sinking") -> None:
        super().__init__()
        self._model = model

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        etag = super().put(key, data, **conditions)  # type: ignore[arg-type]
        if key.startswith(layout.RECEIPTS):
            self._model.receipt_is_right(Receipt.load(data))
        assert "/missing/" not in key, "rows were asked for again of which none was lost"
        return etag


class Sinking(RuleBasedStateMachine):
    """One name, generation after generation, collected by whoever has the partitions."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.store = Bucket(self)
        self.topic = Topic()
        self.batch = 3
        self.jobs: list[Job] = []
        self.sent: dict[str, set[int]] = {}
        self.sinks: list[Instance] = []
        self.asleep: list[Instance] = []
        self.generation = 0
        self._parts: dict[str, set[int]] = {}
        self._patches = ExitStack()
        self._patch()

    def _patch(self) -> None:
        def reader(settings: Settings, group: str, topic: str, **callbacks: Callback) -> Member:
            return Member(self, callbacks)

        clock = time_of(self.world)
        for module, name, double in (
            (duck, "connect", lambda: CONNECTION),  # one thread runs at a time, and none stops in a query
            (sink.store, "Reader", reader),
            (sink.store, "outlet", lambda settings: None),
            (sink.store, "Offsets", lambda settings: None),
            (sink.store, "keep_looking", lambda *_: SimpleNamespace(join=lambda: None)),
            (sink.store, "time", clock),
            (sink.sweep, "time", clock),
            (sink.finisher, "time", clock),
            (sink.spill, "threading", THREADING),
            (sink.spill, "queue", QUEUE),
            (pipeline.renewal, "threading", THREADING),
            (sink.spill, "ThreadPoolExecutor", Pool),
            (sink.finisher, "ThreadPoolExecutor", Pool),
            (sink.sweep, "ThreadPoolExecutor", Pool),
            (sink.merge, "ThreadPoolExecutor", Inline),
            (sink.ahead, "ThreadPoolExecutor", Inline),
            (sink.csv_writer, "ThreadPoolExecutor", Inline),
            (sink.store, "FEW", 2),
        ):
            self._patches.enter_context(mock.patch.object(module, name, double))

    # ---- what may happen: to jobs and rows

    @initialize(memories=st.lists(MEMORY, min_size=1, max_size=2), age=AGE, rows=SOME_ROWS)
    def begin(self, memories: list[str], age: float, rows: list[int]) -> None:
        self.a_newer_upload(is_told=False)
        self.results_come(0, rows)
        for memory in memories:
            self.sinks.append(Instance(self, 0.0, memory, age))

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(is_told=st.booleans())
    def a_newer_upload(self, is_told: bool) -> None:
        generation = len(self.jobs) + 1
        job = make_job(generation=generation, etag=f"{generation:032x}", block=BLOCK, partitions=PARTITIONS)
        open_job(self.store, job)
        if self.jobs and is_told:
            supersede(self.store, self.jobs[-1].file_id, generation)
        self.jobs.append(job)
        self.sent[job.file_id] = set()

    @rule(which=JOB, rows=SOME_ROWS)
    def results_come(self, which: int, rows: list[int]) -> None:
        """In any order, some twice, some behind the file's end, some of a job that has ended."""
        for row in rows:
            self._send(self.jobs[which % len(self.jobs)], row)

    @rule(which=JOB, partitions=st.sets(st.integers(0, PARTITIONS - 1)))
    def capture_ends(self, which: int, partitions: set[int]) -> None:
        """The account is written, and these shares' ends come through."""
        job = self.jobs[which % len(self.jobs)]
        self._capture(job)
        for partition in sorted(partitions):
            self._end_share(job, partition)

    @rule(which=JOB, really=st.sampled_from((False, False, False, True)))
    def a_job_is_cancelled(self, which: int, really: bool) -> None:
        if really:
            Publisher(self.store).end(self.jobs[which % len(self.jobs)], "cancelled", "by a test")

    def _send(self, job: Job, row: int) -> None:
        log = self.topic.logs[job.partition(row)]
        value = b'{"order_id":"id%d","total":%d.00}' % (row, row * job.generation)
        result, reject = (f"{job.file_id}:{row}".encode(), value), (rejected_key(job.file_id, row), REJECT)
        both = [result, reject] if len(log) % 2 else [reject, result]
        log += both if row in BOTH else [reject if row in REJECTED else result]
        self.sent[job.file_id].add(row)

    def _capture(self, job: Job) -> None:
        records.create(self.store, layout.captured(job.file_id), make_captured(job, ROWS))

    def _end_share(self, job: Job, partition: int) -> None:
        """All of the share has gone before its end, and the account, too."""
        self._capture(job)
        rows = [row for row in range(ROWS) if job.partition(row) == partition]
        for row in rows:
            if row not in self.sent[job.file_id]:
                self._send(job, row)
        self.topic.logs[partition].append((end_key(job.file_id), end_value(len(rows), 0)))

    # ---- what may happen: to sinks

    @precondition(lambda self: len(self.sinks) < MOST_SINKS)
    @rule(ahead=st.sampled_from((0.0, 3600.0)), memory=MEMORY, age=AGE)
    def a_sink_comes(self, ahead: float, memory: str, age: float) -> None:
        self.sinks.append(Instance(self, ahead, memory, age))

    @precondition(lambda self: self.sinks)
    @rule(
        which=SINK,
        track=st.integers(0, 4),
        steps=st.integers(1, 20),
        pace=PACE,
        fate=st.sampled_from(
            ("right", "right", "right", "lost", "again", "failed", "crash before", "crash after")
        ),
    )
    def a_sink_goes_on(self, which: int, track: int, steps: int, pace: float, fate: Fate) -> None:
        """One of its threads; each call takes a while, and the others are asleep."""
        instance = self.sinks[which % len(self.sinks)]
        chosen = instance.process.running[track % len(instance.process.running)]
        for number in range(steps):
            if chosen.over or instance.process.dead:
                break
            chosen.step(fate if number == steps - 1 else "right")
            self.world.now += pace
        self._bury(instance)

    @precondition(lambda self: self.sinks)
    @rule(
        slow=st.sets(SINK, max_size=1),
        hanging=st.sets(st.sampled_from(("spill", "sweep", "assemble", "publish")), max_size=2),
        turns=st.integers(1, 40),
        pace=PACE,
        batch=st.sampled_from((1, 3, 50)),
    )
    def the_sinks_go_on(self, slow: set[int], hanging: set[str], turns: int, pace: float, batch: int) -> None:
        """All of their threads, but for those of a slow one, and for some whose calls aren't answered."""
        self.batch = batch
        going = [instance for number, instance in enumerate(self.sinks) if number not in slow]
        for _ in range(turns):
            self._turn(going, pace, hanging)

    @precondition(lambda self: self.sinks)
    @rule(
        which=SINK,
        how=st.sampled_from(("is stopped", "is taken for dead", "is asleep", "is asleep")),
        calls=st.integers(0, 2),
        shift=SINK,
    )
    def a_sink_leaves(self, which: int, how: str, calls: int, shift: int) -> None:
        """By itself, or before it knows, perhaps while it writes parts; partitions are dealt anew."""
        self.topic.shift = shift
        instance = self.sinks[which % len(self.sinks)]
        if how == "is stopped":
            instance.sink.stop()
            return
        if how == "is asleep":
            self._begin_to_write(instance, calls)
            self.sinks.remove(instance)
            self.asleep.append(instance)
        self.topic.leave(instance.member)

    def _begin_to_write(self, instance: Instance, calls: int) -> None:
        """Let what a sink holds become old, and so many calls be made by whoever puts it on S3."""
        self.world.now += 61.0
        for _ in range(20):
            if instance.main.over or any(track.name == "spill" for track in instance.process.running):
                break
            instance.main.step()
        for track in [track for track in instance.process.running if track.name == "spill"]:
            for _ in range(calls):
                if not track.over:
                    track.step()

    @precondition(lambda self: self.asleep)
    @rule()
    def all_wake_up(self) -> None:
        self.sinks += self.asleep
        self.asleep = []

    @rule(lost=st.sampled_from((False, False, True)))
    def the_topic_is_purged(self, lost: bool) -> None:
        """Nothing that was committed comes again, not even to a group whose committed offsets have expired, or were reset."""
        self.topic.starts = {p: max(self.topic.starts[p], at) for p, at in self.topic.committed.items()}
        if lost:
            self.topic.committed = dict.fromkeys(range(PARTITIONS), 0)
            self.topic.rebalance()

    @rule(seconds=st.sampled_from((6.0, 31.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    def _turn(self, instances: Iterable[Instance], pace: float, hanging: Collection[str] = ()) -> None:
        """Let each thread make a call."""
        for instance in instances:
            for track in list(instance.process.running):
                if not track.over and track.name not in hanging:
                    track.step()
            self._bury(instance)
        self.world.now += pace

    def _bury(self, instance: Instance) -> None:
        if instance.process.dead:
            instance.process.kill()
        elif not instance.main.over:
            return
        if instance in self.sinks:
            self.sinks.remove(instance)

    # ---- what has to hold

    def is_committed(self, partition: int, offset: int) -> None:
        """Of an offset, as it is committed: what is before it is on S3, or of a job that has ended."""
        for job in self.jobs:
            if records.read(self.store, layout.end(job.file_id), End) is not None:
                continue
            stored: set[int] = set()
            for head in self.store.list(layout.parts(job.file_id)):
                stored |= self._rows_of(head.key)
            for key, _ in self.topic.logs[partition][:offset]:
                file_id, row = key.decode().split(":")[:2]
                if file_id == job.file_id and row != "end" and int(row) < ROWS:
                    assert int(row) in stored, "an offset was committed of a row that is in memory only"

    def _rows_of(self, key: str) -> set[int]:
        if key not in self._parts:
            results, rejects = runs_to_rows(read_part(self.store, key))
            self._parts[key] = {*results.tolist(), *rejects.tolist()}
        return self._parts[key]

    def receipt_is_right(self, receipt: Receipt) -> None:
        """Of a receipt, as it is written: each row is once in its output or once in its rejects, in order."""
        assert receipt.generation > self.generation, "an older job replaced a newer one's receipt"
        self.generation = receipt.generation
        assert receipt.output is not None
        output = self.store.get(receipt.output.key)[0]
        rejects = self.store.get(receipt.rejects.key)[0] if receipt.rejects is not None else b""
        good = [int(line.partition(b",")[0][2:]) for line in output.splitlines()[1:]]
        bad = [int(line.split(b",")[3]) for line in rejects.splitlines()[1:]]
        assert sorted(good + bad) == list(range(ROWS))
        assert output == expected(sorted(good), factor=receipt.generation)
        assert bad == sorted(bad)
        assert set(bad) - BOTH == REJECTED
        assert (receipt.rows, receipt.results, receipt.rejected) == (ROWS, len(good), len(bad))

    @invariant()
    def nothing_is_stuck(self) -> None:
        for instance in self.sinks:
            assert instance.sink._finisher.failed == {}

    def teardown(self) -> None:
        try:
            if self.world.fault is None:
                self._finish()
        finally:
            for instance in self.sinks + self.asleep:
                instance.process.kill()
            self._patches.close()

    def _finish(self) -> None:
        """Nothing fails any more, all rows come, then late ones, and who slept wakes up: the newest upload's result is there.

        And nothing else is.
        """
        for job in self.jobs:
            for partition in shares_of(job, make_captured(job, ROWS)):
                self._end_share(job, partition)
        self.batch = 50
        if all(instance.sink._stopping.is_set() for instance in self.sinks):
            self.sinks.append(Instance(self, 0.0, "64MB", 60.0))
        self._until_all_is_done()
        self.all_wake_up()
        for job in self.jobs:
            self.results_come(job.generation - 1, list(range(ROWS)))
        self._until_all_is_done()
        named = set()
        for job in self.jobs:
            end = records.read(self.store, layout.end(job.file_id), End)
            assert end is not None
            newest_is_out = self.generation == len(self.jobs) or end.state == "cancelled"
            assert newest_is_out or job is not self.jobs[-1]
            if end.receipt is not None and end.receipt.generation == self.generation:
                named = {stored.key for stored in (end.receipt.output, end.receipt.rejects) if stored}
                assert end.receipt.output is not None
                assert self.store.get(job.name)[0] == self.store.get(end.receipt.output.key)[0]
        assert self._keys(layout.PARTS) == set()
        left = {
            key
            for key in self._keys(layout.JOBS)
            if not key.endswith(("job.json", "captured.json", "end.json"))
        }
        assert left == named

    def _until_all_is_done(self) -> None:
        alive = {instance.process for instance in self.sinks}
        for member in list(self.topic.members):
            if member._process not in alive:
                self.topic.leave(member)
        for _ in range(1500):
            self._turn(list(self.sinks), 0.2)
            self.nothing_is_stuck()
            lag = any(self.topic.committed[p] < len(log) for p, log in enumerate(self.topic.logs))
            working = any(instance.sink._finisher.working for instance in self.sinks)
            if not (lag or working or self._keys(layout.OPEN) or self._keys(layout.PARTS)):
                return
        raise AssertionError("the sinks don't come to an end")

    def _keys(self, prefix: str) -> set[str]:
        return {head.key for head in self.store.list(prefix)}


TestSinking = Sinking.TestCase
TestSinking.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
