"""Questions about offsets, asked of the broker one at a time and waited for: where partitions begin and end, what groups have
committed; and the removal of what is before an offset.

Nothing is asked of a partition that has no leader: librdkafka looks for the leader without pause, and keeps a core busy.
"""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from pipeline import kafka
from pipeline.errors import Transient, Unreachable
from pipeline.kafka_errors import translate
from pipeline.settings import Settings

ANSWER = 3.0
"""Seconds that an answer may take."""

MARGIN = 1.0
"""Seconds after which an answer that should have been given up by the client is given up here."""

_LEFT = {ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD}

At = tuple[str, int]
"""A topic and a partition of it."""

T = TypeVar("T")


class Offsets:
    """Asks one broker; for one thread at a time. Every method raises Transient or Permanent errors of the broker."""

    def __init__(self, settings: Settings) -> None:
        """Connects when first used."""
        self._address = settings.kafka
        self._admin = kafka.admin_client(settings)

    def led(self, topics: Collection[str]) -> set[At]:
        """Return the partitions of topics that have a leader."""
        try:
            found = self._admin.list_topics(timeout=ANSWER).topics
        except KafkaException as error:
            raise translate(error.args[0], "looking for leaders") from error
        return {
            (topic, number)
            for topic in topics
            if topic in found
            for number, partition in found[topic].partitions.items()
            if partition.leader >= 0
        }

    def identities(self, topics: Collection[str]) -> dict[str, str]:
        """Return the ids of topics: one that is deleted and made anew has another."""
        asked = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER)
        return {
            topic: str(self._answer(answer, "describing topics").topic_id) for topic, answer in asked.items()
        }

    def starts(self, places: Iterable[At]) -> dict[At, int]:
        """Return the first offset that is still there, of those partitions that tell."""
        return self._listed(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def ends(self, places: Iterable[At]) -> dict[At, int]:
        """Return the offset behind the last message, of those partitions that tell."""
        return self._listed(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def groups(self) -> set[str]:
        """Return the consumer groups that have members, as far as this client may see them."""
        found = self._answer(self._admin.list_consumer_groups(request_timeout=ANSWER), "listing groups")
        if found.errors:  # a broker that doesn't answer may be the one that knows of a group
            raise translate(found.errors[0].args[0], "listing groups")
        return {group.group_id for group in found.valid if group.state not in _LEFT}

    def committed(self, group: str) -> dict[At, int]:
        """Return the offsets that a group has committed."""
        asked = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER
        )
        found = self._answer(asked[group], f"reading the offsets of group {group}").topic_partitions
        return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}

    def remove(self, before: Mapping[At, int]) -> dict[At, int]:
        """Remove the messages before these offsets; return where the partitions begin now, of those that did so."""
        wanted = [TopicPartition(topic, number, offset) for (topic, number), offset in before.items()]
        if not wanted:
            return {}
        asked = self._admin.delete_records(wanted, request_timeout=ANSWER, operation_timeout=ANSWER)
        found = self._answers({(at.topic, at.partition): answer for at, answer in asked.items()}, "purging")
        return {at: int(done.low_watermark) for at, done in found.items()}

    def _listed(self, places: Iterable[At], which: OffsetSpec) -> dict[At, int]:
        wanted = {TopicPartition(*place): which for place in places}
        if not wanted:
            return {}
        asked = self._admin.list_offsets(wanted, request_timeout=ANSWER)
        found = self._answers(
            {(at.topic, at.partition): answer for at, answer in asked.items()}, "listing offsets"
        )
        return {at: int(place.offset) for at, place in found.items()}

    def _answers(self, asked: Mapping[At, "Future[Any]"], doing: str) -> dict[At, Any]:
        """Return the answers that came; raise where none did, or the broker says no."""
        found: dict[At, Any] = {}
        failure: Transient | None = None
        for at, answer in asked.items():
            try:
                found[at] = self._answer(answer, doing)
            except Transient as error:
                failure = error
        if failure is not None and not found:
            raise failure
        return found

    def _answer(self, answer: "Future[T]", doing: str) -> T:
        try:
            return answer.result(ANSWER + MARGIN)
        except KafkaException as error:
            raise translate(error.args[0], doing) from error
        except TimeoutError as error:
            raise Unreachable(f"Kafka at {self._address} does not answer: {doing}") from error
