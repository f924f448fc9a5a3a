"""What is only true of the broker of `millstream up`: Tansu, in memory. Apache Kafka is the reference.

Found with Tansu 0.6.0.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, TopicPartition

from pipeline.kafka_batch import Batch
from pipeline.settings import Settings

log = structlog.get_logger("kafka")

PRODUCER: dict[str, Any] = {
    # After a restart of that broker an idempotent producer never recovers. Where two producers write one partition,
    # a consumer can skip messages of batches above 30 KB.
    "enable.idempotence": False,
    "batch.size": 30_000,
    "linger.ms": 5,
    "max.in.flight.requests.per.connection": 16,  # what is more only waits there, in memory
    "queue.buffering.max.messages": 30_000,
    "compression.type": "none",  # it is on this machine
}
CONSUMER: dict[str, Any] = {
    # A fetch that takes longer than this to list the partition's batches stalls for good: 5 ms for 700,000 rows on an idle
    # machine, and above 100 ms where it has ten times too much to do. It costs 0.1 s of a small file's way.
    "fetch.wait.max.ms": 250,
    "session.timeout.ms": 6000,
    "topic.metadata.refresh.interval.ms": 3000,  # until it, nobody shares out a topic that was made anew
    "heartbeat.interval.ms": 300,  # until the next one a member doesn't know of a rebalance; see `may_say_goodbye`
}

STANDSTILL = 10.0
"""Seconds that a member waits for messages that are there, the first time; each further time it is twice as long."""


class Continuity:
    """Notices offsets that were skipped, and goes back for them once per gap.

    Only for a broker that skips messages (see `continuity`): on Apache Kafka, transaction markers and compaction leave gaps
    that are right. Called by the thread that polls, as everything that moves a client.
    """

    def __init__(self) -> None:
        """Knows no positions yet."""
        self._next: dict[tuple[str, int], int] = {}
        self._tried: dict[tuple[str, int], int] = {}

    def start(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Begin with these positions, by topic and partition; negative ones are unknown."""
        self._next = {at: offset for at, offset in offsets.items() if offset >= 0}
        self._tried = {}

    def check(self, client: Consumer, batch: Batch) -> Batch | None:
        """Return the batch if nothing is missing before it, or None after having gone back."""
        at = (batch.topic, batch.partition)
        expected = self._next.get(at, batch.first)
        whole = batch.last - batch.first + 1 == len(batch.keys)
        if (batch.first > expected or not whole) and self._tried.get(at) != expected:
            self._tried[at] = expected
            log.warning("messages skipped, going back", topic=at[0], partition=at[1], offset=expected)
            client.seek(TopicPartition(*at, expected))
            return None
        self._next[at] = batch.last + 1
        return batch

    def position(self, topic: str, partition: int) -> int:
        """Return the next offset to come, or 0 where that isn't known."""
        return self._next.get((topic, partition), 0)


class _NoContinuity(Continuity):
    """Trusts the broker."""

    def check(self, client: Consumer, batch: Batch) -> Batch | None:
        """Return the batch."""
        return batch


def continuity(settings: Settings) -> Continuity:
    """Return what to check consumed batches with."""
    return Continuity() if settings.profile == "embedded" else _NoContinuity()


class Standstill:
    """Notices a member that is given nothing though there is something, for longer and longer times: see `standstill`."""

    def __init__(self) -> None:
        """Begins with the shortest time."""
        self._waited = 0.0
        self._limit = STANDSTILL

    def is_over(self, moves: bool, seconds: float, what_lacks: Callable[[], str | None]) -> bool:
        """Take note of whether messages came that were waited for; return whether to join the group anew, having said why."""
        if moves:
            self._waited, self._limit = 0.0, STANDSTILL
            return False
        lacking = what_lacks()
        self._waited = self._waited + seconds if lacking else 0.0
        if self._waited < self._limit:
            return False
        log.warning(
            "joining the group anew, it was given nothing", lacking=lacking, seconds=round(self._waited)
        )
        self._waited, self._limit = 0.0, 2 * self._limit
        return True


class _NoStandstill(Standstill):
    """Trusts the broker, and the group: it may have more members than partitions."""

    def is_over(self, moves: bool, seconds: float, what_lacks: Callable[[], str | None]) -> bool:
        """Return False."""
        return False


def standstill(settings: Settings) -> Standstill:
    """Return what to notice members with that are forgotten.

    Where a topic is made anew while its group is shared out, the leader can give nothing to anybody, and librdkafka doesn't
    look again. A fetch can stall for good, too: see `CONSUMER`.
    """
    return Standstill() if settings.profile == "embedded" else _NoStandstill()


def may_say_goodbye(settings: Settings, settled: bool) -> bool:
    """Return whether a member may tell its group that it leaves; where not, the group misses it after its session timeout.

    A leader that leaves in the middle of a rebalance stays that broker's leader: who joins is told to wait for it, again and
    again, for ever. One that says nothing is evicted, as after kill -9.
    """
    return settled or settings.profile != "embedded"


def may_leave_and_come_back(settings: Settings) -> bool:
    """Return whether a group that shared out nothing may be left and joined again, to share out a topic that is there now.

    Where several members do that at once, one of them leaves in the middle of a rebalance: see `may_say_goodbye`.
    """
    return settings.profile != "embedded"
