"""The interpreter and the C library's allocator, set for stages that move batches between threads.

By samples and by CPU time of the processor's work on runs of 16,384 rows, 2 cores:

- glibc gives large pieces straight back to the system, and the next batch pays for the same memory again, page by page: 0.7 µs
  of 2.5 a row were page faults. What is kept is bounded by what a process holds at its peak anyway.
- A thread that comes back from C (Arrow, DuckDB, librdkafka) waits up to a switch interval for the thread that computes in
  Python: 5 ms each time, as Python comes, against some 15 ms that a whole run takes.
- Thousands of messages at a time make the cyclic collector look, though none of them is in a cycle.
"""

import atexit
import contextlib
import ctypes
import gc
import sys

import pyarrow as pa

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_ARENAS = 2
_KEPT = 64 * 1024 * 1024
_LARGEST = 32 * 1024 * 1024
"""The most that glibc takes for M_MMAP_THRESHOLD on 64 bits: HEAP_MAX_SIZE / 2."""

_SWITCH = 0.0005
"""Seconds."""

_NEW_OBJECTS = 50_000
"""Objects until the youngest generation is collected; 700 as Python comes."""


def tune() -> None:
    """Set all of this for the process; call it once everything is imported, before any thread is started."""
    share_freed()
    _glibc("mallopt", _M_TRIM_THRESHOLD, _KEPT)
    _glibc("mallopt", _M_MMAP_THRESHOLD, _LARGEST)
    sys.setswitchinterval(_SWITCH)
    gc.collect()
    gc.freeze()  # modules live as long as the process
    atexit.register(gc.unfreeze)  # else DuckDB's binding prints on leaving what it takes for leaked
    gc.set_threshold(_NEW_OBJECTS, 20, 50)


def share_freed() -> None:
    """Have all threads take memory from few places: what one of them has freed, another one can use.

    Batches are made by one thread, and freed by another. Arrow's own pool keeps what was freed for the thread that had it: a
    sink with 69 MB of rows took 126 more for them, and takes 84 with glibc's. glibc keeps a heap for each of up to 8 threads
    per core.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    _glibc("mallopt", _M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return freed memory to the system, wherever it lies between what is still used; takes some milliseconds.

    For who has let go of much that came in small pieces: by itself glibc returns only what lies at the end of a heap.
    """
    _glibc("malloc_trim", 0)


def _glibc(function: str, *numbers: int) -> None:
    """Call a function of glibc's allocator; do nothing where the C library is another."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*numbers)
