"""`GET /results/{name}?partial=true`: the rows from the file's start that lie on S3 already, while the job runs.

They are read from the parts that sinks have put there, merged as the result will be: as long as no row is computed twice with
another outcome, what is sent is how the result begins. What sinks still hold in memory isn't there yet. Where the job ends, and
its parts go, under the eyes of a client, the answer is broken off.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from functools import partial
from itertools import chain, islice

import numpy as np
from fastapi import Request, Response

from pipeline import duck
from pipeline.jobs import Job
from pipeline.states import State
from pipeline.store import ObjectStore
from sink.csv_writer import results_csv
from sink.http_headers import attachment, beside
from sink.http_problems import Trouble
from sink.http_reader import Reader
from sink.http_stream import Made, download
from sink.inventory import Inventory, seen_of
from sink.merge import Merge
from sink.parts import Part

AT_ONCE = 4
"""Answers of this kind at a time: each has a row group of each share in memory, some 50 MB in all."""

JOBS = 16
"""Jobs whose parts' footers are remembered, for whoever asks again and again."""


async def so_far(request: Request, reader: Reader, state: State, media_type: str) -> Response | None:
    """Answer with what there is of a job that runs; None where that is nothing.

    Raises NotFound where the job has just ended, and its parts are gone.
    """
    job = state.job
    if job is None:
        return None
    total = state.captured.rows if state.captured else None
    inventory = _inventory(reader, job.file_id)
    parts = await reader.call(lambda: inventory.of_job(job.file_id))
    rows = rows_from_the_start(parts, total)
    if not rows:
        return None
    headers = {
        "Content-Type": media_type,
        "Content-Disposition": attachment(beside(state.name, "partial.csv")),
        "Accept-Ranges": "none",
        "Cache-Control": "no-store",
        "Millstream-State": state.state,
        "Millstream-Rows": f"0-{rows - 1}",
        "Millstream-Generation": str(job.generation),
        "Millstream-File-Id": job.file_id,
    }
    if request.method == "HEAD":
        answer = Response(None, 200, headers)
        del answer.headers["content-length"]  # nobody knows
        return answer
    if reader.partials >= AT_ONCE:
        raise Trouble(503, "as many files are read in part as may be: ask again", {"Retry-After": "5"})
    seat = reader.seat("")
    pieces = _Partial(reader, partial(_csv, reader.results, job, parts, rows))
    return await download(pieces, seat, 200, headers)


def rows_from_the_start(parts: Iterable[Part], total: int | None) -> int:
    """Return how many rows from the first on the parts have without a gap; of `total`, where it is known how many there are."""
    runs = [runs.reshape(-1, 2) for part in parts for runs in (part.results, part.rejects)]
    bounds = np.concatenate(runs) if runs else np.zeros((0, 2), np.int64)
    bounds = bounds[np.argsort(bounds[:, 0])]
    reach = np.concatenate([[0], np.maximum.accumulate(bounds[:, 1])])
    gaps = np.flatnonzero(bounds[:, 0] > reach[:-1])
    rows = int(reach[gaps[0]] if len(gaps) else reach[-1])
    return rows if total is None else min(rows, total)


def _csv(results: ObjectStore, job: Job, parts: list[Part], rows: int) -> Generator[bytes]:
    seen, _ = seen_of(job, rows, parts)
    width = max(part.width for part in parts)
    merge = Merge(results, job, rows, [part.key for part in parts], seen, width, lambda: None)
    tables = merge.results()
    first = list(
        islice(tables, 1)
    )  # before the header is sent: parts that are gone can still be told by a status
    with closing(duck.shared()) as connection:
        yield from results_csv(job, chain(first, tables), connection)


def _inventory(reader: Reader, file_id: str) -> Inventory:
    """Return what remembers the footers of this job's parts."""
    found = reader.inventories.pop(file_id, None) or Inventory(reader.results)
    reader.inventories[file_id] = found  # the last that was asked for
    while len(reader.inventories) > JOBS:
        del reader.inventories[next(iter(reader.inventories))]
    return found


class _Partial(Made):
    """Rows so far, on their way; they count as such until they are closed."""

    async def open(self) -> None:
        """See Made."""
        self._reader.partials += 1
        await super().open()

    async def close(self) -> None:
        """See Made."""
        self._reader.partials -= 1
        await super().close()
