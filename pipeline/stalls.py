"""Notices a partition that has work waiting and doesn't move, and says which: in the log, the metrics and `/health/ready`.

Pure policy: what time it is, and how far each partition is, it is told. Nothing is read or asked for here.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from pipeline import metrics
from pipeline.events import Kind, parse_keys

log = structlog.get_logger("stalls")

LOOK_EVERY = 1.0
"""Seconds between two looks at how far everything is."""

WORKER = f"{socket.gethostname()}:{os.getpid()}"
"""What this process is called beside others of its stage."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a partition is: the next offset that isn't done, and where the partition ends as far as is known.

    `in_hand` says that the message at `done` has been read and is being worked on.
    """

    done: int
    end: int
    in_hand: bool = False

    @property
    def lag(self) -> int:
        """Return how many messages aren't done."""
        return max(0, self.end - self.done)


@dataclass(frozen=True, slots=True)
class Row:
    """Which row a message is about, as far as is known: its job, the file's name, its row number."""

    job: str | None = None
    file: str | None = None
    row: int | None = None


NOBODY_KNOWS = Row()


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that stands still: who has it, where, since when, and at which file and row if that is known."""

    stage: str
    worker: str
    partition: int
    offset: int
    lag: int
    since: datetime
    seconds: float
    in_hand: bool
    row: Row = NOBODY_KNOWS

    def dump(self) -> dict[str, Any]:
        """Return it as JSON has it: flat, the time in ISO format."""
        found = asdict(self)
        found |= found.pop("row")
        return found | {"since": self.since.isoformat(timespec="seconds"), "seconds": round(self.seconds, 1)}

    def __str__(self) -> str:
        """Return it as a sentence for people."""
        where = f"partition {self.partition} stands still at offset {self.offset} for {self.seconds:.0f} s"
        if self.row.file is not None and self.row.row is not None:
            where += f", at row {self.row.row} of {self.row.file}"
        return f"{where} ({self.lag} messages wait)"


@dataclass(slots=True)
class Stalls:
    """Per partition, since when it has been where it is.

    `limit` is in seconds; `describe` tells of a partition's message at an offset which row it is about.
    """

    stage: str
    limit: float
    describe: Callable[[int, int], Row] = lambda _partition, _offset: NOBODY_KNOWS
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    found: list[Stall] = field(default_factory=list)
    """The partitions that stand still, longest first, as of the last look; replaced whole, so that any thread may read it."""
    _since: dict[tuple[int, int], float] = field(default_factory=dict)
    _known: set[int] = field(default_factory=set)

    def look(self, places: Mapping[int, Place], now: float | None = None) -> list[Stall]:
        """Take in how far each partition is that is ours; return those that stand still, longest first.

        `now` counts seconds. Lag and standing go into the metrics; what begins or ends to stand is logged, once.
        """
        now = time.monotonic() if now is None else now
        waiting = {
            (partition, place.done): place
            for partition, place in places.items()
            if place.lag or place.in_hand
        }
        self._since = {at: self._since.get(at, now) for at in waiting}
        still = [
            self._stall(partition, place, now - self._since[partition, done])
            for (partition, done), place in waiting.items()
            if now - self._since[partition, done] >= self.limit
        ]
        self._tell(places, still)
        self.found = sorted(still, key=lambda stall: -stall.seconds)
        return self.found

    def _stall(self, partition: int, place: Place, seconds: float) -> Stall:
        return Stall(
            self.stage,
            WORKER,
            partition,
            place.done,
            place.lag,
            self.clock() - timedelta(seconds=seconds),
            seconds,
            place.in_hand,
            self.describe(partition, place.done),
        )

    def _tell(self, places: Mapping[int, Place], still: list[Stall]) -> None:
        before = {stall.partition: stall for stall in self.found}
        for partition in self._known - places.keys():
            metrics.LAG.remove(self.stage, str(partition))
            metrics.STALLED_SECONDS.remove(self.stage, str(partition))
        self._known = set(places)
        metrics.PARTITIONS.labels(self.stage).set(len(places))
        for partition, place in places.items():
            metrics.LAG.labels(self.stage, str(partition)).set(place.lag)
            metrics.STALLED_SECONDS.labels(self.stage, str(partition)).set(0)
        for stall in still:
            metrics.STALLED_SECONDS.labels(self.stage, str(stall.partition)).set(stall.seconds)
            if stall.partition not in before or before[stall.partition].offset != stall.offset:
                metrics.STALLS.labels(self.stage).inc()
                # structlog's configuration stamps the stage on every line
                said = {
                    name: value for name, value in stall.dump().items() if name not in {"stage", "in_hand"}
                }
                log.warning("standing still", **said)
        for partition in before.keys() - {stall.partition for stall in still}:
            log.info("moving again", partition=partition, offset=before[partition].offset)


def keep_looking(
    stalls: Stalls, places: Callable[[], Mapping[int, Place]], stopping: threading.Event
) -> threading.Thread:
    """Look every second until `stopping` is set, on a thread that is returned: the one that works may be what hangs."""

    def run() -> None:
        while not stopping.wait(LOOK_EVERY):
            stalls.look(places())

    thread = threading.Thread(target=run, name="stalls", daemon=True)
    thread.start()
    return thread


def row_of(key: bytes | None, name: Callable[[str], str | None]) -> Row:
    """Return which row a message with this key is about; `name` gives a job's file, where it is known."""
    keys = parse_keys([key])
    if keys.kinds[0] == Kind.FOREIGN:
        return NOBODY_KNOWS
    job, row = keys.file_ids[0], int(keys.rows[0])
    return Row(job, name(job), row if row >= 0 else None)
