"""Notices an agent that has work in hand and doesn't move: a library that loops, a lock that nobody gives back.

Pure policy: what time it is, and how far the work is, it is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

NOT_READY_AFTER = 30.0
"""Seconds without movement until the worker calls itself not ready."""

Place = tuple[int, int]
"""A partition, and the offset of the last message of the first run that isn't done."""


@dataclass(slots=True)
class Standstill:
    """Per partition, since when the first run in hand has been the same."""

    exit_after: float
    """Seconds without movement until the worker has to exit: whoever comes next may have more luck."""
    not_ready_after: float = NOT_READY_AFTER
    _since: dict[Place, float] = field(default_factory=dict)

    def look(self, in_hand: Mapping[int, int], now: float) -> "Finding":
        """Return how the worker stands; `in_hand` gives each busy partition's first run that isn't done."""
        places = set(in_hand.items())
        self._since = {place: self._since.get(place, now) for place in places}
        longest = min(self._since, key=self._since.__getitem__, default=None)
        if longest is None:
            return Finding(True, False, None, 0.0)
        seconds = now - self._since[longest]
        return Finding(seconds < self.not_ready_after, seconds >= self.exit_after, longest, seconds)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether the worker is ready, has to exit, and where it stands since how many seconds."""

    ready: bool
    must_exit: bool
    place: Place | None
    seconds: float
