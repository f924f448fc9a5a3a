"""Arrow columns become the bytes of their rows."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline import lines


@given(st.lists(st.text().filter(lambda text: "\n" not in text), min_size=1))
def test_pieces_are_joined_row_by_row(cells: list[str]) -> None:
    """Slices of arrays included, and none at all."""
    array = pa.array(cells, pa.string())
    assert lines.joined(array) == [cell.encode() for cell in cells]
    assert lines.joined("<", array, array.cast(pa.large_string()), ">") == [
        f"<{cell}{cell}>".encode() for cell in cells
    ]
    assert lines.joined(array[1:]) == [cell.encode() for cell in cells[1:]]
