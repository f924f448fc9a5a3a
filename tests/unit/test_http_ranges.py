"""Which bytes a Range header asks for (RFC 9110, section 14)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink.http_ranges import Unsatisfiable, stretch


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
    assert stretch(header, 1000) == expected


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
        "bytes=0-1,5-6",
        "bytes=٣-٤",
    ],
)
def test_what_is_no_single_range_gets_the_whole(header: str | None) -> None:
    assert stretch(header, 1000) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=1000-", 1000),
        ("bytes=1000-2000", 1000),
        ("bytes=-0", 1000),
        ("bytes=" + "9" * 5000 + "-", 1000),
        ("bytes=0-", 0),
    ],
)
def test_a_range_without_a_byte_is_unsatisfiable(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        stretch(header, size)


@given(st.text(alphabet="bytes= -,0123456789x", max_size=40), st.integers(0, 10**15))
def test_whatever_is_asked_for_the_stretch_lies_inside(header: str, size: int) -> None:
    try:
        found = stretch(header, size)
    except Unsatisfiable:
        return
    if found is not None:
        start, length = found
        assert 0 <= start < start + length <= size
