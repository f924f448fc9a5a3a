"""A first `millstream.toml` from a file's own columns: what `millstream init` writes."""

import json
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa

from pipeline.calculations import pattern_of
from pipeline.dialect import DialectOverrides
from pipeline.duck import Connection, connect
from pipeline.errors import UsageError
from pipeline.names import name_of
from pipeline.settings import config_file, load
from pipeline.shell import shell
from pipeline.sql_text import fold, literal, quote
from producer.first_look import look
from producer.local import chunks
from producer.reader import read
from producer.sniff import sniff
from producer.spool import spool

SAMPLE = 20_000
"""Rows that the types are guessed from."""

_MISSING = ("NA", "N/A", "n/a", "NULL", "null", "NaN", "nan", "None", "-", "?")
"""What stands for a missing value in columns of numbers and dates, where it stands there at all."""

_NUMBERS = ("BIGINT", "DECIMAL", "DOUBLE")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Guess:
    """A column: its type (None: text), the texts for a missing value in it, and whether each row has another value."""

    name: str
    kind: str | None
    missing: tuple[str, ...]
    unique: bool


def init(path: Path, told: DialectOverrides) -> str:
    """Write a calculation for the file at `path` into `millstream.toml` here; return what was done and what to do next.

    Raises UsageError where a calculation for it is there already, InputError where the file can't be read.
    """
    look(path)
    name = name_of(path.name)
    target = config_file()
    there = target.read_text(encoding="utf-8") if target.exists() else ""
    declared = load().calculations if there else {}
    for label, calculation in declared.items():
        if fnmatchcase(name, calculation.match):
            raise UsageError(
                f"{target} has a calculation for {name} already: [calculations.{label}], match = {calculation.match!r}"
            )
    with spool(chunks(path), str(path), tempfile.gettempdir(), encoding=told.encoding) as file:
        dialect, columns = sniff(file.path, told, encoding=file.encoding)
        block = next(read(file.path, dialect, columns, block=SAMPLE), None)
        empty = pa.table({column: pa.array([], pa.string()) for column in columns})
        guesses = guess_types(block.table() if block is not None else empty)
    text = declaration(_label(name, declared), name, guesses, told)
    head = there.rstrip("\n") + "\n\n" if there else "# What Millstream computes from which files.\n\n"
    target.write_text(head + text, encoding="utf-8")
    return (
        f"{target} {'has one calculation more' if there else 'written'}: {path} has {len(columns)} columns, "
        f"{dialect.describe()}.\nThe output in it is an example: change it, and see what it does with  "
        f"{shell('millstream try', path)}"
    )


def guess_types(table: pa.Table) -> list[Guess]:
    """Guess each column's type from its cells, all strings, none null."""
    con = connect()
    try:
        con.register("cells", table)
        return [_guess(con, name) for name in table.column_names]
    finally:
        con.close()


def _guess(con: Connection, name: str) -> Guess:
    """Whole numbers with leading zeros stay text: they are numbers of something, as 007 is."""
    missing = ", ".join(literal(text) for text in _MISSING)
    [row] = con.execute(
        f"""
        WITH cell AS (SELECT {quote(name)} AS c FROM cells),
             told AS (SELECT c, regexp_extract(c, '^[+-]?(\\d*)[.]?(\\d*)$', ['whole', 'part']) AS d
                      FROM cell WHERE c <> '' AND c NOT IN ({missing}))
        SELECT count(*),
               bool_or(regexp_matches(c, '^[+-]?0\\d')),
               bool_and(regexp_full_match(c, '[+-]?\\d+') AND TRY_CAST(c AS BIGINT) IS NOT NULL),
               bool_and(regexp_full_match(c, '[+-]?\\d+([.]\\d+)?')),
               max(length(d.whole)), max(length(d.part)),
               bool_and(TRY_CAST(c AS DOUBLE) IS NOT NULL),
               bool_and(regexp_full_match(c, '\\d{{4}}-\\d\\d-\\d\\d') AND TRY_CAST(c AS DATE) IS NOT NULL),
               bool_and(regexp_matches(c, '^\\d{{4}}-\\d\\d-\\d\\d[ T]') AND TRY_CAST(c AS TIMESTAMP) IS NOT NULL),
               bool_and(lower(c) IN ('true', 'false')),
               (SELECT count(DISTINCT c) = count(*) AND count(*) > 0 AND bool_and(c <> '') FROM cell),
               (SELECT list(DISTINCT c ORDER BY c) FROM cell WHERE c IN ({missing}))
        FROM told"""
    ).fetchall()
    count, zeros, whole, decimal, digits, scale, double, date, timestamp, boolean, unique, found = row
    kind = None
    if count and not zeros:
        if whole:
            kind = "BIGINT"
        elif decimal and digits + scale <= 18:
            kind = f"DECIMAL(18,{scale})"
        elif double:
            kind = "DOUBLE"
        elif date or timestamp or boolean:
            kind = "DATE" if date else "TIMESTAMP" if timestamp else "BOOLEAN"
    return Guess(name, kind, tuple(found or ()) if kind else (), bool(unique))


def declaration(label: str, name: str, guesses: Sequence[Guess], told: DialectOverrides) -> str:
    """Return the calculation as TOML: an id, the columns with a type, the others as comments, an example of an output.

    `told` is what was said of how the file is written; the calculation keeps it, since its files can't be read without.
    """
    identity = next((guess for guess in guesses if guess.unique), guesses[0])
    typed = [guess for guess in guesses if guess.kind and guess is not identity]
    missing = sorted({text for guess in typed for text in guess.missing})
    table = f"calculations.{_key(label)}"
    lines = [
        f"[{table}]",
        f"match = {_string(pattern_of(name))}  # which names this is for; * stands for anything",
        f"id = {_string(identity.name)}  # copied as it is into the result; or a list of columns",
    ]
    if missing:
        lines.append(
            f"nulls = [{', '.join(_string(text) for text in ('', *missing))}]  # missing, in columns with a type"
        )
    if known := told.model_dump(exclude_none=True):
        pairs = (
            f"{key} = {value if isinstance(value, int) else _string(value)}" for key, value in known.items()
        )
        lines.append(f"dialect = {{ {', '.join(pairs)} }}  # how the file is written")
    lines += ["", f"[{table}.columns]  # the columns with a type; all others are text"]
    for guess in guesses:
        lead = "" if guess in typed else "# "
        lines.append(f"{lead}{_key(guess.name)} = {_string(guess.kind or 'VARCHAR')}")
    output, expression = _example(guesses, typed)
    lines += ["", f"[{table}.outputs]  # one SQL expression over the row for each column of the result"]
    lines.append(f"{_key(output)} = {_string(expression)}")
    return "\n".join(lines) + "\n"


def _example(guesses: Sequence[Guess], typed: Sequence[Guess]) -> tuple[str, str]:
    number = next((guess for guess in typed if guess.kind and guess.kind.startswith(_NUMBERS)), None)
    taken = {fold(guess.name) for guess in guesses}
    if number is not None:
        return _free("doubled", taken), f"{_identifier(number.name)} * 2"
    return _free("characters", taken), f"length({_identifier(guesses[-1].name)})"


def _free(name: str, taken: Collection[str]) -> str:
    return next(candidate for candidate in _numbered(name) if fold(candidate) not in taken)


def _label(name: str, taken: Collection[str]) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "_", name.rpartition("/")[2].split(".")[0]).strip("_") or "mine"
    return next(label for label in _numbered(stem) if label not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _identifier(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else quote(name)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """Return a text as TOML's basic string, which is JSON's but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
