"""A Faust transport that hands the agent one event per run of messages of one partition.

One message stays one message on Kafka; between Kafka and the agent they travel by the thousand, since Faust spends some
100 µs on each event. The clients are librdkafka's. Found by Faust through the entry point group `faust.transports`, for
brokers given as `millstream://host:port`.

The polling thread alone consumes and assigns; the event loop alone keeps the account of what is done:

    poller thread   consume → Batch ──queue, bounded──▶  event loop   conductor → agent → ack → commit
                    rebalance callbacks ────and wait──▶               revoked: finish what is begun, commit
"""

import asyncio
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, cast

import structlog
from faust.transport import base
from faust.types import TP, ConsumerMessage

from pipeline import crash, metrics
from pipeline.attempts import Attempts
from pipeline.errors import DeliveryFailed, MillstreamError, Transient
from pipeline.kafka import Publisher
from pipeline.kafka_batch import Batch, joined
from pipeline.kafka_reader import Partitions, Reader
from pipeline.leave import leave
from pipeline.messages import Messages
from pipeline.settings import Settings
from pipeline.stalls import Place

log = structlog.get_logger("transport")

QUEUED_BATCHES = 64
QUEUED_BYTES = 8 * 1024 * 1024
"""What waits between the poller and the agent at most; above, the poller stops consuming."""

RUN = 16_384
"""Messages of one partition that the agent gets at once, if so many wait: a run costs some milliseconds at any length."""

PAUSE_AFTER = 2.0
"""Seconds with a full queue until the partitions are paused, so that polling (and with it the membership) goes on."""

_NO_TABLES = "this transport is for an app without tables: positions change by assignment only, topics are made beforehand"

POLL = 0.1
"""Seconds that one consume waits for messages."""

GOODBYE = 2.0
"""Seconds that leaving the group may take a worker that finishes nothing."""


class _Handoff:
    """The queue between poller and event loop, bounded by batches and bytes; gives what waits of a partition as one run."""

    def __init__(self) -> None:
        self._items: deque[tuple[int, Batch, int]] = deque()
        self._bytes = 0
        self._lock = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which event loop takes the batches."""
        self._loop = loop

    @property
    def bytes(self) -> int:
        """What waits, in bytes."""
        return self._bytes

    def is_full(self) -> bool:
        return len(self._items) >= QUEUED_BATCHES or self._bytes >= QUEUED_BYTES

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until a batch fits; called by the poller."""
        with self._lock:
            return self._lock.wait_for(lambda: not self.is_full(), timeout)

    def put(self, epoch: int, batch: Batch) -> None:
        """Add a batch, read in this epoch of the assignment."""
        size = sum(map(len, (value for value in batch.values if value is not None)))
        with self._lock:
            self._items.append((epoch, batch, size))
            self._bytes += size
        metrics.BYTES.labels("process").inc(size)
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody takes any more
            self._loop.call_soon_threadsafe(self._arrived.set)

    def clear(self) -> None:
        """Drop everything: the assignment has changed."""
        with self._lock:
            self._items.clear()
            self._bytes = 0
            self._lock.notify_all()

    async def get(self, timeout: float) -> tuple[int, Batch] | None:
        """Return the next batch and its epoch, or None after `timeout` seconds."""
        if not self._items:
            self._arrived.clear()
            if not self._items:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), timeout)
        with self._lock:
            if not self._items:
                return None
            epoch, first, size = self._items.popleft()
            run, rest = [first], deque[tuple[int, Batch, int]]()
            rows = len(first.keys)
            for item in self._items:
                other = item[1]
                follows = (item[0], other.topic, other.partition) == (epoch, first.topic, first.partition)
                if follows and rows + len(other.keys) <= RUN:
                    run.append(other)
                    rows += len(other.keys)
                    size += item[2]
                else:
                    rest.append(item)
                    rows += RUN if follows else 0  # what comes behind it has to stay behind it
            self._items = rest
            self._bytes -= size
            self._lock.notify_all()
        return epoch, joined(run)


class BatchConsumer(base.Consumer):
    """Consumes runs of messages with librdkafka, and keeps Faust's account of what is done by runs.

    What is delivered to the agent is remembered in order, per partition; what Faust acknowledges is taken off the front, so
    that an offset is only committed when everything before it is done, in whatever order that happened.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Called by Faust."""
        super().__init__(*args, **kwargs)
        self.settings: Settings = self.app.millstream  # type: ignore[attr-defined]
        self._handoff = _Handoff()
        self._assignment: frozenset[TP] = frozenset()
        self._delivered: dict[TP, deque[int]] = defaultdict(deque)
        self._ready: dict[TP, int] = {}
        self._next: dict[TP, int] = {}
        self._begun: dict[TP, int] = {}
        self._commit_lock = asyncio.Lock()
        self._attempts = Attempts()
        self._commits: queue.SimpleQueue[tuple[dict[int, int], int, Future[dict[int, int]]]] = (
            queue.SimpleQueue()
        )
        self._reader: Reader | None = None
        self._epoch = 0  # the reader's, which the account is of
        self._poller: threading.Thread | None = None
        self._closing = threading.Event()
        self.joined = False
        """Whether the group has given us an assignment, though it may be of no partition."""

    # ---- what Faust asks

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the consumer group and begin to poll."""
        (topic,) = topics
        loop = asyncio.get_running_loop()
        self._handoff.bind(loop)
        self._poller = threading.Thread(target=self._poll, args=(topic, loop), name="poller", daemon=True)
        self._poller.start()

    def assignment(self) -> set[TP]:
        """Return the partitions that are ours."""
        return set(self._assignment)

    def highwater(self, tp: TP) -> int:
        """Return the end of a partition as far as is known."""
        return self._reader.high(tp.partition) if self._reader else 0

    def places(self) -> dict[int, Place]:
        """Return how far each partition of ours is."""
        return {tp.partition: self._place(tp) for tp in self._assignment}

    def is_suspect(self, partition: int) -> bool:
        """Whether workers have died again and again of what comes of a partition. For any thread."""
        return self._attempts.is_suspect(partition, time.monotonic())

    def _place(self, tp: TP) -> Place:
        done, in_hand = self._ready.get(tp, self._begun.get(tp)), False
        for last in self._delivered[tp]:
            in_hand = last not in self._acked_index[tp]
            if in_hand:
                break
            done = last + 1
        if done is None:  # nothing of this assignment was read yet
            done = self._reader.starts.get(tp.partition, 0) if self._reader else 0
        return Place(done, self.highwater(tp), in_hand)

    def held(self) -> tuple[int, int]:
        """Return how many rows were read and aren't done, and the bytes of those that the agent hasn't taken yet, about."""
        begun = {tp: place.done for tp in self._assignment if (place := self._place(tp)).in_hand}
        rows = sum(self._next.get(tp, done) - done for tp, done in begun.items())
        return rows, self._handoff.bytes

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield the next run of messages as one, unless the assignment it was read under is over."""
        if not self.flow_active:
            await self.wait(cast(Any, self.can_resume_flow))
        found = await self._handoff.get(timeout)
        if found is None or self.should_stop:
            return
        epoch, batch = found
        tp = TP(batch.topic, batch.partition)
        if self._reader is None or epoch != self._reader.epoch or tp not in self._assignment:
            return  # it comes again, for whoever the partition is now
        if batch.first < self._next.get(tp, 0):
            self._start_over(tp)
        self._next[tp] = batch.last + 1
        self._begun.setdefault(tp, batch.first)
        yield tp, self._to_message(tp, batch)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        batch: Batch = record
        return ConsumerMessage(
            batch.topic,
            batch.partition,
            batch.last,
            time.time(),
            0,
            None,
            None,
            cast(Any, batch),
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand runs to the conductor, one after the other; Faust's fetcher runs this, and cancels it where the app stops."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                async for tp, message in self.getmany(timeout=1.0):
                    self._delivered[tp].append(message.offset)
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
        except asyncio.CancelledError:
            if not (self.app.should_stop or fetcher.should_stop):
                raise

    # ---- the account

    def _settle(self, tp: TP) -> None:
        """Move the offset to commit past the runs that are done, up to the first that isn't.

        Faust's stream code writes `_acked` and `_acked_index` itself; only the index is used here.
        """
        done, waiting = self._acked_index[tp], self._delivered[tp]
        while waiting and waiting[0] in done:
            offset = waiting.popleft()
            done.discard(offset)
            self._ready[tp] = offset + 1
        self._acked[tp].clear()

    def _start_over(self, tp: TP) -> None:
        """Forget a partition's account: its offsets went back, so that its topic is another than before."""
        log.warning("offsets went back: the topic was made anew", topic=tp.topic, partition=tp.partition)
        self._forget({tp})

    def _forget(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            accounts = (self._delivered, self._ready, self._next, self._begun, self._acked, self._acked_index)
            for account in accounts:
                cast(dict[TP, Any], account).pop(tp, None)
            self._committed_offset.pop(tp, None)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is done: results delivered first, then the offsets. Raises DeliveryFailed if some are lost.

        Delivering takes as long as a broker is away. Offsets of an assignment that is over by then aren't committed: they may
        be of a topic that is no more, and what is below them in the new one would never be acknowledged.
        """
        async with self._commit_lock:
            epoch = self._epoch
            for tp in list(self._delivered):
                self._settle(tp)
            offsets = {
                tp: offset
                for tp, offset in self._ready.items()
                if tp in self._assignment and offset != self._committed_offset[tp]
            }
            if not offsets:
                return False
            await self.app.producer.flush()
            crash.point("process.delivered")
            done = await self._commit(offsets, epoch)
            crash.point("process.committed")
            if epoch == self._epoch:
                self._committed_offset.update(done)
            return bool(done)

    async def _commit(  # type: ignore[override]  # Faust: a bool
        self, offsets: Mapping[TP, int], epoch: int
    ) -> dict[TP, int]:
        """Have the poller commit; return what is committed."""
        poller = self._poller
        if poller is None or self._closing.is_set():
            return {}
        topics = {tp.partition: tp for tp in offsets}
        done: Future[dict[int, int]] = Future()
        self._commits.put(({tp.partition: offset for tp, offset in offsets.items()}, epoch, done))
        while not done.done():
            if not poller.is_alive():
                return {}
            await asyncio.sleep(0.01)
        try:
            return {topics[partition]: offset for partition, offset in done.result().items()}
        except Transient as error:
            log.warning("offsets not committed, will be tried again", error=str(error))
            metrics.RETRIES.labels("process", "kafka").inc()
            return {}

    async def perform_seek(self) -> None:
        """Nothing: an assignment starts at its committed offsets."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Return the committed offsets; an assignment starts there."""
        return {tp: offset for tp, offset in self._committed_offset.items() if offset is not None}

    async def _seek(self, partition: TP, offset: int) -> None:
        raise NotImplementedError(_NO_TABLES)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Not needed: see _NO_TABLES."""
        raise NotImplementedError(_NO_TABLES)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Not needed: see _NO_TABLES."""
        raise NotImplementedError(_NO_TABLES)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Not needed: see _NO_TABLES."""
        raise NotImplementedError(_NO_TABLES)

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        """Not needed: see _NO_TABLES."""
        raise NotImplementedError(_NO_TABLES)

    async def position(self, tp: TP) -> int | None:
        """Return the offset that is handed to the agent next, as far as is known."""
        return self._next.get(tp)

    def topic_partitions(self, topic: str) -> int | None:
        """Return None: the number isn't asked for."""
        return None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Return the partition that was asked for: results go to their row's partition, never by hash of the key."""
        return partition

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        raise NotImplementedError("`getmany` takes from the poller's queue instead")

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: the agent's queue is bounded, and the conductor waits for it."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing: see `on_buffer_full`."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: see `pipeline/stalls.py`."""

    async def on_stop(self) -> None:
        """Finish what is begun, commit it, leave the group."""
        await super().on_stop()
        self._closing.set()
        self._handoff.clear()  # the poller may be waiting for room
        if self._poller is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._poller.join)

    def close(self) -> None:
        """Stop polling; called by Faust when a rebalance meets a stopping app."""
        self._closing.set()

    def abandon(self) -> None:
        """Leave the group without finishing anything; within GOODBYE seconds, or else the group finds out. For any thread."""
        self._closing.set()
        if self._poller is not None:
            self._poller.join(GOODBYE)

    # ---- the poller thread

    def _poll(self, topic: str, loop: asyncio.AbstractEventLoop) -> None:
        """Read until closed."""
        try:
            reader = self._reader = Reader(
                self.settings,
                self.app.conf.id,
                topic,
                on_assign=lambda partitions: self._in_loop(self._assigned(topic, partitions), loop),
                on_revoke=lambda partitions: self._in_loop(
                    self._revoked(topic, partitions, lost=False), loop
                ),
                on_lost=lambda partitions: self._in_loop(self._revoked(topic, partitions, lost=True), loop),
                on_replaced=lambda partitions: self._in_loop(self._replaced(topic, partitions), loop),
                attempts=self._attempts,
            )
            while not self._closing.is_set():
                if self._handoff.wait_for_room(PAUSE_AFTER):
                    reader.resume()
                else:
                    reader.pause()
                batches = reader.read(POLL)
                for batch in batches:
                    self._handoff.put(reader.epoch, batch)
                self._serve_commits(reader)
            self._serve_commits(reader)
            reader.close()
        except BaseException:
            # Without its poller the worker would live on, call itself ready, and read nothing.
            log.exception("reading failed; leaving without a commit")
            leave(1)

    def _serve_commits(self, reader: Reader) -> None:
        """Make the commits that the event loop asks for: librdkafka's client hangs when another thread makes them."""
        while not self._commits.empty():
            offsets, epoch, done = self._commits.get()
            try:
                done.set_result(reader.commit(offsets) if epoch == reader.epoch else {})
            except MillstreamError as error:
                done.set_exception(error)

    async def _assigned(self, topic: str, partitions: Partitions) -> None:
        assert self._reader is not None
        self._handoff.clear()
        self._forget({*self._delivered, *self._ready, *self._next, *self._begun, *self._committed_offset})
        metrics.REBALANCES.labels("process", "assigned").inc()
        self._assignment = frozenset(TP(topic, partition) for partition in partitions)
        self.joined = True
        self._start_rebalance()
        self.app.go_on()  # type: ignore[attr-defined]
        self.app.consumer_generation_id = self._epoch = self._reader.epoch
        await self.on_partitions_assigned(set(self._assignment), self._reader.epoch)

    async def _revoked(self, topic: str, partitions: Partitions, *, lost: bool) -> None:
        """Let the agent finish what it has begun; commit it, unless the partitions are somebody else's already."""
        revoked = {TP(topic, partition) for partition in partitions}
        metrics.REBALANCES.labels("process", "lost" if lost else "revoked").inc()
        self._handoff.clear()
        for tp in revoked:
            self._settle(tp)  # Faust is about to forget what it knows of them
        if lost:
            self._assignment -= revoked
        self._start_rebalance()
        self.app.let_go()  # type: ignore[attr-defined]
        await self.on_partitions_revoked(revoked)
        self._assignment -= revoked
        self._forget(revoked)

    async def _replaced(self, topic: str, partitions: Partitions) -> None:
        """Drop what is in hand without a commit, and begin again."""
        metrics.REBALANCES.labels("process", "replaced").inc()
        await self._revoked(topic, partitions, lost=True)
        await self._assigned(topic, partitions)

    def _start_rebalance(self) -> None:
        if not self.app.rebalancing:
            self.app.on_rebalance_start()

    def _in_loop(self, work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        """Run a coroutine in the event loop and wait for it, unless everything is closing."""
        if self._closing.is_set():
            work.close()
            return
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, loop)
        while not self._closing.is_set():
            if self._reader is not None:
                self._serve_commits(self._reader)
            with suppress(TimeoutError):
                done.result(0.02)
                return


class BatchProducer(base.Producer):
    """Sends runs of messages; `flush` is what Faust waits for before each commit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Called by Faust."""
        super().__init__(*args, **kwargs)
        self._settings: Settings = self.app.millstream  # type: ignore[attr-defined]
        self._publisher = Publisher(self._settings)
        self._turn = threading.Lock()

    def send_run(self, topic: str, partition: int, messages: Messages) -> None:
        """Hand over messages for one partition; blocks while the client's queue is full. For any thread."""
        with self._turn:
            self._publisher.send(topic, partition, messages)

    def flush_run(self) -> None:
        """Wait until everything sent is acknowledged by the broker; raises DeliveryFailed. For any thread."""
        with self._turn:
            self._publisher.flush()

    async def flush(self) -> None:
        """Wait until everything sent is acknowledged; nothing more is sent meanwhile."""
        await self.buffer.flush()
        try:
            await asyncio.get_running_loop().run_in_executor(None, self.flush_run)
        except (DeliveryFailed, Transient) as error:
            # Faust would commit once more while it stops, and the rows of the lost results would be acknowledged.
            log.error("results were not delivered; leaving without a commit", error=str(error))
            leave(1)


class Transport(base.Transport):
    """What Faust makes its consumer and producer from."""

    Consumer = BatchConsumer
    Producer = BatchProducer
    default_port = 9092
    driver_version = "millstream"
