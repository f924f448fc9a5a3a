"""Which bytes a Range header asks for (RFC 9110, section 14)."""

import email
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink.http_ranges import BOUNDARY, MOST, Unsatisfiable, frames, stretches


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-", (500, 500)),
        ("bytes=-300", (700, 300)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=999-999", (999, 1)),
        ("bytes=900-5000", (900, 100)),
        ("bytes=900-" + "9" * 5000, (900, 100)),
        ("BYTES = 1-2", (1, 2)),
        ("bytes= 1-2 ", (1, 2)),
        ("bytes=,1-2,", (1, 2)),
    ],
)
def test_a_single_range_is_honoured(header: str, expected: tuple[int, int]) -> None:
    assert stretches(header, 1000) == [expected]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=2-1",
        "bytes=a-b",
        "bytes=1-2-3",
        "rows=1-2",
        "bytes=0-1,2-1",
        "bytes=0-5,5-6",
        "bytes=-10,0-",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2 * MOST + 2, 2)),
        "bytes=٣-٤",
    ],
)
def test_what_is_malformed_overlaps_or_is_too_much_gets_the_whole(header: str | None) -> None:
    assert stretches(header, 1000) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=1000-", 1000),
        ("bytes=1000-2000", 1000),
        ("bytes=-0", 1000),
        ("bytes=" + "9" * 5000 + "-", 1000),
        ("bytes=0-", 0),
        ("bytes=1000-,-0", 1000),
    ],
)
def test_a_range_without_a_byte_is_unsatisfiable(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        stretches(header, size)


@given(st.text(alphabet="bytes= -,0123456789x", max_size=40), st.integers(0, 10**15))
def test_whatever_is_asked_for_the_stretch_lies_inside(header: str, size: int) -> None:
    try:
        found = stretches(header, size)
    except Unsatisfiable:
        return
    for start, length in found or ():
        assert 0 <= start < start + length <= size


def test_several_ranges_come_as_they_were_asked_for_without_what_lies_outside() -> None:
    assert stretches("bytes=500-509, 0-0,2000-,-10", 1000) == [(500, 10), (0, 1), (990, 10)]


def test_each_part_of_several_says_where_it_lies() -> None:
    data = bytes(range(100))
    ranges = [(0, 3), (90, 10)]
    between = frames(ranges, 100, "text/csv")
    body = b"".join(
        frame + data[start : start + length] for frame, (start, length) in zip(between, ranges, strict=False)
    )
    message = email.message_from_bytes(
        b"Content-Type: multipart/byteranges; boundary="
        + BOUNDARY.encode()
        + b"\r\n\r\n"
        + body
        + between[-1]
    )
    parts: Any = message.get_payload()
    assert [(part["Content-Range"], part["Content-Type"]) for part in parts] == [
        ("bytes 0-2/100", "text/csv"),
        ("bytes 90-99/100", "text/csv"),
    ]
    assert [part.get_payload(decode=True) for part in parts] == [data[:3], data[90:]]
