"""`/try`: a calculation on the first kilobytes of a file that somebody has at hand, before anything is uploaded.

What runs it is given from outside: the reader has no part of the stages in it. See `millstream/trialbox.py`.
"""

import json
from collections.abc import Callable
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from sink.http_access import BEARER, MayWrite
from sink.http_problems import Trouble, documented

Trial = Callable[[bytes], bytes]
"""Takes a Try as JSON and returns a Tried, or `{"error": …}`."""

HEAD = 64 * 1024
"""Bytes of the file that a browser sends."""

_CONTENT = 4 * (3 * HEAD // 2) // 3
AT_ONCE = CapacityLimiter(2)
"""Each takes a core for some seconds at most; further ones wait."""

router = APIRouter(dependencies=[MayWrite, BEARER])


class Try(BaseModel):
    """The beginning of a file, and what to compute of it."""

    name: Annotated[str, Field(min_length=1, max_length=1024, description="the file's name")]
    content: Annotated[
        str, Field(max_length=_CONTENT, description="its first bytes, 64 KB at most, in base64")
    ]
    whole: bool = Field(True, description="whether these are all of its bytes")
    calculation: Annotated[
        str | None,
        Field(max_length=16_384, description="as in millstream.toml; null: write one from the columns"),
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


class Tried(BaseModel):
    """What became of the first rows: `rejected` of `computed` have no result."""

    calculation: str
    dialect: str
    columns: list[str]
    outputs: list[TriedOutput]
    rows: list[TriedRow]
    computed: int
    rejected: int


@router.post(
    "/try",
    operation_id="try_calculation",
    tags=["try"],
    summary="Try a calculation on a file's first rows",
    responses=documented(401, 404, 422, 500, 503),
)
async def try_calculation(request: Request, wanted: Try) -> Tried:
    """Compute the first rows of a file without uploading it; nothing is kept."""
    trial: Trial | None = request.app.state.trial
    if trial is None:
        raise Trouble(
            404, "this reader can't try calculations: it is one that runs as  millstream serve  that can"
        )
    text = wanted.model_dump_json().encode()
    found = json.loads(await to_thread.run_sync(trial, text, limiter=AT_ONCE))
    if "error" in found:
        raise Trouble(422, found["error"])
    return Tried.model_validate(found)
