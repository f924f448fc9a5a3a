"""Keys and partitions are the same for everybody, for ever."""

import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import events
from pipeline.events import Kind

FILE = "78312d16389890d46450c3e746f8e9a6"


def test_the_file_id_is_the_one_that_the_test_vector_gives() -> None:
    """BLAKE2b, 16 bytes, over ["orders.csv",1,"9b2c…","5d41…"] without spaces."""
    args = ("orders.csv", 1, "9b2cf535f27731c974343645a3985328", "5d41402abc4b2a76b9719d911017c592")
    assert events.file_id(*args) == FILE


def test_blocks_are_dealt_in_turn_from_the_partition_that_crc32_gives() -> None:
    """crc32 of the file_id's 32 ASCII digits is 0x7d9ec7f4 for the test vector."""
    assert zlib.crc32(FILE.encode()) % 4 == events.first_partition(FILE, 4)
    first = events.first_partition(FILE, 4)
    assert [events.partition_of(FILE, block, 4) for block in range(5)] == [(first + n) % 4 for n in range(5)]


def test_rows_outside_ascii_names_count_as_utf8() -> None:
    """The JSON array isn't escaped: `é` is two bytes, not `\\u00e9`."""
    assert events.file_id("é.csv", 1, "a", "b") == "".join(f"{b:02x}" for b in _blake('["é.csv",1,"a","b"]'))


def _blake(text: str) -> bytes:
    from hashlib import blake2b

    return blake2b(text.encode(), digest_size=16).digest()


@given(rows=st.integers(0, 5000), block=st.integers(1, 700), partitions=st.integers(1, 9))
def test_the_shares_of_a_file_are_what_its_rows_give_one_by_one(
    rows: int, block: int, partitions: int
) -> None:
    """Counting row by row is the oracle."""
    counted: dict[int, int] = {}
    for row in range(rows):
        partition = events.partition_of(FILE, row // block, partitions)
        counted[partition] = counted.get(partition, 0) + 1
    assert events.rows_per_partition(FILE, rows, block, partitions) == counted


@given(
    st.lists(st.integers(0, 10**18 - 1), max_size=50)
    | st.integers(0, 17).flatmap(
        lambda digits: st.lists(st.integers(10**digits, 10 ** (digits + 1) - 1), max_size=50)
    )
)
@example([0])
@example([*range(8192, 16384)])
@example([10**18 - 1, 10**17])
def test_row_keys_read_back_as_the_rows_they_were_made_of(rows: list[int]) -> None:
    """From 0 to the largest number that a row may have, of as many digits or not."""
    written = events.row_keys(FILE, np.array(rows, np.int64)).to_pylist()
    assert written == [f"{FILE}:{row}".encode() for row in rows]
    keys = events.parse_keys(written)
    assert keys.rows.tolist() == rows
    assert (keys.kinds == Kind.ROW).all()
    assert keys.file_ids == ([FILE] if rows else [])


@pytest.mark.parametrize(
    ("tail", "kind", "row"),
    [
        (b":0", Kind.ROW, 0),
        (b":7:rejected", Kind.REJECTED, 7),
        (b":end", Kind.END, -1),
        (b":999999999999999999", Kind.ROW, 10**18 - 1),
        (b"", Kind.FOREIGN, -1),
        (b":", Kind.FOREIGN, -1),
        (b":00", Kind.FOREIGN, -1),
        (b":-1", Kind.FOREIGN, -1),
        (b":+1", Kind.FOREIGN, -1),
        (b":1 ", Kind.FOREIGN, -1),
        (b":1:end", Kind.FOREIGN, -1),
        (b":endx", Kind.FOREIGN, -1),
        (b":rejected", Kind.FOREIGN, -1),
        (b"::rejected", Kind.FOREIGN, -1),
        (b":9999999999999999999", Kind.FOREIGN, -1),
        ("\u00b2".encode(), Kind.FOREIGN, -1),
    ],
)
def test_only_exactly_our_keys_are_read(tail: bytes, kind: Kind, row: int) -> None:
    """Whatever a stranger sends beside them."""
    keys = events.parse_keys([FILE.encode() + tail])
    assert (keys.kinds[0], keys.rows[0]) == (kind, row)


@pytest.mark.parametrize(
    "key", [None, b"", b"x", FILE.upper().encode() + b":1", b"g" * 32 + b":1", b"\xff" * 40]
)
def test_keys_without_a_file_id_are_foreign(key: bytes | None) -> None:
    """Missing, short, upper case, not hexadecimal, not even text."""
    keys = events.parse_keys([key, FILE.encode() + b":3"])
    assert keys.kinds.tolist() == [Kind.FOREIGN, Kind.ROW]
    assert keys.jobs.tolist() == [-1, 0]


def test_jobs_that_take_turns_keep_their_numbers() -> None:
    """Two jobs row by row on one partition."""
    other = "0" * 32
    keys = events.parse_keys([f"{job}:{row}".encode() for row in range(3) for job in (FILE, other)])
    assert keys.jobs.tolist() == [0, 1, 0, 1, 0, 1]
    assert keys.file_ids == [FILE, other]


def test_raw_text_is_cut_at_64_kb_between_characters() -> None:
    """A character of three bytes isn't split."""
    import json

    value = json.loads(events.malformed_value("no", 3, "€" * 100_000))
    assert len(value["text"].encode()) == 65_535
    assert value["line"] == 3
