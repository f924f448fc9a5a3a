"""How far a topic is, seen from outside: the ends of its partitions, asked of the broker every 50 ms.

It is the same clock for everybody, whatever client writes and whatever time it puts on its messages: the first sample in which
something has been appended is the start, the last sample in which the ends moved is the end. What was there at the start isn't
counted. So neither a process's start, its imports and its joining of the group, nor its way out, are part of a figure.
"""

import time
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench.processes import Broken, Processes
from bench.usage import Usage
from tests.services.kafka import Broker

EVERY = 0.05
PATIENCE = 30.0


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
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 2})
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        self._request = {TopicPartition(topic, partition): latest for partition in range(partitions)}

    def written(self) -> int:
        """Return how many messages the topic has."""
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
            if written and (first is None or written != last[1]):
                last = (moment, written, processes.usage())
                first = first or last
            if written >= total:
                break
            processes.check("results were written")
            if time.monotonic() > deadline:
                raise Broken(f"{written:,} of {total:,} messages written after {timeout:.0f} s")
            time.sleep(EVERY)
        assert first is not None
        used = {name: now.since(first[2].get(name, now)) for name, now in last[2].items()}
        seconds = max(last[0] - first[0], EVERY)
        return Window(total - first[1], round(seconds, 3), last[0], used)
