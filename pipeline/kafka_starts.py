"""Where partitions begin, which is above 0 once messages were removed: asked for without waiting, once for each assignment."""

import time
from concurrent.futures import Future

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from pipeline.kafka_offsets import ANSWER

AGAIN = 30.0
"""Seconds until those that didn't tell are asked again."""


class Starts:
    """Corrects where partitions are begun at: not before their first message.

    A group that has committed nothing, or below what is there, is begun at the first message by the client, which doesn't tell
    before there is one; until then the removed ones would count as waiting.
    """

    def __init__(self, admin: AdminClient, topic: str) -> None:
        self._admin = admin
        self._topic = topic
        self._asked: dict[int, Future[ListOffsetsResultInfo]] = {}
        self._told: set[int] = set()
        self._due = 0.0

    def look(self, starts: dict[int, int]) -> None:
        """Take in what was answered, correcting `starts`, and ask where nobody has told yet."""
        now = time.monotonic()
        if self._asked and all(answer.done() for answer in self._asked.values()):
            for partition, answer in self._asked.items():
                if partition in starts and answer.exception() is None:
                    starts[partition] = max(starts[partition], answer.result().offset)
                    self._told.add(partition)
            self._asked = {}
        missing = starts.keys() - self._told
        if missing and not self._asked and now >= self._due:
            self._due = now + AGAIN
            earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
            wanted = {TopicPartition(self._topic, partition): earliest for partition in missing}
            answers = self._admin.list_offsets(wanted, request_timeout=ANSWER)
            self._asked = {place.partition: answer for place, answer in answers.items()}

    def forget(self) -> None:
        """Hear no answer to what was asked: partitions are others', or the topic is another."""
        self._asked, self._told, self._due = {}, set(), 0.0
