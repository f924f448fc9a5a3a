"""Content codings: bytes compressed as they go by, the same each time."""

import zlib
from collections.abc import Iterable, Iterator

import zstandard

from sink.http_negotiation import Coding

WORTH = 1_400
"""Bytes from which it is worth it: less fits into one packet anyway."""

_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3
_ZSTD_WINDOW = 19
"""Of 2^19 bytes: clients need as much memory, and so do we, for each answer that is being compressed."""


def encoded(coding: Coding, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `pieces` compressed; one gzip member, or one zstd frame."""
    if coding == "identity":
        yield from pieces
        return
    compressor = _compressor(coding)
    for piece in pieces:
        if out := compressor.compress(piece):
            yield out
    yield compressor.flush()


def _compressor(coding: Coding) -> "zlib._Compress | zstandard.ZstdCompressionObj":
    if coding == "gzip":
        return zlib.compressobj(
            _GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16
        )  # with gzip's header, and no time in it
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, window_log=_ZSTD_WINDOW, write_checksum=True, threads=0
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()
