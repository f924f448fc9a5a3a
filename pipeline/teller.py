"""What a stage tells whoever watches: collected as it works, sent once a second by a thread of its own.

Telling costs the stage a dictionary entry per batch. What can't be sent is dropped: a stage never waits for this, nor fails
by it.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from pipeline.errors import MillstreamError
from pipeline.jobs import Job
from pipeline.progress import InstanceEvent, JobEvent, Stage, instance_key, job_key, rows_up_to

log = structlog.get_logger("progress")

EVERY = 1.0
"""Seconds between two sendings."""

IDLE_EVERY = 5.0
"""Seconds after which a process that has nothing new to tell says that it is there."""

MIN_AGE = 1.0
"""Seconds that a job has to be old before it is told of: thousands of small ones are over before anybody could look."""

AT_ONCE = 200
"""Events sent at a time, the oldest first."""

KEPT = 2_000
"""Events that may wait; the oldest are dropped first."""

INSTANCE = f"{re.sub(r'[^A-Za-z0-9.]', '-', socket.gethostname())[:100]}-{os.getpid()}"
"""What this process is called."""


class Outlet(Protocol):
    """Takes events; `pipeline.kafka_progress.ProgressOutlet` is the real one."""

    def send(self, events: Sequence[tuple[str, bytes | None]]) -> None:
        """Take keys with their values (None: forget it) without waiting."""
        ...

    def close(self) -> None:
        """Send what can be sent within a second."""
        ...


@dataclass(slots=True)
class Work:
    """What a process says of itself, asked for once a second: partitions, lag in messages, what it waits for."""

    partitions: Sequence[int] = ()
    lag: Mapping[int, int] = field(default_factory=dict)
    waits: Sequence[str] = ()


class Teller:
    """Collects and sends; all methods are for any thread."""

    def __init__(
        self,
        stage: str,
        outlet: Callable[[], Outlet] | None,
        work: Callable[[], Work] = Work,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`outlet` is made when the thread starts; with None nothing is told."""
        self._stage = stage
        self._outlet = outlet
        self._work = work
        self._clock = clock
        self._started = clock()
        self._rows = 0
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[float, JobEvent]] = {}
        self._said: tuple[float, InstanceEvent] | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        if self._outlet is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Send what is left, say that this process has gone, and end; within about a second."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(2)

    def count(self, rows: int) -> None:
        """Add rows to what this process has done since its start."""
        self._rows += rows

    def reached(self, stage: Stage, job: Job, partition: int, row: int, rejected: int | None = None) -> None:
        """Tell that a job's share on a partition is done up to a row, as far as this process knows."""
        if self._outlet is not None:
            rows = rows_up_to(job, partition, row)
            self.tell(stage, job, partition, rows=rows, rejected=rejected)

    def tell(
        self,
        stage: Stage,
        job: Job,
        part: int | str = 0,
        *,
        rows: int = 0,
        rejected: int | None = None,
        total: int | None = None,
        share: float | None = None,
        state: str | None = None,
    ) -> None:
        """Tell figures of a part of a job; those told before and not sent yet are replaced."""
        if self._outlet is None:
            return
        event = JobEvent(
            at=self._clock(),
            name=job.name,
            generation=job.generation,
            rows=rows,
            rejected=rejected,
            total=total,
            share=share,
            state=state,
        )
        key = job_key(job.file_id, stage, part)
        with self._lock:
            # A batch that came again says less than was said before; a share that a replay begins anew says so later.
            self._waiting[key] = (job.created.timestamp() + MIN_AGE, event)
            if len(self._waiting) > KEPT:
                self._waiting.pop(next(iter(self._waiting)))

    def over(self, stage: Stage, job: Job, part: int | str = 0) -> None:
        """Tell that no more will come of a part; a job that is over this quickly isn't worth an event."""
        if self._clock() < job.created.timestamp() + MIN_AGE:
            with self._lock:
                self._waiting.pop(job_key(job.file_id, stage, part), None)

    def due(self) -> list[tuple[str, bytes | None]]:
        """Return what is to be sent now."""
        now = self._clock()
        with self._lock:
            keys = [key for key, (ripe, _) in self._waiting.items() if ripe <= now][:AT_ONCE]
            events: list[tuple[str, bytes | None]] = [(key, self._waiting.pop(key)[1].dump()) for key in keys]
        work = self._work()
        said = InstanceEvent(
            at=now,
            started=self._started,
            rows=self._rows,
            partitions=sorted(work.partitions),
            lag=dict(work.lag),
            waits=list(work.waits),
        )
        before = self._said
        news = before is None or before[1].model_copy(update={"at": now}) != said
        if before is None or now - before[0] >= (EVERY * 0.9 if news else IDLE_EVERY):
            self._said = (now, said)
            events.append((instance_key(self._stage, INSTANCE), said.dump()))
        return events

    def _run(self) -> None:
        assert self._outlet is not None
        complained = False
        try:
            outlet = self._outlet()
        except MillstreamError as error:
            log.warning("progress can't be told", why=str(error))
            return
        while True:
            ending = self._over.wait(EVERY)
            if ending and self._said is None:
                return  # a command that was over at once
            try:
                outlet.send(self.due())
                if ending:
                    outlet.send([(instance_key(self._stage, INSTANCE), None)])
                    outlet.close()
                complained = False
            except Exception as error:
                # Whatever it is, the stage's work is worth more than the picture of it.
                if not complained:
                    log.warning("progress isn't told at the moment", why=str(error))
                complained = True
            if ending:
                return


def silent() -> Teller:
    """Return one that tells nobody."""
    return Teller("", None)
