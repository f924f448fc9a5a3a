"""What the broker says of a topic, asked for without waiting: whether it is still the same, and where its partitions end."""

import time
from collections.abc import Collection
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec, TopicDescription

from pipeline import kafka

IDENTITY_EVERY = 3.0
"""Seconds between two looks at whether the topic is still the one that it was."""

ENDS_EVERY, ENDS_EVERY_IDLE = 0.5, 4.0
"""Seconds between two looks at where the partitions end: while they move, and while they don't."""


class Identity:
    """Tells a topic that was deleted and made anew from the one before: it has another id.

    A client that goes on at its old offset finds nothing there, or begins in the middle, and nobody tells it.
    """

    def __init__(self, admin: AdminClient, topic: str) -> None:
        self._admin = admin
        self._topic = topic
        self._known: str | None = None
        self._asked: Future[TopicDescription] | None = None
        self._due = 0.0
        self.gone = False
        """Whether there was no such topic when the broker answered last."""

    def has_changed(self, *, wait: bool = False) -> bool:
        """Return whether the topic is another than at the last call; without `wait`, as far as is known by now."""
        now = time.monotonic()
        if self._asked is None and (wait or now >= self._due):
            wanted = TopicCollection([self._topic])
            self._asked = self._admin.describe_topics(wanted, request_timeout=kafka.PATIENCE)[self._topic]
            self._due = now + IDENTITY_EVERY
        if self._asked is None or not (wait or self._asked.done()):
            return False
        asked, self._asked = self._asked, None
        try:
            found = str(asked.result(kafka.PATIENCE).topic_id)
        except KafkaException as error:
            self.gone = error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            return False  # or no answer: the next look tells
        except TimeoutError:
            return False
        self.gone = False
        before, self._known = self._known, found
        return before is not None and found != before


class Ends:
    """Knows where partitions end, also where nothing is fetched from them."""

    def __init__(self, admin: AdminClient, topic: str) -> None:
        self._admin = admin
        self._topic = topic
        self._asked: dict[int, Future[ListOffsetsResultInfo]] = {}
        self._due = 0.0
        self.known: dict[int, int] = {}
        """By partition, of those that were asked for since `forget`."""

    def look(self, partitions: Collection[int]) -> None:
        """Take in what was answered, and ask again where it is time to."""
        now = time.monotonic()
        if self._asked and all(answer.done() for answer in self._asked.values()):
            told = {
                partition: answer.result().offset
                for partition, answer in self._asked.items()
                if answer.exception() is None
            }
            if self.known == self.known | told:
                self._due += ENDS_EVERY_IDLE - ENDS_EVERY
            self.known |= told
            self._asked = {}
        if partitions and not self._asked and now >= self._due:
            self._due = now + ENDS_EVERY
            latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            wanted = {TopicPartition(self._topic, partition): latest for partition in partitions}
            answers = self._admin.list_offsets(wanted, request_timeout=kafka.PATIENCE)
            self._asked = {place.partition: answer for place, answer in answers.items()}

    def forget(self) -> None:
        """Know nothing, and hear no answer to what was asked: partitions are others', or the topic is another."""
        self._asked, self._due, self.known = {}, 0.0, {}
