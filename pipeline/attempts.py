"""Counts how often a partition was begun at the same offset without getting on: workers have died of what comes there.

The count lies beside the group's committed offset, as its metadata, so that it outlives the process and its disk, and costs a
commit per assignment and nothing per batch. Pure policy: offsets, notes and the time are told.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

DEATHS = 3
"""Deaths at one offset that make what comes next suspect."""

SUSPECT_SECONDS = 60.0
"""How long a partition stays suspect: what kills may come some batches after the committed offset."""

_NOTE = re.compile(r"begun ([0-9]{1,9})")


@dataclass(slots=True)
class Attempts:
    """Of the partitions that are ours: how often each was begun where it stands."""

    _begun: dict[int, tuple[int, int]] = field(default_factory=dict)
    _since: dict[int, float] = field(default_factory=dict)

    def begin(self, partition: int, offset: int, metadata: str | None, now: float) -> str:
        """Take note of an assignment; return the metadata to commit with this same offset."""
        known = self._begun.get(partition)
        found = _NOTE.fullmatch(metadata or "")
        before = int(found[1]) if found else 0
        if known is not None and known[0] == offset and before <= known[1]:
            count = known[1]  # it is we who began there last, and begin again: nobody has died
        else:
            count = before + 1
            self._begun[partition] = (offset, count)
            self._since.pop(partition, None)
        if count > DEATHS:
            self._since.setdefault(partition, now)
        return f"begun {count}"

    def is_suspect(self, partition: int, now: float) -> bool:
        """Whether what comes of a partition may kill."""
        if not self._since:
            return False
        since = self._since.get(partition)
        if since is None:
            return False
        if now - since < SUSPECT_SECONDS:
            return True
        del self._since[partition]
        return False

    def metadata(self, partition: int, now: float) -> str:
        """Return the metadata of a commit that gets on: none, unless the partition is suspect still."""
        if self.is_suspect(partition, now):
            return f"begun {self._begun[partition][1]}"
        self._begun.pop(partition, None)
        return ""

    def lose(self, partitions: Iterable[int]) -> None:
        """Note that partitions are another's, whom we can't tell of our good health; nor did we die of them."""
        for partition in partitions:
            self._since.pop(partition, None)

    def absolve(self, partitions: Iterable[int]) -> dict[int, int]:
        """Forget partitions that are given back in good health; return the offsets whose metadata is to be cleared."""
        cleared = {}
        for partition in partitions:
            self._since.pop(partition, None)
            if (begun := self._begun.pop(partition, None)) is not None:
                cleared[partition] = begun[0]
        return cleared
