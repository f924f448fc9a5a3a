"""A large object read from the S3 server of this machine: piece by piece, each with a request of its own.

SeaweedFS keeps what one request has read until it ends: 1 GB in one went up to 900 MB of its memory (SeaweedFS 4.48), and in
pieces of 32 MB stays at 260, in two thirds of the time. A server elsewhere has memory of its own to see to, and there a
download under way outlives the removal of its object.
"""

from collections.abc import Callable
from typing import Protocol

PIECE = 32 * 1024 * 1024
"""Bytes of one request; pieces of 8 to 64 MB took 1.2 to 1.8 s for 1 GB."""


class Stream(Protocol):
    """The body of an answer."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        ...

    def close(self) -> None:
        """Hear no more."""
        ...


class Pieces:
    """Reads a stretch of an object; for one thread."""

    def __init__(
        self, first: Stream, start: int, length: int, piece: int, more: Callable[[int, int], Stream]
    ) -> None:
        """`first` is a body from `start` on, of `length` bytes; `more` gives one of the bytes from one place to another."""
        self._stream = first
        self._at = start
        self._end = start + length
        self._piece = piece
        self._stop = min(start + piece, self._end)
        self._more = more

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, and none at the end; raises what the client raises."""
        if self._at == self._stop < self._end:
            self._stream.close()
            self._stop = min(self._at + self._piece, self._end)
            self._stream = self._more(self._at, self._stop)
        data = self._stream.read(min(size, self._stop - self._at) if self._stop < self._end else size)
        self._at += len(data)
        return data

    def close(self) -> None:
        """Hear no more."""
        self._stream.close()
