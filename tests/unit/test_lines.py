"""Arrow columns become the bytes of their rows."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline import lines


@given(st.lists(st.text()))
def test_pieces_are_joined_row_by_row(cells: list[str]) -> None:
    """Slices of arrays included, and none at all."""
    array = pa.array(cells, pa.string())
    assert lines.joined(array).to_pylist() == [cell.encode() for cell in cells]
    assert lines.joined("<", array, array.cast(pa.large_string()), ">").to_pylist() == [
        f"<{cell}{cell}>".encode() for cell in cells
    ]
    assert lines.joined(array[1:]).to_pylist() == [cell.encode() for cell in cells[1:]]


@given(st.lists(st.binary()), st.binary())
def test_rows_become_one_text(rows: list[bytes], between: bytes) -> None:
    assert lines.text(pa.array([b"x", *rows], pa.large_binary())[1:], between) == between.join(rows)
