"""How a CSV file is written, and the DuckDB text that reads it; kept in `job.json`.

`read_csv_sql` is the only place where the reading options stand: capture and the job's oracle read with the
same text. The options, each for a reason that was found by running DuckDB 2.0:

- every column is VARCHAR, and there is one more than the header has: a field missing comes as NULL (an empty
  one as ''), a field too many lands in the extra column, so both are found by a null test and keep their
  place among the rows;
- `strict_mode=false`, since the strict parser drops what it dislikes, and stops at mixed line ends;
- `parallel=false`, since padding in parallel refuses quoted newlines;
- `nullstr` is a text that no file has, so that `NULL` and `NA` stay text;
- `hive_partitioning=false`, since a folder called `year=2024` would add a column.

A blank line is no row in a file of several columns. In a file of one column (`delimiter` empty) each line is
one value, blank lines included, as DuckDB itself reads such a file.
"""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MALFORMED = "_malformed"
"""The column that marks malformed rows, unless the file has one of that name: see `malformed_name`."""

MAX_LINE = 16 * 1024 * 1024
"""The longest row that is read, in bytes of UTF-8; DuckDB's own limit is 2 MB."""

_BUFFER = 2 * MAX_LINE
_NO_FIELD = "~~ millstream: no field here ~~"
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space", ":": "colon"}


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
        if value and (not value.isascii() or value in "\r\n\0"):
            raise ValueError(f"{value!r}: one ASCII character is right, and no line end")
        return value

    @field_validator("quote", "escape")
    @classmethod
    def _punctuation(cls, value: str) -> str:
        if value.isalnum() or value.isspace():
            raise ValueError(f"{value!r}: a letter, digit or space can't quote or escape")
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


def malformed_name(columns: Sequence[str]) -> str:
    """Return `_malformed`, with underscores added until it is unlike every column, whatever the case."""
    taken = {column.casefold() for column in columns}
    name = MALFORMED
    while name in taken:
        name += "_"
    return name


def identifier(name: str) -> str:
    """Return a name as SQL: quoted, with quotes doubled."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL: quoted, with quotes doubled."""
    return "'" + text.replace("'", "''") + "'"


def read_csv_sql(path: str | PathLike[str], dialect: Dialect, columns: Sequence[str]) -> str:
    """Return a SELECT, without parentheses, that reads the file in its order.

    Its columns are `columns`, VARCHAR and never null in a well-formed row, then a boolean called
    `malformed_name(columns)`: true where a row has fewer or more fields than the header. A path ending in
    `.gz` or `.zst` is decompressed. Encodings but UTF-8, UTF-16 (little-endian) and Latin-1 need DuckDB's
    extension `encodings`.
    """
    inner = [f"c{i}" for i in range(len(columns))]
    flag = identifier(malformed_name(columns))
    if dialect.delimiter:
        values = ", ".join(f"{c} AS {identifier(name)}" for c, name in zip(inner, columns, strict=True))
        selected = f"{values}, ({inner[-1]} IS NULL OR extra IS NOT NULL) AS {flag}"
        read = [*inner, "extra"]
    else:
        selected = f"coalesce(c0, '') AS {identifier(columns[0])}, false AS {flag}"
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
        "nullstr": literal(_NO_FIELD if dialect.delimiter else ""),
        "null_padding": "true",
        "strict_mode": "false",
        "parallel": "false",
        "hive_partitioning": "false",
        "max_line_size": str(MAX_LINE),
        "buffer_size": str(_BUFFER),
    }
    text = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"SELECT {selected} FROM read_csv({literal(_no_pattern(fspath(path)))}, {text})"


_DUCKDB_NAMES = {"iso8859-1": "latin-1", "utf-16-le": "utf-16"}


def _no_pattern(path: str) -> str:
    """Return the path with nothing in it that DuckDB takes for a pattern: `a[1].csv` would read `a1.csv`."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
