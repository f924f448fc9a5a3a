"""Which shares have to leave memory: a buffer's limits in bytes, age and offsets, and nothing of what is in it."""

from collections.abc import Iterable

from sink.collector import Share
from sink.ledger import Ledger

HARD = 1.25
"""Above this many times the limit nothing more is taken in until something has left."""


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
