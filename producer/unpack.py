"""Decompresses an upload as it streams by, memory bounded however much comes out of it."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Self

import pyarrow as pa

from pipeline.errors import InputError

_PIECE = 1024 * 1024


def unpacked(chunks: Iterable[bytes], key: str) -> Iterator[bytes]:
    """Yield what `chunks` hold, decompressed as the suffix of `key` says: `.gz`, `.zst` or nothing.

    Raises InputError for data that isn't compressed so, is damaged, or ends too early.
    """
    if key.endswith(".gz"):
        return _gunzipped(chunks, key)
    if key.endswith(".zst"):
        return _unzstd(chunks, key)
    return iter(chunks)


def _gunzipped(chunks: Iterable[bytes], key: str) -> Iterator[bytes]:
    """Decompress all members of a gzip file, one after the other."""
    member = None
    started = False
    for chunk in chunks:
        data = chunk
        while data:
            if member is None:
                data = data.lstrip(b"\0") if started else data  # zeros after a member are padding
                if not data:
                    break
                member, started = zlib.decompressobj(wbits=31), True
            try:
                piece = member.decompress(data, _PIECE)
            except zlib.error as error:
                raise InputError(
                    f"{key} is called .gz, but its content is no gzip, or damaged: {error}"
                ) from error
            if piece:
                yield piece
            if member.eof:
                data, member = member.unused_data, None
            else:
                data = member.unconsumed_tail
    if member is not None:
        raise InputError(f"{key} ends in the middle of its gzip data: upload it again, whole")


def _unzstd(chunks: Iterable[bytes], key: str) -> Iterator[bytes]:
    source = _Source(chunks)
    try:
        stream = pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd")
        while piece := stream.read(_PIECE):
            yield piece
    except OSError as error:
        if source.failure is not None:
            raise source.failure from None
        if "Truncated" in str(error):
            raise InputError(f"{key} ends in the middle of its zstd data: upload it again, whole") from error
        raise InputError(f"{key} is called .zst, but its content is no zstd, or damaged: {error}") from error


class _Source:
    """Chunks as the file that Arrow wants; keeps what went wrong in them apart from what Arrow finds wrong."""

    closed = False

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none only at the end."""
        try:
            while not self._held:
                self._held = next(self._chunks)
        except StopIteration:
            return b""
        except Exception as error:
            self.failure = error
            raise
        piece, self._held = self._held[:size], self._held[size:]
        return piece

    def close(self) -> None:
        """Do nothing: the chunks belong to the caller."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
