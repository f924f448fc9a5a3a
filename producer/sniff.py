"""Finds out how a spooled file is written, and what its columns are called.

Millstream's rule is that a file has a header: its first line that isn't blank. DuckDB's sniffer looks for the line
where its idea of a table begins, and would skip a header narrower than the rows, or call `a;b` a line of prose
because the prices below hold commas; its guess is used where the header bears it out. It takes 10 ms, more than all
else that is done to a file of 100 rows before it is uploaded, and 50 to 80 for a large one: so a file that can be told
without it isn't shown to it.

- The first line `sep=;`, as Excel writes it, tells the delimiter and is skipped; so are blank lines, comments (`#`)
  and a preamble that a blank line parts from the header. Other lines before the header have to be told (`skip`).
- A header without any delimiter is that of a one-column file: each line is one value, whatever is in it.
- Columns are called exactly what the header's cells say, spaces and all; an empty cell, as pandas writes it for
  its index, can't be named in SQL and becomes `column3` by its place, counted from 1.
"""

import re
from collections import Counter
from contextlib import closing
from os import PathLike
from typing import Any, NamedTuple

from pydantic import ValidationError

from pipeline.dialect import BUFFER, MAX_LINE, Dialect, DialectOverrides, path_literal
from pipeline.duck import Error, connect, is_out_of_memory, shared
from pipeline.errors import InputError, UsageError
from pipeline.sql_text import fold, literal
from producer.grammar import Grammar
from producer.outline import Outline

_CANDIDATES = (",", ";", "\t", "|", "\x1f", "\x01")
_SAMPLE = 256 * 1024
_HEAD = 4 * 1024 * 1024
"""Bytes of a file that are looked at, at most, to find out whether its dialect is evident."""

_PIECE = 1024 * 1024

_SNIFFED = 20_480
"""Rows that DuckDB's sniffer looks at, if it is left alone."""

_UNCLEAR = (b"'", b"\\", b"\n\n", b"\n\r", b"\r\r")
"""An apostrophe, a backslash, or a blank line."""

_LINE_END = re.compile(rb"[\r\n]")
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)

Path = str | PathLike[str]


class _Guess(NamedTuple):
    """What DuckDB's sniffer thinks; `quote` and `escape` are empty where it saw none."""

    delimiter: str
    quote: str
    escape: str
    skip: int
    header: bool
    columns: int


def sniff(
    path: Path, overrides: DialectOverrides | None = None, *, encoding: str = "utf-8"
) -> tuple[Dialect, tuple[str, ...]]:
    """Return the dialect of the spooled file at `path`, and its columns in order.

    What `overrides` tells is taken as it is. `encoding` is the upload's, as the Spool says it. Raises InputError where
    there is no header, or its columns can't be told apart, UsageError for overrides that contradict each other.
    """
    told = overrides or DialectOverrides()
    guess = None if _is_evident(path, told) else _guess(path, told)
    quote = told.quote if told.quote is not None else (guess.quote if guess else "") or '"'
    escape = told.escape if told.escape is not None else (guess.escape if guess else "") or quote
    try:
        plain = Dialect(
            delimiter=told.delimiter or "", quote=quote, escape=escape if quote else "", encoding=encoding
        )
    except ValidationError as error:
        raise UsageError(f"dialect: {error.errors()[0]['msg']}") from error
    first = _line(path, plain)
    sep = _SEP.fullmatch(first.decode()) if first else None
    if sep and told.delimiter is None and sep[1].isascii() and not sep[1].isalnum():
        told = told.model_copy(update={"delimiter": sep[1]})
    skip = told.skip
    if skip is None:
        skip = 1 if sep else _preamble(path, plain, guess)
    dialect = _past_blank_lines(path, plain.model_copy(update={"skip": skip}))
    header = _line(path, dialect)
    if header is None:
        raise InputError(
            "there is no header: the file has no line that isn't blank" + " after those skipped" * bool(skip)
        )
    delimiter = told.delimiter
    if delimiter is None:
        delimiter = _delimiter(path, dialect, header, guess)
    dialect = _checked(dialect.model_copy(update={"delimiter": delimiter}))
    return dialect, _columns(dialect, header)


def _checked(dialect: Dialect) -> Dialect:
    try:
        return Dialect.model_validate(dialect.model_dump())
    except ValidationError as error:
        raise UsageError(f"dialect: {error.errors()[0]['msg']}") from error


def _guess(path: Path, told: DialectOverrides) -> _Guess | None:
    """Ask DuckDB's sniffer; None where it has no idea."""
    known = {"delim": told.delimiter or None, "quote": told.quote, "escape": told.escape}
    options = [f"{name}={literal(value)}" for name, value in known.items() if value is not None]
    options += [f"skip={told.skip}"] if told.skip is not None else []
    given = [
        path_literal(path),
        "all_varchar=true",
        f"max_line_size={MAX_LINE}",
        f"buffer_size={BUFFER}",
        *options,
    ]
    query = f"SELECT Delimiter, Quote, Escape, SkipRows, HasHeader, len(Columns) FROM sniff_csv({', '.join(given)})"
    try:
        delimiter, quote, escape, skip, header, columns = _ask(query)
    except Error:
        return None
    quote, escape = ("" if c == "(empty)" else c for c in (quote, escape))
    return _Guess(delimiter, quote, escape, skip, header, columns)


def _is_evident(path: Path, told: DialectOverrides) -> bool:
    """Whether DuckDB's guess can't change anything, for what is in the file: all that it looks at is looked at.

    Only an apostrophe or a backslash can make quote or escape another than `"`. What is skipped begins with a comment, or
    ends with a blank line. And a header has one delimiter where it holds one of the candidates, and no quote.
    """
    if told.quote is not None or told.escape is not None or told.skip is not None:
        return False
    text, rows = b"", 0
    with open(path, "rb") as file:
        while rows <= _SNIFFED and len(text) < _HEAD and (more := file.read(_PIECE)):
            text += more
            rows += more.count(b"\n")  # where there are no quotes
        if file.read(1) and (rows <= _SNIFFED or b'"' in text):
            return False
    header = _LINE_END.split(text, 1)[0]
    if (
        not header
        or any(unclear in text for unclear in _UNCLEAR)
        or header.lower().startswith((b"#", b"sep="))
        or b'"' in header
    ):
        return False
    return sum(candidate.encode() in header for candidate in _CANDIDATES) < 2


def _ask(query: str) -> tuple[Any, ...]:
    """Return the first row; where others read at the same time and leave no memory, from a database of its own."""
    try:
        with closing(shared()) as con:
            row: tuple[Any, ...] = con.sql(query).fetchall()[0]
    except Error as error:
        if not is_out_of_memory(error):
            raise
        with closing(connect()) as con:
            row = con.sql(query).fetchall()[0]
    return row


def _line(path: Path, dialect: Dialect) -> bytes | None:
    """Return the line after those that the dialect skips; None where the file ends before it."""
    with Outline(path, dialect) as outline:
        return outline.header


def _past_blank_lines(path: Path, dialect: Dialect) -> Dialect:
    while _line(path, dialect) == b"":
        dialect = dialect.model_copy(update={"skip": dialect.skip + 1})
    return dialect


def _preamble(path: Path, plain: Dialect, guess: _Guess | None) -> int:
    """Return how many lines to skip that are evidently not the header: comments, or prose before a blank line."""
    if guess is None or not guess.skip or not guess.header or guess.columns < 2:
        return 0
    lines = [_line(path, plain.model_copy(update={"skip": i})) or b"" for i in range(guess.skip)]
    comments = all(line.startswith(b"#") for line in lines if line)
    prose = not lines[-1] and not any(guess.delimiter.encode() in line for line in lines)
    return guess.skip if comments or prose else 0


def _delimiter(path: Path, dialect: Dialect, header: bytes, guess: _Guess | None) -> str:
    """Return the delimiter that splits the header, and the rows most like it; none where nothing splits it."""
    fitting = {}
    for candidate in _CANDIDATES:
        if candidate not in (dialect.quote, dialect.escape):
            grammar = Grammar(dialect.model_copy(update={"delimiter": candidate}))
            if (fields := len(grammar.fields(header))) > 1:
                fitting[candidate] = (grammar, fields)
    if guess is not None and guess.delimiter in fitting:
        return guess.delimiter
    if len(fitting) < 2:
        return next(iter(fitting), "")
    with open(path, "rb") as file:
        sample = file.read(_SAMPLE)

    def likeness(candidate: str) -> tuple[float, int]:
        grammar, fields = fitting[candidate]
        rows = [match["row"] for match in grammar.record.finditer(sample) if match["row"]]
        return sum(len(grammar.fields(row)) == fields for row in rows) / len(rows), fields

    return max(fitting, key=likeness)


def _columns(dialect: Dialect, header: bytes) -> tuple[str, ...]:
    """Return the names in the header; raise InputError where they can't be told apart."""
    grammar = Grammar(dialect)
    line = f"header, line {dialect.skip + 1}"
    if fault := grammar.fault(header):
        raise InputError(f"{line}: {fault}")
    cells = [grammar.value(field) for field in grammar.fields(header)]
    if any("\0" in cell for cell in cells):
        raise InputError(f"{line}: a column's name holds a NUL character; rename it")
    columns = tuple(cell or f"column{place}" for place, cell in enumerate(cells, 1))
    counts = Counter(fold(column) for column in columns)
    for name, count in counts.items():
        if count > 1:
            places = [str(place) for place, column in enumerate(columns, 1) if fold(column) == name]
            spelt = " and ".join(dict.fromkeys(repr(column) for column in columns if fold(column) == name))
            raise InputError(
                f"{line}: {count} columns are called {spelt} (columns {', '.join(places)}; upper and lower case are "
                "the same in SQL); rename all but one"
            )
    return columns
