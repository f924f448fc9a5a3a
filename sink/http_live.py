"""`/events`: the figures of everything that runs, once a second, as server-sent events.

One snapshot is made a second, while anybody watches, and all watchers are sent the same bytes: two hundred of them cost
about as much as one.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.errors import MillstreamError
from pipeline.figures import told, waits_for
from pipeline.picture import InstancePicture, JobPicture, Picture
from sink.http_access import BEARER, MayRead
from sink.http_catalogue import Catalogue
from sink.http_problems import Answers, Trouble, documented
from sink.http_reader import TheReader

log = structlog.get_logger("sink")

EVERY = 1.0
"""Seconds between two snapshots."""

FILES_EVERY = 2
"""Snapshots between two looks at whether the list of files has changed."""

HEARTBEAT = 15.0
"""Seconds without an event after which a comment is sent, so that nobody on the way takes the connection for dead."""

SHOWN = 200
"""Jobs in a snapshot."""

RECENT = 60.0
"""Seconds that a job stays in the snapshot after it was last heard of."""

RETRY = 2000
"""Milliseconds after which a browser that lost its connection comes back."""

FULL = 10
"""Seconds after which a client that wasn't let in may come again."""


def job_figures(picture: JobPicture, processes: Sequence[InstancePicture], now: datetime) -> dict[str, Any]:
    """Return a job as the snapshot has it; `processes` are all that are there."""
    found = told(picture)
    state = picture.ended or ("computing" if picture.total is not None else "capturing")
    waits = None if picture.ended else waits_for(picture.name, state, found, picture, processes, now)
    return {
        "name": picture.name,
        "file_id": picture.file_id,
        "generation": picture.generation,
        "state": state,
        "rows_total": found.total,
        "rows_expected": found.expected,
        "rows_captured": found.captured,
        "rows_computed": found.computed,
        "rows_stored": found.stored,
        "rows_rejected": found.rejected,
        "rows_per_second": {stage: round(rate) for stage, rate in found.rates.items()},
        "eta_seconds": None if found.eta is None else round(found.eta),
        "waits_for": waits,
    }


def process_figures(process: InstancePicture) -> dict[str, Any]:
    """Return a process as the snapshot has it."""
    return {
        "stage": process.stage,
        "instance": process.instance,
        "partitions": process.said.partitions,
        "lag": process.said.lag,
        "rows_per_second": round(process.rate),
        "waits": process.said.waits,
    }


@dataclass(slots=True)
class Live:
    """The snapshot that all watchers share; it is renewed by a task of its own while there is one."""

    picture: Picture
    catalogue: Catalogue
    trouble: Callable[[], str | None] = lambda: None
    """Returns why the settings can't be used as they are written now."""
    watchers: int = 0
    made: int = 0
    """Snapshots made so far."""
    id: str = ""
    data: bytes = b""
    _epoch: str = field(default_factory=lambda: f"{time.time_ns():x}")
    _files: int = 0
    _seen: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    def watch(self) -> None:
        """Have snapshots made from now on; to be followed by `leave`."""
        self.watchers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def leave(self) -> None:
        """Stop watching."""
        self.watchers -= 1
        if self.watchers == 0 and self._task is not None:
            self._task.cancel()
            self._task = None

    async def next(self, seconds: float) -> bool:
        """Wait for another snapshot, `seconds` at most; whether there is one."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        while True:
            try:
                await self._make()
            except Exception:
                # Whoever watches would wait for ever, and be told by heartbeats that all is well.
                log.exception("no snapshot made")
            await asyncio.sleep(EVERY)

    async def _make(self) -> None:
        if self.made % FILES_EVERY == 0:
            try:
                self._files = await self.catalogue.version()
            except MillstreamError:
                pass  # S3 doesn't answer: whoever looks at the list is told
        self.made += 1
        processes, now = self.picture.processes(), datetime.now(UTC)
        jobs = self.picture.jobs(since=RECENT)[:SHOWN]
        data = json.dumps(
            {
                "files": self._files,
                "settings_trouble": self.trouble(),
                "jobs": [job_figures(job, processes, now) for job in jobs],
                "processes": [process_figures(process) for process in processes],
            },
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode()
        if data != self.data:
            self._seen += 1
            self.data, self.id = data, f"{self._epoch}-{self._seen}"
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()


class Watching(StreamingResponse):
    """The stream of one watcher, who was counted when it was made: it leaves however the answer ends."""

    def __init__(self, live: Live, stream: AsyncIterator[bytes]) -> None:
        """Watch from now on."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(stream, media_type="text/event-stream", headers=headers)
        self._live = live
        live.watch()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See starlette.responses.Response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.leave()


router = APIRouter(dependencies=[MayRead, BEARER])

_STREAM: Answers = {
    200: {
        "description": "A stream of events; each one's data is a JSON object with `jobs`, `processes` and `files`, and "
        "`settings_trouble`: why millstream.toml can't be used as it is now, or null",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_FULL: Answers = {
    503: documented(503)[503]
    | {
        "description": "As many watch as `http.watchers` lets in: come again after Retry-After seconds",
        "headers": {"Retry-After": {"schema": {"type": "integer"}}},
    }
}


@router.get(
    "/events",
    operation_id="watch",
    tags=["jobs"],
    summary="The figures of everything that runs, once a second",
    response_class=StreamingResponse,
    responses=_STREAM | documented(401, 422, 500) | _FULL,
)
async def events(
    request: Request, reader: TheReader, last_event_id: str | None = Header(None)
) -> StreamingResponse:
    """Send what runs whenever it has changed, as server-sent events, until the client or the server ends.

    An event is the whole picture: who was away misses nothing by reading the next one. With the `Last-Event-ID` of the present
    one, it isn't sent again. There may be as many watchers as `http.watchers` says.
    """
    live: Live = request.app.state.live
    if live.watchers >= reader.settings.http.watchers:
        raise Trouble(503, "as many watch as may: ask again", {"Retry-After": str(FULL)})

    async def stream() -> AsyncIterator[bytes]:
        sent, said = last_event_id, time.monotonic()
        yield b"retry: %d\n\n" % RETRY
        while not reader.stopping():
            if live.id and live.id != sent:
                sent, said = live.id, time.monotonic()
                yield b"id: %s\ndata: %s\n\n" % (sent.encode(), live.data)
            elif time.monotonic() - said >= HEARTBEAT:
                said = time.monotonic()
                yield b": still here\n\n"
            await live.next(0.5)

    return Watching(live, stream())
