"""Rejects grouped by what their reasons have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reasons import Reason, kind, reasons

CELLS = st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]))
COUNTS = st.integers(min_value=0, max_value=10**12)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("price: 'a' is not DECIMAL(18,2)", "price: '…' is not DECIMAL(18,2)"),
        ("price: 'it's' is not DOUBLE", "price: '…' is not DOUBLE"),
        ("price: 'two\nlines: 3' is not DOUBLE", "price: '…' is not DOUBLE"),
        ("q: 'x; y' is not BIGINT; p: '' is not DATE", "q: '…' is not BIGINT; p: '…' is not DATE"),
        ("2024: '1e' is not DOUBLE", "2024: '…' is not DOUBLE"),
        ("line 12: expected 3 fields, found 2: a,b", "expected … fields, found …"),
        ("line 1,200: expected 3 fields, found 2", "expected … fields, found …"),
        ("total: can't be computed for a = 'x', b = 'y'", "total: can't be computed for a = '…', b = '…'"),
        (
            "total: Overflow in multiplication of INT64 (92 * -3)!",
            "total: Overflow in multiplication of INT64 (… * …)!",
        ),
        ("x: 1.5e+300 is out of range", "x: … is out of range"),
        ("x: 12 is out of range", "x: … is out of range"),
        ('d: invalid date field format: "2024-13-01"', 'd: invalid date field format: "…"'),
        ("the result has 2000000 bytes, Kafka takes 1000000", "the result has … bytes, Kafka takes …"),
        ("", ""),
    ],
)
def test_values_numbers_and_lines_are_left_out(error: str, text: str) -> None:
    assert kind(error) == text


def test_a_hundred_short_rows_are_one_kind() -> None:
    short = {
        row: f"line {row + 2}: expected 9 fields, found {row % 8}: {'a,' * (row % 8)}" for row in range(100)
    }
    found = reasons(short | {200: "price: 'a' is not DOUBLE"})
    assert found == [
        Reason("expected … fields, found …", 100, 0, short[0]),
        Reason("price: '…' is not DOUBLE", 1, 200, "price: 'a' is not DOUBLE"),
    ]


@given(st.dictionaries(st.integers(min_value=0), st.text()))
def test_each_row_is_counted_once_and_each_kind_has_an_example_of_its_own(errors: dict[int, str]) -> None:
    found = reasons(errors)
    assert sum(reason.count for reason in found) == len(errors)
    assert [reason.count for reason in found] == sorted((reason.count for reason in found), reverse=True)
    assert len({reason.text for reason in found}) == len(found)
    for reason in found:
        assert errors[reason.row] == reason.example
        assert kind(reason.example) == reason.text


@given(CELLS, CELLS)
def test_cells_make_no_kinds(one: str, other: str) -> None:
    assert kind(f"price: '{one}' is not DOUBLE") == kind(f"price: '{other}' is not DOUBLE")


@given(COUNTS, COUNTS, CELLS)
def test_line_numbers_and_the_text_of_rows_make_no_kinds(line: int, fields: int, text: str) -> None:
    assert kind(f"line {line}: expected 3 fields, found {fields}: {text}") == "expected … fields, found …"
