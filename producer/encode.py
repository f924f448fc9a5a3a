"""Turns a block of rows into Kafka messages: keys and values, a batch at a time.

No Python is run per row but for those that are malformed or too large.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import add

import pyarrow as pa

from pipeline.events import malformed_value, rejected_key, row_keys
from pipeline.json_text import string_objects
from producer.reader import Block


@dataclass(frozen=True, slots=True)
class Events:
    """The messages of one block. `rows` and `malformed` count what they tell of.

    `end` is how many bytes of the spooled file lie before the block's end.
    """

    block: int
    rows: int
    malformed: int
    end: int
    keys: list[bytes]
    values: list[bytes]


def encode(block: Block, file_id: str, columns: Sequence[str], limit: int) -> Events:
    """Return the events of a block; what would be a message of more than `limit` bytes, key and all, is malformed."""
    keys = row_keys(file_id, block.row_numbers)
    values = string_objects(columns, [_whole(column) for column in block.table.columns])
    too_large = _too_large(keys, values, limit)
    for index, size in too_large.items():
        line, text = block.locate(index)
        error = f"{size:,} bytes as a message, at most {limit:,} are sent (message_bytes)"
        keys[index] = rejected_key(file_id, int(block.row_numbers[index]))
        values[index] = _fitting(error, line, text, limit - len(keys[index]))
    for row in block.malformed:
        keys.append(rejected_key(file_id, row.row))
        values.append(_fitting(row.error, row.line, row.text, limit - len(keys[-1])))
    malformed = len(block.malformed) + len(too_large)
    return Events(block.number, block.rows, malformed, block.end, keys, values)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


def _too_large(keys: list[bytes], values: list[bytes], limit: int) -> dict[int, int]:
    """Return which messages are larger than `limit` bytes, key and all, and how large they are."""
    if not keys or max(map(len, values)) <= limit - len(keys[-1]):  # the last key is the longest
        return {}
    sizes = map(add, map(len, keys), map(len, values))
    return {index: size for index, size in enumerate(sizes) if size > limit}


def _fitting(error: str, line: int, text: str, limit: int) -> bytes:
    """Return a malformed row's value, with its text cut until it fits: escaped text may be six times as long."""
    value = malformed_value(error, line, text)
    while len(value) > limit:
        text = text[: len(text) * 3 // 4]
        value = malformed_value(error, line, text)
    return value
