"""Limits on what one query may take: time and memory.

DuckDB keeps neither by itself. Its memory limit covers its buffers, not the strings and lists inside an
expression, and it has no limit of time.
"""

import re
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
_PAGE = resource.getpagesize()


def size_in_bytes(text: str) -> int:
    """Return what DuckDB takes a memory limit such as "1GB" or "512 MiB" for."""
    found = re.fullmatch(r"(\d+) ?([KMG]I?)B", text.upper())
    if found is None:
        raise ValueError(f"{text!r} is no size; write 512MB or 1GB")
    return int(found[1]) * _UNITS[found[2]]


class Interruptible(Protocol):
    """A DuckDB connection. Its class isn't imported: what a thread that never ends can reach is a leak to it
    at exit."""

    def interrupt(self) -> None:
        """Stop what runs now."""
        ...


class _Watchdog:
    """One thread that interrupts queries whose time is up.

    It sleeps until the earliest end that it knew when it lay down. A query that ends before that doesn't wake
    it, so that a limit costs microseconds, and not the start of a thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends: dict[int, tuple[float, Interruptible]] = {}
        self._wakes = 0.0
        self._thread: threading.Thread | None = None
        self._last = 0

    def watch(self, con: Interruptible, seconds: float) -> int:
        """Begin to watch a query; return what `leave` wants to know."""
        with self._changed:
            end = monotonic() + seconds
            self._last += 1
            self._ends[self._last] = (end, con)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="time limits", daemon=True)
                self._thread.start()
            elif end < self._wakes:
                self._changed.notify()
            return self._last

    def leave(self, number: int) -> None:
        """Stop watching: from now on no interrupt comes, which would hit the next query."""
        with self._changed:
            self._ends.pop(number, None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = monotonic()
                self._interrupt(now)
                self._wakes = min((end for end, _ in self._ends.values()), default=now + 3600.0)
                self._changed.wait(self._wakes - now)

    def _interrupt(self, now: float) -> None:
        for number in [number for number, (end, _) in self._ends.items() if end <= now]:
            self._ends.pop(number)[1].interrupt()


_watchdog = _Watchdog()


@contextmanager
def time_limit(con: Interruptible, seconds: float) -> Iterator[None]:
    """Interrupt what runs on a connection when its time is up: it raises Interrupted.

    DuckDB looks for an interrupt after each vector of 2,048 rows, not inside of one: an expression that
    computes for hours in one row isn't stopped by this.
    """
    number = _watchdog.watch(con, seconds)
    try:
        yield
    finally:
        _watchdog.leave(number)


class _Ceiling:
    """How many threads compute under the ceiling now, and the process's own limit to go back to."""

    lock = threading.Lock()
    users = 0
    before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextmanager
def memory_ceiling(size: int) -> Iterator[None]:
    """Let the process's data grow by `size` bytes at most while the block runs; beyond it DuckDB raises
    OutOfMemory.

    Without it `repeat('x', 3000000000)` takes 6 GB under `memory_limit = '256MB'`. The limit is the whole
    process's: where several threads compute, the first one's holds for all. Only Linux keeps it; elsewhere
    this does nothing.
    """
    if sys.platform != "linux":
        yield
        return
    with _Ceiling.lock:
        _Ceiling.users += 1
        if _Ceiling.users == 1:
            _Ceiling.before = resource.getrlimit(resource.RLIMIT_DATA)
            _set_ceiling(size, *_Ceiling.before)
    try:
        yield
    finally:
        with _Ceiling.lock:
            _Ceiling.users -= 1
            if _Ceiling.users == 0:
                resource.setrlimit(resource.RLIMIT_DATA, _Ceiling.before)


def _set_ceiling(size: int, soft: int, hard: int) -> None:
    with open("/proc/self/statm", "rb") as file:  # in pages; the sixth is data and stack
        data = int(file.read().split()[5]) * _PAGE
    limits = [limit for limit in (data + size, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
