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
import pyarrow.compute as pc

ID_LENGTH = 32
"""Hexadecimal digits of a file_id: 16 bytes of BLAKE2b."""

TEXT_LIMIT = 64 * 1024
"""Bytes of raw text that a malformed row's event keeps."""

_MOST_DIGITS = 18  # 10**18 rows fit an int64; a longer number is no row of ours
_REJECTED = b":rejected"
_END = b"end"

Ints = npt.NDArray[np.int64]


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


def split_lines(array: pa.Array) -> list[bytes]:
    """Return the elements of a string or binary array, none of which holds a newline, as a list of bytes.

    Splitting one buffer is about five times as fast as `to_pylist`.
    """
    if len(array) == 0:
        return []
    empty, newline = pa.scalar(b"", pa.large_binary()), pa.scalar(b"\n", pa.large_binary())
    lines = pc.binary_join_element_wise(array.cast(pa.large_binary()), newline, empty)
    offsets = np.frombuffer(lines.buffers()[1], np.int64)
    start, stop = int(offsets[lines.offset]), int(offsets[lines.offset + len(lines)])
    text: bytes = lines.buffers()[2].slice(start, stop - start - 1).to_pybytes()
    return text.split(b"\n")


def row_keys(file_id: str, rows: Ints) -> list[bytes]:
    """Return the key of each row number."""
    if len(rows) == 0:
        return []
    numbers = pc.cast(pa.array(rows), pa.string())
    return split_lines(pc.binary_join_element_wise(f"{file_id}:", numbers, ""))


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
    `file_ids`, -1 for foreign keys.
    """

    kinds: npt.NDArray[np.int8]
    rows: Ints
    jobs: npt.NDArray[np.int32]
    file_ids: list[str]


def parse_keys(keys: Sequence[bytes | None]) -> Keys:
    """Read the keys of a batch; whatever isn't exactly a key of ours is Kind.FOREIGN."""
    count = len(keys)
    kinds = np.full(count, Kind.FOREIGN, np.int8)
    rows = np.full(count, -1, np.int64)
    jobs = np.full(count, -1, np.int32)
    array = pa.array(keys, pa.large_binary())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[: count + 1] if count else np.zeros(1, np.int64)
    data = array.buffers()[2]
    # Padding lets every key be read at a fixed width, whatever its length.
    padded = np.zeros((data.size if data else 0) + ID_LENGTH + 1 + _MOST_DIGITS + len(_REJECTED), np.uint8)
    if data:
        padded[: data.size] = np.frombuffer(data, np.uint8)
    starts, tails = offsets[:-1], np.diff(offsets) - (ID_LENGTH + 1)

    head = (
        padded[starts[:, None] + np.arange(ID_LENGTH + 1)]
        if count
        else np.zeros((0, ID_LENGTH + 1), np.uint8)
    )
    digits = head[:, :ID_LENGTH]
    hexadecimal = ((digits >= 48) & (digits <= 57)) | ((digits >= 97) & (digits <= 102))
    known = (tails > 0) & (head[:, ID_LENGTH] == ord(":")) & hexadecimal.all(axis=1)

    tail_at = starts + ID_LENGTH + 1
    ends_with = len(_REJECTED)
    is_rejected = known & (tails > ends_with) & _equal(padded, tail_at + tails - ends_with, _REJECTED)
    is_end = known & (tails == len(_END)) & _equal(padded, tail_at, _END)
    width = np.where(is_rejected, tails - ends_with, tails)
    numbers, numeric = _numbers(padded, tail_at, width, known & ~is_end)

    kinds[numeric] = Kind.ROW
    kinds[numeric & is_rejected] = Kind.REJECTED
    kinds[is_end] = Kind.END
    rows[numeric] = numbers[numeric]
    file_ids = _number_jobs(digits, kinds != Kind.FOREIGN, jobs)
    return Keys(kinds, rows, jobs, file_ids)


def _equal(data: npt.NDArray[np.uint8], starts: Ints, text: bytes) -> npt.NDArray[np.bool_]:
    """Return where `data` has `text` at the given starts; starts out of range are not equal."""
    inside = (starts >= 0) & (starts + len(text) <= len(data))
    safe = np.where(inside, starts, 0)
    wanted = np.frombuffer(text, np.uint8)
    equal: npt.NDArray[np.bool_] = (data[safe[:, None] + np.arange(len(text))] == wanted).all(axis=1) & inside
    return equal


def _numbers(
    data: npt.NDArray[np.uint8], starts: Ints, width: Ints, wanted: npt.NDArray[np.bool_]
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Read decimal numbers without sign or leading zeros; return them and where there is one."""
    valid = wanted & (width >= 1) & (width <= _MOST_DIGITS)
    numbers = np.zeros(len(starts), np.int64)
    safe = np.where(valid, starts, 0)
    for position in range(int(width[valid].max(initial=0))):
        digit = data[safe + position].astype(np.int64) - 48
        here = position < width
        valid &= ~here | ((digit >= 0) & (digit <= 9))
        numbers = np.where(here, numbers * 10 + digit, numbers)
    valid &= ~((width > 1) & (data[safe] == 48))
    return numbers, valid


def _number_jobs(
    digits: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_], jobs: npt.NDArray[np.int32]
) -> list[str]:
    """Fill `jobs` with an index for each distinct file_id among the known keys; return the file_ids in that order.

    Neighbouring keys mostly are of one job, so that only the places where the file_id changes are looked at in Python.
    """
    at = np.flatnonzero(known)
    if len(at) == 0:
        return []
    ids = digits[at]
    changes = np.flatnonzero((ids[1:] != ids[:-1]).any(axis=1)) + 1
    starts = np.concatenate(([0], changes))
    numbers: dict[str, int] = {}
    run_numbers = [numbers.setdefault(ids[start].tobytes().decode("ascii"), len(numbers)) for start in starts]
    jobs[at] = np.repeat(np.array(run_numbers, np.int32), np.diff(np.concatenate((starts, [len(at)]))))
    return list(numbers)
