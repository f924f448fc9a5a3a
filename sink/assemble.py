"""A job from its parts: looked at by whoever put a share on S3, or found it there; assembled by one, and published."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline import claims, layout, missing
from pipeline.claims import Observer
from pipeline.duck import Connection
from pipeline.errors import ClaimLost, JobEnded, NotFound
from pipeline.jobs import Captured, End, Job
from pipeline.store import ObjectStore
from sink.complete import Complete
from sink.inventory import Inventory, seen_of
from sink.keeper import Keeper
from sink.merge import Merge
from sink.publish import Publisher


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(Complete):
    """A complete job whose rows lie in parts."""

    merge: Merge

    def in_order(self) -> Iterator[pa.Table]:
        """Yield the results in the input's row order."""
        return self.merge.results()

    def rejects_in_order(self) -> Iterator[tuple[int, bytes]]:
        """Yield row numbers and values of the rejects, in the input's row order."""
        return self.merge.rejects()


class Assembler:
    """Assembles jobs from parts, one at a time. For one thread."""

    def __init__(
        self,
        results: ObjectStore,
        publisher: Publisher,
        inventory: Inventory,
        *,
        stale: float = claims.STALE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`results` is the bucket; a claim that stands unchanged for `stale` seconds is taken over."""
        self._store = results
        self._publisher = publisher
        self._inventory = inventory
        self._stale = stale
        self._now = now
        self._observers: dict[str, Observer] = {}

    def assemble(
        self,
        job: Job,
        captured: Captured,
        duplicates: int,
        connection: Connection,
        check: Callable[[], None] = lambda: None,
    ) -> End | None:
        """Publish a job whose rows are all in parts; return how it ended. `check` may raise, to stop.

        None where rows lack still, or where another instance is at it: whoever looks again later finds out how that went.
        Raises Transient errors.
        """
        parts = self._inventory.of_job(job.file_id)
        seen, twice = seen_of(job, captured.rows, parts)
        if seen.rows < captured.rows:
            return self._publisher.finish(job)  # it may have ended, and its parts be gone
        observer = self._observers.get(job.file_id)
        if observer is None:
            key = layout.assembly(job.file_id)
            observer = self._observers[job.file_id] = Observer(
                self._store, key, stale=self._stale, now=self._now
            )
        held = observer.take()
        if held is None:
            return self._publisher.finish(job)
        try:
            with Keeper(self._store, job, held) as keeper:

                def go_on() -> None:
                    check()
                    keeper.check()

                width = max((part.width for part in parts), default=0.0)
                keys = [part.key for part in parts]
                merged = Merged(
                    job=job,
                    captured=captured,
                    results=seen.results,
                    rejected=seen.rejects,
                    duplicates=duplicates + twice,
                    rounds=rounds(self._store, job.file_id),
                    in_parts=True,
                    merge=Merge(self._store, job, captured.rows, keys, seen, width, go_on),
                )
                end = self._publisher.publish(merged, connection)
        except (ClaimLost, JobEnded, NotFound):
            # Another took over, or has ended the job and removed its parts.
            return self._publisher.finish(job)
        return end

    def forget(self, file_id: str) -> None:
        """Forget what was seen of a job's claim: the job has ended. For any thread."""
        self._observers.pop(file_id, None)


def rounds(results: ObjectStore, file_id: str) -> int:
    """Return how many rounds of repair a job had."""
    return max((asked.round for asked, _ in missing.requested(results, file_id).values()), default=0)
