"""The sink's loop: read results, collect them per job, have finished jobs published, commit what is on S3.

One thread polls and keeps all the books; publishing goes on beside it, on threads that get a frozen copy of a job and report
back over a queue. Read top to bottom, `run` is the order of one turn.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog

from pipeline import backoff, crash, duck, layout, metrics, records, traces
from pipeline.errors import Transient
from pipeline.jobbook import JobBook
from pipeline.jobs import Captured, End, Job
from pipeline.kafka import Batch
from pipeline.kafka_progress import outlet
from pipeline.kafka_reader import Partitions, Reader
from pipeline.settings import Settings
from pipeline.stalls import NOBODY_KNOWS, Place, Row, Stalls, keep_looking, row_of
from pipeline.store import ObjectStore
from sink.collector import Collection, Frozen
from sink.decode import Decoder
from sink.ledger import Ledger
from sink.publish import Publisher
from sink.sweep import Sweeper
from sink.telling import Telling

log = structlog.get_logger("sink")

STAGE = "store"

POLL = 0.1
"""Seconds that a turn waits for messages."""

COMMIT_EVERY = 1.0
"""Seconds between commits."""

PUBLISHERS = 4
"""Jobs that are published at a time; most of it is waiting for S3."""

T = TypeVar("T")


class Sink:
    """One sink instance. All methods but `stop` belong to the thread that runs it."""

    def __init__(self, settings: Settings, results: ObjectStore) -> None:
        """`results` is the bucket that holds jobs and results."""
        self._settings = settings
        self._store = results
        self._book = JobBook(results)
        self._decoder = Decoder(duck.connect())
        self._ledger = Ledger()
        self._collections: dict[str, Collection] = {}
        self._publishing: set[str] = set()
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(PUBLISHERS, "publish")
        self._local = threading.local()
        self._publisher = Publisher(results)
        self._sweeper = Sweeper(results, self._publisher)
        self._reader: Reader | None = None
        self._telling = Telling(outlet(settings), self.why_not_ready)
        self._stuck: dict[str, str] = {}
        self._places: dict[int, Place] = {}
        self._current: Batch | None = None
        self.stalls = Stalls(STAGE, settings.stall_after, self._row_at)
        self._joined = False
        self._partitions: set[int] = set()
        self._holding: str | None = None

    def stop(self) -> None:
        """End the loop after the current turn; for any thread."""
        self._stopping.set()

    def why_not_ready(self) -> list[str]:
        """Return what stands in the way of work; for any thread."""
        reasons = [] if self._joined else ["not in the consumer group yet"]
        reasons += [f"held: {self._holding}"] if self._holding else []
        reasons += [str(stall) for stall in self.stalls.found]
        return reasons + [f"{name} can't be published: {why}" for name, why in list(self._stuck.items())]

    def _row_at(self, partition: int, offset: int) -> Row:
        """Return which row is being collected where it is this partition's; for any thread."""
        batch = self._current
        here = batch is not None and (batch.partition, batch.first) == (partition, offset)
        return row_of(batch.keys[0], self._book.name) if batch is not None and here else NOBODY_KNOWS

    def run(self) -> None:
        """Work until `stop`. Rows that aren't on S3 by then are not committed, and come again."""
        self._reader = reader = Reader(
            self._settings,
            f"{self._settings.topic_prefix}.sink",
            self._settings.results_topic,
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
            on_replaced=self._replaced,
        )
        self._telling.start()
        looking = keep_looking(self.stalls, lambda: dict(self._places), self._stopping)
        committed = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._take_all(reader, reader.read(POLL))
                self._note_ends()
                self._note_sweep()
                if time.monotonic() - committed > COMMIT_EVERY:
                    self._commit(reader)
                    self._telling.look(reader, sorted(self._partitions), self._collections)
                    self._measure(reader)
                    committed = time.monotonic()
        finally:
            self._stopping.set()
            looking.join()
            self._pool.shutdown(cancel_futures=True)
            self._sweeper.close()
            self._note_ends()
            self._commit(reader)
            reader.close()
            self._telling.close()

    # ---- reading

    def _take_all(self, reader: Reader, batches: list[Batch]) -> None:
        """Take batch by batch, until the assignment changes under them: then the rest comes again."""
        epoch = reader.epoch
        for batch in batches:
            if reader.epoch == epoch:
                began = time.perf_counter()
                self._current = batch
                self._places[batch.partition] = Place(batch.first, batch.last + 1, in_hand=True)
                self._take(reader, batch)
                self._current = None
                if reader.epoch == epoch:
                    self._places[batch.partition] = Place(batch.last + 1, batch.last + 1)
                metrics.BATCH_SECONDS.labels(STAGE).observe(time.perf_counter() - began)

    def _take(self, reader: Reader, batch: Batch) -> None:
        """Collect a batch; publish what it completes."""
        began = time.perf_counter()
        epoch = reader.epoch
        results = self._patiently(reader, epoch, lambda: self._decoder.decode(batch, self._book.find))
        if results is None:
            return
        self._ledger.read(batch.partition, batch.first, batch.last)
        touched: dict[str, Collection] = {}
        self._telling.read(batch)
        for piece in results.pieces:
            self._telling.reached(piece.job, batch.partition, int(piece.rows.max(initial=-1)))
            collection = touched[piece.job.file_id] = self._hold(piece.job, batch)
            collection.add(piece.rows, piece.table)
        for rejects in results.rejects:
            self._telling.reached(rejects.job, batch.partition, max(rejects.rows, default=-1))
            collection = touched[rejects.job.file_id] = self._hold(rejects.job, batch)
            for row, value in zip(rejects.rows, rejects.values, strict=True):
                collection.reject(row, value)
        for job in results.ends:
            collection = touched[job.file_id] = self._hold(job, batch)
            if collection.captured is None:
                read = partial(records.read, self._store, layout.captured(job.file_id), Captured)
                captured = self._patiently(reader, epoch, read)
                if epoch != reader.epoch:
                    return  # what is held of these partitions was dropped, and comes again
                if captured is not None:
                    collection.settle(captured)
        metrics.DROPPED.labels(STAGE, "foreign").inc(results.dropped)
        metrics.BATCHES.labels(STAGE).inc()
        metrics.BYTES.labels(STAGE).inc(sum(map(len, filter(None, batch.values))))
        rows = sum(len(piece.rows) for piece in results.pieces)
        metrics.ROWS.labels(STAGE).inc(rows + sum(len(rejects.rows) for rejects in results.rejects))
        whose = [collection.job.trace for collection in touched.values()]
        seconds = time.perf_counter() - began
        traces.record("collect", whose, seconds, partition=batch.partition, offset=batch.first, rows=rows)
        for collection in touched.values():
            self._publish_if_complete(collection)

    def _hold(self, job: Job, batch: Batch) -> Collection:
        self._ledger.hold(batch.partition, job.file_id, batch.first)
        collection = self._collections.get(job.file_id)
        if collection is None:
            collection = self._collections[job.file_id] = Collection(job)
        return collection

    def _patiently(self, reader: Reader, epoch: int, work: Callable[[], T]) -> T | None:
        """Do what may fail with S3, again and again, without leaving the group; None where the assignment has changed.

        While it waits nothing is fetched, and runs that were fetched before it began to wait are read again afterwards.
        """
        tries = 0
        while True:
            try:
                result = work()
            except Transient as error:
                if backoff.is_worth_saying(tries):
                    log.warning("held, will be tried again", why=str(error))
                self._holding = str(error)
                metrics.RETRIES.labels(STAGE, "s3").inc()
                reader.pause()
                reader.idle(backoff.pause(tries))
                tries += 1
                if epoch != reader.epoch or self._stopping.is_set():
                    reader.resume()
                    return None
                continue
            reader.resume()
            self._holding = None
            return result

    # ---- publishing

    def _publish_if_complete(self, collection: Collection) -> None:
        file_id = collection.job.file_id
        if file_id not in self._publishing and collection.is_complete():
            self._publishing.add(file_id)
            frozen = collection.freeze()
            self._pool.submit(self._publish, frozen)

    def _publish(self, done: Frozen) -> None:
        """Publish a job, however long S3 takes; runs on a thread of the pool."""
        if not hasattr(self._local, "connection"):
            self._local.connection = duck.connect()
        job = done.job
        tries = 0
        while True:
            try:
                with traces.span(
                    "publish", job.trace, job=job.file_id, file=job.name, rows=done.captured.rows
                ):
                    end = self._publisher.publish(done, self._local.connection)
            except Transient as error:
                if backoff.is_worth_saying(tries):
                    log.warning("not published yet, will be tried again", job=job.file_id, why=str(error))
                metrics.RETRIES.labels(STAGE, "publish").inc()
                if self._stopping.wait(backoff.pause(tries)):
                    return
                tries += 1
            except Exception as error:
                log.exception(
                    "publishing failed; the job stays as it is until the next start", job=job.file_id
                )
                self._stuck[job.name] = f"{type(error).__name__}: {error}"
                return
            else:
                crash.point("sink.published")
                _report(job, end)
                self._telling.ended(job, end.state)
                self._ended.put(job.file_id)
                return

    def _note_ends(self) -> None:
        """Let go of jobs that have ended."""
        while not self._ended.empty():
            self._let_go(self._ended.get())

    def _let_go(self, file_id: str) -> None:
        self._ledger.release(file_id)
        self._collections.pop(file_id, None)
        self._publishing.discard(file_id)
        self._book.forget(file_id)

    def _note_sweep(self) -> None:
        """Take in what the last look at the open marks found, and have the next one made when it is due."""
        found = self._sweeper.take()
        for file_id in found.ended:
            self._let_go(file_id)
        for file_id, captured in found.captured.items():
            collection = self._collections.get(file_id)
            if collection is not None and collection.captured is None:
                collection.settle(captured)
                self._publish_if_complete(collection)
        waiting = [
            file_id for file_id, collection in self._collections.items() if collection.captured is None
        ]
        self._sweeper.start_if_due(set(self._publishing), set(self._collections), waiting)

    def _measure(self, reader: Reader) -> None:
        """Say how much is held, and how far each partition goes by now."""
        collections = self._collections.values()
        metrics.HELD_ROWS.labels(STAGE).set(sum(held.results + held.rejected for held in collections))
        metrics.HELD_BYTES.labels(STAGE).set(sum(held.size for held in collections))
        for partition, place in self._places.items():
            self._places[partition] = Place(place.done, max(place.end, reader.high(partition)))

    # ---- the group

    def _commit(self, reader: Reader) -> None:
        try:
            offsets = self._ledger.committable()
            if offsets:
                crash.point("sink.committing")
            done = reader.commit(offsets)
            if done:
                crash.point("sink.committed")
        except Transient as error:
            log.warning("offsets not committed, will be tried again", why=str(error))
            metrics.RETRIES.labels(STAGE, "kafka").inc()
            return
        self._ledger.committed(done)

    def _assigned(self, partitions: Partitions) -> None:
        self._joined = True
        self._partitions = set(partitions)
        metrics.REBALANCES.labels(STAGE, "assigned").inc()
        starts = self._reader.starts if self._reader is not None else {}
        for partition in partitions:
            self._ledger.forget(partition)
            start = starts.get(partition, 0)
            self._places[partition] = Place(start, start)
        self._sweeper.hurry()

    def _revoked(self, partitions: Partitions) -> None:
        assert self._reader is not None
        metrics.REBALANCES.labels(STAGE, "revoked").inc()
        self._note_ends()
        self._commit(self._reader)
        self._drop(partitions)

    def _replaced(self, partitions: Partitions) -> None:
        """Keep the rows that are held, and forget offsets of the topic that is no more."""
        metrics.REBALANCES.labels(STAGE, "replaced").inc()
        for partition in partitions:
            self._ledger.forget(partition)
            self._places[partition] = Place(0, 0)

    def _lost(self, partitions: Partitions) -> None:
        metrics.REBALANCES.labels(STAGE, "lost").inc()
        self._drop(partitions)

    def _drop(self, partitions: Partitions) -> None:
        self._partitions -= set(partitions)
        for partition in partitions:
            self._places.pop(partition, None)
            self._ledger.forget(partition)
            for collection in self._collections.values():
                collection.drop(partition)


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
