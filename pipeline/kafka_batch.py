"""Messages of a partition, taken together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import structlog
from confluent_kafka import KafkaError, Message

from pipeline.kafka_errors import REFUSALS, translate

log = structlog.get_logger("kafka")


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one partition in a row: `first` and `last` are their offsets; values of None are tombstones."""

    topic: str
    partition: int
    first: int
    last: int
    keys: list[bytes | None]
    values: list[bytes | None]


def joined(runs: Sequence[Batch]) -> Batch:
    """Return runs of one partition that follow each other as one."""
    first, last = runs[0], runs[-1]
    if len(runs) == 1:
        return first
    keys = list(chain.from_iterable([run.keys for run in runs]))
    values = list(chain.from_iterable([run.values for run in runs]))
    return Batch(first.topic, first.partition, first.first, last.last, keys, values)


def batches(messages: Sequence[Message]) -> list[Batch]:
    """Group consumed messages by partition, in order; all are of one topic.

    Most errors among them are news that the client deals with itself; raises Refused and Permanent for the others.
    """
    good = [message for message in messages if message.error() is None]
    if len(good) < len(messages):
        for message in messages:
            _look_at(message.error())
    if not good:
        return []
    numbers = [message.partition() for message in good]
    if numbers[0] == numbers[-1] and len(set(numbers)) == 1:
        return [_run(good)]
    groups: dict[int | None, list[Message]] = {}
    start = 0
    for number, run in groupby(numbers):  # the client gives messages of one partition together, mostly
        stop = start + len(list(run))
        groups.setdefault(number, []).extend(good[start:stop])
        start = stop
    return [_run(group) for group in groups.values()]


def _run(group: list[Message]) -> Batch:
    first, last = group[0], group[-1]
    return Batch(
        str(first.topic()),
        int(first.partition() or 0),
        int(first.offset() or 0),
        int(last.offset() or 0),
        [message.key() for message in group],
        [message.value() for message in group],
    )


def _look_at(error: KafkaError | None) -> None:
    if error is None:
        return
    if error.fatal() or error.code() in {*REFUSALS, KafkaError._FATAL}:
        raise translate(error, "")
    log.debug("consumer", error=error.str())
