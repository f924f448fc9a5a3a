"""Runs the statements of one calculation on one batch at a time, on a locked connection, within limits.

Statements are prepared once, on a slot that holds the present batch: nothing of a batch is left when it is
done.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.duck import (
    Connection,
    Error,
    Interrupted,
    OutOfMemory,
    Slot,
    forget_locked,
    is_of_the_rows,
    locked,
)
from pipeline.limits import memory_ceiling, size_in_bytes, time_limit

RELATION = "batch"


class Engine:
    """Statements over `batch`, an Arrow table of one schema. Not for two threads at once."""

    def __init__(self, schema: pa.Schema, ordinal: str, memory_limit: str) -> None:
        self._schema = schema
        self._ordinal = ordinal
        self._memory_limit = memory_limit
        self._memory = size_in_bytes(memory_limit)
        self._open()

    def _open(self) -> None:
        self._con: Connection = locked(memory_limit=self._memory_limit)
        self._slot = Slot(self._con, RELATION, self._schema)
        self._prepared: dict[str, str] = {}

    def run(self, query: str, batch: pa.Table, seconds: float) -> pa.Table:
        """Run a query on a batch; its first column is the ordinal, and rows come back in their order.

        Raise OutOfMemory, Interrupted (out of time) or another DuckDB error that the rows are to blame for.
        What a broken database is to blame for is tried again on a new one.
        """
        try:
            return self._run(query, batch, seconds)
        except (OutOfMemory, Interrupted, MemoryError):
            raise
        except Error as error:
            if is_of_the_rows(error):
                raise
        forget_locked()
        self._open()
        return self._run(query, batch, seconds)

    def _run(self, query: str, batch: pa.Table, seconds: float) -> pa.Table:
        with memory_ceiling(self._memory), time_limit(self._con, seconds):
            name = self._prepared.get(query)
            if name is None:
                name = f"statement{len(self._prepared)}"
                self._con.execute(f"PREPARE {name} AS {query}")
                self._prepared[query] = name
            with self._slot.holding(batch):
                answer = self._con.execute(f"EXECUTE {name}").to_arrow_table()
        return in_order(answer, batch.column(self._ordinal).to_numpy())


def in_order(answer: pa.Table, ordinals: npt.NDArray[np.int64]) -> pa.Table:
    """Return the rows in the order of `ordinals`, by their first column, which is dropped."""
    found = answer.column(0).to_numpy()
    answer = answer.drop_columns([answer.column_names[0]])
    if np.array_equal(found, ordinals):
        return answer
    order = np.argsort(found, kind="stable")
    if not np.array_equal(found[order], ordinals):
        raise RuntimeError(
            f"DuckDB gave back {len(found)} rows that are not the {len(ordinals)} it was given"
        )
    return answer.take(order)
