"""Calculates a batch: one vectorised run over all rows, and a closer look only at those that fail.

A batch that runs out of memory or time, or that fails as a whole, is halved until the row at fault is alone;
that one is rejected, and no other. Nothing of a batch is kept for the next one.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.bound import Bound
from pipeline.duck import MEMORY_LIMIT, Error, Interrupted, OutOfMemory, message
from processor.engine import Engine
from processor.function_outputs import FunctionOutputs
from processor.functions import Functions
from processor.outcome import Calculated, Piece, Reject
from processor.sql_outputs import SqlOutputs

__all__ = ["SECONDS", "Calculated", "Calculator", "Reject"]

SECONDS = 60.0
"""What a batch may take before it is halved."""


class Calculator:
    """Runs one bound calculation, batch after batch. Not for two threads at once.

    `functions` are what the worker's own configuration allows, and are needed for a Python calculation only:
    raises Hold where the function isn't among them or can't be loaded. A batch may take `memory_limit` and
    `seconds`; parts of a batch that took too long get less, down to a tenth.
    """

    def __init__(
        self,
        bound: Bound,
        functions: Functions | None = None,
        *,
        memory_limit: str = MEMORY_LIMIT,
        seconds: float = SECONDS,
    ) -> None:
        self._bound = bound
        self._memory_limit = memory_limit
        self._seconds = seconds
        self._schema = pa.schema(
            [(name, pa.string()) for name in bound.inputs] + [(bound.ordinal, pa.int64())]
        )
        engine = Engine(self._schema, bound.ordinal, memory_limit)
        self._outputs: SqlOutputs | FunctionOutputs
        if bound.calculation.python is None:
            self._outputs = SqlOutputs(bound, engine)
        else:
            function = (functions or Functions([])).load(bound.calculation)
            self._outputs = FunctionOutputs(bound, engine, function, memory_limit)

    def run(self, table: pa.Table) -> Calculated:
        """Calculate the rows of a table: the file's columns as strings (of either width), none of them
        null."""
        places = np.arange(table.num_rows, dtype=np.int64)
        batch = table.select(self._bound.inputs).append_column(self._bound.ordinal, pa.array(places))
        pieces: list[Piece] = []
        if table.num_rows:
            self._compute(batch.cast(self._schema), self._seconds, pieces)
        good = _joined([piece.good for piece in pieces])
        names = [name for name, _ in self._bound.outputs]
        texts = pa.schema([(name, pa.string()) for name in names])
        ids = table.select(self._bound.ids)
        return Calculated(
            good,
            ids if len(good) == table.num_rows else ids.take(pa.array(good)),
            pa.concat_tables([piece.outputs for piece in pieces]) if pieces else texts.empty_table(),
            [reject for piece in pieces for reject in piece.rejects],
        )

    def _compute(self, batch: pa.Table, seconds: float, pieces: list[Piece]) -> None:
        """Compute rows, by halves where that fails as a whole; `seconds` is for all of these."""
        try:
            pieces.append(self._outputs.compute(batch, max(seconds, self._seconds / 10)))
        except (Error, MemoryError) as error:
            if batch.num_rows == 1:
                place = batch.column(self._bound.ordinal)[0].as_py()
                reject = Reject(place, None, self._why(error, max(seconds, self._seconds / 10)))
                pieces.append(Piece(np.zeros(0, np.int64), self._none(), [reject]))
                return
            if isinstance(error, Interrupted):
                seconds /= 2
            half = batch.num_rows // 2
            self._compute(batch.slice(0, half), seconds, pieces)
            self._compute(batch.slice(half), seconds, pieces)

    def _none(self) -> pa.Table:
        return pa.schema([(name, pa.string()) for name, _ in self._bound.outputs]).empty_table()

    def _why(self, error: BaseException, seconds: float) -> str:
        if isinstance(error, OutOfMemory | MemoryError):
            return f"the row takes more memory than the limit of {self._memory_limit}"
        if isinstance(error, Interrupted):
            return f"the row takes longer than the limit of {seconds:g} s"
        return message(error)


def _joined(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.int64), *parts])
