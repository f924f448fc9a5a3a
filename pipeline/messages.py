"""Messages on their way out: keys and values of a whole batch, as two Arrow arrays, without a Python object for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages for one partition, in order: `keys` and `values` are `large_binary` arrays of one length, without nulls.

    Iterating gives pairs of bytes, one by one: for tests, and for people.
    """

    keys: pa.Array
    values: pa.Array

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.values):
            raise ValueError(f"{len(self.keys)} keys for {len(self.values)} values")

    @classmethod
    def of(cls, keys: Sequence[bytes], values: Sequence[bytes]) -> Self:
        """Return messages that are at hand one by one."""
        return cls(pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary()))

    @classmethod
    def joined(cls, runs: Sequence[Self]) -> Self:
        """Return several runs as one."""
        if len(runs) == 1:
            return runs[0]
        if not runs:
            return cls.of([], [])
        return cls(
            pa.concat_arrays([run.keys for run in runs]), pa.concat_arrays([run.values for run in runs])
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def size(self) -> int:
        """Bytes that they take, each some 16 more than its key and value; the broker's own are about as many."""
        return int(self.keys.nbytes + self.values.nbytes)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return zip(self.keys.to_pylist(), self.values.to_pylist(), strict=True)

    def take(self, positions: Ints) -> Self:
        """Return those at these positions."""
        at = pa.array(positions)
        return type(self)(self.keys.take(at), self.values.take(at))


def sizes(array: pa.Array) -> Ints:
    """Return how many bytes each element of a `large_binary` array has."""
    return np.diff(offsets(array))


def offsets(array: pa.Array) -> Ints:
    """Return where the elements of a `large_binary` array start in its bytes, and where the last one stops."""
    if len(array) == 0:
        return np.zeros(1, np.int64)
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
