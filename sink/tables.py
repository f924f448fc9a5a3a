"""Picking rows of Arrow tables."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def take(table: pa.Table, at: npt.NDArray[np.int64]) -> pa.Table:
    """Return the rows at rising positions.

    A stretch without holes that is most of the table isn't copied; a small one is, since a slice keeps the whole table alive.
    """
    if len(at) == table.num_rows:
        return table
    if not len(at) or (2 * len(at) >= table.num_rows and at[-1] - at[0] + 1 == len(at)):
        return table.slice(int(at[0]) if len(at) else 0, len(at))
    return table.take(pa.array(at))
