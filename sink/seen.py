"""Which rows of a share have come, whether they are in memory or on S3 by now.

A byte a row while a block fills; a bit a row once it is whole with rejects in it; nothing but its number once it is whole
without. So what is known of a job of a billion rows fits into memory, whatever is held of it.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
States = npt.NDArray[np.uint8]

REJECT, RESULT = 1, 2
"""How a row has come; a result beats a reject."""

_FIRST = 64
"""Rows that a block's account has room for at first; it grows up to the block's size."""


class Seen:
    """Rows by number, in blocks of `block` rows; `results` and `rejects` count them, each row once."""

    def __init__(self, block: int) -> None:
        """Nothing has come yet."""
        self.results = 0
        self.rejects = 0
        self._block = block
        self._states: dict[int, States] = {}
        self._whole: dict[int, States | None] = {}

    @property
    def rows(self) -> int:
        """Return how many rows have come."""
        return self.results + self.rejects

    def add(self, number: int, at: Ints, kind: int) -> tuple[Ints, int]:
        """Note rows of a block: `at` are their places in it.

        Return the positions in `at` of those that are news, in their order, each row once; and how many of them had come as
        rejects before.
        """
        if self._whole.get(number, _MISSING) is None or not len(at):
            return np.zeros(0, np.int64), 0
        state = self._open(number, int(at.max()) + 1)
        before = state[at]
        fresh = np.flatnonzero(before < kind)
        if len(fresh) and not rising(at):
            fresh = fresh[np.sort(np.unique(at[fresh], return_index=True)[1])]
        beaten = int((before[fresh] == REJECT).sum()) if kind == RESULT else 0
        state[at[fresh]] = kind
        if kind == RESULT:
            self.results += len(fresh)
            self.rejects -= beaten
        else:
            self.rejects += len(fresh)
        self._close(number, state)
        return fresh, beaten

    def add_rows(self, rows: Ints, kind: int) -> None:
        """Note rows of any blocks; `rows` rise."""
        for number, part in by_block(rows, self._block):
            self.add(number, part - number * self._block, kind)

    def state(self, number: int) -> States:
        """Return how each row of a block has come, 0 where it hasn't; rows behind the last that has may be left out."""
        if number in self._whole:
            packed = self._whole[number]
            if packed is None:
                return np.full(self._block, RESULT, np.uint8)
            return np.unpackbits(packed, count=self._block) + np.uint8(REJECT)
        return self._states.get(number, np.zeros(0, np.uint8))

    def cut(self, total: int) -> None:
        """Forget rows behind the end of the file."""
        size = self._block
        for number in [number for number in (*self._states, *self._whole) if (number + 1) * size > total]:
            state = self.state(number)
            outside = state[max(0, total - number * size) :]
            self.results -= int((outside == RESULT).sum())
            self.rejects -= int((outside == REJECT).sum())
            self._states[number] = state[: max(0, total - number * size)].copy()
            self._whole.pop(number, None)

    def lacking(self, total: int, numbers: Iterable[int]) -> list[int]:
        """Return which of the blocks lack rows, for a file of `total` rows."""
        found = []
        for number in numbers:
            wanted = min(self._block, total - number * self._block)
            if number not in self._whole and np.count_nonzero(self.state(number)) < wanted:
                found.append(number)
        return found

    def _open(self, number: int, room: int) -> States:
        """Return a block's account, with room for so many rows."""
        state = self.state(number)
        if number in self._whole:
            del self._whole[number]
        elif len(state) < room:
            grown = np.zeros(min(self._block, max(_FIRST, room, 2 * len(state))), np.uint8)
            grown[: len(state)] = state
            state = grown
        self._states[number] = state
        return state

    def _close(self, number: int, state: States) -> None:
        """Keep a block in as little as it needs."""
        if len(state) < self._block or not state.all():
            return
        del self._states[number]
        good = state == RESULT
        self._whole[number] = None if good.all() else np.packbits(good)


_MISSING = np.zeros(0, np.uint8)


def rising(numbers: Ints) -> bool:
    """Whether each number is higher than the one before."""
    return bool((np.diff(numbers) > 0).all())


def by_block(rows: Ints, size: int) -> list[tuple[int, Ints]]:
    """Part rising row numbers by block."""
    if not len(rows):
        return []
    numbers = rows // size
    if numbers[0] == numbers[-1]:
        return [(int(numbers[0]), rows)]
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    return [(int(part[0]) // size, part) for part in np.split(rows, cuts)]


def to_runs(rows: Ints) -> Ints:
    """Return rising row numbers as runs: start, stop, start, stop … (stops are not in the run)."""
    if not len(rows):
        return np.zeros(0, np.int64)
    breaks = np.flatnonzero(np.diff(rows) != 1)
    bounds = np.empty(2 * len(breaks) + 2, np.int64)
    bounds[0], bounds[-1] = rows[0], rows[-1] + 1
    bounds[1:-1:2] = rows[breaks] + 1
    bounds[2:-1:2] = rows[breaks + 1]
    return bounds


def from_runs(bounds: Ints) -> Ints:
    """Return the row numbers of runs."""
    starts, lengths = bounds[0::2], bounds[1::2] - bounds[0::2]
    before = np.cumsum(lengths) - lengths
    rows: Ints = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)
    return rows
