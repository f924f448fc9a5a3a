"""Sending content to a client, piece by piece, however slow it is: it never holds a thread but for its next piece."""

import contextlib
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from typing import Protocol

from anyio import CancelScope, fail_after
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from pipeline.errors import Permanent, Transient
from sink.http_reader import Reader, Seat
from sink.http_source import Source

IDLE = 120.0
"""Seconds without taking a byte after which a client is given up."""


class Pieces(Protocol):
    """Content on its way. `open()` first: it raises what can still be told by a status; in any case `close()`."""

    async def open(self) -> None:
        """Get ready to be sent."""

    async def close(self) -> None:
        """Let go of everything."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Stretch:
    """Bytes of an object, straight from S3."""

    def __init__(self, reader: Reader, source: Source) -> None:
        self._reader = reader
        self._source = source

    async def open(self) -> None:
        """Ask S3 for them."""
        await self._reader.call(self._source.open)

    async def close(self) -> None:
        """Let go of the connection to S3."""
        with CancelScope(shield=True):
            await self._reader.call(self._source.close)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._reader.call(self._next):
            yield piece

    def _next(self) -> bytes:
        return self._source.read(self._reader.piece())


class Made:
    """Content that is made for one client, as it goes: for what is too large to be spooled."""

    def __init__(self, reader: Reader, make: Callable[[], Generator[bytes]]) -> None:
        self._reader = reader
        self._pieces = make()
        self._first = b""

    async def open(self) -> None:
        """Make the first piece."""
        self._reader.made += 1
        self._first = await self._next()

    async def close(self) -> None:
        """Make no more."""
        self._reader.made -= 1
        with CancelScope(shield=True):
            await self._reader.call(self._pieces.close)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece, self._first = self._first, b""
        while piece:
            yield piece
            piece = await self._next()

    async def _next(self) -> bytes:
        def next_piece() -> bytes:
            return next((piece for piece in self._pieces if piece), b"")

        return await self._reader.call(next_piece)


class Framed:
    """Several contents as one, with bytes before each and after the last: multipart/byteranges."""

    def __init__(self, frames: Sequence[bytes], parts: Sequence[Pieces]) -> None:
        self._frames = frames
        self._parts = parts
        self._opened = 0

    async def open(self) -> None:
        """Open the first part; each further one is opened when its turn comes."""
        self._opened = 1
        await self._parts[0].open()

    async def close(self) -> None:
        """Close what is open."""
        for part in self._parts[: self._opened]:
            await part.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, part in enumerate(self._parts):
            yield self._frames[number]
            if number == self._opened:
                self._opened += 1
                await part.open()
            async for piece in part:
                yield piece
            await part.close()
        yield self._frames[-1]


class Download(StreamingResponse):
    """Content as an answer; it is closed when it is sent, when the client goes away, and when it takes nothing any more."""

    def __init__(self, pieces: Pieces, seat: Seat, status: int, headers: Mapping[str, str]) -> None:
        """The pieces are open, the seat is taken; both are let go of at the end."""
        super().__init__(aiter(pieces), status, headers)
        self._pieces = pieces
        self._seat = seat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette.responses.Response."""

        async def patient(message: Message) -> None:
            try:
                with fail_after(IDLE):
                    await send(message)
            except TimeoutError:
                raise Transient(f"the client took nothing for {IDLE:g} s") from None

        try:
            await super().__call__(scope, receive, patient)
        finally:
            self._seat.leave()
            with contextlib.suppress(Transient, Permanent):
                await self._pieces.close()


async def download(pieces: Pieces, seat: Seat, status: int, headers: Mapping[str, str]) -> Download:
    """Open the pieces and return them as an answer; where they can't be opened, let go of them and of the seat."""
    try:
        await pieces.open()
    except BaseException:
        seat.leave()
        await pieces.close()
        raise
    return Download(pieces, seat, status, headers)
