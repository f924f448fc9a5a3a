"""How DuckDB's tolerant reader splits a file into rows and fields, as regular expressions.

The reader says neither where a row lies nor what it dropped. This says both: `record` finds the next row,
`fields` its fields, and `fault` what the reader would lose in silence: text after a closing quote, and a quote
that is never closed. Found by running DuckDB 2.0 on random texts; `tests/unit/test_grammar.py` compares the two.

- A field is quoted when it begins with a quote, or with one space and a quote. From then on each quote turns
  quoting off and on, and only an unquoted delimiter or line end ends the field. Any other quote is plain text.
- With an escape other than the quote, what follows the escape is taken as it is, outside quotes too.
- A line ends with LF, CRLF or CR, mixed at will.
"""

import re

from pipeline.dialect import Dialect


class Grammar:
    """The rows and fields of one dialect, in bytes of UTF-8."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        field, clean, never_closed = _patterns(dialect)
        between = re.escape(dialect.delimiter)
        more = f"(?:{between}{field})*+" if between else ""
        clean_more = f"(?:{between}{clean})*+" if between else ""
        self.record = re.compile(rf"(?P<row>{field}{more})(?:\r\n|\n|\r|\Z)".encode())
        """One row with its line end; the group `row` is without it."""
        self._field = re.compile(field.encode())
        self._clean = re.compile((clean + clean_more).encode())
        self._never_closed = re.compile(never_closed.encode())

    def fields(self, row: bytes) -> list[bytes]:
        """Return the fields of a row as they are written, quotes included."""
        found = []
        at = 0
        while True:
            match = self._field.match(row, at)
            assert match is not None  # a field may be empty, so there always is one
            found.append(match.group())
            if match.end() >= len(row):
                return found
            at = match.end() + 1

    def fault(self, row: bytes) -> str | None:
        """Return what is wrong with the quotes of a row that fills `row`, or None."""
        if self._clean.fullmatch(row):
            return None
        fields = self.fields(row)
        if self._never_closed.fullmatch(fields[-1]):
            return f"field {len(fields)} has a quote that is never closed"
        wrong = next((i for i, field in enumerate(fields, 1) if not self._clean.fullmatch(field)), 0)
        if not wrong:
            return "its fields can't be told apart"
        if not fields[wrong - 1].removeprefix(b" ").startswith(self._dialect.quote.encode()):
            return f"field {wrong} ends with an escape that escapes nothing"
        return f"field {wrong} has text after its closing quote"

    def value(self, field: bytes) -> str:
        """Return what a field without fault says."""
        text = field.decode()
        quote, escape = self._dialect.quote, self._dialect.escape
        if quote and text.removeprefix(" ").startswith(quote):
            text = text.strip(" ")[1:-1]
            if escape == quote:
                return text.replace(quote * 2, quote)
        if escape != quote:
            return re.sub(rf"{re.escape(escape)}([\s\S])", r"\1", text)
        return text


def _patterns(dialect: Dialect) -> tuple[str, str, str]:
    """Return patterns of any field, of one without fault, and of one whose quote is never closed."""
    q, e, d = (re.escape(c) for c in (dialect.quote, dialect.escape, dialect.delimiter))
    if not q:
        plain = rf"[^{d}\r\n]*+"
        return plain, plain, r"(?!)"
    if e == q:
        plain = rf"[^{d}\r\n]*+"
        clean_plain = plain
        quoted = rf"{q}[^{q}]*+"
        clean_quoted = rf"{q}(?:[^{q}]++|{q}{q})*+{q}"
    else:
        plain = rf"(?:[^{d}{e}\r\n]++|{e}[\s\S]?)*+"
        quoted = rf"{q}(?:[^{q}{e}]++|{e}[\s\S]?)*+"
        clean_plain = rf"(?:[^{d}{e}\r\n]++|{e}[\s\S])*+"
        clean_quoted = rf"{quoted}{q}"
    space, spaces = ("", "") if dialect.delimiter == " " else (" ?", " *+")
    tail = rf"[^{q}{d}\r\n]*+"
    toggling = rf"{space}{quoted}(?:{q}{tail}{quoted})*+"
    field = rf"(?:{toggling}(?:{q}{tail}|\Z)|{plain})"
    clean = rf"(?:{space}{clean_quoted}{spaces}(?=[{d}\r\n]|\Z)|(?!{space}{q}){clean_plain})"
    return field, clean, rf"{toggling}\Z"
