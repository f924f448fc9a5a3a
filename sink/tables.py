"""Picking rows of Arrow tables."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def take(table: pa.Table, at: npt.NDArray[np.int64]) -> pa.Table:
    """Return the rows at rising positions; a stretch without holes is not copied."""
    if len(at) == table.num_rows:
        return table
    if not len(at) or at[-1] - at[0] + 1 == len(at):
        return table.slice(int(at[0]) if len(at) else 0, len(at))
    return table.take(pa.array(at))
