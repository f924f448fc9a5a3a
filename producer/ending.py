"""How capture ends jobs: those that can't be captured, and those that a newer upload of their name takes over."""

from pipeline import layout, records
from pipeline.jobs import End, Job, NameRecord, now
from pipeline.store import ObjectStore


def fail(results: ObjectStore, job: Job, reason: str) -> End:
    """End a job that can't be captured; return how it ended, which somebody else may have decided first."""
    return _end(results, job.file_id, End(state="failed", reason=reason, nonce="capture", ended=now()))


def supersede(results: ObjectStore, file_id: str, generation: int) -> End:
    """End a job whose name belongs to another one now, of this generation; return how it ended."""
    reason = f"generation {generation} of the name took its place"
    return _end(results, file_id, End(state="superseded", reason=reason, nonce="capture", ended=now()))


def is_superseded(job: Job, record: NameRecord | None) -> bool:
    """Whether the record names another job of its generation, or a higher generation."""
    if record is None or record.generation < job.generation:
        return False
    return record.generation > job.generation or record.file_id != job.file_id


def _end(results: ObjectStore, file_id: str, end: End) -> End:
    return records.create(results, layout.end(file_id), end)
