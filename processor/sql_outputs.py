"""Computes the outputs of an SQL calculation, and finds out why a row has none."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.bound import Bound
from pipeline.duck import Error, Interrupted, OutOfMemory, message
from processor.engine import RELATION, Engine
from processor.outcome import Piece, Reject, shown

MOST_EXPLAINED = 256
"""Failures per batch that DuckDB is asked about one by one, at about 1 ms each; the others are named by their
inputs."""


class SqlOutputs:
    """One query per batch; more only about rows that fail."""

    def __init__(self, bound: Bound, engine: Engine) -> None:
        self._bound = bound
        self._engine = engine
        self._batch_sql = bound.batch_sql(RELATION)
        self._names = [name for name, _ in bound.outputs]

    def compute(self, batch: pa.Table, seconds: float) -> Piece:
        """Compute rows: the columns `bound.inputs` as text, and the ordinal, which is their place in the
        whole batch."""
        answer = self._engine.run(self._batch_sql, batch, seconds)
        ordinals = batch.column(self._bound.ordinal).to_numpy()
        outputs = answer.drop_columns([answer.column_names[0]]).rename_columns(self._names)
        good = answer.column(0).to_numpy()
        if good.all():
            return Piece(ordinals, outputs, [])
        bad = batch.filter(pa.array(~good))
        return Piece(ordinals[good], outputs.filter(pa.array(good)), self._explain(bad, seconds))

    def _explain(self, bad: pa.Table, seconds: float) -> list[Reject]:
        """Return the reasons of rows that have one: cells that don't cast, else the first expression that
        fails."""
        flags = self._engine.run(self._bound.why_sql(RELATION), bad, seconds)
        ordinals = bad.column(self._bound.ordinal).to_pylist()
        typed = len(self._bound.typed)
        rejects = cell_rejects(self._bound, bad, flags.select(range(typed)))
        failing = {name: flags.column(typed + i).to_pylist() for i, name in enumerate(self._names)}
        known: dict[tuple[object, ...], str] = {}
        for row, ordinal in enumerate(ordinals):
            if ordinal in rejects:
                continue
            output, name = next((i, n) for i, n in enumerate(self._names) if failing[n][row])
            inputs = {column: bad.column(column)[row].as_py() for column in sorted(self._bound.uses[output])}
            key = (output, *inputs.values())
            if key not in known and len(known) < MOST_EXPLAINED:
                known[key] = self._reason(output, bad.slice(row, 1), seconds)
            reason = known.get(key) or _by_inputs(inputs)
            rejects[ordinal] = Reject(ordinal, name, f"{name}: {reason}")
        return [rejects[ordinal] for ordinal in ordinals]

    def _reason(self, output: int, row: pa.Table, seconds: float) -> str:
        """Return what DuckDB says when one row's output is computed by itself."""
        try:
            self._engine.run(self._bound.output_sql(output, RELATION), row, seconds)
        except (OutOfMemory, Interrupted):
            raise
        except Error as error:
            return message(error)
        return _by_inputs({name: row.column(name)[0].as_py() for name in sorted(self._bound.uses[output])})


def _by_inputs(inputs: dict[str, str]) -> str:
    cells = ", ".join(f"{name} = {shown(text)}" for name, text in inputs.items())
    return f"can't be computed for {cells}" if cells else "can't be computed"


def cell_rejects(bound: Bound, batch: pa.Table, flags: pa.Table) -> dict[int, Reject]:
    """Return, by ordinal, the rejects of rows with cells that don't cast: `flags` has a BOOLEAN column per
    typed column."""
    found: dict[int, list[tuple[str, str]]] = {}
    ordinals = batch.column(bound.ordinal).to_numpy()
    for (name, kind), bad in zip(bound.typed, flags.columns, strict=True):
        rows = np.flatnonzero(bad.to_numpy())
        texts: Sequence[str] = batch.column(name).take(rows).to_pylist()
        for ordinal, text in zip(ordinals[rows].tolist(), texts, strict=True):
            found.setdefault(ordinal, []).append((name, f"{name}: {shown(text)} is not {kind.sql}"))
    return {
        ordinal: Reject(ordinal, cells[0][0], "; ".join(error for _, error in cells))
        for ordinal, cells in found.items()
    }
