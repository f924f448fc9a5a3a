"""The sniffer's guess is taken where the header bears it out, and the columns are what the header says."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.dialect import MAX_LINE, Dialect, DialectOverrides
from pipeline.duck import FILE_MEMORY, Error, connect
from pipeline.errors import InputError, UsageError
from producer.sniff import _SNIFFED, _guess, _is_evident, sniff

Sniff = Callable[..., tuple[Dialect, tuple[str, ...]]]


@pytest.fixture(name="sniffed")
def _sniffed(tmp_path: Path) -> Sniff:
    def sniffed(text: str, **told: object) -> tuple[Dialect, tuple[str, ...]]:
        path = tmp_path / "a.csv"
        path.write_bytes(text.encode())
        return sniff(path, DialectOverrides.model_validate(told))

    return sniffed


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "\x1f"])
def test_the_usual_delimiters_and_line_ends(sniffed: Sniff, delimiter: str, newline: str) -> None:
    text = "a,b,c\n1,2,x\n3,4,y\n".replace(",", delimiter).replace("\n", newline)
    expected = (Dialect(delimiter=delimiter), ("a", "b", "c"))
    assert sniffed(text) == expected
    assert sniffed(text.removesuffix(newline)) == expected


@pytest.mark.parametrize(
    ("text", "dialect", "columns"),
    [
        ("a;b\n1,5;2,5\n1,6;3,5\n", {"delimiter": ";"}, ("a", "b")),
        ("a,b,c\n1,2\n1,2,3\n1,2,3,4\n", {}, ("a", "b", "c")),
        ("a,b\n1,2,3\n4,5,6\n", {}, ("a", "b")),
        ("a,b,c\n1,2\n4,5\n", {}, ("a", "b", "c")),
        ("name,city\nbob,paris\nal,rome\n", {}, ("name", "city")),
        ("1,2\n3,4\n5,6\n", {}, ("1", "2")),
        ('a,b\n1,"x\ny"\n2,z\n', {}, ("a", "b")),
        ('"a\nb","say ""hi"""\n1,2\n', {}, ("a\nb", 'say "hi"')),
        ('"a,b";c\n1;2\n', {"delimiter": ";"}, ("a,b", "c")),
        ("a,b\n'x,y',2\n'z',3\n", {"quote": "'", "escape": "'"}, ("a", "b")),
        ("a,b\nit's,don't\nx,y\n", {}, ("a", "b")),
        ('a,b\n"x\\"y",2\n"z",3\n', {"escape": "\\"}, ("a", "b")),
        ("a|b\nx,y|z\nq|w,e\n", {"delimiter": "|"}, ("a", "b")),
        (" a, b \n1,2\n", {}, (" a", " b ")),
        ("a,b\n", {}, ("a", "b")),
        ("a;b", {"delimiter": ";"}, ("a", "b")),
        ("sep=;\r\na;b\r\n1;2\r\n", {"delimiter": ";", "skip": 1}, ("a", "b")),
        ('"sep=|"\na|b,c\n1|2\n', {"delimiter": "|", "skip": 1}, ("a", "b,c")),
        ("\n\na,b\n1,2\n", {"skip": 2}, ("a", "b")),
        ("Report 2024\n\na,b,c\n1,2,3\n4,5,6\n", {"skip": 2}, ("a", "b", "c")),
        ("# exported today\na,b\n1,2\n", {"skip": 1}, ("a", "b")),
        (",a,b\n0,1,2\n", {}, ("column1", "a", "b")),
        ("a,b,\n1,2,\n3,4,\n", {}, ("a", "b", "column3")),
    ],
)
def test_what_is_found(
    sniffed: Sniff, text: str, dialect: dict[str, object], columns: tuple[str, ...]
) -> None:
    assert sniffed(text) == (Dialect.model_validate(dialect), columns)


@pytest.mark.parametrize(
    "text",
    [
        "t\n1\n2\n",
        "t\n",
        "t",
        "t\nhello, world\nfoo\n",
        "t\nhello, world\nfoo, x\n",
        "t\n1,5\n2,5\n",
        "t\na;b\n\nc\n",
    ],
)
def test_a_header_without_delimiter_makes_one_value_per_line(sniffed: Sniff, text: str) -> None:
    assert sniffed(text) == (Dialect(delimiter=""), ("t",))


def test_what_is_told_is_taken(sniffed: Sniff) -> None:
    assert sniffed("a,b;c\n1,2;3\n", delimiter=";") == (Dialect(delimiter=";"), ("a,b", "c"))
    assert sniffed("a,b\n1,2\n", delimiter="none") == (Dialect(delimiter=""), ("a,b",))
    assert sniffed("a\tb\n1\t2\n", delimiter="\\t") == (Dialect(delimiter="\t"), ("a", "b"))
    assert sniffed('a,"b\n1,2\n', quote="none", escape="none")[1] == ("a", '"b')
    assert sniffed('a,"b\n1,2\n', quote="none")[1] == ("a", '"b')
    assert sniffed("x,y\nmade by me\na,b\n1,2\n", skip=2) == (Dialect(skip=2), ("a", "b"))
    assert sniffed("made by me\n\na,b\n1,2\n", skip=1) == (Dialect(skip=2), ("a", "b"))
    assert sniffed("a,b\n1,2\n", escape="\\") == (Dialect(escape="\\"), ("a", "b"))


def test_the_encoding_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert sniff(tmp_path / "a.csv", encoding="cp1252")[0] == Dialect(encoding="cp1252")


def test_overrides_that_contradict_each_other_are_a_usage_error(sniffed: Sniff) -> None:
    with pytest.raises(UsageError, match="can't be the quote"):
        sniffed("a,b\n", delimiter='"')
    with pytest.raises(UsageError, match="no letter"):
        sniffed("a,b\n", delimiter="x")
    with pytest.raises(ValidationError, match="semicolon"):
        DialectOverrides(delimiter="commas")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a,b,a", "2 columns are called 'a' (columns 1, 3;"),
        ("Id,b,ID,id", "3 columns are called 'Id' and 'ID' and 'id' (columns 1, 3, 4;"),
        ("column2,", "2 columns are called 'column2' (columns 1, 2;"),
        ('a,"b', "field 2 has a quote that is never closed"),
        ('a,"b"c,d', "field 2 has text after its closing quote"),
        ("a\0b,c", "NUL"),
    ],
)
def test_a_header_that_can_not_name_its_columns_is_refused(sniffed: Sniff, header: str, message: str) -> None:
    with pytest.raises(InputError, match="header, line 1: ") as caught:
        sniffed(header)
    assert message in str(caught.value)


def test_letters_beyond_ascii_differ_by_case(sniffed: Sniff) -> None:
    assert sniffed("é,É\n1,2\n")[1] == ("é", "É")


@pytest.mark.parametrize("text", ["\n", "\n\r\n\n", "sep=;\n"])
def test_a_file_without_header_is_refused(sniffed: Sniff, text: str) -> None:
    with pytest.raises(InputError, match="no header"):
        sniffed(text)


def test_two_thousand_columns(sniffed: Sniff) -> None:
    names = tuple(f"c{i}" for i in range(2000))
    row = ",".join("1" * 2000)
    assert sniffed(",".join(names) + "\n" + f"{row}\n" * 50) == (Dialect(), names)


def test_a_file_larger_than_the_database_that_reads_files_is_looked_at_within_it(
    sniffed: Sniff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_wanted(**_: object) -> None:
        raise AssertionError("one with a gigabyte was opened")

    monkeypatch.setattr("producer.sniff.connect", not_wanted)
    row = "1,2,3,4,5,6,7,8,9,it's a wide one,11\n"
    text = "a,b,c,d,e,f,g,h,i,j,k\n" + row * (5 * FILE_MEMORY // 4 * 1024 * 1024 // len(row))
    assert sniffed(text) == (Dialect(), tuple("abcdefghijk"))


def test_a_file_is_looked_at_though_others_that_are_read_leave_no_memory(
    sniffed: Sniff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them share one database: taken for a file that DuckDB has no idea of, it would lose its first line's meaning."""
    text = "# exported today\na,b\n" + "1,2\n" * 1_000_000
    monkeypatch.setattr("producer.sniff.shared", lambda: connect(memory_limit="2MB"))
    (full := tmp_path / "full.csv").write_text(text)
    with closing(connect(memory_limit="2MB")) as con, pytest.raises(Error, match="Out of Memory"):
        con.sql(f"FROM sniff_csv('{full}', max_line_size={MAX_LINE})").fetchall()
    assert sniffed(text) == (Dialect(skip=1), ("a", "b"))


_CELLS = [
    "",
    "a",
    "5",
    "9.99",
    "x y",
    "O;K",
    "1,5",
    "a|b",
    "q\tw",
    '"q"',
    '"a,b"',
    '5" pipe',
    '"x""y"',
    '"l1\nl2"',
    "#c",
    "é",
]


@st.composite
def _files(draw: st.DrawFn) -> str:
    """Return small files as people write them, and worse."""
    delimiter, newline = draw(st.sampled_from(",;\t|\x1f")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    before = draw(
        st.sampled_from(
            [[], [], [], ["Report"], ["Report; 2024", ""], ["sep=;"], ["# hi"], [""], ["a b", ""]]
        )
    )
    width = draw(st.integers(1, 4))
    names = [draw(st.sampled_from(["a", "c d", "x;y", "p,q"])) + str(place) for place in range(width)]
    row = st.lists(st.sampled_from(_CELLS), min_size=max(1, width - 1), max_size=width + 1)
    rows = [names, *draw(st.lists(row, max_size=9))]
    lines = [*before, *(delimiter.join(cells) for cells in rows)]
    return newline.join(lines) + draw(st.sampled_from(["", newline]))


@given(text=_files())
@settings(max_examples=150, deadline=None)
def test_what_is_told_without_duckdb_is_what_its_guess_would_make_of_it(text: str) -> None:
    told = DialectOverrides()
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "a.csv")
        path.write_bytes(text.encode())
        assume(_is_evident(path, told))
        asked: list[object] = []
        patch.setattr("producer.sniff._guess", lambda *more: asked.append(more))
        found = _outcome(path)
        assert asked == []
        patch.undo()
        patch.setattr("producer.sniff._is_evident", lambda *_: False)
        assert _outcome(path) == found


@pytest.mark.parametrize("odd", ["it's,'x'\n", "'a,b',\\\"c\n", "\n\n", "1;2|3\n", "# 1\n", "'\n"])
def test_duckdb_looks_at_no_more_of_a_large_file_than_what_is_looked_at_here(
    tmp_path: Path, odd: str
) -> None:
    """Where this fails after DuckDB was updated, _SNIFFED isn't what its sniffer looks at any more."""
    (plain := tmp_path / "plain.csv").write_text("a,b\n" + "1,2\n" * 1_100_000)
    (other := tmp_path / "other.csv").write_text("a,b\n" + "1,2\n" * _SNIFFED + odd * 400_000)
    assert _guess(other, DialectOverrides()) == _guess(plain, DialectOverrides())


def _outcome(path: Path) -> object:
    try:
        return sniff(path)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize(
    ("text", "evident"),
    [
        ("a,b\n1,2\n", True),
        ('a,b\n"1","x, y"\n', True),
        ("a\n1\n", True),
        ("a,b\n1,it's\n", False),
        ("a,b\n1,x\\ny\n", False),
        ("a,b;c\n1,2;3\n", False),
        ('"a",b\n1,2\n', False),
        ("# by hand\na,b\n1,2\n", False),
        ("sep=;\na;b\n", False),
        ("Report\n\na,b\n", False),
        ("Report\r\n\r\na,b\r\n", False),
        ("\na,b\n", False),
        ("a,b\n" + "1,2\n" * 100_000, True),
        ("a,b\n" + "1,2\n" * 1_100_000 + "1,it's\n", True),  # DuckDB doesn't look there either
        ("a,b\n" + "1,2\n" * 20_000 + "1,it's\n", False),
        ("a,b\n" + "1,2\n" * 1_100_000 + '"1",2\n', True),
        ('a,b\n"1",2\n' + "1,2\n" * 1_100_000, False),  # a quoted line end more, and a row less is looked at
        ("a,b\n" + "1,{}\n".format("x" * 500) * 9_000, False),
    ],
)
def test_only_what_is_plain_is_told_without_duckdb(tmp_path: Path, text: str, evident: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert _is_evident(path, DialectOverrides()) is evident
    assert not _is_evident(path, DialectOverrides(skip=0))
    assert not _is_evident(path, DialectOverrides(quote="'"))
