"""Is it alive, is it ready and if not why, and its figures."""

from anyio import fail_after, to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel

from pipeline import metrics
from pipeline.errors import MillstreamError
from pipeline.layout import OPEN
from pipeline.store import ObjectStore
from sink.http_access import BEARER, MayRead
from sink.http_problems import Answers, Trouble, documented
from sink.http_reader import Reader, TheReader

PATIENCE = 5.0
"""Seconds that S3 may take to answer before the reader calls itself not ready."""

_FIGURES: Answers = {
    200: {"description": "All figures", "content": {"text/plain": {"schema": {"type": "string"}}}}
}

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """`live`, or `ready`."""

    status: str


@router.get(
    "/health/live",
    operation_id="live",
    summary="Whether the process answers",
    response_description="It does",
    responses=documented(500),
)
async def live() -> Health:
    """Answer. It asks nobody else: a restart would not bring S3 back."""
    return Health(status="live")


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Whether files can be fetched and uploaded, and if not why: `reasons`",
    response_description="They can",
    responses=documented(500, 503),
)
async def ready(reader: TheReader) -> Health:
    """Ask S3 for both buckets."""
    settings = reader.settings.s3
    buckets = ((reader.uploads, settings.uploads), (reader.results, settings.results))
    reasons = [
        reason for store, bucket in buckets if (reason := await _reason(reader, store, bucket)) is not None
    ]
    if reader.stopping():
        reasons.append("the reader is about to end")
    if reasons:
        raise Trouble(503, "; ".join(reasons), {"Retry-After": "2"}, reasons=reasons)
    return Health(status="ready")


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    dependencies=[MayRead, BEARER],
    responses=_FIGURES | documented(401, 500),
)
async def figures() -> Response:
    """Send all figures in Prometheus's text format."""
    return Response(
        metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE, "Cache-Control": "no-store"}
    )


async def _reason(reader: Reader, store: ObjectStore, bucket: str) -> str | None:
    """Return why a bucket can't be used, or None where it can."""

    def ask() -> None:
        # Listing, since asking for one object can't tell a missing bucket from a missing object.
        next(store.list(OPEN), None)

    try:
        with fail_after(PATIENCE):
            await to_thread.run_sync(ask, limiter=reader.threads, abandon_on_cancel=True)
    except TimeoutError:
        return f"S3 does not answer for bucket {bucket} within {PATIENCE:g} s"
    except MillstreamError as error:
        return str(error)
    return None
