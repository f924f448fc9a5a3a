"""Turns a block of rows into Kafka messages: keys and values, a batch at a time.

No Python is run per row but for those that are malformed or too large.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.events import malformed_value, rejected_key, row_keys
from pipeline.messages import Messages, sizes
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
    messages: Messages


def encode(block: Block, file_id: str, limit: int) -> Events:
    """Return the events of a block, malformed rows last; what would be a message of more than `limit` bytes, key and all, is
    malformed.
    """
    messages = Messages(row_keys(file_id, block.row_numbers), block.objects)
    too_large = _too_large(messages, limit)
    bad: dict[bytes, bytes] = {}
    for index, size in too_large.items():
        key = rejected_key(file_id, int(block.row_numbers[index]))
        line, text = block.locate(index)
        error = f"{size:,} bytes as a message, at most {limit:,} are sent (message_bytes)"
        bad[key] = _fitting(error, line, text, limit - len(key))
    for row in block.malformed:
        key = rejected_key(file_id, row.row)
        bad[key] = _fitting(row.error, row.line, row.text, limit - len(key))
    if too_large:
        messages = messages.take(np.setdiff1d(np.arange(len(messages)), list(too_large)))
    if bad:
        messages = Messages.joined([messages, Messages.of(list(bad), list(bad.values()))])
    return Events(block.number, block.rows, len(bad), block.end, messages)


def _too_large(messages: Messages, limit: int) -> Mapping[int, int]:
    """Return which messages are larger than `limit` bytes, key and all, and how large they are."""
    whole = sizes(messages.keys) + sizes(messages.values)
    return {index: int(whole[index]) for index in np.flatnonzero(whole > limit).tolist()}


def _fitting(error: str, line: int, text: str, limit: int) -> bytes:
    """Return a malformed row's value, with its text cut until it fits: escaped text may be six times as long."""
    value = malformed_value(error, line, text)
    while len(value) > limit:
        text = text[: len(text) * 3 // 4]
        value = malformed_value(error, line, text)
    return value
