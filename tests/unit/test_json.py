"""JSON goes out as `json` would write it, and comes in without trusting anybody."""

import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import json_text
from pipeline.json_batch import decode_objects

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
AB = pa.schema([("a", pa.string()), ("b", pa.string())])
TYPED = pa.schema(
    [
        ("d", pa.decimal128(38, 10)),
        ("u", pa.uint64()),
        ("f", pa.float64()),
        ("n", pa.int8()),
        ("t", pa.bool_()),
    ]
)
GOOD = b'{"a":"1","b":"2"}'


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1), TEXT, TEXT)
def test_objects_of_strings_read_back_with_any_text(rows: list[tuple[str, str]], one: str, two: str) -> None:
    """Quotes, backslashes, newlines, NUL, emoji, in names and cells."""
    two = two + "x" if one == two else two
    columns = [pa.array([row[at] for row in rows]) for at in range(2)]
    lines = json_text.string_objects([one, two], columns).to_pylist()
    assert [json.loads(line) for line in lines] == [{one: a, two: b} for a, b in rows]


@given(st.lists(st.one_of(st.none(), TEXT)))
def test_quoted_text_is_json_and_null_is_not_empty(cells: list[str | None]) -> None:
    """A slice of a larger array, too."""
    array = json_text.quoted(pa.array([None, *cells], pa.string())[1:])
    assert [json.loads(cell) for cell in array.to_pylist()] == cells


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_what_was_written_is_decoded(rows: list[tuple[str, str]]) -> None:
    """Encode, decode, compare."""
    columns = [pa.array([row[at] for row in rows], pa.string()) for at in (0, 1)]
    values = json_text.string_objects(["a", "b"], columns).to_pylist()
    decoded = decode_objects(values, AB)
    assert [tuple(row.values()) for row in decoded.table.to_pylist()] == rows
    assert decoded.index.tolist() == list(range(len(rows)))


BROKEN = [
    None,
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"{",
    b'{"a":"1"}{"a":"2"}',
    b'{"a":"1"} {"a":"2"}',
    b'{"a":"1","a":"2"}',
    b'{"a":1}',
    b'{"a":{"x":"1"}}',
    b'{"z":"1"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\xff"}',
    b"\xff",
    b'{"a":"1"}}\n{"i":1,"v":{"a":"2"}',
    b'{"a":"1"},"i":5,"v":{"b":"q"}',
    b"[" * 100_000,
    b'{"a":' * 10_000,
    b'{"a":"x\ny"}',
    b'{"a":"x}',
    b'{","b":"2"}',
]


@pytest.mark.parametrize("value", BROKEN)
def test_a_broken_value_is_left_out_and_shifts_nothing(value: bytes | None) -> None:
    """Its neighbours keep their places, in a short batch and in a long one."""
    for many in (2, 200):
        values = [GOOD] * many + [value] + [b'{"a":"3","b":"4"}'] * many
        decoded = decode_objects(values, AB)
        assert decoded.index.tolist() == [*range(many), *range(many + 1, 2 * many + 1)]
        assert decoded.table.column("a").to_pylist() == ["1"] * many + ["3"] * many


@given(st.lists(st.sampled_from([GOOD, *BROKEN, b'{"a":null}', b"{}", b' {"b" : "2"} '])))
def test_any_mixture_gives_the_same_as_reading_each_value_alone(values: list[bytes | None]) -> None:
    """A message can't reach beyond itself."""
    alone = {at: decode_objects([value], AB).table.to_pylist() for at, value in enumerate(values)}
    decoded = decode_objects(values, AB)
    assert decoded.index.tolist() == [at for at, rows in alone.items() if rows]
    assert decoded.table.to_pylist() == [rows[0] for rows in alone.values() if rows]


@pytest.mark.parametrize(
    "pair", [(b'{"a":"x}', b'{","b":"2"}'), (b'{"a":"1"}{"b":"2"}', b"{}"), (b'{"a":"1"', b',"b":"2"}')]
)
def test_messages_that_only_together_are_an_object_are_none(pair: tuple[bytes, bytes]) -> None:
    """And two in one, beside one that is nothing, are no two rows."""
    values = [GOOD, *pair, GOOD]
    singly = [at for at, value in enumerate(values) if decode_objects([value], AB).index.tolist()]
    assert decode_objects(values, AB).index.tolist() == singly
    assert {0, 3} <= set(singly) <= {0, 2, 3}


@pytest.mark.parametrize("brace", ["{", "}", "{}"])
def test_a_cell_may_have_braces(brace: str) -> None:
    values = [GOOD, json.dumps({"a": brace, "b": "2"}).encode(), GOOD]
    assert decode_objects(values, AB).table.column("a").to_pylist() == ["1", brace, "1"]


@pytest.mark.parametrize("beside", [[], [b'{"f":"nan"}'], [b"broken"]])
def test_numbers_keep_all_their_digits_together_and_singly(beside: list[bytes]) -> None:
    """2^64-1, 38 digits, minus zero; with neighbours that force reading one by one."""
    value = (
        b'{"d":1234567890123456789012345678.0123456789,"u":18446744073709551615,"f":-0.0,"n":-128,"t":true}'
    )
    row: dict[str, Any] = decode_objects([value, *beside], TYPED).table.to_pylist()[0]
    assert row["d"] == Decimal("1234567890123456789012345678.0123456789")
    assert row["u"] == 2**64 - 1
    assert math.copysign(1, row["f"]) == -1
    assert (row["n"], row["t"]) == (-128, True)


@pytest.mark.parametrize(("text", "number"), [("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf)])
def test_floats_that_json_has_no_token_for_come_as_strings(text: str, number: float) -> None:
    """As DuckDB writes them."""
    decoded = decode_objects([b'{"f":1.5}', b'{"f":"%b"}' % text.encode()], TYPED)
    assert decoded.table.column("f").to_pylist() == pytest.approx([1.5, number], nan_ok=True)


@pytest.mark.parametrize(
    "value",
    [
        b'{"n":128}',
        b'{"n":1.0}',
        b'{"u":-1}',
        b'{"f":"x"}',
        b'{"f":1e400}',
        b'{"d":0.12345678901}',
        b'{"t":1}',
    ],
)
def test_numbers_that_do_not_fit_are_left_out(value: bytes) -> None:
    """Too large, with a fraction, negative, of another type, with a digit too many."""
    assert decode_objects([value], TYPED).index.tolist() == []
