"""Rows in which nothing has to be understood, from their text to JSON without taking them apart.

Text without a quote, a backslash or a control character, where a delimiter stands between each two fields and nowhere else, is
JSON already but for what has to stand in place of the delimiters. Each column's get a byte of their own, which no text has,
and that is replaced, column by column: 0.35 µs for a row of six, instead of 0.9 by way of DuckDB's columns. Any doubt, and
files so wide that it isn't worth it, are left to DuckDB.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.dialect import NO_FIELD, Dialect
from pipeline.json_text import frame

_LF = 0x0A
_SPACE = 0x20
_MARKS = bytes((*range(_SPACE), 0xC0, 0xC1, *range(0xF5, 0x100)))
"""What text has not: control characters, which are looked for, and bytes that aren't in any UTF-8."""

_MOST = 32 * 1024 * 1024
"""Bytes of JSON that are made at once, about."""

_WIDEST = 10_000
"""Columns times bytes of their names and quotes. With each column all that was made before is copied once more: a row of 20
with names of 15 characters takes three quarters of what DuckDB takes for it, one with names of 40 more than that."""


class Plain:
    """Rows of one file, which has a certain dialect, and `columns`."""

    def __init__(self, dialect: Dialect, columns: Sequence[str]) -> None:
        self._delimiter = ord(dialect.delimiter) if dialect.delimiter else 0
        self._columns = len(columns)
        special = {'"', "\\", dialect.quote, dialect.escape, NO_FIELD}
        self._special = [text.encode() for text in special if text]
        first, *between, last = (piece.encode() for piece in frame(columns, range(self._columns)))
        self._first = first
        self._pieces = [*between, last + first]
        frames = sum(map(len, self._pieces))
        self._growth = frames - self._columns
        self.possible = (
            bool(dialect.delimiter) and 1 < self._columns <= len(_MARKS) and self._columns * frames <= _WIDEST
        )
        """Whether there can be such rows: not where a line is one value, nor with too many columns or too long names."""

    def has_room_for(self, size: int, rows: int) -> bool:
        """Whether so many rows, of `size` bytes, may be made JSON at once."""
        return size + rows * self._growth <= _MOST

    def objects(self, text: bytes, rows: int) -> pa.Array | None:
        """Return each row as a JSON object of strings, as `large_binary`; None where one of them is in doubt.

        `text` is UTF-8: so many rows, none empty, all but the last with a line end.
        """
        if any(special in text for special in self._special):
            return None
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
        marked = np.frombuffer(bytearray(text + b"\n"), np.uint8)
        cuts = (marked == self._delimiter) | (marked == _LF)
        controls = rows * (self._columns if self._delimiter < _SPACE else 1)
        if np.count_nonzero(cuts) != rows * self._columns or np.count_nonzero(marked < _SPACE) != controls:
            return None
        ends = np.flatnonzero(cuts).reshape(rows, self._columns)
        if not (marked[ends[:, -1]] == _LF).all() or (marked[ends[:, :-1]] == _LF).any():
            return None
        marked[ends] = np.frombuffer(_MARKS, np.uint8, self._columns)
        joined = self._first + marked.tobytes()
        for mark, piece in zip(_MARKS, self._pieces, strict=False):
            joined = joined.replace(bytes((mark,)), piece)
        starts = np.concatenate(([0], ends[:, -1] + 1)) + self._growth * np.arange(rows + 1)
        return pa.Array.from_buffers(
            pa.large_binary(), rows, [None, pa.py_buffer(starts.astype(np.int64)), pa.py_buffer(joined)]
        )
