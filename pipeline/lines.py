"""Arrow columns to the list of bytes that Kafka's client takes, without a Python call per row."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EMPTY = pa.scalar("", pa.large_string())


def joined(*pieces: pa.Array | str) -> list[bytes]:
    """Return, for each row, its pieces put together: string arrays of one length without nulls or newlines, and constants.

    Everything becomes one text that is split at its newlines: about five times as fast as `to_pylist`.
    """
    whole = [
        pa.scalar(piece, pa.large_string()) if isinstance(piece, str) else _large(piece) for piece in pieces
    ]
    lines = pc.binary_join_element_wise(*whole, pa.scalar("\n", pa.large_string()), _EMPTY)
    if len(lines) == 0:
        return []
    offsets = np.frombuffer(lines.buffers()[1], np.int64)
    start, stop = int(offsets[lines.offset]), int(offsets[lines.offset + len(lines)])
    text: bytes = lines.buffers()[2].slice(start, stop - start - 1).to_pybytes()
    return text.split(b"\n")


def _large(array: pa.Array) -> pa.Array:
    return array.cast(pa.large_string())
