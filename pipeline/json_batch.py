"""The JSON values of a batch of messages to one Arrow table, without trusting any of them.

pyarrow's JSON reader is fast, and a trap on what strangers send: a value `null` on a line of its own crashes it, and two
objects in one message count as two rows, so that every later result gets its neighbour's key. So each value has to show by its
braces that it is one object. Where cells have braces too, it is wrapped with its ordinal, `{"i":0,"v":…}`, and the ordinals
must come back as 0, 1, 2 …. A stretch where that doesn't hold is halved until it does, and what is left is read value by value
with Python's `json`.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pj

from pipeline import json_shape
from pipeline.json_shape import is_utf8

_SINGLY = 32
"""Values in a stretch that is read one by one: about where parsing halves costs more than Python does."""

_NEWLINE, _OPEN, _CLOSE = b"\n{}"

_HEADS = [b'{"i":0,"v":']
"""What stands before the n-th value, as far as it was needed yet."""

_FLOATS = {"nan": float("nan"), "-nan": float("-nan"), "inf": float("inf"), "-inf": float("-inf")}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What could be read: `table` has one row per element of `index`, the positions of the good values in the batch."""

    table: pa.Table
    index: npt.NDArray[np.int64]


def decode_objects(values: Sequence[bytes | None], schema: pa.Schema) -> Decoded:
    """Read JSON objects whose members are columns of `schema`; a missing member is null.

    Left out are values that are no such object: other types, unknown or doubled members, numbers that don't fit. NaN and
    infinities come as the strings "nan", "-nan", "inf", "-inf" in floating point columns.
    """
    tables: list[pa.Table] = []
    indexes: list[npt.NDArray[np.int64]] = []
    _decode(values, 0, schema, tables, indexes)
    index = np.concatenate(indexes) if indexes else np.zeros(0, np.int64)
    return Decoded(pa.concat_tables(tables) if tables else schema.empty_table(), index)


def _decode(
    values: Sequence[bytes | None],
    first: int,
    schema: pa.Schema,
    tables: list[pa.Table],
    indexes: list[npt.NDArray[np.int64]],
) -> None:
    if not values:
        return
    texts = all(kind == pa.string() for kind in schema.types)
    table = json_shape.read(values, schema.names) if texts else None
    if table is None:
        table = _together(values, schema)
    if table is not None:
        tables.append(table)
        indexes.append(np.arange(first, first + len(values), dtype=np.int64))
    elif len(values) <= _SINGLY:
        table, index = _singly(values, schema)
        tables.append(table)
        indexes.append(index + first)
    else:
        half = len(values) // 2
        _decode(values[:half], first, schema, tables, indexes)
        _decode(values[half:], first + half, schema, tables, indexes)


def _together(values: Sequence[bytes | None], schema: pa.Schema) -> pa.Table | None:
    """Read all values with one call, or return None if any is not as it should be."""
    if not len(schema):
        return None
    if (data := _plain(values)) is not None:
        table = _read(data, schema)
        return table if table is not None and table.num_rows == len(values) else None
    if (data := _wrapped(values)) is None:
        return None
    table = _read(data, pa.schema([("i", pa.int64()), ("v", pa.struct(list(schema)))]))
    if table is None:
        return None
    found = table.column("i")
    if table.num_rows != len(values) or found.null_count or table.column("v").null_count:
        return None
    if not np.array_equal(found.to_numpy(), np.arange(len(values))):
        return None
    return pa.Table.from_struct_array(table.column("v"))


def _read(data: bytes, schema: pa.Schema) -> pa.Table | None:
    try:
        return pj.read_json(
            pa.BufferReader(data),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None


def _plain(values: Sequence[bytes | None]) -> bytes | None:
    """Return one value a line where none can be anything but one object: each line's only braces are its first and last byte.

    Then no ordinals are needed, which are a third of what reading takes. None where a cell has a brace, or a value isn't
    UTF-8, or isn't so; that isn't to say that it is wrong.
    """
    try:
        data = b"\n".join(cast(Sequence[bytes], values)) + b"\n"
    except TypeError:
        return None
    text, count = np.frombuffer(data, np.uint8), len(values)
    ends = np.flatnonzero(text == _NEWLINE)
    if len(ends) != count or data.startswith(b"\n"):
        return None
    begins = np.concatenate(([0], ends[:-1] + 1))
    if not ((text[begins] == _OPEN).all() and (text[ends - 1] == _CLOSE).all()):
        return None
    if np.count_nonzero(text == _OPEN) != count or np.count_nonzero(text == _CLOSE) != count:
        return None
    return data if is_utf8(data) else None


def _wrapped(values: Sequence[bytes | None]) -> bytes | None:
    """Return one line of JSON per value, with its ordinal, or None where a value is missing or isn't UTF-8."""
    parts: list[bytes | None] = [None] * (2 * len(values))
    parts[0::2] = _heads(len(values))
    parts[1::2] = values
    try:
        data = b"".join(cast(list[bytes], parts)) + b"}\n"
    except TypeError:
        return None
    return data if is_utf8(data) else None


def _heads(count: int) -> list[bytes]:
    """Return what stands before each value: the end of the line before, and the ordinal."""
    while len(_HEADS) < count:
        _HEADS.append(b'}\n{"i":%d,"v":' % len(_HEADS))
    return _HEADS[:count]


def _singly(values: Sequence[bytes | None], schema: pa.Schema) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Read the values one by one; return those that are right, and where they were."""
    readers = {field.name: _reader(field.type) for field in schema}
    rows: list[dict[str, Any]] = []
    index: list[int] = []
    for position, value in enumerate(values):
        try:
            row = json.loads(
                _utf8(value), object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_refuse
            )
            if not isinstance(row, dict):
                raise TypeError("not an object")
            rows.append({name: None if cell is None else readers[name](cell) for name, cell in row.items()})
            index.append(position)
        except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
            continue
    return pa.Table.from_pylist(rows, schema=schema), np.array(index, np.int64)


def _utf8(value: bytes | None) -> str:
    if value is None:
        raise ValueError("no value")
    return value.decode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member twice")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    """Return the function that turns one JSON value into what a column of `kind` takes; it raises where it can't."""
    if pa.types.is_boolean(kind):
        return lambda cell: _is(cell, bool)
    if pa.types.is_integer(kind):
        return lambda cell: pa.scalar(_is(cell, int), kind).as_py()
    if pa.types.is_floating(kind):
        return _float
    if pa.types.is_decimal(kind):
        return lambda cell: pa.scalar(Decimal(_is(cell, int, Decimal)), kind).as_py()
    return _string


def _is(cell: Any, *kinds: type) -> Any:
    if type(cell) not in kinds:
        raise TypeError(f"{cell!r} is not {kinds}")
    return cell


def _float(cell: Any) -> float:
    number = _FLOATS[cell] if isinstance(cell, str) else float(_is(cell, int, Decimal))
    if math.isinf(number) and not isinstance(cell, str):
        raise ValueError(f"{cell} doesn't fit a floating point number")
    return number


def _string(cell: Any) -> str:
    text: str = _is(cell, str)
    text.encode()  # a lone surrogate is no text
    return text
