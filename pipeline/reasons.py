"""Why rows were rejected, by kind: those that differ in cells, numbers or lines alone are one, with a count and an example."""

import csv
import io
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from pipeline.errors import NotFound
from pipeline.jobs import Receipt
from pipeline.printable import flat
from pipeline.states import counted
from pipeline.store import ObjectStore

MOST = 5
"""Kinds that are listed."""

HEAD = 4 * 1024 * 1024
"""Bytes that are read of a file's rejects: their reasons are counted as far as these go."""

_LONGEST = 200
"""Characters of an example."""

_LINE = re.compile(r"(line \d+: [^:]*).*", re.DOTALL)
_DIFFERS = re.compile(r"'[^']*'|(?<![\w(,])\d[\d.,]*")


@dataclass(slots=True)
class Reason:
    """A kind of reason: how many rows have it, and the first one's number (0-based) and text."""

    count: int
    row: int
    example: str


def kind(error: str) -> str:
    """Return a reason without what differs from row to row: what it quotes, numbers, and the text of a malformed line."""
    return _DIFFERS.sub("…", _LINE.sub(r"\1", error))


def grouped(errors: Iterable[tuple[int, str]]) -> list[Reason]:
    """Return the kinds of what rows (their number, 0-based) were rejected for, the most frequent first."""
    found: dict[str, Reason] = {}
    for row, error in errors:
        found.setdefault(kind(error), Reason(0, row, error)).count += 1
    return sorted(found.values(), key=lambda reason: -reason.count)


def listed(reasons: list[Reason]) -> list[str]:
    """Return a line for each of the most frequent kinds, and one for how many more there are."""
    width = len(f"{reasons[0].count:,}") if reasons else 0
    lines = [
        f"    {reason.count:>{width},} ×  row {reason.row}: {_short(reason)}" for reason in reasons[:MOST]
    ]
    if len(reasons) > MOST:
        lines.append(f"    and {counted(len(reasons) - MOST, 'further reason')}")
    return lines


def of_result(results: ObjectStore, receipt: Receipt) -> list[str]:
    """Return the same lines for the rejects of a published result; none where there are none. Raises Transient."""
    if receipt.rejects is None or not receipt.rejected:
        return []
    try:
        with results.open(receipt.rejects.key, length=min(HEAD, receipt.rejects.size)) as body:
            text = b"".join(body.chunks).decode(errors="ignore")
    except NotFound:
        return []  # a newer result has taken its place
    header, *records = _records(text) or [[]]
    if len(text.encode()) < receipt.rejects.size and records:
        records.pop()  # it may be cut off
    errors = [(int(record[-2]), record[-1]) for record in records if len(record) == len(header)]
    lines = listed(grouped(errors))
    if lines and len(errors) < receipt.rejected:
        lines.append(f"    (of the first {counted(len(errors), 'reject')})")
    return lines


def _records(text: str) -> list[list[str]]:
    found: list[list[str]] = []
    with suppress(csv.Error):  # a cell longer than Python reads: what came before it is counted
        found.extend(csv.reader(io.StringIO(text, newline="")))
    return found


def _short(reason: Reason) -> str:
    text = flat(reason.example)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
