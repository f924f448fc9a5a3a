"""What is read by its shape is what the JSON parser reads; whatever else is left to the parser."""

import json

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import json_shape, json_text
from pipeline.json_batch import decode_objects

PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=8)
NAMES = ["order_id", "a", "größe"]


def written(rows: list[tuple[str, ...]]) -> list[bytes]:
    columns = [pa.array([row[at] for row in rows], pa.string()) for at in range(len(NAMES))]
    values: list[bytes] = json_text.string_objects(NAMES, columns).to_pylist()
    return values


@given(st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1))
def test_what_we_write_without_escapes_is_read_by_its_shape(rows: list[tuple[str, ...]]) -> None:
    table = json_shape.read(written(rows), NAMES)
    assert table is not None
    assert table.schema == pa.schema([(name, pa.string()) for name in NAMES])
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


@given(
    st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1, max_size=4),
    st.integers(0),
    st.binary(max_size=3) | st.sampled_from([b'"', b'","', b'":"', b"\n", b"}", b"{", b" ", b'"}\n{"', b","]),
    st.integers(0, 3),
)
@example([("", "", "")], 13, b"\x00", 0)
def test_whatever_is_put_into_a_message_is_read_as_the_parser_reads_it_or_not_at_all(
    rows: list[tuple[str, ...]], where: int, put: bytes, cut: int
) -> None:
    """Bytes put in and cut out anywhere, in one of several messages: never another table than Python's parser gives."""
    values = written(rows)
    at = where % len(values)
    place = (where // len(values)) % (len(values[at]) + 1)
    values[at] = values[at][:place] + put + values[at][place + cut :]
    table = json_shape.read(values, NAMES)
    if table is not None:
        assert table.to_pylist() == [json.loads(value) for value in values]
        assert [list(json.loads(value)) for value in values] == [NAMES] * len(values)


@pytest.mark.parametrize(
    "value",
    [
        b'{"order_id":"1","a":"2"}',
        b'{"a":"1","order_id":"2","gr\xc3\xb6\xc3\x9fe":"3"}',
        b'{"order_id":"1","a":"2","gr\xc3\xb6\xc3\x9fe":"\xff"}',
        b'{"order_id":"1","a":"tab\tin","gr\xc3\xb6\xc3\x9fe":"3"}',
        b'{"order_id":"1","a":"\\u0041","gr\xc3\xb6\xc3\x9fe":"3"}',
        b'{"order_id": "1","a":"2","gr\xc3\xb6\xc3\x9fe":"3"}',
        None,
    ],
)
def test_other_shapes_are_left_to_the_parser(value: bytes | None) -> None:
    """Among others that have it."""
    good = written([("1", "2", "3")])
    assert json_shape.read([*good, value, *good], NAMES) is None
    schema = pa.schema([(name, pa.string()) for name in NAMES])
    decoded = decode_objects([*good, value, *good], schema)
    assert decoded.index.tolist()[0] == 0
    assert decoded.index.tolist()[-1] == 2


def test_a_name_with_a_quote_in_it_is_left_to_the_parser() -> None:
    values = [json.dumps({'a"b': "1"}, separators=(",", ":")).encode()]
    assert json_shape.read(values, ['a"b']) is None
    assert decode_objects(values, pa.schema([('a"b', pa.string())])).table.to_pylist() == [{'a"b': "1"}]


def test_two_objects_in_one_message_are_not_two_rows() -> None:
    """Nor is a message that holds a line and a half."""
    one = written([("1", "2", "3")])[0]
    assert json_shape.read([one + b"\n" + one, b""], NAMES) is None
    assert json_shape.read([one + b"\n" + one], NAMES) is None
    assert json_shape.read([one + one, one], NAMES) is None
