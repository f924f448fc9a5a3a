"""What lies on S3 of the jobs that aren't finished: their parts, each of whose footers is read once."""

from collections.abc import Iterable

import structlog

from pipeline import layout
from pipeline.errors import NotFound, Permanent
from pipeline.jobs import Job
from pipeline.store import ObjectStore
from sink.parts import Part, part_job, read_part, runs_to_rows
from sink.seen import REJECT, RESULT, Seen

log = structlog.get_logger("sink")


class Inventory:
    """Parts by key. For any thread: at worst a footer is read twice."""

    def __init__(self, results: ObjectStore) -> None:
        """`results` is the bucket."""
        self._store = results
        self._known: dict[str, Part] = {}
        self._refused: set[str] = set()

    def add(self, part: Part) -> None:
        """Note a part that was written here."""
        self._known[part.key] = part

    def of_job(self, file_id: str) -> list[Part]:
        """Return the parts of a job that are there now."""
        return self._read(layout.parts(file_id))

    def of_all(self) -> dict[str, list[Part]]:
        """Return the parts of all jobs, by file_id."""
        found: dict[str, list[Part]] = {}
        for part in self._read(layout.PARTS):
            found.setdefault(part_job(part.key), []).append(part)
        return found

    def _read(self, prefix: str) -> list[Part]:
        keys = [head.key for head in self._store.list(prefix)]
        for key in {key for key in list(self._known) if key.startswith(prefix)} - set(keys):
            self._known.pop(key, None)
        found = []
        for key in keys:
            part = self._known.get(key)
            if part is None:
                try:
                    part = self._known[key] = read_part(self._store, key)
                except NotFound:
                    continue  # its job has ended meanwhile
                except Permanent as error:
                    if key not in self._refused:
                        log.warning("left alone", why=str(error))
                        self._refused.add(key)
                    continue
            found.append(part)
        return found


def seen_of(job: Job, rows: int, parts: Iterable[Part]) -> tuple[Seen, int]:
    """Return what parts of a job of so many rows have together, and how many rows they have more than once."""
    seen = Seen(job.block)
    total = 0
    for part in parts:
        results, rejects = runs_to_rows(part)
        seen.add_rows(rejects, REJECT)
        seen.add_rows(results, RESULT)
        total += len(results) + len(rejects)
    twice = total - seen.rows
    seen.cut(rows)
    return seen, twice
