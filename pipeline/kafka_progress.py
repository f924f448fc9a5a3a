"""The edge to the topic of progress: an outlet that never waits, and a watcher that folds it into a picture.

The topic has one partition and is compacted, and what is a day old is deleted: it holds the last word on each part of each job.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from pipeline import kafka
from pipeline.picture import Picture
from pipeline.settings import Settings
from pipeline.teller import Outlet

log = structlog.get_logger("progress")

BACK = 20_000
"""Messages from the end that a watcher begins with."""

RETENTION = 24 * 3600 * 1000
"""Milliseconds that the last word on a job is kept."""

ASKING = 1.5
"""Seconds that a question to the broker may take: less than whoever closes us waits, so that no thread outlives the rest."""

_TRY_AGAIN = 5.0


class ProgressOutlet:
    """Sends events and forgets them; what the broker doesn't take within some seconds is dropped."""

    def __init__(self, settings: Settings) -> None:
        """Connects when first used; makes the topic where it is missing."""
        self._settings = settings
        self._topic = settings.progress_topic
        self._made = False
        self._retry = 0.0
        self._producer = Producer(
            kafka.client_config(settings)
            | {
                "acks": 1,
                "linger.ms": 20,
                "message.timeout.ms": 5000,
                "queue.buffering.max.messages": 5000,
                "delivery.report.only.error": True,
            }
        )

    def send(self, events: Sequence[tuple[str, bytes | None]]) -> None:
        """See Outlet."""
        if not self._made and time.monotonic() >= self._retry:
            self._made = ensure_topic(self._settings)
            self._retry = time.monotonic() + _TRY_AGAIN
        if not self._made:
            return
        for key, value in events:
            try:
                self._producer.produce(self._topic, value=value, key=key.encode(), partition=0)
            except BufferError:
                break  # the broker doesn't answer: the next second has newer figures anyway
        self._producer.poll(0)

    def close(self) -> None:
        """See Outlet."""
        self._producer.flush(0.7)


def outlet(settings: Settings) -> Callable[[], Outlet]:
    """Return what a Teller makes its outlet with."""
    return lambda: ProgressOutlet(settings)


def ensure_topic(settings: Settings) -> bool:
    """Make the topic where it is missing; return whether it is there."""
    admin = kafka.admin_client(settings)
    name = settings.progress_topic
    try:
        if name in admin.list_topics(timeout=ASKING).topics:
            return True
        config = {"cleanup.policy": "compact,delete", "retention.ms": str(RETENTION), "segment.ms": "3600000"}
        new = NewTopic(name, 1, settings.replication, config=config)
        admin.create_topics([new], operation_timeout=5)[name].result(10)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            log.debug("the topic of progress isn't there", why=error.args[0].str())
            return False
    except TimeoutError:
        return False
    return True


class Watcher:
    """Reads the topic on a thread of its own and keeps a picture; without the topic the picture stays empty."""

    def __init__(self, settings: Settings, picture: Picture) -> None:
        """Nothing is read until `start`."""
        self._settings = settings
        self._picture = picture
        self._over = threading.Event()
        self._caught_up = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watch progress", daemon=True)
            self._thread.start()

    def wait_for_the_end(self, timeout: float) -> bool:
        """Wait until all that was there has been read; whether that is so."""
        return self._caught_up.wait(timeout)

    def close(self) -> None:
        """Stop reading."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(3)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._read()
            except KafkaException as error:
                log.debug("progress can't be read", why=error.args[0].str())
            self._over.wait(_TRY_AGAIN)

    def _read(self) -> None:
        """Read until closed; returns or raises where the topic isn't there or another than before."""
        client = Consumer(
            kafka.consumer_config(self._settings, f"{self._settings.topic_prefix}.watchers")
            | {"enable.partition.eof": True, "queued.max.messages.kbytes": 4096}
        )
        try:
            topic = self._settings.progress_topic
            found = client.list_topics(topic, timeout=ASKING).topics[topic]
            if found.error is not None or not found.partitions:
                self._caught_up.set()  # there is nothing to be read
                return
            low, high = client.get_watermark_offsets(TopicPartition(topic, 0), timeout=ASKING)
            client.assign([TopicPartition(topic, 0, max(low, high - BACK))])
            sampled = 0.0
            while not self._over.is_set():
                if time.monotonic() - sampled >= 1:
                    sampled = time.monotonic()
                    self._picture.sample()
                for message in client.consume(2000, 0.25):
                    error = message.error()
                    if error is None:
                        self._picture.apply(message.key(), message.value())
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._caught_up.set()
                    elif error.code() in (
                        KafkaError.UNKNOWN_TOPIC_OR_PART,
                        KafkaError._UNKNOWN_TOPIC,
                        KafkaError._UNKNOWN_PARTITION,
                        KafkaError.OFFSET_OUT_OF_RANGE,
                    ):
                        return  # it was made anew: find its start again
        finally:
            client.close()
