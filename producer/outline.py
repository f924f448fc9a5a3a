"""Where each row of a file lies: the check and the map beside DuckDB's reading.

DuckDB reads the values, but gives neither the line nor the text of a row that it can't read, and drops some
text without a word. The outline walks through the same bytes, finds each row's place, and names the rows whose
quotes are faulty. Where quotes stand as they should, a chunk is outlined with numpy (about 1 GB/s); any other
chunk row by row with `producer.grammar` (about 1 µs a row).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from pipeline.dialect import MAX_LINE, Dialect
from pipeline.errors import InputError
from producer.grammar import Grammar

Ints = npt.NDArray[np.int64]

_CHUNK = 4 * 1024 * 1024
_LF, _CR = 10, 13


@dataclass(frozen=True, slots=True)
class Extents:
    """Where consecutive rows lie: bytes `starts` to `ends` without the line end, the 1-based line of each start.

    `faults` has the rows with faulty quotes: their index in here, and what is wrong.
    """

    starts: Ints
    ends: Ints
    lines: Ints
    faults: dict[int, str]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, part: slice) -> "Extents":
        first, stop, _ = part.indices(len(self))
        faults = {i - first: fault for i, fault in self.faults.items() if first <= i < stop}
        return Extents(self.starts[part], self.ends[part], self.lines[part], faults)

    @classmethod
    def joined(cls, parts: list["Extents"]) -> "Extents":
        """Return the rows of all parts, in order."""
        if not parts:
            none = np.empty(0, np.int64)
            return cls(none, none, none, {})
        if len(parts) == 1:
            return parts[0]
        faults: dict[int, str] = {}
        count = 0
        for part in parts:
            faults |= {count + i: fault for i, fault in part.faults.items()}
            count += len(part)
        return cls(
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
            np.concatenate([part.lines for part in parts]),
            faults,
        )


class Outline:
    """The rows of a spooled file, taken in order. A context manager, which closes the file.

    Raises InputError for a row longer than `MAX_LINE`.
    """

    def __init__(self, path: str | PathLike[str], dialect: Dialect, *, chunk: int = _CHUNK) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        self._grammar = Grammar(dialect)
        self._dialect = dialect
        self._chunk = chunk
        self._line = 1
        self._offset = 0
        self._buffer = b""
        self._ended = False
        self._ends_seen: set[int] = set()
        self.header = self._take_header()
        """The header as it is written, without its line end; None in a file that ends before it."""
        self._parts = self._outlined()
        self._held = Extents.joined([])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def line(self) -> int:
        """How far the file has been outlined: the 1-based line of the next row."""
        return int(self._held.lines[0]) if len(self._held) else self._line

    def take(self, rows: int) -> Extents:
        """Return the next `rows` rows, or fewer where the file ends."""
        taken = []
        wanted = rows
        while wanted:
            if not len(self._held):
                part = next(self._parts, None)
                if part is None:
                    break
                self._held = part
            taken.append(self._held[:wanted])
            self._held = self._held[wanted:]
            wanted -= len(taken[-1])
        return Extents.joined(taken)

    def put_back(self, taken: Extents) -> None:
        """Let the rows that were taken last be the next ones again."""
        self._held = Extents.joined([taken, self._held])

    def has_more(self) -> bool:
        """Whether there are rows left."""
        one = self.take(1)
        self.put_back(one)
        return len(one) > 0

    def text(self, start: int, end: int) -> bytes:
        """Return bytes of the file, wherever the outline is."""
        return os.pread(self._file.fileno(), end - start, start)

    def fields(self, start: int, end: int) -> int:
        """Return how many fields the row at these bytes has."""
        return len(self._grammar.fields(self.text(start, end)))

    def _take_header(self) -> bytes | None:
        """Pass over the lines before the header, and the header."""
        header = b""
        for _ in range(self._dialect.skip + 1):
            match = self._grammar.record.match(self._buffer)
            while not self._ended and (match is None or match.end() == len(self._buffer)):
                self._fill()
                match = self._grammar.record.match(self._buffer)
            if match is None or not match.group():
                return None
            header = match["row"]
            self._note_line_ends(set(match.group()[len(header) :][-1:]))
            self._consume(match.end(), _line_ends(match.group()))
        return header

    def _outlined(self) -> Iterator[Extents]:
        """Yield the rows of the file, some at a time."""
        while True:
            if not self._ended:
                self._fill()
            part = self._outline_regular()
            if part is None:
                part = self._outline_any()
            if len(part):
                longest = int(np.argmax(part.ends - part.starts))
                self._check_length(int(part.ends[longest] - part.starts[longest]), int(part.lines[longest]))
                yield part
            self._check_length(len(self._buffer), self._line)
            if self._ended and not self._buffer:
                return

    def _fill(self) -> None:
        """Read on, never ending between the CR and the LF of one line end."""
        data = self._file.read(self._chunk)
        while data.endswith(b"\r") and (more := self._file.read(1)):
            data += more
        self._ended = len(data) < self._chunk
        self._buffer += data

    def _consume(self, size: int, lines: int) -> None:
        self._buffer = self._buffer[size:]
        self._offset += size
        self._line += lines

    def _check_length(self, length: int, line: int) -> None:
        if length > MAX_LINE:
            raise InputError(
                f"line {line}: the row that starts here is longer than {MAX_LINE // 1024**2} MB, the most that "
                "is read; a quote that is never closed makes such rows"
            )

    def _note_line_ends(self, ends: set[int]) -> None:
        """Refuse lone CRs beside other line ends where DuckDB would lose text after them."""
        self._ends_seen |= ends
        if not self._dialect.takes_any_line_end and {_LF, _CR} <= self._ends_seen:
            raise InputError(
                f"after line {self._line}: some lines end with a carriage return alone and others don't, which is "
                "understood only in files of several columns without lines before the header; end all lines alike"
            )

    def _outline_regular(self) -> Extents | None:
        """Outline the buffer's whole rows at once, or return None where its quotes need a closer look."""
        buffer = np.frombuffer(self._buffer, np.uint8)
        quotes = self._quotes(buffer)
        if quotes is None:
            return None
        line_ends = self._line_end_positions(buffer)
        if len(quotes):
            outside = np.flatnonzero(np.searchsorted(quotes, line_ends) & 1 == 0)
            stops = line_ends[outside]
        else:
            outside = np.arange(len(line_ends))
            stops = line_ends
        if not self._dialect.takes_any_line_end:
            self._note_line_ends(set(np.unique(buffer[stops]).tolist()))
        starts = np.concatenate(([0], stops + 1))
        lines = np.concatenate(([0], outside + 1)) + self._line
        rest, rest_line = int(starts[-1]), int(lines[-1])
        if self._ended and rest < len(buffer):  # the last row has no line end
            rest = len(buffer)
            ends = np.append(stops, rest)
        else:
            starts, lines, ends = starts[:-1], lines[:-1], stops.copy()
        if _CR in self._buffer:
            crlf = (stops > 0) & (buffer[stops] == _LF) & (buffer[stops - 1] == _CR)
            ends[: len(stops)] -= crlf
        if self._dialect.delimiter:
            rows = ends > starts
            if not rows.all():
                starts, ends, lines = starts[rows], ends[rows], lines[rows]
        found = Extents(starts + self._offset, ends + self._offset, lines, {})
        self._consume(rest, rest_line - self._line)
        return found

    def _quotes(self, buffer: npt.NDArray[np.uint8]) -> Ints | None:
        """Return the places of the quotes where each is in order: first of a field, last of one, or doubled."""
        dialect = self._dialect
        if not dialect.quote:
            return np.empty(0, np.int64)
        doubled = dialect.escape == dialect.quote
        if not doubled and dialect.escape.encode() in self._buffer:
            return None
        if dialect.quote.encode() not in self._buffer:
            return np.empty(0, np.int64)
        quotes = np.flatnonzero(buffer == ord(dialect.quote))
        if self._ended and len(quotes) % 2:
            return None
        beside = np.zeros(256, bool)
        beside[[_LF, _CR, *dialect.delimiter.encode()]] = True
        beside[ord(dialect.quote)] = doubled
        opening, closing = quotes[::2], quotes[1::2]
        before = opening[1:] if opening[0] == 0 else opening
        after = closing[:-1] if len(closing) and closing[-1] == len(buffer) - 1 else closing
        if beside[buffer[before - 1]].all() and beside[buffer[after + 1]].all():
            return quotes
        return None

    def _line_end_positions(self, buffer: npt.NDArray[np.uint8]) -> Ints:
        """Return the place of the last byte of each line end, quoted ones included."""
        feeds = np.flatnonzero(buffer == _LF)
        if _CR not in self._buffer:
            return feeds
        returns = np.flatnonzero(buffer == _CR)
        followed = buffer[np.minimum(returns + 1, len(buffer) - 1)] == _LF
        alone = returns[~followed]
        return np.sort(np.concatenate((feeds, alone))) if len(alone) else feeds

    def _outline_any(self) -> Extents:
        """Outline the buffer's whole rows one by one."""
        starts: list[int] = []
        ends: list[int] = []
        lines: list[int] = []
        faults: dict[int, str] = {}
        data = self._buffer
        quote, escape = self._dialect.quote.encode(), self._dialect.escape.encode()
        at, line = 0, self._line
        while at < len(data):
            match = self._grammar.record.match(data, at)
            assert match is not None  # a row may be anything
            if match.end() == match.end("row") and not self._ended:
                break
            row = match["row"]
            if row or not self._dialect.delimiter:
                if (quote in row or escape in row) and (fault := self._grammar.fault(row)):
                    faults[len(starts)] = fault
                starts.append(self._offset + at)
                ends.append(self._offset + match.end("row"))
                lines.append(line)
            self._note_line_ends(set(match.group()[len(row) :][-1:]))
            at = match.end()
            line += _line_ends(match.group())
        self._consume(at, line - self._line)
        return Extents(
            np.array(starts, np.int64), np.array(ends, np.int64), np.array(lines, np.int64), faults
        )


def _line_ends(text: bytes) -> int:
    """Return how many line ends a text has."""
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")
