"""The edge to Kafka: confluent-kafka's clients with our configuration; `kafka_errors` turns their exceptions into ours."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline import metrics
from pipeline.errors import MillstreamError, Permanent, Unreachable
from pipeline.kafka_errors import MOVED_ON, translate, undelivered
from pipeline.kafka_native import WIRE, NativeProducer, pointers
from pipeline.messages import Messages
from pipeline.settings import OVERHEAD, Settings

log = structlog.get_logger("kafka")

PATIENCE = 10.0
"""Seconds until a broker that doesn't answer is given up by a command that a person waits for."""

FIRST_ANSWER = 7.0
"""Seconds for the first answer of a broker: with what a command takes to start, a person knows within ten."""

ROOM = 0.02
"""Seconds between two tries to hand over what the client's queue had no room for: it empties in about five times as long."""

SEGMENT = 16_000_000
"""Bytes of a segment of topics that are purged: only whole segments leave the disk, and one of each partition always stays."""

SEGMENT_INDEX = 262_144
"""Bytes that each of a segment's indexes may take; with the broker's 10 MB they would take more than the messages."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Return what every client is configured with."""
    return {"bootstrap.servers": settings.kafka, "logger": _Quiet(), "log_level": 4} | dict(
        settings.kafka_options
    )


def admin_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration of clients for questions about topics and groups.

    They hold a connection to every broker. In librdkafka 2.16 a question for a broker that refuses connections asks for the
    next one as soon as one has failed, and that takes the pause between the two away: thousands a second, and a core. Where
    connections are held anyway, no question asks for one.
    """
    return _ADMIN_TUNING | client_config(settings) | {"enable.sparse.connections": False}


def admin_client(settings: Settings) -> AdminClient:
    """Return a client for questions about topics and groups, which is cheap also while a broker is dead.

    Give every question a `request_timeout`: one for a dead broker waits for a minute otherwise.
    """
    return AdminClient(admin_config(settings))


_ADMIN_TUNING = {
    "topic.metadata.refresh.interval.ms": 3000,  # or it goes on asking a controller that is gone
}
_PRODUCER_TUNING = {
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "batch.num.messages": 20_000,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 32_768,
    "compression.type": "lz4",  # of JSON it leaves a quarter, and costs less than what isn't sent
}
_CONSUMER_TUNING = {
    "partition.assignment.strategy": "range",
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 1000,  # where nothing comes; what comes is sent at once
    "queued.max.messages.kbytes": 16_384,
    "queued.min.messages": 20_000,  # of each partition; at the default of 100,000 they are 40 MB more, and nothing is faster
    "topic.metadata.refresh.interval.ms": 30_000,
}
"""What `kafka_options` may set otherwise; what the delivery rules rest on stands below, and wins."""


def producer_config(settings: Settings) -> dict[str, Any]:
    """Return the producers' configuration: acknowledged by all in-sync replicas, in order, without duplicates."""
    return (
        _PRODUCER_TUNING
        | client_config(settings)
        | {
            "acks": "all",
            "enable.idempotence": True,
            "message.max.bytes": settings.message_bytes + OVERHEAD,
            "delivery.report.only.error": True,
        }
    )


def consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    """Return the consumers' configuration: from the oldest message, offsets committed only by us."""
    return (
        _CONSUMER_TUNING
        | client_config(settings)
        | {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": int(settings.session_timeout * 1000),
            "heartbeat.interval.ms": int(settings.session_timeout * 1000 / 6),
        }
    )


_publishers: "WeakSet[Publisher]" = WeakSet()


def unacknowledged() -> int:
    """Return how many messages this process has sent that aren't acknowledged yet, about; for any thread."""
    return sum(publisher.pending() for publisher in list(_publishers))


metrics.UNACKNOWLEDGED.set_function(unacknowledged)


class Publisher:
    """A producer that takes whole batches and tells, when flushed, that all of them are acknowledged.

    Not for several threads at once. A message that fails makes every further call raise, until `forget`: nothing that came
    before may be taken for delivered. `check` is called while a call waits for the broker; it may raise, to give up.
    """

    def __init__(self, settings: Settings, check: Callable[[], None] = lambda: None) -> None:
        """Connects when first used."""
        self._address = settings.kafka
        self._check = check
        config = producer_config(settings)
        self._largest = int(config["message.max.bytes"])
        self._failures = list[KafkaError]()
        self._config = config
        self._producer = self._make()
        _publishers.add(self)

    def _make(self) -> NativeProducer:
        config, failures = dict(self._config), self._failures
        quiet = config.pop("logger")
        return NativeProducer(
            config, on_failure=lambda error: None if failures else failures.append(error), on_log=quiet.log
        )

    def send(self, topic: str, partition: int, messages: Messages) -> None:
        """Hand a batch of messages for one partition over, in order; blocks while the client's queue is full."""
        waiting = pointers(messages)
        # librdkafka would pass over one that is too large, and send those behind it.
        too_large = np.flatnonzero(waiting["key_len"] + waiting["len"] + WIRE > self._largest)
        refused = waiting[too_large[:1]]
        if len(refused):
            waiting = waiting[: too_large[0]]
        while len(waiting):
            taken = self._producer.produce(topic, partition, waiting)
            waiting = waiting[waiting["err"] != 0] if taken < len(waiting) else waiting[:0]
            wrong = waiting[waiting["err"] != KafkaError._QUEUE_FULL]
            if len(wrong):
                raise _undelivered(KafkaError(int(wrong[0]["err"])), wrong[0])
            self._producer.poll(ROOM if len(waiting) else 0)
            self._raise_failure()
            if len(waiting):
                self._check()
        if len(refused):
            raise _undelivered(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), refused[0])

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent is acknowledged.

        Raises DeliveryFailed if a message was refused for good, Unreachable if `timeout` seconds weren't enough.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        # In slices: a call into librdkafka lets no signal through until it returns.
        while left := self._producer.flush(max(0.0, min(0.5, deadline - time.monotonic()))):
            self._raise_failure()
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"Kafka at {self._address}: {left} messages not acknowledged after {timeout:.0f} s"
                )
            self._check()
        self._raise_failure()

    def pending(self) -> int:
        """Return how many messages are not acknowledged yet, about."""
        return self._producer.pending()

    def forget(self) -> None:
        """Drop what isn't acknowledged, for a caller that has given its work up; nothing where all is.

        A broker that has lost its data gives the numbers of its producers to others, and the client of one of both dies.
        """
        if self._producer.pending():
            self._producer.purge()
            self._producer.flush(1)
        if self._producer.has_died():
            self._producer = self._make()
        self._failures.clear()

    def _raise_failure(self) -> None:
        if self._failures:
            error = self._failures[0]
            raise undelivered(error)(f"Kafka at {self._address} did not take a message: {error.str()}")


def _undelivered(error: KafkaError, message: np.void) -> MillstreamError:
    return undelivered(error)(f"Kafka takes no message of {message['len']} bytes: {error.str()}")


def commit(
    client: Consumer, topic: str, offsets: Mapping[int, int], notes: Mapping[int, str] | None = None
) -> dict[int, int]:
    """Commit the next offset to read of each partition; return those that are committed.

    `notes` lie beside the offsets as their metadata. Left out are partitions that have moved on to somebody else, which is no
    error. Raises Transient or Permanent errors.
    """
    if not offsets:
        return {}
    notes = notes or {}
    positions = [
        TopicPartition(topic, partition, offset, notes.get(partition, ""))
        for partition, offset in offsets.items()
    ]
    try:
        answers = client.commit(offsets=positions, asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() in MOVED_ON:
            log.info(
                "commit refused: the partitions are another's by now", topic=topic, error=error.args[0].str()
            )
            return {}
        raise translate(error.args[0], "committing offsets") from error
    done = {}
    for answer in answers or ():
        if answer.error is None:
            done[answer.partition] = answer.offset
        elif answer.error.code() not in MOVED_ON:
            raise translate(answer.error, f"committing partition {answer.partition}")
    return done


def topic_config(settings: Settings) -> dict[str, str]:
    """Return what the topics are made with: how long messages stay, and small segments where they are purged."""
    config = {"retention.ms": str(settings.retention * 3_600_000)}
    if settings.purge:
        config |= {
            "segment.bytes": str(max(SEGMENT, settings.message_bytes + OVERHEAD)),
            "segment.index.bytes": str(SEGMENT_INDEX),
        }
    return config


def ensure_topics(settings: Settings) -> int:
    """Make the topics where they are missing; return their number of partitions.

    Raises Unreachable within FIRST_ANSWER seconds where no broker answers, naming its address.
    """
    admin = admin_client(settings)
    names = [settings.rows_topic, settings.results_topic]
    found = _partitions(admin, settings)
    missing = [name for name in names if name not in found]
    if missing:
        wanted = next((found[name] for name in names if name in found), settings.partitions)
        config = topic_config(settings)
        new = [NewTopic(name, wanted, settings.replication, config=config) for name in missing]
        for name, answer in admin.create_topics(new, operation_timeout=PATIENCE).items():
            try:
                answer.result(PATIENCE)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise translate(error.args[0], f"creating topic {name}") from error
        deadline = time.monotonic() + PATIENCE
        while missing and time.monotonic() < deadline:
            found = _partitions(admin, settings)
            missing = [name for name in names if name not in found]
            if missing:
                time.sleep(0.05)
    rows, results = (found.get(name, 0) for name in names)
    if rows != results or not rows:
        raise Permanent(
            f"topics {names[0]} and {names[1]} have {rows} and {results} partitions: they need the same number"
        )
    return rows


def _partitions(admin: AdminClient, settings: Settings) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=FIRST_ANSWER).topics
    except KafkaException as error:
        raise Unreachable(
            f"Kafka at {settings.kafka} does not answer ({error.args[0].str()}): is it running? the setting is kafka"
        ) from error
    return {
        name: len(topic.partitions)
        for name, topic in topics.items()
        if topic.error is None and topic.partitions
    }


class _Quiet:
    """A logger for librdkafka that says each thing once a minute, not a thousand times a second."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def log(self, level: int, message: str, *arguments: Any, **_: Any) -> None:
        text = message % arguments if arguments else message
        kind = text.partition(":")[0]
        now = time.monotonic()
        if now - self._said.get(kind, -1e9) > 60:
            self._said[kind] = now
            log.debug("librdkafka", detail=text.strip(), level_number=level)
