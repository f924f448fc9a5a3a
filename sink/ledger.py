"""Which offsets may be committed: up to the oldest row that is not yet on S3.

Per partition, the first offset at which each lot that is held has rows; the position behind everything read otherwise.
"""


class Ledger:
    """Offsets of one topic, by partition."""

    def __init__(self) -> None:
        """Nothing read yet."""
        self._next: dict[int, int] = {}
        self._held: dict[int, dict[int, int]] = {}
        self._committed: dict[int, int] = {}

    def read(self, partition: int, first: int, last: int) -> None:
        """Note that offsets `first` to `last` are about to be collected.

        Where they are lower than what was read before, the topic is another than before.
        """
        if first < self._next.get(partition, 0):
            self.begin_again(partition, first)
        self._next[partition] = last + 1

    def hold(self, partition: int, lot: int, offset: int) -> bool:
        """Note that something of the lot at `offset` or later is in memory only; return whether nothing of it was before."""
        held = self._held.setdefault(partition, {})
        is_new = lot not in held
        held[lot] = min(offset, held.get(lot, offset))
        return is_new

    def release(self, partition: int, lot: int) -> None:
        """Note that nothing of the lot is in memory only any more: it is on S3, or wanted by nobody."""
        held = self._held.get(partition)
        if held:
            held.pop(lot, None)

    def begin_again(self, partition: int, offset: int = 0) -> None:
        """Note that a partition's topic was made anew.

        Offsets of the old one mean nothing. What is in memory only stays so: nothing of the new one may be committed before
        it is on S3, since rows that come again are recognised and not held a second time.
        """
        held = self._held.get(partition, {})
        self.forget(partition)
        if held:
            self._held[partition] = dict.fromkeys(held, offset)

    def forget(self, partition: int) -> None:
        """Forget a partition: it is somebody else's."""
        self._next.pop(partition, None)
        self._held.pop(partition, None)
        self._committed.pop(partition, None)

    def behind(self) -> dict[int, int]:
        """Return how many offsets of each partition were read and may not be committed yet."""
        return {
            partition: position - min(held.values())
            for partition, position in self._next.items()
            if (held := self._held.get(partition))
        }

    def age(self, partition: int, lot: int) -> int:
        """Return how many offsets ago a lot that is in memory only began."""
        position = self._next.get(partition, 0)
        return position - self._held.get(partition, {}).get(lot, position)

    def committable(self) -> dict[int, int]:
        """Return the offsets to commit, where they have moved since `committed` was told."""
        positions = {
            partition: min(self._held.get(partition, {}).values(), default=position)
            for partition, position in self._next.items()
        }
        return {
            partition: offset
            for partition, offset in positions.items()
            if offset != self._committed.get(partition)
        }

    def committed(self, offsets: dict[int, int]) -> None:
        """Note that these offsets are committed."""
        self._committed.update(offsets)
