"""Byte ranges (RFC 9110, section 14): which stretch of a result a request asks for."""

import re

_RANGES = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")


class Unsatisfiable(Exception):
    """The range lies wholly outside the representation: 416."""


def stretch(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (first byte, length) of the range that `Range: header` asks of `size` bytes; None stands for the whole.

    Another unit, a header that is malformed, or several ranges at once: the whole, which a server may always send.
    Raises Unsatisfiable where there isn't one byte of it.
    """
    found = _RANGES.fullmatch(header.strip()) if header else None
    if found is None:
        return None
    wanted = [text.strip() for text in found[1].split(",") if text.strip()]
    parsed = _RANGE.fullmatch(wanted[0]) if len(wanted) == 1 else None
    if parsed is None or parsed[0] == "-":
        return None
    first, last = parsed.groups()
    if not first:
        length = min(_number(last), size)
        if length == 0:
            raise Unsatisfiable
        return size - length, length
    start = _number(first)
    if last and _number(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    stop = min(_number(last), size - 1) if last else size - 1
    return start, stop - start + 1


def _number(digits: str) -> int:
    """Return a number of any length, or one that is as good: no object has 10^20 bytes, and Python refuses 5,000 digits."""
    return int(digits.lstrip("0")[:21] or "0")
