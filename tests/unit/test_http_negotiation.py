"""Which format and which coding a client gets (RFC 9110, section 12), and what the codings give."""

import gzip

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sink.http_coding import encoded
from sink.http_negotiation import Coding, Format, codings_of, format_of


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "csv"),
        ("", "csv"),
        ("*/*", "csv"),
        ("image/png", "csv"),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", "csv"),
        ("application/json, text/plain, */*", "csv"),
        ("application/json, */*;q=0.5", "json"),
        ("application/vnd.apache.parquet", "parquet"),
        ("Application/VND.apache.Parquet ; q=0.9, text/csv;q=0.5", "parquet"),
        ("application/vnd.apache.arrow.stream, application/json;q=0.2", "arrow"),
        ("text/*;q=0.2, application/json;q=0.3", "json"),
        ("text/csv;q=0, */*", "json"),
        ("application/json;q=nonsense", "json"),
    ],
)
def test_the_format_is_what_accept_likes_best(accept: str | None, expected: Format) -> None:
    assert format_of(accept) == expected


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        (None, ["identity"]),
        ("", ["identity"]),
        ("br", ["identity"]),
        ("gzip", ["gzip", "identity"]),
        ("x-gzip", ["gzip", "identity"]),
        ("gzip, deflate, br, zstd", ["zstd", "gzip", "identity"]),
        ("gzip;q=1.0, zstd;q=0.5", ["gzip", "zstd", "identity"]),
        ("GZIP ; Q=0.5", ["gzip", "identity"]),
        ("gzip;q=0", ["identity"]),
        ("gzip;q=0.5, identity", ["identity", "gzip"]),
        ("gzip, identity;q=0", ["gzip"]),
        ("*", ["zstd", "gzip", "identity"]),
        ("*;q=0", []),
        ("identity;q=0", []),
        ("gzip, *;q=0", ["gzip"]),
    ],
)
def test_codings_are_those_the_client_takes_the_best_first(
    accept_encoding: str | None, expected: list[Coding]
) -> None:
    assert codings_of(accept_encoding) == expected


@given(st.text())
def test_whatever_a_header_holds_something_is_decided(header: str) -> None:
    assert format_of(header)
    codings_of(header)


@given(st.lists(st.binary(max_size=3000)))
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_coding_gives_back_what_went_in(coding: Coding, pieces: list[bytes]) -> None:
    data = b"".join(encoded(coding, pieces))
    back = (
        gzip.decompress(data)
        if coding == "gzip"
        else zstandard.ZstdDecompressor().decompressobj().decompress(data)
    )
    assert back == b"".join(pieces)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_the_same_content_in_other_pieces_gives_the_same_bytes(coding: Coding) -> None:
    content = b"".join(b"%d,%d\n" % (n, n * 7919 % 1000) for n in range(200_000))
    pieces = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
    whole = b"".join(encoded(coding, [content]))
    assert b"".join(encoded(coding, pieces)) == whole
    assert len(whole) < len(content) / 2
