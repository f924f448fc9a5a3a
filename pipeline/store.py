"""What Millstream needs of an object store: S3's conditional writes, ranges and multipart uploads, and nothing else.

`pipeline/s3.py` is the real one. `MemoryStore` keeps the same contract in memory, for tests that look at every step.
"""

import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from pipeline.errors import NotFound, Permanent, PreconditionFailed

READ_CHUNK = 1024 * 1024
"""Bytes of one piece of a streamed object."""

PART_SIZE = 8 * 1024 * 1024
"""Bytes of one part of a multipart upload; S3 wants at least 5 MiB and takes 10,000 parts: 80 GiB."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an object without reading it; `etag` is without its quotes."""

    key: str
    etag: str
    size: int
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """A stretch of an object, streamed: bytes `start` to `start + length - 1` of `head.size`.

    `read` gives the next bytes, at most as many as it is asked for, and none at the end.
    """

    head: Head
    start: int
    length: int
    read: Callable[[int], bytes]

    @property
    def chunks(self) -> Iterator[bytes]:
        """All that is left, in pieces of READ_CHUNK."""
        return iter(lambda: self.read(READ_CHUNK), b"")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload or copy that was begun, and neither completed nor aborted."""

    key: str
    number: str


class ObjectStore(Protocol):
    """One bucket of an S3 server, or something that keeps the same promises.

    All calls raise Transient errors where trying again may help, `NotFound` where there is no such object, and
    `PreconditionFailed` where a condition doesn't hold. A write whose answer was lost may have happened: who needs to know
    reads back.
    """

    def head(self, key: str) -> Head:
        """Return what is known of the object."""
        ...

    def get(self, key: str) -> tuple[bytes, Head]:
        """Return a small object, whole."""
        ...

    def open(
        self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Body]:
        """Stream an object, or `length` bytes of it from `start`."""
        ...

    def put(
        self,
        key: str,
        data: bytes,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Write a small object and return its ETag; `if_none_match` means only where there is none yet."""
        ...

    def upload(self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str] | None = None) -> str:
        """Write an object of any size from pieces of any size, all or nothing, and return its ETag."""
        ...

    def copy(
        self,
        source: str,
        key: str,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Copy an object on the server; the conditions are those of `put`, on the target.

        Of copies at the same moment more than one may be told that it won: who copies reads back.
        """
        ...

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Remove an object; one that isn't there is removed already.

        With `if_match` only that version: then PreconditionFailed may also mean that there is none any more.
        """
        ...

    def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
        """Return the objects below a prefix, metadata left out; with a delimiter, only those without it after the prefix."""
        ...

    def unfinished(self) -> Iterator[Unfinished]:
        """Return the multipart uploads and copies under way, or left by somebody who died."""
        ...

    def abort(self, upload: Unfinished) -> None:
        """End a multipart upload or copy without an object; one that is over is ended already."""
        ...


class MemoryStore:
    """An object store in memory."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._objects: dict[str, tuple[bytes, Head]] = {}
        self._clock = itertools.count()

    def head(self, key: str) -> Head:
        """See ObjectStore."""
        return self.get(key)[1]

    def get(self, key: str) -> tuple[bytes, Head]:
        """See ObjectStore."""
        if key not in self._objects:
            raise NotFound(f"no object {key}")
        return self._objects[key]

    def open(
        self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[Body]:
        """See ObjectStore."""
        data, head = self.get(key)
        if if_match is not None and head.etag != if_match:
            raise PreconditionFailed(f"{key} is another by now")
        if (start or length is not None) and start >= len(data):
            raise Permanent(f"{key} has no such range")
        stop = len(data) if length is None else min(start + length, len(data))
        return nullcontext(Body(head, start, max(0, stop - start), io.BytesIO(data[start:stop]).read))

    def put(
        self,
        key: str,
        data: bytes,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """See ObjectStore."""
        there = self._objects.get(key)
        if (if_none_match and there) or (
            if_match is not None and (there is None or there[1].etag != if_match)
        ):
            raise PreconditionFailed(f"{key}: somebody else was first")
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        when = datetime.fromtimestamp(next(self._clock), UTC)
        self._objects[key] = (data, Head(key, etag, len(data), when, dict(metadata or {})))
        return etag

    def upload(self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str] | None = None) -> str:
        """See ObjectStore."""
        return self.put(key, b"".join(chunks), metadata=metadata)

    def copy(
        self,
        source: str,
        key: str,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """See ObjectStore."""
        data, _ = self.get(source)
        return self.put(key, data, if_match=if_match, if_none_match=if_none_match, metadata=metadata)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """See ObjectStore."""
        there = self._objects.get(key)
        if if_match is not None and (there is None or there[1].etag != if_match):
            raise PreconditionFailed(f"{key} is another by now")
        self._objects.pop(key, None)

    def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
        """See ObjectStore."""
        for key in sorted(self._objects):
            if key.startswith(prefix) and not (delimiter and delimiter in key[len(prefix) :]):
                yield self._objects[key][1]

    def unfinished(self) -> Iterator[Unfinished]:
        """See ObjectStore: here, uploads are over at once."""
        return iter(())

    def abort(self, upload: Unfinished) -> None:
        """See ObjectStore."""
