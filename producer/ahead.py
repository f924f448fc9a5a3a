"""Tables that a thread of its own reads on while one is worked on."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Self

import pyarrow as pa

ROOM = 16 * 1024 * 1024
"""Bytes of tables that may wait. DuckDB computes some 100,000 rows at a stretch, 12 blocks: for the next ones to be begun while
these are worked on, all of them have to find room, as those of a usual file do."""

_AGAIN = 0.05
"""Seconds after which a reader that doesn't end is interrupted once more: it may have begun its query only just now."""


class Ahead:
    """What a generator yields, in order, then what it raises. A context manager, which closes the generator.

    However wide the rows are, at least one table is read ahead, and `room` is exceeded by one at most. Who leaves before the
    end doesn't wait for the next table: `interrupt` is called, for the generator to raise.
    """

    def __init__(
        self,
        tables: Generator[pa.Table, None, None],
        *,
        interrupt: Callable[[], None] = lambda: None,
        room: int = ROOM,
    ) -> None:
        """Reading begins when the context is entered."""
        self._tables = tables
        self._interrupt = interrupt
        self._room = room
        self._ready: deque[pa.Table] = deque()
        self._bytes = 0
        self._ended = False
        self._unwanted = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="read-csv", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._unwanted = True
            self._changed.notify()
        while not self._ended:
            self._interrupt()
            self._thread.join(_AGAIN)
        self._thread.join()

    def __iter__(self) -> Iterator[pa.Table]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._ended)
                if not self._ready:
                    break
                table = self._ready.popleft()
                self._bytes -= table.nbytes
                self._changed.notify()
            yield table
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        try:
            with closing(self._tables):
                for table in self._tables:
                    if not self._keep(table):
                        break
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _keep(self, table: pa.Table) -> bool:
        """Let a table wait; return, when there is room for another one, whether it is wanted."""
        with self._changed:
            self._ready.append(table)
            self._bytes += table.nbytes
            self._changed.notify()
            self._changed.wait_for(lambda: self._unwanted or not self._ready or self._bytes < self._room)
            return not self._unwanted
