"""A member of a consumer group that reads one topic by runs of messages, and survives what groups and brokers do.

All of it happens in the thread that calls `read`: the callbacks, and commits too. In confluent-kafka 2.16 a commit that another
thread makes waits for ever while this one consumes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.attempts import Attempts
from pipeline.errors import MillstreamError, Transient
from pipeline.kafka_batch import Batch, batches
from pipeline.kafka_errors import translate
from pipeline.kafka_starts import Starts
from pipeline.kafka_topic import Ends, Identity
from pipeline.settings import Settings

log = structlog.get_logger("kafka")

CONSUME = 20_000
"""Messages that are asked for at once, of all partitions: a run of one partition costs some milliseconds at any length."""

COMMITTED_TRIES = 6
"""Times that committed offsets are asked for, 10 s each, until the reader gives up."""

Partitions = Sequence[int]

AWAKE, DOZE = 5.0, 0.5
"""After so many seconds without a message, seconds that `read` waits for the next one: it is idle 2 times a second, not 10."""


class Reader:
    """Reads a topic as a member of a group, from the committed offsets."""

    def __init__(
        self,
        settings: Settings,
        group: str,
        topic: str,
        *,
        on_assign: Callable[[Partitions], None],
        on_revoke: Callable[[Partitions], None],
        on_lost: Callable[[Partitions], None],
        on_replaced: Callable[[Partitions], None],
        attempts: Attempts | None = None,
    ) -> None:
        """Join the group when first read.

        `on_assign` is told which partitions are ours now; `on_revoke` those that are about to be another's, while what was
        done may still be committed; `on_lost` those that are another's already; `on_replaced` those that begin again at their
        first message, because the topic was made anew. `attempts` counts how often a partition is begun at one offset.
        """
        self.topic = topic
        self.epoch = 0
        """Counts assignments: what was read under another epoch than the current one comes again."""
        self.starts: dict[int, int] = {}
        """Where each partition of ours was begun at; once it is known, not before its first message."""
        self._client = Consumer(kafka.consumer_config(settings, group))
        self._paused = False
        self._closed = False
        self._came = time.monotonic()
        self._callbacks = (on_assign, on_revoke, on_lost)
        self._on_replaced = on_replaced
        self._attempts = attempts
        admin = kafka.admin_client(settings)
        self._identity, self._ends = Identity(admin, topic), Ends(admin, topic)
        self._first = Starts(admin, topic)
        self._subscribe()

    def read(self, timeout: float) -> list[Batch]:
        """Return the next runs of messages, at most one per partition, or none after `timeout` seconds; DOZE while it is quiet.

        Rebalances are served on the way. Raises Refused or Permanent errors of the broker.
        """
        if self._identity.has_changed():
            self._begin_again()
        self._ends.look(self.starts)
        self._first.look(self.starts)
        epoch = self.epoch
        now = time.monotonic()
        first = self._client.consume(1, DOZE) if now - self._came > AWAKE and not self._paused else None
        runs = batches((first or []) + self._client.consume(CONSUME, timeout)) if first != [] else []
        if runs:
            self._came = now
        if runs and epoch != self.epoch:
            # Some of these may be of the assignment before. All of them come again.
            self._start(self._client.assignment())
            return []
        return runs

    def idle(self, seconds: float) -> None:
        """Spend time while paused: the group is served, and what comes nevertheless is read again after `resume`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            epoch = self.epoch
            for batch in batches(self._client.consume(CONSUME, min(left, 0.2))):
                if epoch == self.epoch:
                    self._client.seek(TopicPartition(batch.topic, batch.partition, batch.first))

    def pause(self) -> None:
        """Fetch nothing more for now; `read` goes on serving the group, and gives what was fetched before."""
        if not self._paused:
            self._paused = True
            self._client.pause(self._client.assignment())

    def resume(self) -> None:
        """Fetch again."""
        if self._paused:
            self._paused = False
            self._client.resume(self._client.assignment())

    def commit(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """Commit the next offset to read of each partition; return those that are committed; see `kafka.commit`."""
        if self._attempts is None:
            return kafka.commit(self._client, self.topic, offsets)
        now = time.monotonic()
        notes = {partition: self._attempts.metadata(partition, now) for partition in offsets}
        return kafka.commit(self._client, self.topic, offsets, notes)

    def high(self, partition: int) -> int:
        """Return the end of a partition as it was about a second ago, or 0 where that isn't known. For any thread."""
        return self._ends.known.get(partition, 0)

    def close(self) -> None:
        """Leave the group, without further callbacks; `read` may not be called any more."""
        self._closed = True
        with suppress(KafkaException):
            self._absolve([partition.partition for partition in self._client.assignment()])
        self._client.close()

    def _begin_again(self) -> None:
        """Start what is assigned at its first message: the topic is another, and offsets of the old one mean nothing."""
        partitions = self._client.assignment()
        numbers = [partition.partition for partition in partitions]
        log.warning(
            "the topic was made anew: reading it from its start", topic=self.topic, partitions=sorted(numbers)
        )
        self.epoch += 1
        if not numbers:
            # The group shared out the partitions while there was no such topic, and would find out by and by.
            self._client.unsubscribe()
            self._subscribe()
            return
        self._assign([TopicPartition(self.topic, number, OFFSET_BEGINNING) for number in numbers])
        self._on_replaced(numbers)

    def _subscribe(self) -> None:
        self._client.subscribe(
            [self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _start(self, partitions: list[TopicPartition]) -> None:
        """Start partitions at their committed offsets, or at the beginning."""
        wanted = [TopicPartition(partition.topic, partition.partition) for partition in partitions]
        if wanted and self._identity.has_changed(wait=True):
            for partition in wanted:
                partition.offset = OFFSET_BEGINNING
            self._assign(wanted)
            return
        starts = self._committed(wanted) if wanted else []
        self._assign(starts)
        self._count(starts)

    def _count(self, starts: list[TopicPartition]) -> None:
        """Note of each committed offset that its partition was begun there, for whoever comes next if we die."""
        if self._attempts is None or not starts:
            return
        now = time.monotonic()
        offsets = {start.partition: max(0, start.offset) for start in starts}
        begun = {
            start.partition: self._attempts.begin(
                start.partition, offsets[start.partition], start.metadata, now
            )
            for start in starts
        }
        suspect = sorted(partition for partition in offsets if self._attempts.is_suspect(partition, now))
        if suspect:
            log.warning(
                "workers have died here again and again: looking at what comes",
                topic=self.topic,
                partitions=suspect,
            )
        self._keep_quietly(offsets, begun)

    def _absolve(self, partitions: Partitions) -> None:
        """Take the notes back: we leave in good health."""
        if self._attempts is not None:
            self._keep_quietly(self._attempts.absolve(partitions), {})

    def _keep_quietly(self, offsets: Mapping[int, int], begun: Mapping[int, str]) -> None:
        try:
            kafka.commit(self._client, self.topic, offsets, begun)
        except MillstreamError as error:  # a count that isn't kept costs a death more
            log.debug("not noted", topic=self.topic, why=str(error))

    def _committed(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        """Ask for committed offsets, for as long as the coordinator takes to answer, within the deadline of a rebalance."""
        doing = "reading committed offsets"
        for left in range(COMMITTED_TRIES - 1, -1, -1):
            try:
                starts = self._client.committed(wanted, timeout=10)
                bad = next((start.error for start in starts if start.error is not None), None)
            except KafkaException as error:
                bad = error.args[0]
            if bad is None:
                return list(starts)
            failure = translate(bad, doing)
            if not left or not isinstance(failure, Transient):
                raise failure
            log.warning("asked again", doing=doing, why=str(failure))
            time.sleep(0.5)
        raise AssertionError("the last try returns or raises")

    def _assign(self, starts: list[TopicPartition]) -> None:
        self._client.assign(starts)
        if self._paused and starts:
            self._client.pause(starts)
        self.starts = {start.partition: max(0, start.offset) for start in starts}
        self._ends.forget()
        self._first.forget()

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closed:
            return
        self.epoch += 1
        self._start(partitions)
        numbers = [partition.partition for partition in partitions]
        log.info("partitions assigned", topic=self.topic, partitions=sorted(numbers))
        self._callbacks[0](numbers)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave(partitions, "partitions revoked", self._callbacks[1])
        self._absolve([partition.partition for partition in partitions])

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave(partitions, "partitions lost", self._callbacks[2])
        if self._attempts is not None:
            self._attempts.lose([partition.partition for partition in partitions])

    def _leave(
        self, partitions: list[TopicPartition], what: str, callback: Callable[[Partitions], None]
    ) -> None:
        if self._closed:
            return
        numbers = [partition.partition for partition in partitions]
        log.info(what, topic=self.topic, partitions=sorted(numbers))
        callback(numbers)
        self.epoch += 1
        self._client.unassign()
