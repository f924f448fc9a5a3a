"""Byte ranges (RFC 9110, section 14): which stretches of a result a request asks for, and how several are sent."""

import re
from collections.abc import Sequence
from itertools import pairwise

_RANGES = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")

MOST = 32
"""Ranges of one request; of more, the whole is sent, as where they overlap: nobody needs that (RFC 9110, section 17.15)."""

BOUNDARY = "millstream-range-d4f1c0b7a92e4e6c"
"""What divides the parts of an answer. That it occurs in a part does no harm: clients go by each part's Content-Range."""

Stretch = tuple[int, int]
"""First byte, length."""


class Unsatisfiable(Exception):
    """The range lies wholly outside the representation: 416."""


def stretches(header: str | None, size: int) -> list[Stretch] | None:
    """Return the ranges that `Range: header` asks of `size` bytes, in its order; None stands for the whole.

    Another unit, a header that is malformed, ranges that overlap or are too many: the whole, which a server may always
    send. Raises Unsatisfiable where there isn't one byte of any.
    """
    found = _RANGES.fullmatch(header.strip()) if header else None
    if found is None:
        return None
    wanted = [text.strip() for text in found[1].split(",") if text.strip()]
    parsed = [_RANGE.fullmatch(text) for text in wanted]
    if not parsed or len(parsed) > MOST:
        return None
    there = []
    for match in parsed:
        if match is None or match[0] == "-":
            return None
        first, last = match.groups()
        if first and last and _number(last) < _number(first):
            return None
        if (stretch := _stretch(first, last, size)) is not None:
            there.append(stretch)
    if not there:
        raise Unsatisfiable
    in_order = sorted(there)
    overlap = any(start + length > after for (start, length), (after, _) in pairwise(in_order))
    return None if overlap else there


def frames(ranges: Sequence[Stretch], size: int, media_type: str) -> list[bytes]:
    """Return what stands before each part of a multipart/byteranges body, and, last, after the last part."""
    found = []
    for number, (start, length) in enumerate(ranges):
        head = (
            f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\n"
            f"Content-Range: {content_range(start, length, size)}\r\n\r\n"
        )
        found.append((("\r\n" if number else "") + head).encode())
    return [*found, f"\r\n--{BOUNDARY}--\r\n".encode()]


def content_range(start: int, length: int, size: int) -> str:
    """Return a Content-Range."""
    return f"bytes {start}-{start + length - 1}/{size}"


def _stretch(first: str, last: str, size: int) -> Stretch | None:
    """Return what there is of one range, or None where there is nothing."""
    if not first:
        length = min(_number(last), size)
        return (size - length, length) if length else None
    start = _number(first)
    if start >= size:
        return None
    stop = min(_number(last), size - 1) if last else size - 1
    return start, stop - start + 1


def _number(digits: str) -> int:
    """Return a number of any length, or one that is as good: no object has 10^20 bytes, and Python refuses 5,000 digits."""
    return int(digits.lstrip("0")[:21] or "0")
