"""Why rows were rejected, for a terminal: a line for each kind of reason, with a count and an example."""

import csv
import io
from contextlib import suppress

from pipeline.errors import NotFound
from pipeline.jobs import Receipt
from pipeline.printable import flat
from pipeline.reasons import Reason, reasons
from pipeline.states import counted
from pipeline.store import ObjectStore

MOST = 5
"""Kinds that are listed."""

HEAD = 4 * 1024 * 1024
"""Bytes that are read of a file's rejects: their reasons are counted as far as these go."""

_LONGEST = 200
"""Characters of an example."""


def listed(found: list[Reason]) -> list[str]:
    """Return a line for each of the most frequent kinds, and one for how many more there are."""
    width = len(f"{found[0].count:,}") if found else 0
    lines = [f"    {reason.count:>{width},} ×  row {reason.row}: {_short(reason)}" for reason in found[:MOST]]
    if len(found) > MOST:
        lines.append(f"    and {counted(len(found) - MOST, 'further reason')}")
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
    errors = {int(record[-2]): record[-1] for record in records if len(record) == len(header)}
    lines = listed(reasons(errors))
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
