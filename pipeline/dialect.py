"""How a CSV file is written, and the DuckDB text that reads it; kept in `job.json`.

`read_csv_sql` is the only place where the reading options stand: capture (but for rows in which nothing has to be
understood, `producer/plain.py`) and the job's oracle read with the same text. The options, each for a reason that was
found by running DuckDB 2.0:

- every column is VARCHAR, and there is one more than the header has: a field missing comes as NULL (an empty
  one as ''), a field too many lands in the extra column, so both are found by a null test and keep their
  place among the rows;
- `strict_mode=false`, since the strict parser drops what it dislikes, and stops at mixed line ends;
- `parallel=false`, since padding in parallel refuses quoted newlines;
- `nullstr` is a text that no file has, so that `NULL` and `NA` stay text;
- `new_line='\\n'` takes LF, CRLF and CR alike; left alone, a lone CR in a file of CRLF lines swallows what follows it;
- `hive_partitioning=false`, since a folder called `year=2024` would add a column.

A blank line is no row in a file of several columns. In a file of one column (`delimiter` empty) each line is
one value, blank lines included, as DuckDB itself reads such a file.
"""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.sql_text import fold, literal, quote

MALFORMED = "_malformed"
"""The column that marks malformed rows, unless the file has one of that name: see `malformed_name`."""

MAX_LINE = 16 * 1024 * 1024
"""The longest row that is read, in bytes of UTF-8; DuckDB's own limit is 2 MB."""

BUFFER = MAX_LINE + 4 * 1024 * 1024
"""Bytes that DuckDB reads at once. A row lies in two such buffers at most, and DuckDB holds three. Left alone it takes 16 of
the longest rows: 256 MB."""

NO_FIELD = "MillstreamFindsNoFieldHere"
"""What DuckDB is told to read as null, so that nothing else is. Letters only: it allows no delimiter in it."""
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space", ":": "colon"}
_SPELT_OUT = {name: character for character, name in _NAMES.items()} | {"\\t": "\t", "none": ""}


class Dialect(BaseModel):
    """How one file is written.

    `delimiter`, `quote` and `escape` are single ASCII characters. An empty `delimiter` means one value per
    line, an empty `quote` that quotes mean nothing. `skip` counts the lines before the header, blank ones
    included (a quoted newline doesn't end a line). `encoding` is a Python codec's name and speaks of the
    file as uploaded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: str = Field(default=",", max_length=1)
    quote: str = Field(default='"', max_length=1)
    escape: str = Field(default='"', max_length=1)
    encoding: str = "utf-8"
    skip: int = Field(default=0, ge=0)

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _one_ascii_character(cls, value: str) -> str:
        if value and (not value.isascii() or value.isalnum() or value in "\r\n\0"):
            raise ValueError(f"{value!r}: one ASCII character is right, but no letter, digit or line end")
        return value

    @field_validator("quote", "escape")
    @classmethod
    def _no_space(cls, value: str) -> str:
        if value.isspace():
            raise ValueError(f"{value!r}: a space can't quote or escape")
        return value

    @model_validator(mode="after")
    def _no_clash(self) -> Self:
        if self.quote == "" and self.escape:
            raise ValueError("without a quote there is no escape: set both to ''")
        if self.quote and not self.escape:
            raise ValueError(f"a quote needs an escape, {self.quote!r} itself if quotes are doubled")
        if self.delimiter and self.delimiter in (self.quote, self.escape):
            raise ValueError(f"the delimiter {self.delimiter!r} can't be the quote or the escape as well")
        return self

    @property
    def takes_any_line_end(self) -> bool:
        """Whether LF, CRLF and CR may be mixed. DuckDB's one mode for that miscounts CRLF lines that it skips, and
        blank ones that are rows.
        """
        return bool(self.delimiter) and not self.skip

    def describe(self) -> str:
        """One line for people: `comma-separated, quoted with ", UTF-8, 1 line before the header`."""
        between = _NAMES.get(self.delimiter, repr(self.delimiter))
        said = [f"{between}-separated" if self.delimiter else "one value per line"]
        said.append(f"quoted with {self.quote}" if self.quote else "no quotes")
        if self.escape != self.quote:
            said.append(f"escaped with {self.escape}")
        said.append("UTF-8" if self.encoding == "utf-8" else self.encoding)
        if self.skip:
            said.append(f"{self.skip} line{'s' * (self.skip > 1)} before the header")
        return ", ".join(said)


class DialectOverrides(BaseModel):
    """What somebody says of a file's dialect; None leaves it to the sniffer.

    Besides the characters themselves, `tab` or `\\t`, `comma`, `semicolon`, `pipe`, `space`, `colon` and `none` (for
    empty) are understood.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    encoding: str | None = None
    skip: int | None = Field(default=None, ge=0)

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _spelt_out(cls, value: str | None) -> str | None:
        if value is None or len(value) <= 1:
            return value
        character = _SPELT_OUT.get(value.lower())
        if character is None:
            raise ValueError(f"{value!r}: one character is right, or one of {', '.join(_SPELT_OUT)}")
        return character


def malformed_name(columns: Sequence[str]) -> str:
    """Return `_malformed`, with underscores added until it is unlike every column, whatever the case."""
    taken = {fold(column) for column in columns}
    name = MALFORMED
    while name in taken:
        name += "_"
    return name


def read_csv_sql(path: str | PathLike[str], dialect: Dialect, columns: Sequence[str]) -> str:
    """Return a SELECT, without parentheses, that reads the file in its order.

    Its columns are `columns`, VARCHAR and never null in a well-formed row, then a boolean called
    `malformed_name(columns)`: true where a row has fewer or more fields than the header. A path ending in
    `.gz` or `.zst` is decompressed. Encodings but UTF-8, UTF-16 (little-endian) and Latin-1 need DuckDB's
    extension `encodings`.
    """
    inner = [f"c{i}" for i in range(len(columns))]
    flag = quote(malformed_name(columns))
    if dialect.delimiter:
        values = ", ".join(f"{c} AS {quote(name)}" for c, name in zip(inner, columns, strict=True))
        selected = f"{values}, ({inner[-1]} IS NULL OR extra IS NOT NULL) AS {flag}"
        read = [*inner, "extra"]
    else:
        selected = f"coalesce(c0, '') AS {quote(columns[0])}, false AS {flag}"
        read = inner
    options = {
        "columns": "{" + ", ".join(f"{c}: 'VARCHAR'" for c in read) + "}",
        "auto_detect": "false",
        "header": "true",
        "skip": str(dialect.skip),
        "delim": literal(dialect.delimiter),
        "quote": literal(dialect.quote),
        "escape": literal(dialect.escape),
        "encoding": literal(_DUCKDB_NAMES.get(dialect.encoding, dialect.encoding)),
        # A blank line of a one-column file is a row only where '' is the null text.
        "nullstr": literal(NO_FIELD if dialect.delimiter else ""),
        "allow_quoted_nulls": "false",
        "null_padding": "true",
        "strict_mode": "false",
        "parallel": "false",
        "hive_partitioning": "false",
        "max_line_size": str(MAX_LINE),
        "buffer_size": str(BUFFER),
    }
    if dialect.takes_any_line_end:
        options["new_line"] = literal("\\n")
    text = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"SELECT {selected} FROM read_csv({path_literal(path)}, {text})"


_DUCKDB_NAMES = {"iso8859-1": "latin-1", "utf-16-le": "utf-16"}


def path_literal(path: str | PathLike[str]) -> str:
    """Return the path as SQL, with nothing that DuckDB takes for a pattern: `a[1].csv` would read `a1.csv`."""
    return literal("".join(f"[{c}]" if c in "*?[" else c for c in fspath(path)))
