"""`/try`: a calculation on the first kilobytes of a file that somebody has at hand, before anything is uploaded.

What runs it is given from outside: the reader has no part of the stages in it. See `millstream/trialbox.py`.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.types import Message

from sink.http_access import BEARER, MayWrite
from sink.http_problems import Trouble, documented
from sink.http_reader import TheReader

Trial = Callable[[bytes, Callable[[], bool]], bytes]
"""Takes a Try as JSON and returns a Tried, or `{"error": …}`; raises Transient soon after its second argument says that the
server is asked to end."""

HEAD = 64 * 1024
"""Bytes of the file that a browser sends."""

_CONTENT = 4 * (3 * HEAD // 2) // 3
_CALCULATION = 16_384

LARGEST = 2 * (_CONTENT + 6 * _CALCULATION)
"""Bytes of a request, with room for escapes of JSON (`\\u0001`) and for spaces."""

AT_ONCE = CapacityLimiter(2)
"""Each takes a core for some seconds at most; further ones wait."""


class _Small(APIRoute):
    """A route whose body is refused once it is too large: FastAPI reads all of it, and before it looks for a token."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def limited(request: Request) -> Response:
            left = LARGEST

            async def receive() -> Message:
                nonlocal left
                message = await request.receive()
                left -= len(message.get("body", b""))
                if left < 0:
                    raise HTTPException(
                        413, f"a try has {LARGEST:,} bytes at most: send the file's beginning"
                    )
                return message

            return await handle(Request(request.scope, receive))

        return limited


router = APIRouter(dependencies=[MayWrite, BEARER], route_class=_Small)


class Try(BaseModel):
    """The beginning of a file, and what to compute of it."""

    name: Annotated[str, Field(min_length=1, max_length=1024, description="the file's name")]
    content: Annotated[
        str, Field(max_length=_CONTENT, description="its first bytes, 64 KB at most, in base64")
    ]
    whole: bool = Field(True, description="whether these are all of its bytes")
    calculation: Annotated[
        str | None,
        Field(max_length=_CALCULATION, description="as in millstream.toml; null: write one from the columns"),
    ] = None


class TriedOutput(BaseModel):
    """A column that was computed."""

    name: str
    type: str


class TriedRow(BaseModel):
    """A row, and what became of it."""

    row: int
    cells: list[str]
    results: list[str | None] | None
    error: str | None


class TriedReason(BaseModel):
    """Why rows would be rejected: what their reasons have in common, how many rows have it, and one of them."""

    text: str
    count: int
    row: int
    example: str


class Tried(BaseModel):
    """What became of the first rows: `rejected` of `computed` have no result, for these reasons, the most frequent first."""

    calculation: str
    dialect: str
    columns: list[str]
    outputs: list[TriedOutput]
    rows: list[TriedRow]
    computed: int
    rejected: int
    reasons: list[TriedReason] = []


@router.post(
    "/try",
    operation_id="try_calculation",
    tags=["try"],
    summary="Try a calculation on a file's first rows",
    response_description="The first rows, and what became of them",
    responses=documented(400, 401, 403, 404, 413, 422, 500, 503),
)
async def try_calculation(request: Request, reader: TheReader, wanted: Try) -> Tried:
    """Compute the first rows of a file without uploading it; nothing is kept."""
    trial: Trial | None = request.app.state.trial
    if trial is None:
        raise Trouble(
            404, "this reader can't try calculations: it is one that runs as  millstream serve  that can"
        )
    text = wanted.model_dump_json().encode()
    answer = await to_thread.run_sync(trial, text, reader.stopping, limiter=AT_ONCE)
    found = json.loads(answer)
    if "error" in found:
        raise Trouble(422, found["error"])
    return Tried.model_validate(found)
