"""Copies an upload to a local file that DuckDB can read: decompressed, in UTF-8, hashed on the way."""

import errno
import hashlib
import itertools
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import InputError, Transient
from producer.encodings import as_utf8, detect
from producer.unpack import unpacked

_HEAD = 64 * 1024

_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Spool:
    """A spooled upload; a context manager, which removes the file.

    `sha256` (hexadecimal), `crc32` and `bytes` are of the upload as it came, `text_bytes` of the file at `path`.
    `encoding` is the upload's, for its Dialect; the file is in UTF-8 without a byte order mark.
    """

    path: Path
    sha256: str
    bytes: int
    text_bytes: int
    encoding: str
    crc32: int = 0

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def spool(
    chunks: Iterable[bytes],
    key: str,
    directory: str | os.PathLike[str],
    *,
    encoding: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Spool:
    """Copy the upload at `key`, coming as `chunks`, to a new file in `directory`.

    The suffix of `key` says how it is compressed. `progress` is called with the bytes of the upload read so far.
    Memory is bounded by the chunks and a few MB. Raises InputError for what is no text, is empty, damaged, or in
    another encoding, UsageError for an encoding there isn't, Transient where the directory is full or can't be
    written to; nothing is left behind then.
    """
    upload = _Counted(chunks, progress)
    try:
        descriptor, name = tempfile.mkstemp(prefix="millstream-", suffix=".csv", dir=directory)
    except OSError as error:
        raise _unwritable(key, directory, error) from error
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            plain = unpacked(upload, key)
            head, plain = _head(plain)
            found, mark = detect(head, key, encoding)
            for text in as_utf8(_without(plain, mark), key, found, mark):
                file.write(text)
            text_bytes = file.tell()
        if not text_bytes:
            raise InputError(f"{key} is empty; a CSV file has a header at least")
        return Spool(path, upload.sha256.hexdigest(), upload.bytes, text_bytes, found, upload.crc32)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _unwritable(key, directory, error) from error
        raise


def _unwritable(key: str, directory: str | os.PathLike[str], error: OSError) -> Transient:
    why = "is full" if error.errno in _FULL else f"can't be written to: {error.strerror}"
    return Transient(
        f"{key} is to be copied to {os.fspath(directory)}, which {why} (the setting spool names it)"
    )


class _Counted:
    """The upload's chunks, counted and hashed as they go by."""

    def __init__(self, chunks: Iterable[bytes], progress: Callable[[int], None] | None) -> None:
        self._chunks = chunks
        self._progress = progress
        self.sha256 = hashlib.sha256()
        self.crc32 = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.sha256.update(chunk)
            self.crc32 = zlib.crc32(chunk, self.crc32)
            self.bytes += len(chunk)
            yield chunk
            if self._progress is not None:
                self._progress(self.bytes)


def _head(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, and all chunks from the start again."""
    first: list[bytes] = []
    size = 0
    for chunk in chunks:
        first.append(chunk)
        size += len(chunk)
        if size >= _HEAD:
            break
    return b"".join(first)[:_HEAD], itertools.chain(first, chunks)


def _without(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield the chunks without their first `size` bytes."""
    for chunk in chunks:
        rest = chunk[size:]
        size -= len(chunk) - len(rest)
        if rest:
            yield rest
