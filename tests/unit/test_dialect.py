"""A dialect survives JSON, refuses what can't be read, and its SQL reads exactly the one file it names."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.dialect import MALFORMED, Dialect, malformed_name, read_csv_sql
from pipeline.duck import connect
from pipeline.sql_text import quote


def rows(path: Path, columns: list[str], dialect: Dialect | None = None) -> list[tuple[object, ...]]:
    return connect().sql(read_csv_sql(path, dialect or Dialect(), columns)).fetchall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


def test_a_dialect_survives_json() -> None:
    dialect = Dialect(delimiter="\t", quote="'", escape="\\", encoding="cp1252", skip=3)
    assert Dialect.model_validate_json(dialect.model_dump_json()) == dialect


@pytest.mark.parametrize(
    "wrong",
    [
        {"delimiter": "§"},
        {"delimiter": ",,"},
        {"delimiter": "\n"},
        {"quote": "a"},
        {"quote": ",", "escape": ","},
        {"quote": ""},
        {"escape": ""},
        {"skip": -1},
        {"header": False},
    ],
)
def test_a_dialect_that_no_file_can_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Dialect.model_validate(wrong)


def test_describe_says_it_in_one_line() -> None:
    assert Dialect().describe() == 'comma-separated, quoted with ", UTF-8'
    assert Dialect(delimiter="").describe() == 'one value per line, quoted with ", UTF-8'
    told = Dialect(delimiter="\t", quote="'", escape="\\", encoding="cp1252", skip=2)
    assert (
        told.describe() == "tab-separated, quoted with ', escaped with \\, cp1252, 2 lines before the header"
    )


def test_rows_with_too_few_or_too_many_fields_are_marked_in_their_place(file: Path) -> None:
    file.write_text("a,b\n1,2\n3\n4,5,6\n,\n")
    expected = [("1", "2", False), ("3", None, True), ("4", "5", True), ("", "", False)]
    assert rows(file, ["a", "b"]) == expected


def test_the_mark_has_another_name_where_the_file_uses_its_own(file: Path) -> None:
    file.write_text("_malformed,_MALFORMED_\n1,2\n")
    columns = ["_malformed", "_MALFORMED_"]
    mark = malformed_name(columns)
    assert (MALFORMED, mark) == ("_malformed", "_malformed__")
    read = read_csv_sql(file, Dialect(), columns)
    assert connect().sql(f"SELECT {quote(mark)} FROM ({read})").fetchall() == [(False,)]


def test_any_text_can_be_a_column_name(file: Path) -> None:
    columns = ['say "hi"', "it's", "a;b--", "naïve 🙂", "c0", "extra"]
    file.write_text("x,x,x,x,x,x\n1,2,3,4,5,6\n")
    relation = connect().sql(read_csv_sql(file, Dialect(), columns))
    assert relation.columns == [*columns, MALFORMED]
    assert relation.fetchall() == [("1", "2", "3", "4", "5", "6", False)]


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "a?.csv", "it's.csv", "{a,b}.csv", "back\\slash.csv"])
def test_a_path_is_never_a_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / "a1.csv").write_text("h,i\nwrong,wrong\n")
    (tmp_path / name).write_text("h,i\nright,right\n")
    assert rows(tmp_path / name, ["h", "i"]) == [("right", "right", False)]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "year=2024"
    folder.mkdir()
    (folder / "a.csv").write_text("h,i\n1,2\n")
    assert rows(folder / "a.csv", ["h", "i"]) == [("1", "2", False)]


def test_null_like_texts_stay_text(file: Path) -> None:
    file.write_text('a,b\nNULL,NA\n"",\nnull,\\N\n007, x \n')
    expected = [("NULL", "NA"), ("", ""), ("null", "\\N"), ("007", " x ")]
    assert [row[:2] for row in rows(file, ["a", "b"])] == expected


def test_each_line_of_a_one_column_file_is_a_row_blank_ones_too(file: Path) -> None:
    file.write_text('a\nx\n\nhello, world\n"quoted ""text"""\n""\n')
    expected = ["x", "", "hello, world", 'quoted "text"', ""]
    assert rows(file, ["a"], Dialect(delimiter="")) == [(value, False) for value in expected]


def test_lines_before_the_header_are_skipped(file: Path) -> None:
    file.write_bytes(b"sep=;\r\n\r\na;b\r\n1;2\r\n")
    assert rows(file, ["a", "b"], Dialect(delimiter=";", skip=2)) == [("1", "2", False)]


@pytest.mark.parametrize("encoding", ["utf-8", "iso8859-1", "utf-16"])
def test_the_sql_reads_the_upload_in_its_own_encoding(file: Path, encoding: str) -> None:
    file.write_bytes("a,b\n1,é\n".encode(encoding))
    assert rows(file, ["a", "b"], Dialect(encoding=encoding)) == [("1", "é", False)]
