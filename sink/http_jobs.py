"""Where one file is, and the list of all of them."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated

from anyio import create_task_group
from fastapi import APIRouter, Query, Response

from pipeline import layout
from pipeline.errors import NameRefused
from pipeline.jobs import Captured, Job
from pipeline.names import name_of
from pipeline.records import read
from pipeline.states import State
from sink.http_access import BEARER, MayRead
from sink.http_answer import existing
from sink.http_headers import next_page
from sink.http_problems import Answers, Trouble, documented
from sink.http_reader import Reader, TheReader
from sink.http_views import JobView, Results, job_view

router = APIRouter(dependencies=[MayRead, BEARER])

_PAGED: Answers = {
    200: {"headers": {"Link": {"description": 'The next page, rel="next"', "schema": {"type": "string"}}}}
}

Prefix = Annotated[str, Query(description="only names that start so", max_length=1024)]
After = Annotated[
    str, Query(description="only names after this one, in the order of their characters", max_length=1024)
]
Limit = Annotated[int, Query(ge=1, le=1000, description="files on one page")]


@router.get(
    "/jobs/{name:path}",
    operation_id="get_job",
    tags=["jobs"],
    summary="Where a file is",
    responses=documented(401, 404, 422, 500, 502, 503),
)
async def job(reader: TheReader, response: Response, name: str) -> JobView:
    """Tell the state of the newest upload, its rows so far, and the result that can be fetched now."""
    existing(name)
    state = await reader.look(name)
    if state.state == "published" and state.file_id is not None:
        state = await reader.call(partial(_with_account, reader, state, state.file_id))
    if state.state in ("deleted", "unknown"):
        headers = {"Millstream-State": state.state}
        raise Trouble(404, f"{name}: {state.reason or state.state}", headers, state=state.state)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Millstream-State"] = state.state
    return job_view(state)


@router.get(
    "/results",
    operation_id="list_results",
    tags=["results"],
    summary="All files, finished and running, by name",
    responses=_PAGED | documented(401, 422, 500, 502, 503),
)
async def results(
    reader: TheReader, response: Response, prefix: Prefix = "", after: After = "", limit: Limit = 100
) -> Results:
    """List files page by page: deleted ones are left out, so a page may be short; the last has no `next`."""
    states, more = await page(reader, prefix, after, limit)
    response.headers["Cache-Control"] = "no-store"
    link = None
    if more is not None:
        response.headers["Link"] = next_page("/results", prefix=prefix, after=more, limit=limit)
        link = response.headers["Link"].partition(">")[0].removeprefix("<")
    return Results(items=[job_view(state) for state in states], next=link)


async def page(reader: Reader, prefix: str, after: str, limit: int) -> tuple[list[State], str | None]:
    """Return the states of up to `limit` names after `after`, and the name that the next page starts after."""
    found = await reader.call(
        lambda: sorted({n for n in _names(reader, prefix) if n > after and n.startswith(prefix)})
    )
    names = found[:limit]
    states: dict[str, State] = {}

    async def look(name: str) -> None:
        states[name] = await reader.look(name)

    async with create_task_group() as group:
        for name in names:
            group.start_soon(look, name)
    listed = [states[name] for name in names if states[name].state not in ("deleted", "unknown")]
    return listed, names[-1] if len(found) > limit else None


def _with_account(reader: Reader, state: State, file_id: str) -> State:
    """Add to a published file's state what its receipt doesn't tell: when it was taken on, and its malformed rows."""
    job = read(reader.results, layout.job(file_id), Job)
    return replace(state, job=job, captured=read(reader.results, layout.captured(file_id), Captured))


def _names(reader: Reader, prefix: str) -> Iterator[str]:
    """Give every name that starts with `prefix`: of files that were taken on, and of uploads as they lie."""
    for head in reader.results.list(layout.NAMES + prefix):
        yield head.key.removeprefix(layout.NAMES).removesuffix(".json")
    for head in reader.uploads.list(prefix):
        with suppress(NameRefused):
            yield name_of(head.key)
