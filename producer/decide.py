"""What an upload is to Millstream: a new generation of its name, or one that is known already. Pure: no store, no clock."""

from dataclasses import dataclass

from pipeline.jobs import End, NameRecord
from pipeline.store import Head


@dataclass(frozen=True, slots=True)
class TakeOn:
    """Take it on as this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Known:
    """The record's job is of this very content: go on with it, or leave it where it has ended."""

    file_id: str


@dataclass(frozen=True, slots=True)
class OtherKey:
    """The name belongs to the upload at another key."""

    key: str


Decision = TakeOn | Known | OtherKey


def decide(record: NameRecord | None, head: Head, end: End | None, *, again: bool) -> Decision:
    """Return what to do about the upload `head`.

    `record` is the name's, None where there is none yet; `end` is how the record's job ended, None while it runs (only asked
    for where the content is the same). `again` wants a known content computed anew. Times are compared for equality only.
    """
    if record is None:
        return TakeOn(1)
    if record.source is None or record.file_id is None:
        return TakeOn(record.generation + 1)
    if record.source.key != head.key:
        return OtherKey(record.source.key)
    same_content = record.source.etag == head.etag
    uploaded_anew = record.source.last_modified != head.last_modified
    gave_up = end is not None and end.state in {"failed", "cancelled"}
    if again or not same_content or (gave_up and uploaded_anew):
        return TakeOn(record.generation + 1)
    return Known(record.file_id)
