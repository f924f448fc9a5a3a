"""What became of the rows of a batch: results, and rejects with the reason."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_LONGEST_CELL = 100


@dataclass(frozen=True, slots=True)
class Reject:
    """A row without a result: its place in the batch, the column at fault where it is known, and the reason.

    `column` is the file's where a cell doesn't cast, and the output's where its expression or function fails.
    """

    index: int
    column: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Calculated:
    """What became of a batch.

    good: places in the batch of the rows with a result, ascending; ids: their id columns, as in the file;
    outputs: DuckDB's VARCHAR text of each calculated value, null where it is NULL (for numbers and booleans
    that is their JSON, too, but for "nan", "-nan", "inf" and "-inf"); rejects: the other rows, by place.
    """

    good: npt.NDArray[np.int64]
    ids: pa.Table
    outputs: pa.Table
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class Piece:
    """What became of some rows of a batch: as in Calculated, without the ids."""

    good: npt.NDArray[np.int64]
    outputs: pa.Table
    rejects: list[Reject]


def shown(text: str) -> str:
    """Return a cell as a message shows it: quoted, and not too long."""
    return f"'{text}'" if len(text) <= _LONGEST_CELL else f"'{text[:_LONGEST_CELL]}…'"
