"""POST /jobs/{name}/cancel and DELETE /results/{name}: end a file's job, or take back all that there is of the file."""

from fastapi import APIRouter, Response

from sink.http_access import BEARER, MayWrite
from sink.http_answer import existing
from sink.http_problems import Trouble, documented
from sink.http_reader import TheReader
from sink.http_views import JobView, job_view
from sink.withdraw import cancel, delete

router = APIRouter(dependencies=[MayWrite, BEARER])


@router.post(
    "/jobs/{name:path}/cancel",
    operation_id="cancel_job",
    tags=["jobs"],
    summary="End a file's job without a result",
    response_description="The job has ended",
    responses=documented(401, 403, 404, 409, 422, 500, 502, 503),
)
async def cancel_job(reader: TheReader, response: Response, name: str) -> JobView:
    """End the newest job; an older result stays. Asked again it answers the same; 409 where the job has ended otherwise."""
    existing(name)
    end = await reader.call(lambda: cancel(reader.results, name, "HTTP"))
    if end.state != "cancelled":
        detail = f"{name} was {end.state} already: there is nothing to cancel"
        raise Trouble(409, detail, {"Millstream-State": end.state}, state=end.state)
    response.headers["Cache-Control"] = "no-store"
    return job_view(await reader.look(name))


@router.delete(
    "/results/{name:path}",
    operation_id="delete_result",
    tags=["results"],
    summary="Remove a file's upload, result, rejects and receipt, and end its job",
    response_description="Nothing is left of it",
    status_code=204,
    responses=documented(401, 403, 404, 409, 422, 500, 502, 503),
)
async def delete_result(reader: TheReader, name: str) -> None:
    """Remove all that there is of a file. An upload that comes in meanwhile is left alone: 409."""
    existing(name)
    await reader.call(lambda: delete(reader.uploads, reader.results, name))
