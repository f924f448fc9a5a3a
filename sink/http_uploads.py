"""PUT of an upload: checked before its body is read, then streamed to S3, whole or not at all."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import structlog
from anyio import (
    ClosedResourceError,
    EndOfStream,
    create_memory_object_stream,
    fail_after,
    from_thread,
    to_thread,
)
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from pipeline import traces
from pipeline.calculations import choose
from pipeline.errors import NotFound
from pipeline.names import COMPRESSIONS, name_of
from pipeline.states import source_keys
from sink.http_access import BEARER, MayWrite
from sink.http_headers import path
from sink.http_problems import Answers, Trouble, documented
from sink.http_reader import Reader, TheReader

IDLE = 60.0
"""Seconds without a byte after which an upload is given up."""

STOPPING = 1.0
"""Seconds that an upload may go on once the server is asked to end; then S3 is told, and it is answered, before its connection
is closed (`http_server.GRACE`)."""

_QUEUED = 64
"""Pieces, of 64 KB at most, that may wait while S3 takes a part."""

_ENCODINGS = {"gzip": ".gz", "x-gzip": ".gz", "zstd": ".zst"}

_log = structlog.get_logger()

_UNSUPPORTED = ("if-match", "if-unmodified-since", "if-modified-since")

router = APIRouter(dependencies=[MayWrite, BEARER])


_CREATED: Answers = {
    201: {
        "headers": {
            "Location": {"description": "/jobs/{name}: where it is now", "schema": {"type": "string"}}
        }
    }
}


class _BrokenOff(Exception):
    """The body ended before its end."""


class Uploaded(BaseModel):
    """An upload that is on S3, whole."""

    name: str = Field(description="what the file is called from here on")
    key: str = Field(description="where the upload lies in the uploads bucket")
    bytes: int
    etag: str
    job_url: str
    result_url: str


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file, as it is: a CSV, or one compressed where the name ends in .gz or .zst, "
        "or Content-Encoding says gzip or zstd",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put(
    "/uploads/{name:path}",
    operation_id="put_upload",
    tags=["uploads"],
    summary="Upload a file to be computed",
    response_description="The upload is on S3, whole",
    status_code=201,
    responses=_CREATED | documented(400, 401, 403, 408, 409, 412, 415, 422, 500, 502, 503),
    openapi_extra=_BODY,
)
async def upload(request: Request, response: Response, reader: TheReader, name: str) -> Uploaded:
    """Put a file into the uploads bucket, where capture takes it on.

    What can be refused is refused before the body is read: send `Expect: 100-continue` to save sending it.
    A client that goes away half way leaves nothing behind. With `If-None-Match: *` nothing that lies there is replaced.
    """
    key = _key(request, name)
    name = name_of(key)
    choose(reader.calculations(), name)
    await _check_alone(reader, name, key)
    only_new = _only_new(request)
    if only_new:
        await reader.call(lambda: _check_new(reader, key))
    if reader.upload_threads.available_tokens < 1:
        raise Trouble(503, "as many uploads are under way as may be: ask again", {"Retry-After": "5"})
    started = time.monotonic()
    body = _Counted(request.stream())
    try:
        with traces.span("upload", request.headers.get(traces.METADATA), file=name) as sending:
            etag = await _store(reader, key, body, only_new, sending.metadata())
            sending.note(bytes=body.bytes)
    except ClientDisconnect:
        _log.info("upload broken off by the client", name=name, bytes=body.bytes)
        raise Trouble(400, f"the body ended after {body.bytes} bytes") from None
    except _BrokenOff:
        _log.info("upload given up: the server is ending", name=name, bytes=body.bytes)
        raise Trouble(
            503,
            "the server is ending; nothing was kept: send it again",
            {"Retry-After": "5", "Connection": "close"},
        ) from None
    except TimeoutError:
        raise Trouble(
            408, f"no byte came for {IDLE:g} s; nothing was kept", {"Connection": "close"}
        ) from None
    _log.info("uploaded", name=name, key=key, bytes=body.bytes, seconds=round(time.monotonic() - started, 3))
    job = path("jobs", name)
    response.headers["Location"] = job
    response.headers["Cache-Control"] = "no-store"
    return Uploaded(
        name=name, key=key, bytes=body.bytes, etag=etag, job_url=job, result_url=path("results", name)
    )


def _key(request: Request, name: str) -> str:
    """Return the key that the upload gets; raise for what can't become one."""
    headers = request.headers
    name_of(name)  # raises NameRefused
    if "content-range" in headers:
        raise Trouble(400, "Content-Range with PUT: send the whole file")
    if headers.get("content-length") == "0":
        raise Trouble(422, f"{name}: the upload is empty; a CSV has at least a header")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return name
    if encoding not in _ENCODINGS:
        raise Trouble(
            415,
            f"Content-Encoding {encoding!r}: gzip and zstd are understood",
            {"Accept-Encoding": "gzip, zstd"},
        )
    if name.endswith(COMPRESSIONS):
        raise Trouble(
            422,
            f"{name} with Content-Encoding {encoding}: is it compressed twice? Say it by the name or by the header",
        )
    key = name + _ENCODINGS[encoding]
    name_of(key)
    return key


def _only_new(request: Request) -> bool:
    """Whether the client forbids to replace an upload; raise for conditions that can't be kept."""
    headers = request.headers
    for name in _UNSUPPORTED:
        if name in headers:
            raise Trouble(400, f"{name} with PUT can't be kept: of conditions, only If-None-Match: * can")
    condition = headers.get("if-none-match")
    if condition is not None and condition.strip() != "*":
        raise Trouble(400, f"If-None-Match: {condition} with PUT can't be kept: only If-None-Match: * can")
    return condition is not None


def _check_new(reader: Reader, key: str) -> None:
    try:
        reader.uploads.head(key)
    except NotFound:
        return
    raise Trouble(
        412, f"{key} lies in the uploads bucket already, and If-None-Match: * forbids to replace it"
    )


async def _check_alone(reader: Reader, name: str, key: str) -> None:
    """Refuse a second source key for one name, as capture would later: which of them is the file?"""
    for other in source_keys(name):
        if other == key:
            continue
        try:
            await reader.call(lambda other=other: reader.uploads.head(other))  # type: ignore[misc]
        except NotFound:
            continue
        raise Trouble(
            409,
            f"{name} lies in the uploads bucket as {other} already: upload it as that, or delete it first",
            state="refused",
        )


class _Counted:
    """A request's body, piece by piece, with the time between pieces limited."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self.bytes = 0

    async def __anext__(self) -> bytes:
        piece = b""
        while not piece:
            with fail_after(IDLE):
                piece = await anext(self._stream)
        self.bytes += len(piece)
        return piece

    def __aiter__(self) -> "_Counted":
        return self


async def _store(
    reader: Reader, key: str, body: _Counted, only_new: bool, metadata: Mapping[str, str]
) -> str:
    """Stream the body to S3 and return the ETag; where the client's or S3's side raises, nothing is kept.

    The client's pieces are read on the event loop while a thread sends parts to S3; a short queue lies between them.
    """
    try:
        first = await anext(body)
    except StopAsyncIteration:
        raise Trouble(422, f"{key}: the upload is empty; a CSV has at least a header") from None
    sender, receiver = create_memory_object_stream[_Item](_QUEUED)
    feeder = asyncio.create_task(_feed(first, body, sender))
    warden = asyncio.create_task(_cancel_at_stop(reader, feeder))

    def pieces() -> Iterator[bytes]:
        yield from _pieces(receiver)
        if only_new:  # somebody else's may have come while this one did
            _check_new(reader, key)

    try:
        return await to_thread.run_sync(
            lambda: reader.uploads.upload(key, pieces(), metadata=metadata), limiter=reader.upload_threads
        )
    finally:
        warden.cancel()
        feeder.cancel()
        receiver.close()


_Item = bytes | Exception | None
"""A piece of a body; why there are no more; or None: that was all of it."""


async def _cancel_at_stop(reader: Reader, feeder: asyncio.Task[None]) -> None:
    while not reader.stopping():
        await asyncio.sleep(0.2)
    await asyncio.sleep(STOPPING)
    feeder.cancel()


async def _feed(first: bytes, body: _Counted, sender: MemoryObjectSendStream[_Item]) -> None:
    async with sender:
        await sender.send(first)
        try:
            async for piece in body:
                await sender.send(piece)
            await sender.send(None)
        except (ClientDisconnect, TimeoutError) as error:
            await sender.send(error)


def _pieces(receiver: MemoryObjectReceiveStream[_Item]) -> Iterator[bytes]:
    """Give the pieces to the thread that uploads; raise where they don't come to an end, so that it gives up.

    That the other side is gone is no end: it may have been broken off.
    """
    while True:
        try:
            piece = from_thread.run(receiver.receive)
        except (EndOfStream, ClosedResourceError):
            raise _BrokenOff from None
        if piece is None:
            return
        if isinstance(piece, Exception):
            raise piece
        yield piece
