"""Capture as a model: capturers of one job in any interleaving, call by call, asleep, crashing, without answers, taken over."""

import functools
import itertools
import json
from contextlib import ExitStack
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pipeline.renewal
from pipeline import layout, records
from pipeline.claims import FREE, STALE
from pipeline.errors import Unreachable
from pipeline.jobs import Captured, Claim, End, Job
from pipeline.messages import Messages
from pipeline.store import MemoryStore
from producer.capture import Capture
from producer.marks import send_ends_again
from producer.progress import Silent
from producer.stage import Stage
from producer.take_on import take_on
from tests.unit.capture_doubles import SETTINGS, Recorder, stage
from tests.unit.stepped import THREADING, Fate, Process, Stepped, Track, World, here

NAME = "orders.csv"
ROWS, BLOCK, PARTITIONS = 18, 4, 3
BLOCKS = -(-ROWS // BLOCK)
MALFORMED = (5, 13, 14)
LINES = ["order_id,quantity"] + [f"{row}" if row in MALFORMED else f"{row},{row * 2}" for row in range(ROWS)]
MOST_CAPTURERS = 3

POSITIONS = [
    (
        blocks,
        min(ROWS, blocks * BLOCK),
        sum(row < blocks * BLOCK for row in MALFORMED),
        len("\n".join(LINES[: 1 + blocks * BLOCK])) if blocks else 0,
    )
    for blocks in range(BLOCKS + 1)
]
"""What a claim says of so many blocks: blocks, rows, malformed ones, bytes."""


def value_of(row: int) -> dict[str, Any]:
    """Return the value that a row has on the topic."""
    if row in MALFORMED:
        return {"error": "expected 2 fields, found 1", "line": row + 2, "text": str(row)}
    return {"order_id": str(row), "quantity": str(row * 2)}


@functools.cache
def taken_on() -> tuple[MemoryStore, MemoryStore, Job]:
    """Return both buckets as they are when a job has been taken on and nobody has claimed it."""
    found = stage()
    found.uploads.put(NAME, "".join(f"{line}\n" for line in LINES).encode())
    with ExitStack() as contents:
        job = take_on(found, NAME, contents).job
    assert isinstance(found.uploads, MemoryStore)
    assert isinstance(found.results, MemoryStore)
    return found.uploads, found.results, job


class Bucket(MemoryStore):
    """The results, where each write of the claim and of the account is looked at as it happens."""

    def __init__(self, model: "Capturing") -> None:
        super().__init__()
        self._model = model
        self._objects = dict(taken_on()[1]._objects)

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        before = records.read(self, key, Claim) if key == self._model.claim_key else None
        etag = super().put(key, data, **conditions)  # type: ignore[arg-type]
        if key == self._model.claim_key:
            self._model.claim_is_written(before, Claim.load(data), here().process)
        elif key == layout.captured(self._model.job.file_id):
            self._model.account_is_written()
        return etag


class Sending:
    """A capturer's publisher: nothing is on the topic before it was waited for, which is the worst that may happen."""

    def __init__(self, model: "Capturing", capturer: "Capturer") -> None:
        self._model = model
        self._capturer = capturer
        self._pending: list[tuple[int, bytes, bytes]] = []

    def send(self, topic: str, partition: int, messages: Messages) -> None:
        sent = [(partition, key, value) for key, value in messages]
        first = sent[0][1]

        def work() -> None:
            self._model.block_is_sent(self._capturer, first)
            self._pending += sent

        if first.endswith(b":end"):
            self._pending += sent
        else:
            self._capturer.process.call("send", work)

    def flush(self) -> None:
        self._capturer.process.call("flush", lambda: self._model.topic.update(self._pending))
        self._pending.clear()

    def forget(self) -> None:
        self._pending.clear()


class Capturer:
    """A process that captures the job, or waits for who does, as `watch` does."""

    def __init__(self, model: "Capturing", process: Process, *, fresh: bool) -> None:
        self.process = process
        self.next_block = 0
        self.unheeded = 0
        self.renews_as_owner = self.is_undisturbed = True
        self.outcome: Captured | End | None = None
        self._model = model
        here = Stage(
            SETTINGS, Stepped(process, taken_on()[0]), Stepped(process, model.results), partitions=PARTITIONS
        )
        self._work = Capture(here, model.job, fresh=fresh, now=model.world.monotonic)
        self.main = process.start("main", self._run)

    @property
    def heart(self) -> Track | None:
        """The thread that renews the claim, as long as it does."""
        return next((track for track in self.process.running if track.name.startswith("claim")), None)

    def _run(self) -> None:
        sender = Sending(self._model, self)
        while self.outcome is None:
            try:
                self.outcome = self._work.attempt(sender, Silent())
            except Unreachable:
                pass
            self.process.pause("again")


class Capturing(RuleBasedStateMachine):
    """One job, captured by whoever happens to."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = ExitStack()
        self._patches.enter_context(mock.patch.object(pipeline.renewal, "threading", THREADING))
        self.world = World()
        self.job = taken_on()[2]
        self.claim_key = layout.claim(self.job.file_id)
        self.results = Bucket(self)
        self.topic: set[tuple[int, bytes, bytes]] = set()
        self.owner: Process | None = None
        self.written = 0.0
        self.capturers: list[Capturer] = []
        self.outcomes: list[Captured | End] = []
        self.came = 0

    # ---- what may happen

    @initialize()
    def one_is_there(self) -> None:
        self.a_capturer_comes(0.0)

    @precondition(lambda self: len(self.capturers) < MOST_CAPTURERS)
    @rule(ahead=st.sampled_from((0.0, 3600.0, 1e6)))
    def a_capturer_comes(self, ahead: float) -> None:
        self.capturers.append(Capturer(self, Process(self.world, ahead), fresh=self.came == 0))
        self.came += 1

    @precondition(lambda self: self.capturers)
    @rule(
        which=st.integers(0, MOST_CAPTURERS - 1),
        heart=st.integers(0, 2),
        steps=st.integers(1, 8),
        pace=st.sampled_from((0.0, 2.0, 4.0)),
        fate=st.sampled_from(
            ("right", "right", "right", "lost", "again", "failed", "crash before", "crash after")
        ),
    )
    def a_capturer_goes_on(self, which: int, heart: int, steps: int, pace: float, fate: Fate) -> None:
        """Its main thread, or the one that renews the claim; each call takes some seconds."""
        capturer = self.capturers[which % len(self.capturers)]
        for number in range(steps):
            track = capturer.main if heart else capturer.heart
            if track is None or track.over or capturer.process.dead:
                break
            self._step(capturer, track, fate if number == steps - 1 else "right")
            self.world.now += pace
        self._bury(capturer)

    @rule(seconds=st.sampled_from((3.0, STALE - 1, STALE, 2 * STALE)))
    def time_passes(self, seconds: float) -> None:
        """And whoever isn't let through is asleep."""
        self.world.now += seconds

    def _step(self, capturer: Capturer, track: Track, fate: Fate = "right") -> None:
        begins, was_owner = track.at == "timer", self.owner is capturer.process
        track.step(fate)
        if begins:
            capturer.renews_as_owner, capturer.is_undisturbed = was_owner, True
        capturer.is_undisturbed &= track is capturer.main or fate == "right"
        if track is not capturer.main and track.at == "timer" and not track.over and capturer.is_undisturbed:
            assert capturer.renews_as_owner, "it was taken over, has looked at its claim, and goes on"

    def _bury(self, capturer: Capturer) -> None:
        if capturer.process.dead:
            capturer.process.kill()
            self.capturers.remove(capturer)
        elif capturer.main.over:
            self.capturers.remove(capturer)
            assert capturer.outcome is not None
            self.outcomes.append(capturer.outcome)

    # ---- what has to hold

    def claim_is_written(self, before: Claim | None, claim: Claim, process: Process) -> None:
        """Of the claim, as it is written by a process over the one that was there before."""
        if before is not None and claim.nonce in {before.nonce, FREE}:
            assert process is self.owner, "the claim was renewed, or given back, by another than who has it"
            self.owner = process if claim.nonce != FREE else None
        else:
            if before is not None and before.nonce != FREE and process is not self.owner:
                assert self.world.now - self.written >= STALE, "a claim was taken over that was renewed"
            self.owner = process
            capturer = next((one for one in self.capturers if one.process is process), None)
            if capturer is not None:  # else it is only being made
                capturer.next_block = claim.blocks
        self.written = self.world.now
        said = (claim.blocks, claim.rows, claim.malformed, claim.bytes)
        assert said == POSITIONS[claim.blocks], f"the claim says {said} and not {POSITIONS[claim.blocks]}"
        assert claim.blocks >= (before.blocks if before is not None else 0), (
            "what was acknowledged is forgotten"
        )
        lacking = set(range(min(ROWS, claim.blocks * BLOCK))) - self.rows()
        assert not lacking, "the claim says that rows are acknowledged which are not"

    def block_is_sent(self, capturer: Capturer, key: bytes) -> None:
        """Of a block, as it is handed to the client."""
        block = int(key.split(b":")[1]) // BLOCK
        assert block == capturer.next_block, "capture goes on elsewhere than after the last block"
        capturer.next_block += 1
        capturer.unheeded = 0 if capturer.heart is not None else capturer.unheeded + 1
        assert capturer.unheeded <= 1, "it goes on although it has noticed that the claim is another's"

    def account_is_written(self) -> None:
        """Of captured.json, as it is written."""
        account = records.read(self.results, layout.captured(self.job.file_id), Captured)
        assert account is not None
        assert self.rows() == set(range(ROWS)), "the account was written before all rows were acknowledged"
        assert (account.rows, account.malformed) == (ROWS, len(MALFORMED))
        assert account.shares == self.job.shares(ROWS)
        assert account.size == len("".join(f"{line}\n" for line in LINES))

    def rows(self) -> set[int]:
        """Return the rows that are on the topic."""
        return {int(key.split(b":")[1]) for _, key, _ in self.topic if not key.endswith(b":end")}

    @invariant()
    def what_is_on_the_topic_is_right(self) -> None:
        for partition, key, value in self.topic:
            kind = key.decode().split(":", 1)[1]
            if kind == "end":
                assert records.read(self.results, layout.captured(self.job.file_id), Captured) is not None
                assert json.loads(value) == {"rows": self.job.shares(ROWS)[partition], "round": 0}
            else:
                row = int(kind.partition(":")[0])
                assert (kind.partition(":")[2] == "rejected") == (row in MALFORMED)
                assert (partition, json.loads(value)) == (self.job.partition(row), value_of(row))

    def teardown(self) -> None:
        """Nothing fails any more, and somebody else comes, too: all of them find that it is captured, as it is right."""
        try:
            if self.world.fault is None:
                self._finish()
        finally:
            for capturer in self.capturers:
                capturer.process.kill()
            self._patches.close()

    def _finish(self) -> None:
        self.capturers.append(Capturer(self, Process(self.world), fresh=False))
        for turn in itertools.count():
            assert turn < 300, "capture doesn't come to its end"
            for capturer in list(self.capturers):
                for track in capturer.process.running:
                    self._step(capturer, track)
                self._bury(capturer)
            if not self.capturers:
                break
            self.world.now += 1.0
        # Who died, or lost an answer, between the account and the ends leaves these to whoever reminds.
        reminder = Recorder()
        send_ends_again(stage(taken_on()[0], self.results), self.job.file_id, reminder)
        self.topic.update(reminder.messages)
        account = records.read(self.results, layout.captured(self.job.file_id), Captured)
        assert [outcome for outcome in self.outcomes if outcome != account] == []
        assert {partition for partition, key, _ in self.topic if key.endswith(b":end")} == set(
            self.job.shares(ROWS)
        )
        self.what_is_on_the_topic_is_right()


TestCapturing = Capturing.TestCase
TestCapturing.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
