"""The events on both topics: their keys, and which partition a row belongs to.

The key says what an event is, so that no column name can be mistaken for a marker:

    <file_id>:<row>             a row, or its result
    <file_id>:<row>:rejected    a row that has no result, and why
    <file_id>:end               how many rows of the job this partition carries

Keys are built and read for a whole batch at a time, with Arrow and numpy: a Python call per key costs more than Kafka does.
"""

import enum
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import lines

ID_LENGTH = 32
"""Hexadecimal digits of a file_id: 16 bytes of BLAKE2b."""

TEXT_LIMIT = 64 * 1024
"""Bytes of raw text that a malformed row's event keeps."""

_MOST_DIGITS = 18  # 10**18 rows fit an int64; a longer number is no row of ours
_REJECTED = b":rejected"
_END = b"end"
_LONGEST_KEY = ID_LENGTH + 1 + _MOST_DIGITS + len(_REJECTED)
_POWERS = 10 ** np.arange(_MOST_DIGITS - 1, -1, -1, dtype=np.int64)

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class Kind(enum.IntEnum):
    """What an event is, by its key."""

    FOREIGN = -1
    ROW = 0
    REJECTED = 1
    END = 2


def file_id(name: str, generation: int, etag: str, digest: str) -> str:
    """Return the job's id: BLAKE2b (16 bytes, hexadecimal) over the UTF-8 JSON array of what makes a job one.

    >>> file_id("orders.csv", 1, "9b2cf535f27731c974343645a3985328", "5d41402abc4b2a76b9719d911017c592")
    '78312d16389890d46450c3e746f8e9a6'
    """
    text = json.dumps([name, generation, etag, digest], ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def first_partition(file_id: str, partitions: int) -> int:
    """Return the partition of the job's block 0, which is also where a job without rows sends its end."""
    return zlib.crc32(file_id.encode("ascii")) % partitions


def partition_of(file_id: str, block: int, partitions: int) -> int:
    """Return the partition of a block: blocks are dealt in turn, from one that the file_id chooses."""
    return (zlib.crc32(file_id.encode("ascii")) + block) % partitions


def rows_per_partition(file_id: str, rows: int, block: int, partitions: int) -> dict[int, int]:
    """Return how many of `rows` rows each partition carries; partitions that carry none are left out."""
    blocks = -(-rows // block)
    shares: dict[int, int] = {}
    for number in range(blocks):
        partition = partition_of(file_id, number, partitions)
        shares[partition] = shares.get(partition, 0) + min(block, rows - number * block)
    return dict(sorted(shares.items()))


def row_keys(file_id: str, rows: Ints) -> pa.Array:
    """Return the key of each row number, as `large_binary`.

    Those of a block mostly have equally many digits: they are written into a matrix of bytes, one column after the other.
    """
    digits = len(str(rows.max(initial=0)))
    if not len(rows) or digits != len(str(rows.min())):
        return lines.joined(f"{file_id}:", pa.array(rows).cast(pa.large_string()))
    head = np.frombuffer(f"{file_id}:".encode("ascii"), np.uint8)
    keys = np.empty((len(rows), len(head) + digits), np.uint8)
    keys[:, : len(head)] = head
    rest = rows
    for column in range(keys.shape[1] - 1, len(head) - 1, -1):
        shorter = rest // 10
        keys[:, column] = rest - 10 * shorter + ord("0")
        rest = shorter
    offsets = np.arange(len(rows) + 1, dtype=np.int64) * keys.shape[1]
    return pa.Array.from_buffers(
        pa.large_binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(keys)]
    )


def rejected_key(file_id: str, row: int) -> bytes:
    """Return the key of a row that has no result."""
    return b"%b:%d:rejected" % (file_id.encode("ascii"), row)


def end_key(file_id: str) -> bytes:
    """Return the key of the end of a share."""
    return f"{file_id}:end".encode("ascii")


def end_value(rows: int, round: int) -> bytes:
    """Return the value of the end of a share: how many rows this partition carries, and the round of repair."""
    return b'{"rows":%d,"round":%d}' % (rows, round)


def malformed_value(error: str, line: int, text: str) -> bytes:
    """Return the value of a malformed row: `line` is 1-based, `text` is cut to TEXT_LIMIT bytes."""
    raw = text.encode("utf-8", "replace")[:TEXT_LIMIT].decode("utf-8", "ignore")
    value = {"error": error, "line": line, "text": raw}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def reject_value(error: str, column: str | None, row: dict[str, Any] | None) -> bytes:
    """Return the value of a reject: the reason, the column where it is known, and the row where it fits."""
    value: dict[str, Any] = {"error": error}
    if column is not None:
        value["column"] = column
    if row is not None:
        value["row"] = row
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a batch, read.

    `kinds` and `rows` have one element per key (`rows` is -1 where there is no row number); `jobs` has an index into
    `file_ids`, -1 for foreign keys. `array` has the keys as they came, as `large_binary`.
    """

    kinds: npt.NDArray[np.int8]
    rows: Ints
    jobs: npt.NDArray[np.int32]
    file_ids: list[str]
    array: pa.Array


def parse_keys(keys: Sequence[bytes | None]) -> Keys:
    """Read the keys of a batch; whatever isn't exactly a key of ours is Kind.FOREIGN.

    Keys of one length are read together, as the rows of a matrix of bytes: a batch has few lengths.
    """
    count = len(keys)
    array = pa.array(keys, pa.large_binary())
    found = Keys(
        np.full(count, Kind.FOREIGN, np.int8),
        np.full(count, -1, np.int64),
        np.full(count, -1, np.int32),
        [],
        array,
    )
    if count == 0:
        return found
    offsets = np.frombuffer(array.buffers()[1], np.int64)[: count + 1]
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    numbers: dict[bytes, int] = {}
    shortest, longest = int(lengths.min()), int(lengths.max())
    sizes = [shortest] if shortest == longest else np.unique(lengths).tolist()
    for length in sizes:
        if ID_LENGTH + 1 < length <= _LONGEST_KEY:
            if shortest == longest:
                matrix, at = data[offsets[0] : offsets[-1]].reshape(count, length), np.arange(count)
            else:
                at = np.flatnonzero(lengths == length)
                matrix = data[offsets[at][:, None] + np.arange(length)]
            _read_matrix(matrix, at, found, numbers)
    found.file_ids.extend(file_id.decode("ascii") for file_id in numbers)
    return found


def _read_matrix(keys: Bytes, at: Ints, found: Keys, numbers: dict[bytes, int]) -> None:
    """Read keys of one length, the rows of a matrix; `at` are their places in the batch."""
    tail = keys[:, ID_LENGTH + 1 :]
    kind = np.full(len(keys), Kind.FOREIGN, np.int8)
    row = np.full(len(keys), -1, np.int64)
    rejected = _ends_with(tail, _REJECTED)
    for suffix, here in ((0, ~rejected), (len(_REJECTED), rejected)):
        digits = tail[:, : tail.shape[1] - suffix] - np.uint8(ord("0"))
        if 0 < digits.shape[1] <= _MOST_DIGITS and here.any():
            numeric = here & (digits <= 9).all(axis=1)
            if digits.shape[1] > 1:
                numeric &= digits[:, 0] != 0
            kind[numeric] = Kind.REJECTED if suffix else Kind.ROW
            row[numeric] = digits[numeric] @ _POWERS[-digits.shape[1] :]
    if tail.shape[1] == len(_END):
        kind[_ends_with(tail, _END)] = Kind.END
    ours = np.flatnonzero(kind != Kind.FOREIGN)
    if not len(ours):
        return
    heads = keys[ours, : ID_LENGTH + 1] if len(ours) < len(keys) else keys[:, : ID_LENGTH + 1]
    # Neighbours mostly are of one job: only where the head changes is it looked at.
    starts = np.concatenate(([0], np.flatnonzero((heads[1:] != heads[:-1]).any(axis=1)) + 1))
    runs = [_number(heads[start].tobytes(), numbers) for start in starts]
    jobs = np.repeat(np.array(runs, np.int32), np.diff(np.append(starts, len(ours))))
    known = jobs >= 0
    places = at[ours[known]]
    found.kinds[places] = kind[ours[known]]
    found.rows[places] = row[ours[known]]
    found.jobs[places] = jobs[known]


def _number(head: bytes, numbers: dict[bytes, int]) -> int:
    """Return the number of a job by the head of its keys, a new one where it is new, or -1 where it is no head of ours."""
    file_id = head[:ID_LENGTH]
    if head[ID_LENGTH:] != b":" or file_id.strip(b"0123456789abcdef"):
        return -1
    return numbers.setdefault(file_id, len(numbers))


def _ends_with(tails: Bytes, text: bytes) -> npt.NDArray[np.bool_]:
    """Return which rows of a matrix of bytes end with `text`."""
    if tails.shape[1] < len(text):
        return np.zeros(len(tails), bool)
    same: npt.NDArray[np.bool_] = (tails[:, -len(text) :] == np.frombuffer(text, np.uint8)).all(axis=1)
    return same
