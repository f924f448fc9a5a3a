"""Sends a job's row events and its ends, and says up to where everything is acknowledged."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline import crash, metrics
from pipeline.events import end_key, end_value, first_partition, partition_of
from pipeline.jobs import Captured, Job
from pipeline.messages import Messages
from producer.encode import Events
from producer.flow import Brake

CHECKPOINT = 3.0
"""Seconds between two flushes, each of which moves the place that capture would go on from."""


class Sender(Protocol):
    """Takes messages; `pipeline.kafka.Publisher` is the real one."""

    def send(self, topic: str, partition: int, messages: Messages) -> None:
        """Take a batch of messages for one partition."""
        ...

    def flush(self) -> None:
        """Return when all of them are acknowledged; raise where one never will be."""
        ...

    def forget(self) -> None:
        """Drop what isn't acknowledged."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """How far capture is: whole blocks from the start, the rows in them, malformed ones included, and where they end.

    `bytes` is that place in the spooled file.
    """

    blocks: int = 0
    rows: int = 0
    malformed: int = 0
    bytes: int = 0

    def after(self, events: Events) -> "Position":
        """Return the position after a further block."""
        return Position(
            self.blocks + 1, self.rows + events.rows, self.malformed + events.malformed, events.end
        )


def publish_rows(
    job: Job,
    events: Iterator[Events],
    start: Position,
    sender: Sender,
    topic: str,
    *,
    sent: Callable[[Events, Position], None],
    acknowledged: Callable[[Position], None],
    brake: Brake | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Position:
    """Send block after block; return the position after the last, when all of it is acknowledged.

    `sent` is called after each block and may raise to stop; `acknowledged` after each checkpoint. `brake` has it wait where too
    much is in flight. Raises DeliveryFailed or Unreachable where Kafka doesn't take them.
    """
    position = start
    flushed = now()
    end = None if start.blocks else 0
    goes_on = True
    for block in events:
        if brake is not None and not goes_on:  # only now: after the last block nothing is to be waited for
            brake.wait()
        partition = partition_of(job.file_id, block.block, job.partitions)
        began = now()
        sender.send(topic, partition, block.messages)
        crash.point("capture.sent")
        metrics.BATCH_SECONDS.labels("capture").observe(now() - began)
        metrics.BATCHES.labels("capture").inc()
        metrics.ROWS.labels("capture").inc(block.rows)
        if end is not None:  # where it goes on, what was read before is another process's
            metrics.BYTES.labels("capture").inc(block.end - end)
        end = block.end
        if block.malformed:
            metrics.REJECTS.labels("capture", "malformed").inc(block.malformed)
        position = position.after(block)
        sent(block, position)
        goes_on = brake is None or brake.goes(block.messages)
        if not goes_on or now() - flushed >= CHECKPOINT:
            sender.flush()
            acknowledged(position)
            flushed = now()
    sender.flush()
    crash.point("capture.acknowledged")
    acknowledged(position)
    return position


def shares_of(job: Job, captured: Captured) -> dict[int, int]:
    """Return how many rows each partition carries that has an end: a job without rows has one in block 0's partition."""
    return captured.shares or {first_partition(job.file_id, job.partitions): 0}


def publish_ends(
    job: Job, captured: Captured, sender: Sender, topic: str, rounds: Mapping[int, int] | None = None
) -> None:
    """Send the end of each share in round 0, or of those in `rounds` in theirs; wait until all are acknowledged."""
    shares = shares_of(job, captured)
    for partition, round in (dict.fromkeys(shares, 0) if rounds is None else rounds).items():
        end = Messages.of([end_key(job.file_id)], [end_value(shares[partition], round)])
        sender.send(topic, partition, end)
    sender.flush()
