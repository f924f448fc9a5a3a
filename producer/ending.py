"""How capture ends jobs: those that can't be captured, and those that a newer upload of their name takes over."""

from pipeline import layout, records
from pipeline.errors import Permanent
from pipeline.jobs import Captured, End, Job, NameRecord, now
from pipeline.names import name_of
from pipeline.store import Head, ObjectStore


def fail(results: ObjectStore, job: Job, reason: str) -> End:
    """End a job that can't be captured; return how it ended, which somebody else may have decided first."""
    return _end(results, job.file_id, End(state="failed", reason=reason, nonce="capture", ended=now()))


def outrun(results: ObjectStore, file_id: str, record: NameRecord) -> End:
    """End a job whose name's record is a newer one's, or was deleted; return how it ended."""
    if record.file_id is not None:
        return supersede(results, file_id, record.generation)
    end = End(state="deleted", reason="it was deleted", nonce="capture", ended=now())
    return _end(results, file_id, end)


def supersede(results: ObjectStore, file_id: str, generation: int) -> End:
    """End a job whose name belongs to another one now, of this generation; return how it ended."""
    reason = f"generation {generation} of the name took its place"
    return _end(results, file_id, End(state="superseded", reason=reason, nonce="capture", ended=now()))


def replaced_by_refused(results: ObjectStore, upload: Head, error: Permanent) -> None:
    """End the job whose upload was replaced by one of which no job could be made, unless it is captured: it never will be."""
    record = records.read(results, layout.name_record(name_of(upload.key)), NameRecord)
    if record is None or record.source is None or record.file_id is None:
        return
    if record.source.key != upload.key or record.source.etag == upload.etag:
        return
    if records.read(results, layout.captured(record.file_id), Captured) is None:
        reason = f"the upload was replaced before all of it was captured, and what came was refused: {error}"
        _end(results, record.file_id, End(state="failed", reason=reason, nonce="capture", ended=now()))


def is_superseded(job: Job, record: NameRecord | None) -> bool:
    """Whether the record names another job of its generation, or a higher generation."""
    if record is None or record.generation < job.generation:
        return False
    return record.generation > job.generation or record.file_id != job.file_id


def _end(results: ObjectStore, file_id: str, end: End) -> End:
    return records.create(results, layout.end(file_id), end)
