"""What is made of plain text without taking it apart is what DuckDB makes of it, and whatever isn't plain is left to DuckDB."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import producer.reader
from pipeline.dialect import NO_FIELD, Dialect
from pipeline.errors import InputError
from producer.plain import _MARKS, Plain
from producer.reader import Block, read

AB = ("a", "b")


class _NeverPlain(Plain):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.possible = False


def described(block: Block) -> tuple[object, ...]:
    rows = [block.locate(index) for index in range(len(block.row_numbers))]
    numbers = block.row_numbers.tolist()
    counted = (block.number, block.first_row, block.rows, block.end)
    return *counted, block.objects.to_pylist(), numbers, block.malformed, rows


def read_all(path: Path, dialect: Dialect, block: int, start: int) -> tuple[list[object], bool]:
    """Return all blocks, or those that came before the file was refused, and whether it was."""
    found: list[object] = []
    try:
        for each in read(path, dialect, ("h", "i", "j"), block=block, from_block=start):
            found.append(described(each))  # noqa: PERF401  # what came before an error counts
    except InputError:
        return found, True
    return found, False


_cells = st.text("ab1 é😀'#", max_size=4)
_odd = st.text('ab"\\\t\x01\x0b\r;, ', max_size=4) | st.just(NO_FIELD)
_rows = st.lists(_cells, min_size=3, max_size=3)
_odd_rows = st.lists(_cells | _odd, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(_rows, max_size=20),
    odd=st.dictionaries(st.integers(0, 25), _odd_rows, max_size=2),
    dialect=st.sampled_from(
        [
            Dialect(),
            Dialect(delimiter=";"),
            Dialect(delimiter="\t"),
            Dialect(delimiter=" "),
            Dialect(delimiter="\x1f"),
            Dialect(quote="'", escape="'"),
            Dialect(quote="", escape=""),
            Dialect(quote='"', escape="#"),
        ]
    ),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    ended=st.booleans(),
    block=st.sampled_from([1, 2, 5, 100]),
    start=st.sampled_from([0, 0, 1, 3]),
)
@example(
    rows=[["", "", ""], ["a", "", ""]],
    odd={1: [], 2: ["a"]},
    dialect=Dialect(),
    newline="\n",
    ended=False,
    block=1,
    start=0,
)
def test_plain_blocks_are_what_duckdb_reads(
    tmp_path: Path,
    rows: list[list[str]],
    odd: dict[int, list[str]],
    dialect: Dialect,
    newline: str,
    ended: bool,
    block: int,
    start: int,
) -> None:
    """Wherever in the file it stops being plain; the places of rows and what is malformed are the same, too."""
    for place, row in odd.items():
        rows.insert(place, row)
    lines = [dialect.delimiter.join(row) for row in [["h", "i", "j"], *rows]]
    path = tmp_path / "a.csv"
    path.write_bytes((newline.join(lines) + newline * ended).encode())
    with patch.object(producer.reader, "Plain", _NeverPlain):
        expected, refused = read_all(path, dialect, block, 0)
    if refused:
        # DuckDB looks at the rows of several blocks at once: what it refuses may lie behind some that were plain.
        found, refused_too = read_all(path, dialect, block, 0)
        assert refused_too
        assert found[: len(expected)] == expected
    else:
        assert read_all(path, dialect, block, start) == (expected[start:], False)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("text", "delimiter", "rows"),
    [
        (b"1,2\n3,4", ",", [("1", "2"), ("3", "4")]),
        (b",\n x ,'y'", ",", [("", ""), (" x ", "'y'")]),
        ("é\t🙂\n\t".encode(), "\t", [("é", "🙂"), ("", "")]),
        (b"1,5;2,5", ";", [("1,5", "2,5")]),
    ],
)
def test_plain_text_is_taken(
    text: bytes, delimiter: str, rows: list[tuple[str, ...]], newline: bytes
) -> None:
    objects = Plain(Dialect(delimiter=delimiter), AB).objects(text.replace(b"\n", newline), len(rows))
    assert objects is not None
    assert [tuple(json.loads(each).items()) for each in objects.to_pylist()] == [
        tuple(zip(AB, row, strict=True)) for row in rows
    ]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b'1,"2"', 1),
        (b"1,\\n", 1),
        (b"1,\t", 1),
        (b"1,\x00", 1),
        (b"1,2\r3,4", 2),  # a lone CR ends a line
        (b"1,2\n\n3,4", 2),  # a blank line is none
        (b"1\n2,3,4", 2),  # as many delimiters as there should be
        (b"1,2,3\n4", 2),
        (b"1,2\n3", 2),
        (b"1,2,3", 1),
        (b"1,2\n3,4", 1),
        (f"1,{NO_FIELD}".encode(), 1),
    ],
)
def test_what_has_to_be_understood_is_not(text: bytes, rows: int) -> None:
    assert Plain(Dialect(), AB).objects(text, rows) is None


@pytest.mark.parametrize("dialect", [Dialect(quote="'", escape="'"), Dialect(escape="'")])
def test_the_dialects_own_quote_and_escape_are_not_plain(dialect: Dialect) -> None:
    plain = Plain(dialect, AB)
    assert plain.objects(b"1,it's", 1) is None
    assert plain.objects(b"1,its", 1) is not None


def test_rows_that_are_too_much_at_once_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their text isn't even fetched; what is counted is about what becomes of it."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 100)
    plain = Plain(Dialect(), AB)
    [block] = read(path, Dialect(), AB, block=100)
    size = 4 * 100 - 1
    assert block.objects.buffers()[2].size == pytest.approx(size + 100 * plain._growth, abs=20)
    monkeypatch.setattr("producer.plain._MOST", size + 100 * plain._growth)
    assert plain.has_room_for(size, 100)
    assert not plain.has_room_for(size + 1, 100)
    monkeypatch.setattr(Plain, "has_room_for", lambda *_: False)
    monkeypatch.setattr("producer.outline.Outline.text", None)
    assert [described.rows for described in read(path, Dialect(), AB, block=100)] == [100]


def test_as_many_columns_as_there_are_bytes_to_tell_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.plain._WIDEST", 10**9)
    columns = [f"é{place}\x01\n\"'" for place in range(len(_MARKS) + 1)]
    assert not Plain(Dialect(), columns).possible
    plain = Plain(Dialect(), columns[:-1])
    values = [f"ÿ{place}" for place in range(len(_MARKS))]
    objects = plain.objects("\n".join([",".join(values)] * 3).encode(), 3)
    assert plain.possible
    assert objects is not None
    assert [json.loads(each) for each in objects.to_pylist()] == [
        dict(zip(columns[:-1], values, strict=True))
    ] * 3


@pytest.mark.parametrize(
    ("columns", "length", "possible"),
    [(2, 1000, True), (6, 100, True), (20, 15, True), (20, 40, False), (34, 1, True), (44, 1, False)],
)
def test_files_that_are_wide_are_left_to_duckdb(columns: int, length: int, possible: bool) -> None:
    """With each column all that was made before is copied once more."""
    names = [chr(ord("A") + place) * length for place in range(columns)]
    assert Plain(Dialect(), names).possible is possible


def test_a_file_of_one_column_is_never_plain() -> None:
    assert not Plain(Dialect(delimiter=""), ["a"]).possible
    assert not Plain(Dialect(), ["a"]).possible


def test_duckdb_reads_from_the_first_block_on_that_is_not_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 25 + b'"1",2\n' + b"1,2\n" * 10)
    asked = []

    def from_row(*arguments: Any) -> Any:
        asked.append(arguments[4])
        return duckdbs(*arguments)

    duckdbs = producer.reader._read
    with patch.object(producer.reader, "_read", from_row):
        assert [block.rows for block in read(path, Dialect(), AB, block=10)] == [10, 10, 10, 6]
    assert asked == [20]
    path.write_bytes(b"a,b\n" + b"1,2\n" * 25)
    with patch.object(producer.reader, "_read", from_row):
        assert [block.rows for block in read(path, Dialect(), AB, block=10)] == [10, 10, 5]
    assert asked == [20]
