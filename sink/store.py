"""The sink's loop: read results, collect them per job, have finished jobs published, commit what is on S3.

One thread polls and keeps all the books. Beside it, on threads of their own: `spill.py` puts rows on S3 as parts, `finisher.py`
publishes jobs, `sweep.py` looks after what others left. Read top to bottom, `run` is the order of one turn.
"""

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from pipeline import backoff, crash, layout, metrics, records, traces
from pipeline.errors import Transient
from pipeline.jobbook import JobBook
from pipeline.jobs import Captured, Job
from pipeline.kafka_batch import Batch
from pipeline.kafka_offsets import Offsets
from pipeline.kafka_progress import outlet
from pipeline.kafka_reader import Partitions, Reader
from pipeline.settings import Settings
from pipeline.stalls import NOBODY_KNOWS, Place, Row, Stalls, keep_looking, row_of
from pipeline.store import ObjectStore
from sink.ahead import Ahead
from sink.assemble import Assembler
from sink.collector import Collection, Share
from sink.decode import Results, ShareEnd, look
from sink.finisher import STAGE, Finisher
from sink.inventory import Inventory
from sink.ledger import Ledger
from sink.parts import Part, runs_to_rows
from sink.publish import Publisher
from sink.purge import Purging
from sink.repair import Doubt
from sink.room import HARD, Reach, too_far_behind, too_much, too_old
from sink.spill import Spiller
from sink.sweep import Sweeper, Wanted
from sink.telling import Telling

log = structlog.get_logger("sink")

POLL = 0.1
"""Seconds that a turn waits for messages."""

BESIDE = 0.02
"""Seconds that it waits where batches are being decoded: about as long as 20,000 rows take."""

FEW = 2_000
"""Rows that are decoded faster than another turn takes."""

COMMIT_EVERY = 1.0
"""Seconds between commits."""

LEAVE = 20.0
"""Seconds that partitions which are about to be another's may wait until their rows are on S3; then they come again there."""

T = TypeVar("T")


class Sink:
    """One sink instance. All methods but `stop` and `why_not_ready` belong to the thread that runs it."""

    def __init__(self, settings: Settings, results: ObjectStore) -> None:
        """`results` is the bucket that holds jobs and results."""
        self._settings = settings
        self._store = results
        self._book = JobBook(results)
        self._ahead = Ahead()
        self._ledger = Ledger()
        self._reach = Reach(settings.in_flight_bytes) if settings.in_flight_bytes is not None else None
        self._collections: dict[str, Collection] = {}
        self._mine: set[int] = set()
        self._parts: dict[str, list[Part]] = {}
        self._repaired: set[str] = set()
        self._unlooked: set[str] = set()
        """Jobs that were being looked at while a part was written that the look may not have seen."""
        self._stopping = threading.Event()
        inventory, publisher = Inventory(results), Publisher(results)
        self._spiller = Spiller(results, inventory)
        self._finisher = Finisher(results, publisher, Assembler(results, publisher, inventory))
        self._sweeper = Sweeper(results, publisher, inventory)
        self._reader: Reader | None = None
        self._telling = Telling(outlet(settings), self.why_not_ready)
        self._purging = Purging(settings, lambda: Offsets(settings))
        self._places: dict[int, Place] = {}
        self._current: Batch | None = None
        self.stalls = Stalls(STAGE, settings.stall_after, self._row_at)
        self._joined = False
        self._holding: str | None = None

    def stop(self) -> None:
        """End the loop after the current turn; for any thread."""
        self._stopping.set()

    def why_not_ready(self) -> list[str]:
        """Return what stands in the way of work; for any thread."""
        reasons = [] if self._joined else ["not in the consumer group yet"]
        reasons += [f"held: {why}" for why in {self._holding, self._spiller.trouble} if why]
        reasons += [str(stall) for stall in self.stalls.found]
        stuck = list(self._finisher.stuck.items())
        return reasons + [f"{name} can't be published: {why}" for name, why in stuck]

    def _row_at(self, partition: int, offset: int) -> Row:
        """Return which row is being collected where it is this partition's; for any thread."""
        batch = self._current
        here = batch is not None and (batch.partition, batch.first) == (partition, offset)
        return row_of(batch.keys[0], self._book.name) if batch is not None and here else NOBODY_KNOWS

    def run(self) -> None:
        """Work until `stop`; what is held then is put on S3, as far as S3 takes it soon."""
        self._reader = reader = Reader(
            self._settings,
            self._settings.sink_group,
            self._settings.results_topic,
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
            on_replaced=self._replaced,
        )
        self._telling.start()
        self._purging.start()
        looking = keep_looking(self.stalls, lambda: dict(self._places), self._stopping)
        committed = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._take_all(reader, reader.read(BESIDE if self._ahead else POLL))
                self._note_done()
                self._note_sweep()
                self._make_room(reader)
                if time.monotonic() - committed > COMMIT_EVERY:
                    self._commit(reader)
                    self._telling.look(reader, sorted(self._mine), self._collections)
                    self._measure(reader)
                    committed = time.monotonic()
            self._empty(self._mine, LEAVE / 4)
        finally:
            self._stopping.set()
            self._purging.close()
            looking.join()
            self._ahead.close()
            self._spiller.close()
            self._finisher.close()
            self._sweeper.close()
            self._note_done()
            self._commit(reader)
            reader.close()
            self._telling.close()

    # ---- reading

    def _take_all(self, reader: Reader, batches: list[Batch]) -> None:
        """Have batches decoded, and collect meanwhile those of the last call; few rows are collected at once.

        Where the assignment changes under them, the rest comes again.
        """
        before, epoch = len(self._ahead), reader.epoch
        for batch in batches:
            self._current = batch
            if not self._ahead.has(batch.partition):
                self._places[batch.partition] = Place(batch.first, batch.last + 1, in_hand=True)
            looked = self._patiently(reader, epoch, partial(look, batch, self._book.find))
            self._current = None
            if looked is None:
                break
            self._ahead.put(epoch, looked)
        few = sum(len(batch.keys) for batch in batches) < FEW
        for _ in range(len(self._ahead) if few else before):
            epoch, batch = self._ahead.next()
            if reader.epoch != epoch:
                self._ahead.skip()
                continue
            began = time.perf_counter()
            self._current = batch
            self._places[batch.partition] = Place(batch.first, batch.last + 1, in_hand=True)
            self._take(reader, batch, self._ahead.take())
            self._current = None
            if reader.epoch == epoch:
                self._places[batch.partition] = Place(batch.last + 1, batch.last + 1)
            metrics.BATCH_SECONDS.labels(STAGE).observe(time.perf_counter() - began)

    def _take(self, reader: Reader, batch: Batch, results: Results) -> None:
        """Collect a batch; publish what it completes."""
        began = time.perf_counter()
        epoch = reader.epoch
        self._ledger.read(batch.partition, batch.first, batch.last)
        self._telling.read(batch)
        touched: dict[str, Collection] = {}
        for piece in results.pieces:
            self._telling.reached(piece.job, batch.partition, int(piece.rows.max(initial=-1)))
            collection = touched[piece.job.file_id] = self._collection(piece.job)
            self._hold(collection, batch, collection.add(batch.partition, piece.rows, piece.table))
        for rejects in results.rejects:
            self._telling.reached(rejects.job, batch.partition, max(rejects.rows, default=-1))
            collection = touched[rejects.job.file_id] = self._collection(rejects.job)
            numbers = np.array(rejects.rows, np.int64)
            self._hold(collection, batch, collection.reject(batch.partition, numbers, rejects.values))
        for end in results.ends:
            collection = touched[end.job.file_id] = self._collection(end.job)
            # Before anything is waited for: if the partition goes meanwhile, whoever follows is to see all of them.
            self._ledger.hold(batch.partition, collection.share(batch.partition).end, batch.first)
        for end in results.ends:
            collection = touched[end.job.file_id]
            if collection.captured is None:
                read = partial(records.read, self._store, layout.captured(end.job.file_id), Captured)
                captured = self._patiently(reader, epoch, read)
                if epoch != reader.epoch:
                    return  # what is held of these partitions was dropped, and comes again
                if captured is not None:
                    collection.settle(captured)
            self._note_end(collection, end, batch)
        metrics.DROPPED.labels(STAGE, "foreign").inc(results.dropped)
        metrics.BATCHES.labels(STAGE).inc()
        size = sum(map(len, filter(None, batch.values)))
        if self._reach is not None:
            self._reach.came(len(batch.values), size, time.monotonic())
        metrics.BYTES.labels(STAGE).inc(size)
        rows = sum(len(piece.rows) for piece in results.pieces)
        metrics.ROWS.labels(STAGE).inc(results.rows)
        whose = [collection.job.trace for collection in touched.values()]
        seconds = time.perf_counter() - began
        traces.record("collect", whose, seconds, partition=batch.partition, offset=batch.first, rows=rows)
        for collection in touched.values():
            self._consider(collection)

    def _collection(self, job: Job) -> Collection:
        collection = self._collections.get(job.file_id)
        if collection is None:
            collection = self._collections[job.file_id] = Collection(job)
            self._learn(collection)
        return collection

    def _hold(self, collection: Collection, batch: Batch, fresh: int) -> None:
        """Note when and from which offset rows came that are in memory only."""
        if fresh:
            share, now = collection.share(batch.partition), time.monotonic()
            share.stirred = now
            if self._ledger.hold(batch.partition, share.lot, batch.first):
                share.since = now

    def _note_end(self, collection: Collection, end: ShareEnd, batch: Batch) -> None:
        """Note that a share's end has come; as long as rows lack, or may lack, whoever follows is to see it too."""
        share = collection.share(batch.partition)
        if end.round not in share.rounds:
            share.rounds.add(end.round)
            share.stirred = time.monotonic()
        if collection.has_all_of(batch.partition):
            self._ledger.release(batch.partition, share.end)
        elif collection.captured is not None:
            self._sweeper.hurry()

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

    # ---- leaving memory

    def _consider(self, collection: Collection, *, look: bool = False) -> None:
        """Publish a job that is held whole; of another, put the shares that are whole on S3, and `look` at what lies there."""
        file_id, captured = collection.job.file_id, collection.captured
        if captured is None or self._stopping.is_set():
            return
        if file_id in self._finisher.busy:
            if look:
                self._unlooked.add(file_id)
            return
        for partition, share in collection.shares.items():
            if share.rounds and collection.has_all_of(partition):
                self._ledger.release(partition, share.end)
        if collection.is_held():
            repaired = collection.was_repaired or file_id in self._repaired
            self._finisher.publish(collection.freeze(), repaired=repaired)
            return
        scattered = not self._mine.issuperset(captured.shares)
        if not scattered and all(share.is_held for share in collection.shares.values()):
            return  # the rest is still to come, and comes here
        whole = [share for share in collection.shares.values() if collection.has_all_of(share.partition)]
        for share in whole:
            if share.size:
                self._spill(share)
        ours = self._mine & captured.shares.keys()
        if look and not any(share.leaving for share in whole) and all(map(collection.has_all_of, ours)):
            self._finisher.assemble(collection.job, captured, sum(share.duplicates for share in whole))

    def _spill(self, share: Share) -> None:
        self._spiller.put(share.cut())

    def _make_room(self, reader: Reader) -> None:
        """Put on S3 what is too much or too old to be held, and take nothing more in until there is room."""
        limit = self._settings.sink_bytes
        shares = list(self._shares())
        size = self._held() + self._spiller.size
        leaving = too_much(shares, size - self._spiller.size, limit)
        leaving = leaving or too_old(shares, time.monotonic(), self._settings.sink_age)
        leaving = leaving or self._held_up(shares)
        for share in leaving:
            self._spill(share)
        while size > HARD * limit and not self._stopping.is_set():
            if not self._spiller.size and not self._finisher.working:
                break  # nothing would come of waiting
            reader.pause()
            reader.idle(POLL)
            self._note_done()
            size = self._held() + self._spiller.size
        reader.resume()

    def _held_up(self, shares: Iterable[Share]) -> list[Share]:
        """Return the shares that hold back what capture waits for."""
        if self._reach is None:
            return []
        if not self._collections:
            self._reach.over()
            return []
        behind = sum(self._ledger.behind().values())
        waited_for = any(collection.captured is None for collection in self._collections.values())
        limit = self._reach.limit(behind, time.monotonic(), waited_for=waited_for)
        return too_far_behind(shares, self._ledger, limit) if behind > limit else []

    def _shares(self) -> Iterable[Share]:
        """Return the shares that may leave memory: all but those of jobs that are being published."""
        working = self._finisher.working
        for file_id, collection in self._collections.items():
            if file_id not in working:
                yield from collection.shares.values()

    def _held(self) -> int:
        """Return how many bytes are held, those on their way to S3 left out."""
        return sum(share.size for one in self._collections.values() for share in one.shares.values())

    def _empty(self, partitions: Iterable[int], patience: float) -> None:
        """Put all rows of partitions on S3, for so many seconds at most; those of jobs that are being published stay."""
        wanted = set(partitions)
        for share in list(self._shares()):
            if share.partition in wanted and share.size:
                self._spill(share)
        deadline = time.monotonic() + patience
        while self._spiller.size and time.monotonic() < deadline:
            self._note_spilled(timeout=0.1)

    # ---- taking note of what is done

    def _note_done(self) -> None:
        """Take note of parts written and of jobs finished."""
        self._note_spilled()
        for job, end in self._finisher.done():
            look = job.file_id in self._unlooked
            self._unlooked.discard(job.file_id)
            collection = self._collections.get(job.file_id)
            if end is not None:
                self._telling.ended(job, end.state)
                self._let_go(job.file_id)
            elif collection is not None:
                self._consider(collection, look=look)

    def _note_spilled(self, timeout: float = 0.0) -> None:
        for spilled in self._spiller.done(timeout):
            self._ledger.release(spilled.partition, spilled.lot)
            collection = self._collections.get(spilled.file_id)
            share = collection.shares.get(spilled.partition) if collection else None
            if collection is None or share is None or spilled.lot not in share.leaving:
                continue
            share.leaving.discard(spilled.lot)
            if spilled.part is None:
                self._let_go(spilled.file_id)
            else:
                share.parts.add(spilled.part.key)
                self._consider(collection, look=True)

    def _let_go(self, file_id: str) -> None:
        """Forget a job that has ended."""
        collection = self._collections.pop(file_id, None)
        for share in collection.shares.values() if collection else ():
            for lot in (share.lot, share.end, *share.leaving):
                self._ledger.release(share.partition, lot)
            self._spiller.give_up(share.leaving)
        self._unlooked.discard(file_id)
        self._finisher.forget(file_id)
        self._book.forget(file_id)
        self._ahead.forget(file_id)

    def _note_sweep(self) -> None:
        """Take in what the last look at the open jobs found, and have the next one made when it is due."""
        found = self._sweeper.take()
        if found is not None:
            self._parts, self._repaired = found.parts, found.repaired
            for file_id in found.ended:
                self._let_go(file_id)
            for file_id, collection in list(self._collections.items()):
                if collection.captured is None and file_id in found.captured:
                    collection.settle(found.captured[file_id])
                self._learn(collection)
                self._consider(collection)
            for job, captured in found.ready:
                if job.file_id not in self._finisher.busy:
                    self._finisher.assemble(job, captured, 0)
        self._sweeper.start_if_due(self._wanted)

    def _learn(self, collection: Collection) -> None:
        """Note what others have put on S3 of the shares that are ours now."""
        total = collection.captured.rows if collection.captured else None
        for part in self._parts.get(collection.job.file_id, ()):
            if part.partition in self._mine and part.key not in collection.share(part.partition).parts:
                collection.share(part.partition).learn(part.key, *runs_to_rows(part), total)

    def _wanted(self) -> Wanted:
        collections = self._collections
        waiting = frozenset(file_id for file_id, one in collections.items() if one.captured is None)
        doubts = tuple(doubt for one in collections.values() for doubt in self._doubts(one))
        held = frozenset(collections) | frozenset(self._finisher.failed)
        return Wanted(frozenset(self._finisher.working), held, waiting, doubts)

    def _doubts(self, collection: Collection) -> Iterable[Doubt]:
        """Return the shares of a job that have ended, lack rows, and have had no new one for a while."""
        captured, job = collection.captured, collection.job
        if captured is None or job.file_id in self._finisher.busy:
            return
        quiet = time.monotonic() - self._settings.repair_after
        for partition, share in collection.shares.items():
            if share.rounds and share.stirred < quiet and not collection.has_all_of(partition):
                lacking = tuple(collection.lacking(partition))
                parts = frozenset(share.parts)
                yield Doubt(job, captured, partition, lacking, frozenset(share.rounds), parts)

    def _measure(self, reader: Reader) -> None:
        """Say how much is held, and how far each partition goes by now."""
        shares = [share for one in self._collections.values() for share in one.shares.values()]
        metrics.HELD_ROWS.labels(STAGE).set(sum(share.held for share in shares))
        metrics.HELD_BYTES.labels(STAGE).set(self._held() + self._spiller.size)
        for partition, place in self._places.items():
            done = max(place.done, reader.starts.get(partition, 0))
            self._places[partition] = Place(done, max(place.end, reader.high(partition)))

    # ---- the group

    def _commit(self, reader: Reader) -> None:
        try:
            offsets = self._ledger.committable()
            if offsets:
                crash.point("sink.committing")
            done = reader.commit(offsets)
            if done:
                crash.point("sink.committed")
                self._purging.stir()
        except Transient as error:
            log.warning("offsets not committed, will be tried again", why=str(error))
            metrics.RETRIES.labels(STAGE, "kafka").inc()
            return
        self._ledger.committed(done)

    def _assigned(self, partitions: Partitions) -> None:
        self._joined = True
        self._mine.update(partitions)
        self._purging.mine(self._mine)
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
        self._note_done()
        self._empty(partitions, LEAVE)
        self._commit(self._reader)
        self._drop(partitions)

    def _replaced(self, partitions: Partitions) -> None:
        """Keep the rows that are held, and forget offsets of the topic that is no more."""
        metrics.REBALANCES.labels(STAGE, "replaced").inc()
        for partition in partitions:
            self._ledger.begin_again(partition)
            self._places[partition] = Place(0, 0)

    def _lost(self, partitions: Partitions) -> None:
        metrics.REBALANCES.labels(STAGE, "lost").inc()
        self._drop(partitions)

    def _drop(self, partitions: Partitions) -> None:
        """Let go of all that came over partitions that are another's."""
        self._mine.difference_update(partitions)
        self._purging.mine(self._mine)
        for partition in partitions:
            self._places.pop(partition, None)
            self._ledger.forget(partition)
            for collection in self._collections.values():
                share = collection.shares.get(partition)
                if share is not None:
                    self._spiller.give_up(share.leaving)
                    collection.drop(partition)
        empty = [file_id for file_id, collection in self._collections.items() if not collection.shares]
        for file_id in empty:
            del self._collections[file_id]
