"""Finishes jobs beside the polling thread: those held whole in memory several at a time, those in parts one after the other.

What fails for the moment is tried again later, behind the others: a job that can't be finished for long holds up none of them.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import structlog

from pipeline import backoff, crash, duck, metrics, traces
from pipeline.duck import Connection
from pipeline.errors import Refused, Transient
from pipeline.jobs import Captured, End, Job
from pipeline.store import ObjectStore
from sink.assemble import Assembler, rounds
from sink.collector import Frozen
from sink.publish import Publisher

log = structlog.get_logger("sink")

STAGE = "store"

PUBLISHERS = 4
"""Jobs that are published from memory at a time; most of it is waiting for S3."""


@dataclass(slots=True, eq=False)
class _Task:
    """A job to be finished; not before `due` where it was tried before."""

    pool: ThreadPoolExecutor
    job: Job
    captured: Captured
    work: Callable[[Connection], End | None]
    tries: int = 0
    due: float = 0.0


class Finisher:
    """Publishes jobs, however long S3 takes. All methods belong to the polling thread.

    `busy` has the file_ids of those that are being finished, and of those that couldn't be and are left until the next start:
    these are in `failed` too, each with its name. `stuck` says by name what keeps a job, also one that is tried again.
    """

    def __init__(self, results: ObjectStore, publisher: Publisher, assembler: Assembler) -> None:
        """`results` is the bucket."""
        self._store = results
        self._publisher = publisher
        self._assembler = assembler
        self._publishers = ThreadPoolExecutor(PUBLISHERS, "publish")
        self._assemblers = ThreadPoolExecutor(1, "assemble")
        self._local = threading.local()
        self._stopping = threading.Event()
        self._done: queue.SimpleQueue[tuple[Job, End | None]] = queue.SimpleQueue()
        self._put_back: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._later: list[_Task] = []
        self.busy: set[str] = set()
        self.failed: dict[str, str] = {}
        self.stuck: dict[str, str] = {}

    @property
    def working(self) -> set[str]:
        """Return the jobs that are being finished."""
        return self.busy - self.failed.keys()

    def publish(self, done: Frozen, *, repaired: bool) -> None:
        """Publish a job from memory; `repaired` says that rows of it may have been asked for again."""

        def work(connection: Connection) -> End:
            times = rounds(self._store, done.job.file_id) if repaired else 0
            return self._publisher.publish(replace(done, rounds=times), connection)

        self._start(_Task(self._publishers, done.job, done.captured, work))

    def assemble(self, job: Job, captured: Captured, duplicates: int) -> None:
        """Look at a job whose shares of this instance are in parts, and publish it if all are."""

        def work(connection: Connection) -> End | None:
            return self._assembler.assemble(job, captured, duplicates, connection, self._check)

        self._start(_Task(self._assemblers, job, captured, work))

    def done(self) -> list[tuple[Job, End | None]]:
        """Return the jobs that are no longer busy, and how each one ended; None where it hasn't.

        What is due to be tried again begins.
        """
        self._start_again()
        found: list[tuple[Job, End | None]] = []
        while not self._done.empty():
            found.append(self._done.get())
            self.busy.discard(found[-1][0].file_id)
        return found

    def forget(self, file_id: str) -> None:
        """Let go of a job that has ended: also of one that couldn't be finished here, and was by another."""
        name = self.failed.pop(file_id, None)
        if name is not None:
            self.busy.discard(file_id)
            self.stuck.pop(name, None)
        self._assembler.forget(file_id)

    def close(self) -> None:
        """Finish what is being done; what hasn't begun is left."""
        self._stopping.set()
        self._publishers.shutdown(cancel_futures=True)
        self._assemblers.shutdown(cancel_futures=True)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise Transient("the sink is being stopped")

    def _start(self, task: _Task) -> None:
        self.busy.add(task.job.file_id)
        task.pool.submit(self._work, task)

    def _start_again(self) -> None:
        while not self._put_back.empty():
            self._later.append(self._put_back.get())
        if self._stopping.is_set():
            return
        now = time.monotonic()
        due = [task for task in self._later if task.due <= now]
        self._later = [task for task in self._later if task.due > now]
        for task in due:
            self._start(task)

    def _work(self, task: _Task) -> None:
        job = task.job
        try:
            with traces.span("publish", job.trace, job=job.file_id, file=job.name, rows=task.captured.rows):
                end = task.work(self._connection())
            if end is not None:
                crash.point("sink.published")
                _report(job, end)
        except (Transient, Refused) as error:
            if backoff.is_worth_saying(task.tries):
                log.warning("not published yet, will be tried again", job=job.file_id, why=str(error))
            metrics.RETRIES.labels(STAGE, "publish").inc()
            self.stuck[job.name] = str(error)
            task.due = time.monotonic() + backoff.pause(task.tries)
            task.tries += 1
            self._put_back.put(task)
        except Exception as error:
            log.exception("publishing failed; the job stays as it is until the next start", job=job.file_id)
            self.failed[job.file_id] = job.name
            self.stuck[job.name] = f"{type(error).__name__}: {error}"
        else:
            if task.tries:
                self.stuck.pop(job.name, None)
            self._done.put((job, end))

    def _connection(self) -> Connection:
        """Return this thread's own."""
        if not hasattr(self._local, "connection"):
            self._local.connection = duck.connect()
        connection: Connection = self._local.connection
        return connection


def _report(job: Job, end: End) -> None:
    """Say and count how a job ended."""
    receipt = end.receipt
    metrics.FILES.labels(STAGE, end.state).inc()
    if receipt is None:
        log.info(f"job {end.state}", job=job.file_id, name=job.name, reason=end.reason)
        return
    metrics.PUBLISHED_ROWS.labels("result").inc(receipt.results)
    metrics.PUBLISHED_ROWS.labels("rejected").inc(receipt.rejected)
    metrics.FILE_SECONDS.observe((receipt.published - job.created).total_seconds())
    metrics.DUPLICATES.labels(STAGE).inc(receipt.duplicates)
    log.info(f"job {end.state}", job=job.file_id, name=job.name, rows=receipt.rows, rejected=receipt.rejected)
