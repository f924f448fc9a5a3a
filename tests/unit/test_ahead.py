"""Reading ahead gives everything in order, as far ahead as there is room, and ends with whoever reads."""

import threading
from collections.abc import Generator
from pathlib import Path

import pyarrow as pa
import pytest

import producer.reader
from pipeline.dialect import Dialect
from pipeline.duck import Interrupted, connect
from producer.ahead import Ahead
from producer.reader import read
from tests.wait import wait_until

TABLE = pa.table({"a": pa.array(range(128), pa.int64())})
SIZE = TABLE.nbytes


class Tables:
    """A generator of tables that counts what it gave, and notes on which thread it was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.given = 0
        self.closed_by: str | None = None
        self.generator = self._make(count, error)

    def _make(self, count: int, error: Exception | None) -> Generator[pa.Table, None, None]:
        try:
            for number in range(count):
                self.given += 1
                yield TABLE.append_column("n", pa.array([number] * len(TABLE), pa.int64()))
            if error is not None:
                raise error
        finally:
            self.closed_by = threading.current_thread().name


def number(table: pa.Table) -> int:
    return int(table.column("n")[0].as_py())


@pytest.mark.parametrize("room", [1, 5 * SIZE, 1000 * SIZE])
def test_tables_come_in_order_and_then_the_end(room: int) -> None:
    tables = Tables(50)
    with Ahead(tables.generator, room=room) as ahead:
        assert [number(table) for table in ahead] == list(range(50))
    assert tables.closed_by == "read-csv"


def test_an_error_comes_after_what_was_read_before_it() -> None:
    tables = Tables(3, InterruptedError("broken"))
    with Ahead(tables.generator) as ahead:
        rest = iter(ahead)
        assert [number(next(rest)) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(InterruptedError, match="broken"):
            next(rest)


@pytest.mark.parametrize(("room", "most"), [(1, 1), (2 * SIZE, 1), (4 * SIZE, 2), (5 * SIZE, 3)])
def test_no_more_waits_than_there_is_room_for_and_one(room: int, most: int) -> None:
    """A table here takes 2 * SIZE."""
    tables = Tables(6)
    with Ahead(tables.generator, room=room) as ahead:
        for place, _ in enumerate(ahead):
            expected = min(6, place + 1 + most)
            wait_until(lambda expected=expected: tables.given == expected, 10)  # type: ignore[misc]
            assert sum(1 for _ in ahead._ready) <= most


def test_who_leaves_before_the_end_leaves_nothing_running() -> None:
    tables = Tables(10**9)
    with Ahead(tables.generator) as ahead:
        next(iter(ahead))
    assert tables.closed_by == "read-csv"
    assert not any(thread.name == "read-csv" for thread in threading.enumerate())


def test_who_leaves_does_not_wait_for_a_query_that_takes_long() -> None:
    """One that begins late in a large file passes over all rows before it first; this one would never end."""
    con, begun = connect(), threading.Event()

    def tables() -> Generator[pa.Table, None, None]:
        yield TABLE
        begun.set()
        yield con.execute(
            "SELECT sum(a.range) FROM range(1000000000) a, range(1000000000) b"
        ).to_arrow_table()

    with Ahead(tables(), interrupt=con.interrupt) as ahead:
        next(iter(ahead))
        assert begun.wait(10)
    assert isinstance(ahead._error, Interrupted)


def test_a_reader_that_is_left_interrupts_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n"1",2\n' + b"1,2\n" * 200_000)
    asked = []
    monkeypatch.setattr(producer.reader, "_interrupt", lambda running: asked.append(list(running)))
    blocks = read(path, Dialect(), ("a", "b"), block=100)
    next(blocks)
    blocks.close()
    assert asked
    assert all(hasattr(con, "interrupt") for con in asked[0])
