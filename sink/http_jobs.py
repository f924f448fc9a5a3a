"""Where one file is, and the list of all of them."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response

from pipeline import layout
from pipeline.figures import figures
from pipeline.jobs import Captured, Job
from pipeline.records import read
from pipeline.states import State
from sink.http_access import BEARER, MayRead
from sink.http_answer import existing
from sink.http_headers import next_page
from sink.http_problems import Answers, Trouble, documented
from sink.http_reader import Reader, TheReader
from sink.http_views import JobView, Results, job_view, with_figures

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
    response_description="Where it is now",
    responses=documented(401, 404, 422, 500, 502, 503),
)
async def job(reader: TheReader, response: Response, name: str) -> JobView:
    """Tell the state of the newest upload, its rows so far and how fast, and the result that can be fetched now."""
    existing(name)
    state = await reader.look(name)
    if state.state == "published" and state.file_id is not None:
        state = await reader.call(partial(_with_account, reader, state, state.file_id))
    if state.state in ("deleted", "unknown"):
        headers = {"Millstream-State": state.state}
        raise Trouble(404, f"{name}: {state.reason or state.state}", headers, state=state.state)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Millstream-State"] = state.state
    found = reader.picture.job(state.file_id) if state.file_id else None
    return with_figures(job_view(state), figures(state, found, reader.picture.processes(), datetime.now(UTC)))


@router.get(
    "/results",
    operation_id="list_results",
    tags=["results"],
    summary="All files, finished and running, by name",
    response_description="A page of files",
    response_model=Results,
    responses=_PAGED | documented(401, 422, 500, 502, 503),
)
async def results(reader: TheReader, prefix: Prefix = "", after: After = "", limit: Limit = 100) -> Response:
    """List files page by page: deleted ones are left out, so a page may be short; the last has no `next`.

    With many files a listing is used again for some seconds: what has just changed may be missing.
    """
    states, more = await reader.catalogue.page(prefix, after, limit)
    headers = {"Cache-Control": "no-store"}
    following = None
    if more is not None:
        headers["Link"] = next_page("/results", prefix=prefix, after=more, limit=limit)
        following = headers["Link"].partition(">")[0].removeprefix("<")
    found = Results(items=[job_view(state) for state in states], next=following)
    # As text already: FastAPI would check each field of each file again, which takes longer than all else.
    return Response(found.model_dump_json(), 200, headers, "application/json")


def _with_account(reader: Reader, state: State, file_id: str) -> State:
    """Add to a published file's state what its receipt doesn't tell: when it was taken on, and its malformed rows."""
    job = read(reader.results, layout.job(file_id), Job)
    return replace(state, job=job, captured=read(reader.results, layout.captured(file_id), Captured))
