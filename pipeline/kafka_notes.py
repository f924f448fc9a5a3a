"""Where the counts of `pipeline.attempts` lie: beside the committed offsets or, for a broker that drops them, in files.

SPOOL/millstream-begun-WHOSE-PARTITION   "OFFSET begun N", while a worker that began there hasn't got on;
                                         WHOSE is a hash of the broker, the group and the topic
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from confluent_kafka import Consumer, TopicPartition

from pipeline import kafka
from pipeline.settings import Settings


class Notes(Protocol):
    """A note of each partition, which belongs to an offset; an empty one is none.

    All of it is called by the thread that polls, with its client: who keeps a client keeps it from being dropped.
    """

    def find(self, start: TopicPartition) -> str | None:
        """Return the note of a committed offset, as the group gave it."""

    def keep(self, client: Consumer, offsets: Mapping[int, int], notes: Mapping[int, str]) -> None:
        """Note something of offsets that stand still; raises Transient or Permanent errors."""

    def commit(
        self, client: Consumer, offsets: Mapping[int, int], notes: Mapping[int, str]
    ) -> dict[int, int]:
        """Commit offsets with their notes; see `kafka.commit`."""


class InCommits:
    """The metadata of the group's committed offsets: it outlives a worker and its disk."""

    def __init__(self, topic: str) -> None:
        """Of one topic."""
        self._topic = topic

    def find(self, start: TopicPartition) -> str | None:
        """Return what lies beside the offset."""
        return start.metadata

    def keep(self, client: Consumer, offsets: Mapping[int, int], notes: Mapping[int, str]) -> None:
        """Commit the same offsets once more."""
        self.commit(client, offsets, notes)

    def commit(
        self, client: Consumer, offsets: Mapping[int, int], notes: Mapping[int, str]
    ) -> dict[int, int]:
        """Commit both."""
        return kafka.commit(client, self._topic, offsets, notes)


class InFiles:
    """Small files: enough where all workers are on one machine, as the embedded broker's are."""

    def __init__(self, topic: str, settings: Settings, group: str) -> None:
        """Of one topic and one group."""
        self._topic = topic
        whose = "\n".join((settings.kafka, group, topic))
        name = f"millstream-begun-{hashlib.sha256(whose.encode()).hexdigest()[:16]}"
        self._stem = Path(settings.spool_folder) / name

    def find(self, start: TopicPartition) -> str | None:
        """Return the partition's note where it is of this offset."""
        try:
            offset, _, note = self._file(start.partition).read_text().partition(" ")
        except (OSError, UnicodeDecodeError):
            return None
        return note if offset == str(max(0, start.offset)) else None

    def keep(self, client: Consumer, offsets: Mapping[int, int], notes: Mapping[int, str]) -> None:
        """Write the notes, remove the empty ones; a disk that is full costs a death more."""
        for partition, offset in offsets.items():
            file, note = self._file(partition), notes.get(partition, "")
            with suppress(OSError):
                if note:
                    file.write_text(f"{offset} {note}")
                else:
                    file.unlink(missing_ok=True)

    def commit(
        self, client: Consumer, offsets: Mapping[int, int], notes: Mapping[int, str]
    ) -> dict[int, int]:
        """Commit the offsets, and write the notes of those that are committed."""
        done = kafka.commit(client, self._topic, offsets)
        self.keep(client, done, notes)
        return done

    def _file(self, partition: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}-{partition}")


def notes(topic: str, settings: Settings, group: str) -> Notes:
    """Return where a member of a group keeps its notes.

    The embedded broker drops the metadata of commits, and a commit within a rebalance can hang on it.
    """
    return InFiles(topic, settings, group) if settings.profile == "embedded" else InCommits(topic)
