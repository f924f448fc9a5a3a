"""Every row of a file comes out once, under its number, with its values or with the reason why it has none."""

import csv
import io
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dialect import MAX_LINE, NO_FIELD, Dialect, read_csv_sql
from pipeline.duck import connect
from pipeline.errors import InputError
from pipeline.events import TEXT_LIMIT
from producer.grammar import Grammar
from producer.outline import Outline
from producer.reader import Block, Malformed, read
from producer.sniff import sniff

Values = dict[int, tuple[str, ...]]


def write(directory: Path, content: str | bytes) -> Path:
    path = directory / "a.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def collect(blocks: Iterator[Block], size: int = 8192) -> tuple[Values, list[Malformed]]:
    """Return the rows by number and the malformed ones, having checked that the blocks fit together."""
    values: Values = {}
    malformed: list[Malformed] = []
    got = list(blocks)
    for place, block in enumerate(got):
        assert block.first_row == block.number * size
        assert block.number == got[0].number + place
        assert block.rows == size or place == len(got) - 1
        assert block.rows
        objects = [json.loads(each) for each in block.objects.to_pylist()]
        assert all(isinstance(value, str) for each in objects for value in each.values())
        rows = {int(row): tuple(each.values()) for row, each in zip(block.row_numbers, objects, strict=True)}
        numbers = sorted([*rows, *(bad.row for bad in block.malformed)])
        assert numbers == list(range(block.first_row, block.first_row + block.rows))
        values |= rows
        malformed += block.malformed
    return values, malformed


def read_text(
    directory: Path, content: str | bytes, **told: object
) -> tuple[list[tuple[str, ...]], list[Malformed]]:
    """Read a file of which the dialect is sniffed, or told; return rows in order, and malformed ones."""
    path = write(directory, content)
    dialect, columns = sniff(path)
    values, malformed = collect(read(path, dialect.model_copy(update=told), columns))
    return list(values.values()), malformed


def errors(malformed: list[Malformed]) -> list[tuple[int, int, str, str]]:
    return [(bad.row, bad.line, bad.error, bad.text) for bad in malformed]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_ragged_rows_keep_their_number_line_and_text(tmp_path: Path, newline: str) -> None:
    text = 'a,b,c\n1,"x\ny",3\n4,5\n\n7,8,9,10\n7,8,9,"1,0",11,12\n7,8,9\n,,\n,\n'.replace("\n", newline)
    rows, malformed = read_text(tmp_path, text)
    assert rows == [("1", f"x{newline}y", "3"), ("7", "8", "9"), ("", "", "")]
    assert errors(malformed) == [
        (1, 4, "expected 3 fields, found 2", "4,5"),
        (2, 6, "expected 3 fields, found 4", "7,8,9,10"),
        (3, 7, "expected 3 fields, found 6", '7,8,9,"1,0",11,12'),
        (6, 10, "expected 3 fields, found 2", ","),
    ]


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("1\n2,3\n", [2]),  # the first
        ("2,3\n1", [3]),  # the last, without a line end
        ("1\n2\n3", [2, 3, 4]),  # all
        ("2,3,\n2,3\n", [2]),  # a delimiter at the end
        ("   \n2,3\n\x1a", [2, 4]),  # spaces are no blank line; the end that DOS wrote
        ("# a comment\n2,3\n#2,3\n", [2]),  # nothing is a comment
        ("1,x\ry\n2,3\n", [3]),  # a lone CR ends a line
    ],
)
def test_ragged_rows_anywhere(tmp_path: Path, body: str, lines: list[int]) -> None:
    _, malformed = read_text(tmp_path, "a,b\n" + body)
    assert [bad.line for bad in malformed] == lines


def test_values_are_exactly_as_in_the_file(tmp_path: Path) -> None:
    texts = [
        "007",
        " x ",
        "NULL",
        "NA",
        "null",
        "\\N",
        "1e5",
        "x\0y",
        "🙂",
        "it's",
        'a"b',
        "\ufeff",
        "\x1f",
        "-0.0",
    ]
    rows, malformed = read_text(tmp_path, "a,b\n" + "".join(f"{text},\n" for text in texts) + '"",\n,""\n')
    assert rows == [(text, "") for text in texts] + [("", ""), ("", "")]
    assert malformed == []


def test_quotes_inside_an_unquoted_field_are_text(tmp_path: Path) -> None:
    rows, malformed = read_text(tmp_path, 'a,b\n5" pipe,x"\n6,say "hi"\n7,"8"\n')
    assert rows == [('5" pipe', 'x"'), ("6", 'say "hi"'), ("7", "8")]
    assert malformed == []


def test_text_after_a_closing_quote_is_not_dropped_in_silence(tmp_path: Path) -> None:
    rows, malformed = read_text(tmp_path, 'a,b\n1,"x"y\n2,"z" \n"p" "q",3\n')
    assert rows == [("2", "z")]
    assert errors(malformed) == [
        (0, 2, "field 2 has text after its closing quote", '1,"x"y'),
        (2, 4, "field 1 has text after its closing quote", '"p" "q",3'),
    ]


@pytest.mark.parametrize("body", ['1,"2,3\n4,5,6\n7,8,9\n', '1,"2,3\n4,5,6\n7,"8",9\n', '1,2,3\n4,5,"6'])
def test_a_quote_that_is_never_closed_is_malformed_with_all_that_it_swallowed(
    tmp_path: Path, body: str
) -> None:
    rows, malformed = read_text(tmp_path, "a,b,c\n" + body)
    assert len(malformed) == 1
    assert malformed[0].error.endswith(
        ("has a quote that is never closed", "has text after its closing quote")
    )
    assert "".join(",".join(row) + "\n" for row in rows) + malformed[0].text == body.removesuffix("\n") + (
        "\n" if malformed[0].text.endswith("\n") else ""
    )


def test_a_quote_that_swallows_too_much_to_be_kept_refuses_the_file(tmp_path: Path) -> None:
    body = "1,2\n" * 10 + '3,"4\n' + "5,6\n" * (TEXT_LIMIT // 4)
    with pytest.raises(InputError, match="line 12: field 2 has a quote that is never closed"):
        read_text(tmp_path, "a,b\n" + body)
    with pytest.raises(InputError, match="line 12: the row that starts here is longer than 16 MB"):
        read_text(tmp_path, "a,b\n" + body + "5,6\n" * (MAX_LINE // 4))


def test_a_row_longer_than_the_limit_refuses_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3: the row that starts here is longer than 16 MB"):
        read_text(tmp_path, "a,b\n1,2\n3," + "x" * (MAX_LINE + 10) + "\n5,6\n")


def test_a_long_malformed_row_keeps_the_start_of_its_text(tmp_path: Path) -> None:
    rows, malformed = read_text(tmp_path, "a,b\n" + "é" * TEXT_LIMIT + "\n1,2\n")
    assert rows == [("1", "2")]
    assert malformed[0].text == "é" * (TEXT_LIMIT // 2)
    assert malformed[0].error == "expected 2 fields, found 1"


def test_fields_of_ten_megabytes(tmp_path: Path) -> None:
    """Twenty of them at once are more than DuckDB is given at first."""
    lines, word = "x\n" * 5_000_000, "y" * 10_000_000
    rows, malformed = read_text(tmp_path, "a,b\n" + f'1,"{lines}"\n' + f"2,{word}\n" * 20)
    assert malformed == []
    assert len(rows) == 21
    assert rows[0] == ("1", lines)
    assert set(rows[1:]) == {("2", word)}


def test_two_thousand_columns(tmp_path: Path) -> None:
    header = ",".join(f"c{i}" for i in range(2000))
    row = ",".join(str(i) for i in range(2000))
    rows, malformed = read_text(tmp_path, f"{header}\n" + f"{row}\n" * 20 + f"{row},\n")
    assert rows == [tuple(str(i) for i in range(2000))] * 20
    assert malformed[0].error == "expected 2000 fields, found 2001"


def test_a_file_with_mixed_line_ends(tmp_path: Path) -> None:
    rows, _ = read_text(tmp_path, "a,b\r\n1,2\n3,4\r\n\r\n\n5,6\r7,8")
    assert rows == [("1", "2"), ("3", "4"), ("5", "6"), ("7", "8")]


@pytest.mark.parametrize("body", ["1\r2\n3\n", "1\r\n\r\n2\n", "\n\r\n1\n"])
def test_mixed_line_ends_that_duckdb_misreads_in_a_file_of_one_column_are_refused(
    tmp_path: Path, body: str
) -> None:
    with pytest.raises(InputError, match=r"lines end with a carriage|can't be told apart"):
        read_text(tmp_path, "a\n" + body)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_blank_lines_are_rows_in_a_file_of_one_column_only(tmp_path: Path, newline: str) -> None:
    rows, _ = read_text(tmp_path, 'a\n\nx\n\n\n"y, z"\n1,5\n\n'.replace("\n", newline))
    assert rows == [("",), ("x",), ("",), ("",), ("y, z",), ("1,5",), ("",)]
    rows, _ = read_text(tmp_path, "a,b\n\n1,2\n\n\n".replace("\n", newline))
    assert rows == [("1", "2")]


def test_what_excel_writes(tmp_path: Path) -> None:
    rows, malformed = read_text(tmp_path, 'sep=;\r\n"Menge\n(kg)";Preis\r\n1;"2,50"\r\n;\r\n\r\n')
    assert rows == [("1", "2,50"), ("", "")]
    assert malformed == []


def test_a_file_with_a_header_only_has_no_blocks(tmp_path: Path) -> None:
    for text in ("a,b\n", "a,b", "a\n", "a,b\r\n\r\n"):
        assert read_text(tmp_path, text) == ([], [])


def test_the_text_that_stands_for_a_missing_field_is_never_read_as_one(tmp_path: Path) -> None:
    assert read_text(tmp_path, f'a,b\n"{NO_FIELD}","{NO_FIELD}"\n')[0] == [(NO_FIELD, NO_FIELD)]
    for row in (f"{NO_FIELD},1", f"1,{NO_FIELD}"):
        with pytest.raises(InputError, match=f"line 3: .*{NO_FIELD}"):
            read_text(tmp_path, f"a,b\n1,2\n{row}\n")


def test_a_wrong_escape_makes_malformed_rows_not_wrong_values(tmp_path: Path) -> None:
    rows, malformed = read_text(tmp_path, 'a,b\n1,"x\\"y"\n2,3\n', escape='"')
    assert rows == []
    assert errors(malformed) == [(0, 2, "field 2 has a quote that is never closed", '1,"x\\"y"\n2,3\n')]


@pytest.mark.parametrize("block", [1, 7, 100, 8192])
def test_blocks_are_exact_and_reading_can_start_at_any(tmp_path: Path, block: int) -> None:
    rng = random.Random(block)
    lines = [rng.choice(["1,2\n", "1\n", "1,2,3\n", '"a\nb",\n', '5"x,"y"z\n', "\n"]) for _ in range(300)]
    path = write(tmp_path, "a,b\n" + "".join(lines))
    whole = list(read(path, Dialect(), ("a", "b"), block=block))
    collect(iter(whole), block)
    for start in {0, 1, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 5}:
        again = list(read(path, Dialect(), ("a", "b"), block=block, from_block=start))
        assert [
            (b.number, b.first_row, b.rows, b.objects, b.row_numbers.tolist(), b.malformed) for b in again
        ] == [
            (b.number, b.first_row, b.rows, b.objects, b.row_numbers.tolist(), b.malformed)
            for b in whole[start:]
        ]


def test_a_reader_may_be_left_before_the_end(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + "1,2\n" * 100_000)
    blocks = read(path, Dialect(), ("a", "b"))
    assert next(blocks).rows == 8192
    blocks.close()


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text('a,;"\n\r ', max_size=5)
tables = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=30)
)
relaxed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@relaxed
@given(
    table=tables,
    newline=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_python_writes_is_read_back(
    tmp_path: Path, table: list[list[str]], newline: str, quoting: int
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=newline, quoting=quoting)  # type: ignore[arg-type]
    if (
        quoting == csv.QUOTE_MINIMAL
    ):  # Python 3.11 leaves a lone CR unquoted, and what ends no line of its own
        table = [[cell.replace("\r", "").replace("\n", "") for cell in row] for row in table]
    header = [f"c{i}" for i in range(len(table[0]))]
    writer.writerows([header, *table])
    path = write(tmp_path, out.getvalue())
    values, malformed = collect(read(path, Dialect(), header))
    assert malformed == []
    assert values == {i: tuple(row) for i, row in enumerate(table)}


@relaxed
@given(data=st.data())
def test_injected_ragged_rows_are_found_and_shift_no_other(tmp_path: Path, data: st.DataObject) -> None:
    table = data.draw(tables)
    columns = len(table[0])
    width = st.integers(1, columns + 3).filter(lambda n: n != columns)
    ragged = data.draw(st.dictionaries(st.integers(0, len(table) - 1), width, min_size=1))
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow([f"c{i}" for i in range(columns)])
    expected: list[Malformed] = []
    for row, cells_ in enumerate(table):
        line = 1 + sum(1 for _ in io.StringIO(out.getvalue(), newline=None))
        start = out.tell()
        writer.writerow((cells_ * 5)[: ragged[row]] if row in ragged else cells_)
        if row in ragged:
            error = f"expected {columns} fields, found {ragged[row]}"
            expected.append(Malformed(row, line, error, out.getvalue()[start:-1]))
    path = write(tmp_path, out.getvalue())
    values, malformed = collect(read(path, Dialect(), [f"c{i}" for i in range(columns)], block=8), 8)
    assert malformed == expected
    assert values == {i: tuple(row) for i, row in enumerate(table) if i not in ragged}


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("dialect", "alphabet"),
    [
        (Dialect(), 'aa,,"" \n'),
        (Dialect(), 'aa,,""\n\r'),
        (Dialect(escape="\\"), 'aa,,""\\\n'),
        (Dialect(delimiter=" ", quote="'", escape="'"), "a  '\n\r"),
        (Dialect(quote="", escape=""), 'a,," \n\r'),
        (Dialect(delimiter=""), 'a,"" \n'),
    ],
)
def test_the_outline_agrees_with_duckdb_on_any_text(
    tmp_path: Path, dialect: Dialect, alphabet: str, chunk: int
) -> None:
    """The outline finds the rows, the fields and, where there is no fault, the values that DuckDB finds."""
    rng = random.Random(alphabet)
    columns = ["h", "i", "j"] if dialect.delimiter else ["h"]
    grammar = Grammar(dialect)
    con = connect()
    for _ in range(150):
        body = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 14)))
        data = (dialect.delimiter.join(columns) + "\n" + body).encode()
        path = write(tmp_path, data)
        expected = con.sql(read_csv_sql(path, dialect, columns)).fetchall()
        with Outline(path, dialect, chunk=chunk) as outline:
            extents = outline.take(100)
        rows = [data[start:end] for start, end in zip(extents.starts, extents.ends, strict=True)]
        assert len(rows) == len(expected), body
        for index, (row, (*values, malformed)) in enumerate(zip(rows, expected, strict=True)):
            fields = grammar.fields(row)
            assert (len(fields) != len(columns)) == malformed, body
            assert grammar.fault(row) == extents.faults.get(index), body
            if not malformed and index not in extents.faults:
                assert [grammar.value(field) for field in fields] == values, body
            before = data[: extents.starts[index]].decode()
            assert (
                extents.lines[index]
                == 1 + len(before.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1
            )


_PEAK = """
import sys
from pathlib import Path
from pipeline.dialect import Dialect
from producer.reader import read
columns = "order_id,customer,quantity,price,discount,ts".split(",")
rows = malformed = 0
for block in read(sys.argv[1], Dialect(), columns):
    rows += block.rows
    malformed += len(block.malformed)
# Peak of this program alone: getrusage would give its parent's where that was higher
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(rows, malformed, int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 300 MB is read in less than 300 MB above what the imports take."""
    path = tmp_path / "big.csv"
    rows = [
        f"{i},cust-{i % 9973},{i % 17},{i % 5000 / 100:.2f},0.{i % 90:02d},2024-05-01T12:00:00\n"
        for i in range(50_000)
    ]
    with path.open("w") as file:
        file.write("order_id,customer,quantity,price,discount,ts\n")
        for _ in range(125):
            file.writelines(rows)
            file.write("ragged\n")
    assert path.stat().st_size > 300_000_000
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, check=True
    )
    read_rows, malformed, peak = map(int, done.stdout.split())
    assert (read_rows, malformed) == (6_250_125, 125)
    assert peak < 400
