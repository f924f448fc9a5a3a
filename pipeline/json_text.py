"""Arrow columns to JSON text, without a Python call per cell.

One object per row is built by joining constant pieces (`{"a":"`, `","b":"`, …) with the columns' escaped text.
"""

import json
from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import lines
from pipeline.types import ColumnType

_SPACE, _QUOTE, _BACKSLASH = b' "\\'
_ESCAPES = {chr(code): json.dumps(chr(code))[1:-1] for code in range(0x20)} | {'"': '\\"'}

_NO_TOKEN = pa.array(["nan", "-nan", "inf", "-inf"], pa.large_string())


def escaped(column: pa.Array) -> pa.Array:
    """Return a string column with each cell escaped as the inside of a JSON string; nulls stay null.

    Most columns hold nothing to escape, which one search of the whole buffer tells.
    """
    column = column.cast(pa.large_string())
    text = np.frombuffer(_text(column), np.uint8)
    found = set(text[(text < _SPACE) | (text == _QUOTE) | (text == _BACKSLASH)].tolist())
    if _BACKSLASH in found:
        column = pc.replace_substring(column, "\\", "\\\\")
    for character, escape in _ESCAPES.items():
        if ord(character) in found:
            column = pc.replace_substring(column, character, escape)
    return column


def quoted(column: pa.Array) -> pa.Array:
    """Return a string column as JSON text: strings in quotes, null as `null`."""
    quote = pa.scalar('"', pa.large_string())
    empty = pa.scalar("", pa.large_string())
    return pc.fill_null(pc.binary_join_element_wise(quote, escaped(column), quote, empty), "null")


def typed(column: pa.Array, kind: ColumnType) -> pa.Array:
    """Return a column of DuckDB's text of values as JSON text: tokens for numbers and booleans, strings for the rest."""
    if not kind.is_token:
        return quoted(column)
    column = column.cast(pa.large_string())
    if kind.is_floating:
        odd = pc.is_in(column, _NO_TOKEN)
        if pc.any(odd).as_py():
            column = pc.if_else(odd, quoted(column), column)
    if kind.precision is not None and kind.precision == kind.scale:
        # DuckDB writes such a DECIMAL as .25, and JSON wants 0.25.
        column = pc.replace_substring_regex(column, r"^(-?)\.", r"\10.")
    return pc.fill_null(column, "null")


def frame(names: Sequence[str], strings: Collection[int]) -> list[str]:
    """Return what stands around the values of an object with these members: before each, and after the last.

    Values at `strings` are the inside of JSON strings: their quotes are part of the frame.
    """
    pieces = []
    before = "{"
    for at, name in enumerate(names):
        quote = '"' if at in strings else ""
        pieces.append(f"{before}{json.dumps(name, ensure_ascii=False)}:{quote}")
        before = quote + ","
    return [*pieces, before[:-1] + "}"]


def objects(names: Sequence[str], columns: Sequence[pa.Array], *, strings: Collection[int] = ()) -> pa.Array:
    """Return one JSON object per row, as `large_binary`: `names` are its members, `columns` their values as JSON text, none
    null.

    Columns at `strings` are the inside of JSON strings, which is cheaper than adding quotes to each cell.
    """
    *before, last = frame(names, strings)
    return lines.joined(*chain.from_iterable(zip(before, columns, strict=True)), last)


def string_objects(names: Sequence[str], columns: Sequence[pa.Array]) -> pa.Array:
    """Return one JSON object per row of string columns without nulls: `{"a":"1","b":"x"}`."""
    return objects(names, [escaped(column) for column in columns], strings=range(len(columns)))


def _text(column: pa.Array) -> memoryview:
    """Return the bytes of a large_string column, without copying."""
    data = column.buffers()[2]
    if data is None or len(column) == 0:
        return memoryview(b"")
    offsets = np.frombuffer(column.buffers()[1], np.int64)
    return memoryview(data)[int(offsets[column.offset]) : int(offsets[column.offset + len(column)])]
