"""Sending an object of S3 to a client, piece by piece, however slow either of them is."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager

from anyio import CancelScope
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.errors import Permanent, Transient
from pipeline.store import Body
from sink.http_reader import Reader

_TRIES = 3
"""Times that a stretch is opened again after S3 broke off, without a byte in between."""


class Stretch:
    """Bytes `start` to `start + length - 1` of one object of the results bucket, which is never written twice.

    `open()` first: it raises what S3 says while the answer's status can tell it. Then iterate; in any case `close()`.
    Where S3 breaks off, it is opened again at the byte that is next.
    """

    def __init__(self, reader: Reader, key: str, size: int, start: int, length: int) -> None:
        """`size` is the object's, as the receipt has it."""
        self._reader = reader
        self._key = key
        self._size = size
        self._at = start
        self._stop = start + length
        self._context: AbstractContextManager[Body] | None = None
        self._body: Body | None = None

    async def open(self) -> None:
        """Ask S3 for the bytes from where we are; raises NotFound where the object is gone."""
        # It is kept before anything can go wrong: a client that leaves meanwhile must not leave a connection behind.
        self._context = self._reader.results.open(self._key, start=self._at, length=self._stop - self._at)
        self._body = body = await self._reader.call(self._context.__enter__)
        if body.head.size != self._size:
            await self.close()
            raise Permanent(f"{self._key} has {body.head.size} bytes, and its receipt says {self._size}")

    async def close(self) -> None:
        """Let go of the connection to S3."""
        context, self._context, self._body = self._context, None, None
        if context is not None:
            with CancelScope(shield=True):
                await self._reader.call(lambda: context.__exit__(None, None, None))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        failures = 0
        while self._at < self._stop:
            try:
                if self._body is None:
                    await self.open()
                piece = await self._reader.call(self._next)
            except Transient:
                await self.close()
                failures += 1
                if failures == _TRIES:
                    raise
                continue
            failures = 0
            self._at += len(piece)
            yield piece

    def _next(self) -> bytes:
        assert self._body is not None
        piece = next(self._body.chunks, b"")
        if not piece:
            raise Transient(f"{self._key} ended at byte {self._at} of {self._stop}")
        return piece


class Download(StreamingResponse):
    """A stretch as an answer; it is closed when it is sent, and when the client goes away."""

    def __init__(self, stretch: Stretch, status: int, headers: Mapping[str, str]) -> None:
        """The stretch is open; `headers` has its Content-Length."""
        super().__init__(aiter(stretch), status, headers)
        self._stretch = stretch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette.responses.Response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with contextlib.suppress(Transient, Permanent):
                await self._stretch.close()
