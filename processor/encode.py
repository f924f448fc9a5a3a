"""Calculated rows to result events: one message per row, the result or why there is none."""

import json
from collections.abc import Sequence

import pyarrow as pa

from pipeline import json_text
from pipeline.events import reject_value
from pipeline.lines import whole
from pipeline.types import ColumnType


def result_values(ids: pa.Table, outputs: pa.Table, types: Sequence[ColumnType]) -> pa.Array:
    """Return one JSON object per row, as `large_binary`: the id columns as text, then the calculated ones, typed.

    `ids` and `outputs` are string columns; `outputs` holds DuckDB's text of each value, null where it is NULL.
    """
    columns = [json_text.escaped(whole(column)) for column in ids.columns]
    columns += [
        json_text.typed(whole(column), kind) for column, kind in zip(outputs.columns, types, strict=True)
    ]
    names = [*ids.column_names, *outputs.column_names]
    return json_text.objects(names, columns, strings=range(ids.num_columns))


def reject(row: bytes | None, error: str, column: str | None, limit: int) -> bytes:
    """Return the value of a reject; the row's own JSON is in it unless that would make it larger than `limit` bytes."""
    value = reject_value(error, column, json.loads(row) if row else None)
    if len(value) > limit:
        value = reject_value(error[:1000], column, None)
    return value
