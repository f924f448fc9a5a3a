"""Arrow columns to the bytes of their rows, without a Python call per row."""

import pyarrow as pa
import pyarrow.compute as pc

_EMPTY = pa.scalar("", pa.large_string())


def joined(*pieces: pa.Array | str) -> pa.Array:
    """Return, for each row, its pieces put together, as `large_binary`: string arrays of one length without nulls, and
    constants.
    """
    whole = [
        pa.scalar(piece, pa.large_string()) if isinstance(piece, str) else piece.cast(pa.large_string())
        for piece in pieces
    ]
    return pc.binary_join_element_wise(*whole, _EMPTY).cast(pa.large_binary())


def text(rows: pa.Array, between: bytes) -> bytes:
    """Return rows of `large_binary` as one text, with `between` between each two of them."""
    everything = pa.LargeListArray.from_arrays(pa.array([0, len(rows)], pa.int64()), rows)
    whole: bytes = pc.binary_join(everything, pa.scalar(between, pa.large_binary()))[0].as_py()
    return whole


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, copied only where it is in several pieces."""
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)
