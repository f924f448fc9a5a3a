"""Where is this file? The answer, read from what lies on S3 and from nothing else.

The newest of a name is the upload as it lies, where that is unlike the source in the name's record, else the record:

    upload unlike the record   refused     a refusal of this very upload lies there
                               uploaded    nobody has taken it on yet
    the record                 deleted     it has no source
                               uploaded    taken on; nobody captures yet
                               capturing   rows are being published
                               computing   all rows are published; the result isn't yet
                               published   the receipt names this job
                               failed, cancelled, superseded   its end says so
    neither                    unknown

An older result may be there all the while: `State.served` is the receipt of whatever can be served now.
"""

from dataclasses import dataclass, replace
from typing import Literal

from pipeline import layout
from pipeline.errors import NotFound
from pipeline.jobs import Captured, Claim, End, Job, NameRecord, Receipt, Refusal
from pipeline.names import COMPRESSIONS
from pipeline.records import read
from pipeline.store import Head, ObjectStore

Phase = Literal[
    "uploaded",
    "capturing",
    "computing",
    "published",
    "failed",
    "cancelled",
    "superseded",
    "refused",
    "deleted",
    "unknown",
]

PENDING: frozenset[Phase] = frozenset({"uploaded", "capturing", "computing"})
"""Phases that come to an end by themselves."""

_LOOKS = 5
"""Times that a name is looked at, while one publication after another changes it under the eyes of the looker."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a file is.

    `served` is the receipt of the result that can be fetched now: the newest's own where the state is published, else
    an older one's. `upload` is the file in the uploads bucket, if it lies there. `generation` and `file_id` are those
    of the newest job, None where there is none yet. `end` is None for a published job, whose receipt says all; `job`,
    `claim` and `captured` are there where the newest job isn't published, as far as they are written.
    """

    name: str
    state: Phase
    reason: str | None = None
    generation: int | None = None
    file_id: str | None = None
    upload: Head | None = None
    served: Receipt | None = None
    end: End | None = None
    job: Job | None = None
    claim: Claim | None = None
    captured: Captured | None = None

    @property
    def pending(self) -> bool:
        """Whether it will come to an end by itself."""
        return self.state in PENDING

    @property
    def recomputing(self) -> bool:
        """Whether an older result is served while the newest is on its way."""
        return self.pending and self.served is not None

    @property
    def headline(self) -> str:
        """The state as it is told beside a served result: `recomputing` where a newer one is on its way."""
        return "recomputing" if self.recomputing else self.state

    @property
    def rows_captured(self) -> int | None:
        """Rows that Kafka has acknowledged, from the start of the file."""
        if self.captured is not None:
            return self.captured.rows
        return self.claim.rows if self.claim is not None else None

    @property
    def share_captured(self) -> float | None:
        """How much of the file those are, 0 to 1; None where that isn't known."""
        if self.captured is not None:
            return 1.0
        return self.claim.share if self.claim is not None else None

    @property
    def rows_malformed(self) -> int | None:
        """Rows of those that capture couldn't read."""
        account = self.captured or self.claim
        return account.malformed if account else None

    @property
    def summary(self) -> str:
        """One line for people: what is happening, or what happened and why."""
        if self.state == "capturing" and self.rows_captured:
            share = self.share_captured
            so_far = "capturing" if share is None else f"captured {100 * share:.0f} %"
            return f"{so_far}: {counted(self.rows_captured, 'row')} so far"
        if self.state == "computing" and self.captured is not None:
            rows = self.captured.rows
            return f"computing: {'all ' if rows > 1 else ''}{counted(rows, 'row')} captured"
        if self.state == "published" and self.served is not None:
            done = self.served
            return (
                f"published: {counted(done.rows, 'row')} in, {done.results:,} out, {done.rejected:,} rejected"
            )
        return f"{self.state}: {self.reason}" if self.reason and self.state != "deleted" else self.state


def look(uploads: ObjectStore, results: ObjectStore, name: str) -> State:
    """Return where `name` is.

    Takes 3 reads where the newest is published, up to 9 where it isn't. Raises Transient where S3 can't be asked.
    """
    for _ in range(_LOOKS):
        record = read(results, layout.name_record(name), NameRecord)
        upload = _upload(uploads, name, record)
        receipt = read(results, layout.receipt(name), Receipt)
        if receipt is None or (record is not None and receipt.generation <= record.generation):
            break
        # The name moved on between the two reads: what was read first is of the past.
    served = receipt if receipt and receipt.state == "published" and record and record.source else None
    is_published = served is not None and record is not None and served.file_id == record.file_id
    end = None
    if record is not None and record.file_id is not None and not is_published:
        end = read(results, layout.end(record.file_id), End)
    if upload is not None and _is_new(upload, record, end):
        return _newcomer(results, name, upload, served)
    if record is None:
        return State(name, "unknown", "there is no upload and no result of that name")
    if record.source is None or record.file_id is None:
        return State(name, "deleted", "it was deleted", record.generation)
    found = State(name, "published", None, record.generation, record.file_id, upload, served, end)
    return found if is_published else _unpublished(results, found, record.file_id)


def counted(number: int, noun: str) -> str:
    """Return a number with what it is of: `1 row`, `1,024 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def source_keys(name: str) -> tuple[str, ...]:
    """Return the keys of the uploads bucket that a file of this name may lie at."""
    return (name, *(name + suffix for suffix in COMPRESSIONS))


def _upload(uploads: ObjectStore, name: str, record: NameRecord | None) -> Head | None:
    """Return the upload as it lies: at the record's own key first, since a second key for one name is refused."""
    known = record.source.key if record and record.source else name
    for key in sorted(source_keys(name), key=lambda key: key != known):
        try:
            return uploads.head(key)
        except NotFound:
            continue
    return None


def _is_new(upload: Head, record: NameRecord | None, end: End | None) -> bool:
    """Whether the record doesn't speak of this upload; after a failure it is enough that it was uploaded again."""
    if record is None or record.source is None or upload.etag != record.source.etag:
        return True
    gave_up = end is not None and end.state in ("failed", "cancelled")
    return gave_up and upload.last_modified != record.source.last_modified


def _newcomer(results: ObjectStore, name: str, upload: Head, served: Receipt | None) -> State:
    refusal = read(results, layout.refused(upload.key), Refusal)
    if refusal is not None and refusal.etag == upload.etag:
        return State(name, "refused", refusal.reason, upload=upload, served=served)
    return State(name, "uploaded", upload=upload, served=served)


def _unpublished(results: ObjectStore, found: State, file_id: str) -> State:
    """Say how far a job is that the receipt doesn't name. An end that says published is but a promise of a receipt."""
    job = read(results, layout.job(file_id), Job)
    captured = read(results, layout.captured(file_id), Captured)
    claim = None if captured else read(results, layout.claim(file_id), Claim)
    if found.end is not None and found.end.state == "deleted":
        return State(found.name, "deleted", found.end.reason, found.generation, end=found.end)
    phase: Phase
    reason = None
    if found.end is not None and found.end.state != "published":
        phase, reason = found.end.state, found.end.reason
    elif captured is not None or found.end is not None:
        phase = "computing"
    else:
        phase = "uploaded" if claim is None else "capturing"
    return replace(found, state=phase, reason=reason, job=job, claim=claim, captured=captured)
