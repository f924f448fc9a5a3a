"""Reading and writing the records of `pipeline.jobs`, with the conditions that decide races."""

from typing import TypeVar

from pipeline.errors import NotFound, PreconditionFailed, Throttled
from pipeline.jobs import Record
from pipeline.store import ObjectStore

R = TypeVar("R", bound=Record)


def read(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    """Return the record at `key`, or None where there is none."""
    found = read_with_etag(store, key, kind)
    return found[0] if found else None


def read_with_etag(store: ObjectStore, key: str, kind: type[R]) -> tuple[R, str] | None:
    """Return the record at `key` and the ETag that a compare-and-set needs, or None where there is none."""
    try:
        data, head = store.get(key)
    except NotFound:
        return None
    return kind.load(data), head.etag


def create(store: ObjectStore, key: str, record: R) -> R:
    """Write a record where there is none yet; return the one that is there afterwards: ours, or whose was first.

    Raises Throttled where S3 says that somebody was first, and has nothing there: so it may answer two at the same moment.
    """
    try:
        store.put(key, record.dump(), if_none_match=True)
    except PreconditionFailed as error:
        # Somebody was first, or an answer of ours was lost and the call made twice: what is there now is right.
        there = read(store, key, type(record))
        if there is None:
            raise Throttled(f"{key}: {error}, and isn't there") from error
        return there
    return record


def replace(store: ObjectStore, key: str, record: Record, etag: str | None) -> bool:
    """Write a record over the one with this ETag (None: over none); return whether it is there now.

    A lost answer is no answer: where the condition fails, what is there is compared with what was to be written.
    """
    data = record.dump()
    try:
        store.put(key, data, if_match=etag, if_none_match=etag is None)
    except (PreconditionFailed, NotFound):  # S3 says the latter where what was to be replaced is gone
        try:
            return store.get(key)[0] == data
        except NotFound:
            return False
    return True


def mark(store: ObjectStore, key: str) -> None:
    """Write an empty object."""
    store.put(key, b"")
