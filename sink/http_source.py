"""An object of the results bucket, read from S3 piece by piece on some thread."""

from contextlib import AbstractContextManager

from pipeline.errors import Permanent, Transient
from pipeline.store import Body, ObjectStore

_TRIES = 3
"""Times that an object is opened again after S3 broke off, without a byte in between."""


class Source:
    """Bytes `start` to `start + length - 1` of one object, which is never written twice.

    `open()` first: it raises what S3 says while an answer's status can tell it. Then `read()`; in any case `close()`.
    Where S3 breaks off, the object is opened again at the byte that is next.
    """

    def __init__(self, store: ObjectStore, key: str, size: int, start: int, length: int) -> None:
        """`size` is the object's, as the receipt has it."""
        self._store = store
        self._key = key
        self._size = size
        self._at = start
        self._stop = start + length
        self._context: AbstractContextManager[Body] | None = None
        self._body: Body | None = None

    def open(self) -> None:
        """Ask S3 for the bytes from where we are; raises NotFound where the object is gone."""
        # It is kept before anything can go wrong: a client that leaves meanwhile must not leave a connection behind.
        self._context = self._store.open(self._key, start=self._at, length=self._stop - self._at)
        self._body = body = self._context.__enter__()
        if body.head.size != self._size:
            self.close()
            raise Permanent(f"{self._key} has {body.head.size} bytes, and its receipt says {self._size}")

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        for _ in range(_TRIES - 1):
            try:
                return self._read(size)
            except Transient:
                self.close()
        return self._read(size)

    def close(self) -> None:
        """Let go of the connection to S3."""
        context, self._context, self._body = self._context, None, None
        if context is not None:
            context.__exit__(None, None, None)

    def _read(self, size: int) -> bytes:
        if self._at == self._stop:
            return b""
        if self._body is None:
            self.open()
        assert self._body is not None
        piece = self._body.read(size)
        if not piece:
            raise Transient(f"{self._key} ended at byte {self._at} of {self._stop}")
        self._at += len(piece)
        return piece
