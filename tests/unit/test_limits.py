import sys

import pytest

from pipeline.duck import Interrupted, OutOfMemory, connect
from pipeline.limits import memory_ceiling, size_in_bytes, time_limit

ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a limit of a process's data")


def test_a_query_is_interrupted_when_its_time_is_up() -> None:
    con = connect()
    with pytest.raises(Interrupted), time_limit(con, 0.05):
        con.execute(ENDLESS).fetchall()


def test_the_query_after_one_that_was_in_time_is_not_interrupted_for_it() -> None:
    con = connect()
    for _ in range(50):
        with time_limit(con, 0.001):
            pass
        assert con.execute("SELECT count(*) FROM range(200000)").fetchall() == [(200000,)]


def test_a_shorter_limit_counts_though_a_longer_one_came_first() -> None:
    slow, quick = connect(), connect()
    with time_limit(slow, 600), pytest.raises(Interrupted), time_limit(quick, 0.05):
        quick.execute(ENDLESS).fetchall()


@linux
def test_memory_that_duckdb_does_not_count_is_limited_too() -> None:
    con = connect(memory_limit="100MB")
    with memory_ceiling(60_000_000):
        with memory_ceiling(60_000_000), pytest.raises(OutOfMemory):
            con.execute("SELECT len(repeat('x', n)) FROM (VALUES (2000000000)) t(n)").fetchall()
        with pytest.raises(OutOfMemory):
            con.execute("SELECT len(range(n)) FROM (VALUES (200000000)) t(n)").fetchall()
    assert con.execute("SELECT len(repeat('x', n)) FROM (VALUES (100000000)) t(n)").fetchall() == [
        (100000000,)
    ]


@pytest.mark.parametrize(("text", "size"), [("1GB", 10**9), ("512 MiB", 2**29), ("3kb", 3000)])
def test_a_size_is_what_duckdb_takes_it_for(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="write 512MB or 1GB"):
        size_in_bytes("much")
