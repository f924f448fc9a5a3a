"""How far a topic is, seen from outside: the ends of its partitions, asked of the broker every 50 ms. The embedded broker,
which lists all batches for an answer (5 ms for 700,000 rows), is asked more seldom: every 30 times as long as it takes, once
there is something.

It is the same clock for everybody, whatever client writes and whatever time it puts on its messages: the first sample in which
something has been appended is the start, the last sample in which the ends moved is the end. What was there at the start isn't
counted. So neither a process's start, its imports and its joining of the group, nor its way out, are part of a figure.

The embedded broker gives the last batch's first offset for the end of a partition. There, what is written counts as all of it
when the ends are near the number expected and have not moved for QUIET seconds; the time is that of the last move.
"""

import time
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench.processes import Broken, Processes
from bench.usage import Usage
from tests.services.kafka import Broker

EVERY = 0.05
RARELY = 30
QUIET = 3.0
PATIENCE = 30.0
_BATCH = 20_000  # the most messages that any client here puts into one batch


@dataclass(frozen=True)
class Window:
    """The time in which a topic grew: `rows` messages in `seconds`, until `end`; and what each process used in it."""

    rows: int
    seconds: float
    end: float
    used: dict[str, Usage]

    @property
    def rows_per_s(self) -> float:
        """The rate; raises Broken where it was over between two looks."""
        if not self.rows:
            raise Broken("all of it was written between two looks at the topic: take more rows")
        return self.rows / self.seconds


class Observer:
    """Looks at a topic while processes write to it."""

    def __init__(self, broker: Broker, topic: str, partitions: int) -> None:
        """`topic` is empty so far."""
        self._exact = broker.profile == "kafka"
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 2})
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        self._request = {TopicPartition(topic, partition): latest for partition in range(partitions)}

    def written(self) -> int:
        """Return how many messages the topic has, about, on the embedded broker."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answers = self._admin.list_offsets(dict(self._request)).values()
            try:
                return sum(answer.result(PATIENCE).offset for answer in answers)
            except KafkaException as error:
                # A topic made just now has no leader for a moment.
                if time.monotonic() > deadline:
                    raise Broken(f"asking the broker for the ends of a topic: {error}") from None
                time.sleep(EVERY)

    def watch(self, total: int, processes: Processes, *, timeout: float) -> Window:
        """Return the window in which the topic grew to `total` messages."""
        deadline = time.monotonic() + timeout
        first: tuple[float, int, dict[str, Usage]] | None = None
        last: tuple[float, int, dict[str, Usage]] = (0.0, 0, {})
        while True:
            moment = time.time()
            written = self.written()
            # An empty topic is listed at no cost, and its first messages aren't to be missed.
            costly = written > 0 and not self._exact
            pause = max(EVERY, RARELY * (time.time() - moment)) if costly else EVERY
            if written and (first is None or written != last[1]):
                last = (moment, written, processes.usage())
                first = first or last
            enough = written >= (total if self._exact else max(1, total - len(self._request) * _BATCH))
            quiet = moment - last[0] > QUIET
            if written >= total or (enough and quiet and not self._exact):
                break
            processes.check("results were written")
            if time.monotonic() > deadline:
                raise Broken(f"{written:,} of {total:,} messages written after {timeout:.0f} s")
            time.sleep(pause)
        assert first is not None
        used = {name: now.since(first[2].get(name, now)) for name, now in last[2].items()}
        seconds = max(last[0] - first[0], EVERY)
        return Window(total - first[1], round(seconds, 3), last[0], used)
