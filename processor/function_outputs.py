"""Computes the outputs of a Python calculation.

A table function is given a `pyarrow.Table`: the file's columns, those with a type as Arrow values of it (UUID
as text), the rest as text. It returns a table with a row for each of these, in order, and a column for each
output. A function per row is given a dict of the same as Python values, and returns a dict. What they return
is cast to the declared types by DuckDB.

A function that raises, or returns something else, is tried again with halves of the rows, down to one: only
the rows at fault are rejected. So it must not count its calls. Errors under `pipeline.errors.Transient` are
not the row's: they go to the caller.
"""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.bound import Bound
from pipeline.duck import locked
from pipeline.errors import Transient
from pipeline.sql_text import quote
from processor.engine import RELATION, Engine, in_order
from processor.outcome import Piece, Reject, shown
from processor.sql_outputs import cell_rejects

_LONGEST_MESSAGE = 300


class FunctionOutputs:
    """Casts the cells, calls the function, casts what it returns."""

    def __init__(
        self, bound: Bound, engine: Engine, function: Callable[[Any], Any], memory_limit: str
    ) -> None:
        self._bound = bound
        self._engine = engine
        self._function = function
        self._con = locked(memory_limit=memory_limit)
        self._names = [name for name, _ in bound.outputs]

    def compute(self, batch: pa.Table, seconds: float) -> Piece:
        """Compute rows: all columns as text, and the ordinal. `seconds` bounds the casts, not the
        function."""
        bound = self._bound
        typed = self._engine.run(bound.cells_sql(RELATION), batch, seconds)
        ordinals = batch.column(bound.ordinal).to_numpy()
        good = typed.column(0).to_numpy()
        typed = typed.drop_columns([typed.column_names[0]])
        rejects: list[Reject] = []
        if not good.all():
            bad = batch.filter(pa.array(~good))
            flags = self._engine.run(bound.why_sql(RELATION), bad, seconds)
            rejects += cell_rejects(bound, bad, flags).values()
            typed, ordinals = typed.filter(pa.array(good)), ordinals[good]
        goods: list[npt.NDArray[np.int64]] = []
        outputs: list[pa.Table] = []
        self._call(typed, ordinals, goods, outputs, rejects)
        texts = pa.schema([(name, pa.string()) for name in self._names])
        return Piece(
            np.concatenate(goods) if goods else np.zeros(0, np.int64),
            pa.concat_tables(outputs) if outputs else texts.empty_table(),
            sorted(rejects, key=lambda reject: reject.index),
        )

    def _call(
        self,
        rows: pa.Table,
        ordinals: npt.NDArray[np.int64],
        goods: list[npt.NDArray[np.int64]],
        outputs: list[pa.Table],
        rejects: list[Reject],
    ) -> None:
        """Call the function, by halves where it fails."""
        if not len(ordinals):
            return
        try:
            returned = self._by_row(rows) if self._bound.calculation.per_row else self._function(rows)
            piece = self._texts(self._checked(returned, len(ordinals)), ordinals)
        except Transient:
            raise
        except (Exception, SystemExit) as error:  # it is anybody's code
            if len(ordinals) == 1:
                rejects.append(Reject(int(ordinals[0]), None, _said(error)))
                return
            half = len(ordinals) // 2
            self._call(rows.slice(0, half), ordinals[:half], goods, outputs, rejects)
            self._call(rows.slice(half), ordinals[half:], goods, outputs, rejects)
            return
        goods.append(piece.good)
        outputs.append(piece.outputs)
        rejects += piece.rejects

    def _by_row(self, rows: pa.Table) -> pa.Table:
        columns: dict[str, list[str | None]] = {name: [] for name in self._names}
        for row in rows.to_pylist():
            returned = self._function(row)
            if not isinstance(returned, Mapping):
                raise TypeError(
                    f"the function returned a {type(returned).__name__}, not a dict of its outputs"
                )
            self._check_names(list(returned))
            for name, cells in columns.items():
                cells.append(_text(name, returned[name]))
        return pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})

    def _checked(self, returned: Any, rows: int) -> pa.Table:
        if not isinstance(returned, pa.Table):
            raise TypeError(f"the function returned a {type(returned).__name__}, not a pyarrow.Table")
        self._check_names(returned.column_names)
        if returned.num_rows != rows:
            raise ValueError(f"the function returned {returned.num_rows} rows for {rows}")
        return returned.select(self._names)

    def _check_names(self, found: Sequence[str]) -> None:
        if sorted(found) != sorted(self._names):
            raise ValueError(
                f"the function returned {', '.join(found) or 'no columns'}, not {', '.join(self._names)}"
            )

    def _texts(self, returned: pa.Table, ordinals: npt.NDArray[np.int64]) -> Piece:
        """Cast what a function returned to the declared types; what doesn't cast is a reject."""
        names = [f"c{i}" for i in range(len(self._names))]
        casts = [
            f"TRY([CAST(CAST({n} AS {kind.sql}) AS VARCHAR)])"
            for n, (_, kind) in zip(names, self._bound.outputs, strict=True)
        ]
        parts = [
            f"{cast}[1], {cast} IS NULL, CAST({n} AS VARCHAR)" for n, cast in zip(names, casts, strict=True)
        ]
        rows = returned.rename_columns(names).append_column("o", pa.array(ordinals))
        self._con.register("returned", rows)
        try:
            answer = self._con.sql(f"SELECT o, {', '.join(parts)} FROM {quote('returned')}").to_arrow_table()
        finally:
            self._con.unregister("returned")
        answer = in_order(answer, ordinals)
        outputs = answer.select(range(0, answer.num_columns, 3)).rename_columns(self._names)
        failed = np.column_stack([answer.column(i).to_numpy() for i in range(1, answer.num_columns, 3)])
        if not failed.any():
            return Piece(ordinals, outputs, [])
        rejects = []
        for row in np.flatnonzero(failed.any(axis=1)):
            at = int(np.flatnonzero(failed[row])[0])
            name, kind = self._bound.outputs[at]
            value = answer.column(3 * at + 2)[int(row)].as_py()
            rejects.append(Reject(int(ordinals[row]), name, f"{name}: {shown(value)} is not {kind.sql}"))
        good = ~failed.any(axis=1)
        return Piece(ordinals[good], outputs.filter(pa.array(good)), rejects)


def _text(name: str, value: Any) -> str | None:
    """Return a Python value as the text that DuckDB casts from."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, numbers.Number | np.number | Decimal | date | datetime | time | UUID):
        return str(value)
    raise TypeError(
        f"{name}: a {type(value).__name__} is no value of a cell; return text, a number, a date or a time"
    )


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return said if len(said) <= _LONGEST_MESSAGE else said[:_LONGEST_MESSAGE] + "…"
