"""The picture of what runs, folded from the events of `pipeline.progress`: any order, any repetition, the same picture.

Pure bookkeeping behind a lock: it knows nothing of Kafka and S3.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.progress import (
    STAGES,
    InstanceEvent,
    JobEvent,
    parse_instance_key,
    parse_job_key,
)

JOBS = 5_000
"""Jobs that are remembered; the one that was told of longest ago goes first."""

WINDOW = 8.0
"""Seconds that a rate is taken over."""

QUIET = 4.0
"""Seconds without news after which a part has stopped: its rate is nought."""

GONE = 15.0
"""Seconds without news after which a process is taken for gone: it would have told that it is there."""

HISTORY = 240
"""Samples of rates that are kept of a job, one a second."""

Sample = tuple[float, float, float, float]
"""Seconds since 1970, and rows/s captured, computed, stored."""


@dataclass(slots=True)
class _Part:
    """One part of a stage: what was told last, and a few earlier (time, rows) for the rate."""

    last: JobEvent
    earlier: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=32))

    def take(self, event: JobEvent) -> None:
        if event.at < self.last.at:
            return
        if event.rows < self.last.rows:
            self.earlier.clear()  # it began anew, after a crash: the difference is no rate
        self.last = event
        self.earlier.append((event.at, event.rows))
        while len(self.earlier) > 2 and self.earlier[0][0] < event.at - WINDOW:
            self.earlier.popleft()

    def rate(self, now: float) -> float:
        if len(self.earlier) < 2 or now - self.last.at > QUIET:
            return 0.0
        (first_at, first), (last_at, last) = self.earlier[0], self.earlier[-1]
        return max(0.0, (last - first) / (last_at - first_at)) if last_at > first_at else 0.0


@dataclass(frozen=True, slots=True)
class JobPicture:
    """What is known of a job: rows by stage as far as they were told, rows/s now, and how it ended.

    `total` is None until the file's rows are all captured; `share` is how much of the file is captured, 0 to 1; `at` is when it
    was last heard of, in seconds since 1970.
    """

    file_id: str
    name: str
    generation: int
    at: float
    rows: dict[str, int]
    rates: dict[str, float]
    rejected: int | None = None
    total: int | None = None
    share: float | None = None
    ended: str | None = None
    history: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class InstancePicture:
    """A running process."""

    stage: str
    instance: str
    said: InstanceEvent
    rate: float

    @property
    def lag(self) -> int:
        """Messages that are there and not read yet."""
        return sum(self.said.lag.values())


@dataclass(slots=True)
class _Job:
    name: str
    generation: int
    at: float
    parts: dict[tuple[str, str], _Part] = field(default_factory=dict)
    ended: str | None = None
    history: deque[Sample] = field(default_factory=lambda: deque(maxlen=HISTORY))


@dataclass(slots=True)
class _Process:
    last: InstanceEvent
    earlier: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=8))


class Picture:
    """All jobs and processes that were told of; for any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Knows nothing yet."""
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._processes: dict[tuple[str, str], _Process] = {}
        self.broken = 0
        """Messages that were none of ours."""

    def apply(self, key: bytes | str | None, value: bytes | str | None) -> None:
        """Take a message of the topic in."""
        text = key.decode(errors="replace") if isinstance(key, bytes) else key or ""
        data = value.encode() if isinstance(value, str) else value
        if found := parse_job_key(text):
            self._take_job(*found, JobEvent.load(data) if data else None, forget=data is None)
        elif process := parse_instance_key(text):
            self._take_process(process, InstanceEvent.load(data) if data else None, forget=data is None)
        else:
            self.broken += 1

    def _take_job(self, file_id: str, stage: str, part: str, event: JobEvent | None, *, forget: bool) -> None:
        if event is None:
            with self._lock:
                if forget:
                    self._jobs.pop(file_id, None)
                else:
                    self.broken += 1
            return
        with self._lock:
            job = self._jobs.setdefault(file_id, _Job(event.name, event.generation, event.at))
            self._jobs.move_to_end(file_id)
            if len(self._jobs) > JOBS:
                self._jobs.popitem(last=False)
            job.at = max(job.at, event.at)
            job.ended = event.state or job.ended
            known = job.parts.get((stage, part))
            if known is None:
                known = job.parts[stage, part] = _Part(event)
            known.take(event)

    def _take_process(self, process: tuple[str, str], event: InstanceEvent | None, *, forget: bool) -> None:
        with self._lock:
            if event is None:
                if forget:
                    self._processes.pop(process, None)
                else:
                    self.broken += 1
                return
            known = self._processes.setdefault(process, _Process(event))
            known.last = event
            known.earlier.append((event.at, event.rows))

    def job(self, file_id: str) -> JobPicture | None:
        """Return what is known of a job."""
        now = self._clock()
        with self._lock:
            found = self._jobs.get(file_id)
            return None if found is None else _shown(file_id, found, now)

    def jobs(self, *, since: float) -> list[JobPicture]:
        """Return the jobs that were heard of in the last `since` seconds, or run; the latest first."""
        now = self._clock()
        with self._lock:
            return [
                _shown(file_id, job, now)
                for file_id, job in reversed(self._jobs.items())
                if now - job.at <= since
            ]

    def sample(self) -> None:
        """Note every running job's rates; to be called once a second."""
        now = self._clock()
        with self._lock:
            for job in self._jobs.values():
                if job.ended is None and now - job.at < 60:
                    rates = _rates(job, now)
                    job.history.append((now, *(rates.get(stage, 0.0) for stage in STAGES[:3])))  # type: ignore[arg-type]

    def processes(self) -> list[InstancePicture]:
        """Return the processes that are there, by stage and name."""
        now = self._clock()
        with self._lock:
            for key in [key for key, found in self._processes.items() if now - found.last.at > GONE]:
                del self._processes[key]
            return [
                InstancePicture(*key, found.last, _process_rate(found, now))
                for key, found in sorted(self._processes.items())
            ]


def _process_rate(process: _Process, now: float) -> float:
    recent = [item for item in process.earlier if item[0] >= now - WINDOW]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0] or now - process.last.at > QUIET:
        return 0.0
    return max(0.0, (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0]))


def _rates(job: _Job, now: float) -> dict[str, float]:
    rates: dict[str, float] = {}
    for (stage, _), part in job.parts.items():
        rates[stage] = rates.get(stage, 0.0) + part.rate(now)
    return rates


def _shown(file_id: str, job: _Job, now: float) -> JobPicture:
    rows: dict[str, int] = {}
    rejected: int | None = None
    total = share = None
    for (stage, _), part in job.parts.items():
        rows[stage] = rows.get(stage, 0) + part.last.rows
        if stage == "store" and part.last.rejected is not None:
            rejected = (rejected or 0) + part.last.rejected
        if stage == "capture":
            total, share = part.last.total, part.last.share
    return JobPicture(
        file_id=file_id,
        name=job.name,
        generation=job.generation,
        at=job.at,
        rows=rows,
        rates={} if job.ended else _rates(job, now),
        rejected=rejected,
        total=total,
        share=share,
        ended=job.ended,
        history=tuple(job.history),
    )
