"""One batch, from the agent to the results topic: compute, publish, wait out what will pass."""

import threading
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

import structlog

from pipeline import backoff, crash, metrics, traces
from pipeline.errors import Hold, SettingsError, Transient
from pipeline.events import ID_LENGTH
from pipeline.jobbook import JobBook
from pipeline.kafka_batch import Batch
from pipeline.leave import leave, start_over
from pipeline.messages import Messages
from pipeline.settings import Settings
from pipeline.settings import changed as settings_changed
from pipeline.stalls import NOBODY_KNOWS, Row, row_of
from pipeline.store import ObjectStore
from pipeline.teller import Teller
from processor.batch import Results, process
from processor.calculators import CalculatorCache
from processor.suspects import Suspects

log = structlog.get_logger("processor")

STAGE = "process"


class Outlet(Protocol):
    """Where results go."""

    def send_run(self, topic: str, partition: int, messages: Messages) -> None:
        """Hand over messages for one partition."""
        ...

    def flush_run(self) -> None:
        """Wait until all are acknowledged; raises DeliveryFailed."""
        ...


class Worker:
    """Computes batches, one after the other. When `handle` returns, the batch's results are on their way.

    They are durable once `Outlet.flush_run` has returned, which the transport waits for before it commits an offset.
    """

    def __init__(
        self,
        settings: Settings,
        results: ObjectStore,
        outlet: Callable[[], Outlet],
        teller: Teller,
        is_suspect: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """`results` is the bucket that the jobs lie in; `outlet` is asked for when it is first needed.

        Of partitions that `is_suspect` names, batches are computed in a process of their own: see `processor.suspects`.
        """
        self._settings = settings
        self._book = JobBook(results)
        self._calculators = CalculatorCache(settings)
        self._outlet = outlet
        self._teller = teller
        self._leaving = threading.Event()
        self._end: Callable[[], None] | None = None
        """What ends the process where it was asked to end."""
        self._changed = settings_changed()
        self._is_suspect = is_suspect
        self._suspects = Suspects(settings, check=self._check_leaving)
        self.holding: str | None = None
        """Why a batch is being held just now, or None."""
        self._current: Batch | None = None

    def let_go(self) -> None:
        """Wait no longer for surroundings that fail: the worker stops, or its partitions are wanted elsewhere."""
        self._leaving.set()

    def hold_nothing(self, end: Callable[[], None]) -> None:
        """Wait no longer, and never again, as we were asked to end: where a batch is held, `end` ends the process."""
        self._end = end
        self.let_go()

    def go_on(self) -> None:
        """Wait again: partitions are assigned."""
        if self._end is None:
            self._leaving.clear()

    def handle(self, batch: Batch) -> None:
        """Compute a batch and publish its results, in this order:

        1. results and rejects, one message per row, to the partition that the rows came from;
        2. where shares end in this batch: wait until everything before is delivered, then pass the ends on.
        """
        started = time.perf_counter()
        self._current = batch
        results = self._compute(batch)
        outlet = self._outlet()
        topic = self._settings.results_topic
        for messages in results.messages:
            outlet.send_run(topic, batch.partition, messages)
        crash.point("process.sent")
        if results.end_keys:
            outlet.flush_run()
            outlet.send_run(topic, batch.partition, Messages.of(results.end_keys, results.end_values))
        self._current = None
        seconds = time.perf_counter() - started
        _count(results, seconds)
        whose = [job.trace for job, _ in results.highest]
        traces.record(
            "compute", whose, seconds, partition=batch.partition, offset=batch.first, rows=len(batch.keys)
        )
        self._tell(results, batch.partition)

    def row_at(self, partition: int, offset: int) -> Row:
        """Return the first row of the batch that is in hand where it is this partition's; for any thread."""
        batch = self._current
        here = batch is not None and batch.partition == partition and batch.first <= offset <= batch.last
        return row_of(batch.keys[0], self._book.name) if batch is not None and here else NOBODY_KNOWS

    def _compute(self, batch: Batch) -> Results:
        """Compute a batch, however long S3 or a missing module takes: a row is never rejected for what isn't its fault."""
        tries = 0
        while True:
            try:
                results = self._process(batch)
            except Transient as error:
                self.holding = str(error)
                metrics.RETRIES.labels(STAGE, "s3").inc()
                if backoff.is_worth_saying(tries):
                    log.warning(
                        "held, will be tried again",
                        partition=batch.partition,
                        offset=batch.first,
                        why=str(error),
                    )
                pause = backoff.pause(tries)
                tries += 1
                # Who is to end and starts anew instead doesn't know any more that it is to end.
                if isinstance(error, Hold) and not self._leaving.is_set() and self._has_changed():
                    log.warning("the configuration has changed: starting anew with it")
                    start_over()
                if self._leaving.wait(pause):
                    log.warning("let go of a batch that was held: it comes again", offset=batch.first)
                    self._leave()
            else:
                self.holding = None
                return results

    def _process(self, batch: Batch) -> Results:
        if self._is_suspect(batch.partition):
            self.holding = "workers died of what is in hand; looking for the rows that kill"
            return self._suspects.process(batch)
        self._suspects.close()
        return process(batch, self._book.find, self._calculators, self._settings.message_bytes)

    def _check_leaving(self) -> None:
        if self._leaving.is_set():
            log.warning("let go of a batch that was looked at: it comes again")
            self._leave()

    def _leave(self) -> NoReturn:
        if self._end is not None:
            self._end()
        leave(1)

    def _tell(self, results: Results, partition: int) -> None:
        self._teller.count(results.results + results.rejected)
        ended = {key[:ID_LENGTH].decode() for key in results.end_keys}
        for job, row in results.highest:
            if row >= 0:
                self._teller.reached("compute", job, partition, row)
            if job.file_id in ended:
                self._teller.over("compute", job, partition)

    def _has_changed(self) -> bool:
        """Whether the configuration is another than at the start, and can be used."""
        try:
            return self._changed() is not None
        except SettingsError as error:
            log.warning("the changed configuration can't be used", why=str(error))
            return False


def _count(results: Results, seconds: float) -> None:
    metrics.ROWS.labels(STAGE).inc(results.results + results.rejected)
    for reason, rows in results.reasons.items():
        metrics.REJECTS.labels(STAGE, reason).inc(rows)
    metrics.DROPPED.labels(STAGE, "foreign").inc(results.dropped)
    metrics.BATCHES.labels(STAGE).inc()
    metrics.BATCH_SECONDS.labels(STAGE).observe(seconds)
