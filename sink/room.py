"""Which shares have to leave memory: a buffer's limits in bytes, age and offsets, and nothing of what is in it."""

from collections.abc import Iterable

from pipeline.flight import SHARE, Mean
from sink.collector import Share
from sink.ledger import Ledger

HARD = 1.25
"""Above this many times the limit nothing more is taken in until something has left."""

QUIET = 2.0
"""Seconds without a message after which capture is taken to wait for what is held here; the stages' own pauses are below 1."""


class Reach:
    """How many messages may be held uncommitted where `in_flight` bytes bound what capture sends.

    A quarter of the bound, as far as results are as large as the rows that capture counts. Where they are smaller, or several
    sinks hold a quarter each, capture stops before that is held: then nothing comes, all has to leave, and a quarter of what
    was held when it stopped is the limit from then on, until nothing is held.
    """

    def __init__(self, in_flight: int) -> None:
        """Nothing has come yet."""
        self._bound = in_flight
        self._mean = Mean()
        self._came = 0.0
        self._learned = float("inf")

    def came(self, messages: int, size: int, now: float) -> None:
        """Note messages of `size` bytes in all."""
        self._mean.take(messages, size)
        self._came = now

    def over(self) -> None:
        """Note that nothing is held: the next rows may be others."""
        self._learned = float("inf")

    def limit(self, behind: int, now: float, *, waited_for: bool) -> float:
        """Return how many messages may be held, of which `behind` are; `waited_for`: capture has more to send, and may wait."""
        if waited_for and behind and now - self._came >= QUIET:
            self._learned = min(self._learned, behind / SHARE)
            return 0
        return (
            min(self._learned, self._bound / SHARE / self._mean.value) if self._mean.value else self._learned
        )


def too_much(shares: Iterable[Share], size: int, limit: int) -> list[Share]:
    """Return the largest shares, so many that half the limit would be left, where `size` bytes are above the limit.

    Half: to leave memory in a few large parts, and not in a small one with each batch that comes.
    """
    if size <= limit:
        return []
    chosen = []
    for share in sorted(shares, key=lambda share: share.size, reverse=True):
        if size <= limit // 2 or not share.size:
            break
        chosen.append(share)
        size -= share.size
    return chosen


def too_old(shares: Iterable[Share], now: float, age: float) -> list[Share]:
    """Return the shares that have held rows for longer than `age` seconds: offsets are to move on."""
    return [share for share in shares if share.size and now - share.since > age]


def too_far_behind(shares: Iterable[Share], ledger: Ledger, limit: float) -> list[Share]:
    """Return the shares that hold commits back, where more than `limit` messages in all may not be committed yet.

    It is those whose oldest rows are furthest back, so many that half the limit would be left.
    """
    behind = ledger.behind()
    if sum(behind.values()) <= limit:
        return []
    each = limit / 2 / len(behind)
    return [share for share in shares if share.size and ledger.age(share.partition, share.lot) > each]
