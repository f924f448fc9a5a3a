"""What several clients fetch, or what has to be made first, goes through a file: written once at full speed, read by each
client as slowly as it likes, while it is still being written.
"""

import asyncio
import errno
import os
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial

from anyio import CapacityLimiter, to_thread

from pipeline.errors import MillstreamError, Transient

LARGEST = 512 * 1024 * 1024
"""Bytes of a CSV above which nothing of it is spooled: each client reads from S3, and has its own made."""

KEPT = 1024 * 1024 * 1024
"""Bytes of spools that nobody reads just now and that are kept, in case that somebody comes."""

WRITERS = 4
"""Spools that are written at a time, each by a thread."""

_FULL = {errno.ENOSPC, errno.EDQUOT}

Make = Callable[[], Generator[bytes]]
"""Yields the content, on the thread that writes it; raises what S3 says with the first piece."""


class Spool:
    """One content: an unnamed file that a thread writes, and that any number of clients read meanwhile and afterwards."""

    def __init__(self, make: Make, folder: str) -> None:
        """Raises Transient where nothing can be written in `folder`."""
        self._make = make
        try:
            self._file = _unnamed(folder)
        except OSError as error:
            raise _unwritable(error) from error
        self._close = weakref.finalize(self, os.close, self._file)
        self._loop = asyncio.get_running_loop()
        self._grown = asyncio.Event()
        self._unwanted = False
        self._task: asyncio.Task[None] | None = None
        self.readers = 0
        self.size = 0
        self.done = False
        self.error: BaseException | None = None

    def start(self, writers: CapacityLimiter) -> None:
        """Have it written as soon as a thread is free."""
        self._task = asyncio.create_task(self._write(writers))

    async def read(self, at: int, size: int) -> bytes:
        """Return up to `size` bytes from `at`, as soon as there are any; none at the end. Raises what the writer raised."""
        while self.size <= at and not self.done:
            await self._grown.wait()
        if self.size > at:
            # From the page cache, as a rule: it was written a moment ago. A thread would cost more than the call.
            return os.pread(self._file, min(size, self.size - at), at)
        if self.error is not None:
            raise self.error
        return b""

    def drop(self) -> None:
        """Give it up: nobody reads it any more."""
        self._unwanted = True
        if self.done:
            self._close()

    async def _write(self, writers: CapacityLimiter) -> None:
        try:
            await to_thread.run_sync(self._write_all, limiter=writers)
        except OSError as error:
            self.error = _unwritable(error)
        except MillstreamError as error:
            self.error = error
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.done = True
            self._tell(0)
            if self._unwanted:
                self._close()

    def _write_all(self) -> None:
        with closing(self._make()) as pieces:
            for piece in pieces:
                if self._unwanted:
                    return
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._file, view) :]
                with suppress(RuntimeError):  # the loop is over: so is everybody who would read
                    self._loop.call_soon_threadsafe(self._tell, len(piece))

    def _tell(self, more: int) -> None:
        self.size += more
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()


def _unwritable(error: OSError) -> Transient:
    """Return what a client is told: not where the folder is."""
    why = "is full" if error.errno in _FULL else f"can't be written to: {error.strerror}"
    return Transient(f"the reader's folder for copies (the setting spool) {why}")


def _unnamed(folder: str) -> int:
    """Return the descriptor of a new file that is gone once it is closed."""
    file, path = tempfile.mkstemp(prefix="millstream-spool-", dir=folder)
    os.unlink(path)
    return file


@dataclass(slots=True)
class Spools:
    """The spools of a reader, by what they hold; their files lie in `folder`."""

    folder: str
    _spools: dict[str, Spool] = field(default_factory=dict)
    _writers: CapacityLimiter = field(default_factory=partial(CapacityLimiter, WRITERS))

    def find(self, tag: str) -> Spool | None:
        """Return the spool of a content, if there is one."""
        return self._spools.get(tag)

    @property
    def unfinished(self) -> int:
        """How many are being written, or wait for that."""
        return sum(not spool.done for spool in self._spools.values())

    def join(self, tag: str, make: Make) -> Spool:
        """Read a content from now on; it is made where nobody has it made. `leave` once it is read.

        Raises Transient where nothing can be written in the folder.
        """
        spool = self._spools.pop(tag, None)
        if spool is None or spool.error is not None:
            spool = Spool(make, self.folder)
            spool.start(self._writers)
        self._spools[tag] = spool  # the last that was used
        spool.readers += 1
        return spool

    def leave(self, tag: str, spool: Spool) -> None:
        """Read it no longer."""
        spool.readers -= 1
        if spool.readers == 0 and (spool.error is not None or not spool.done):
            if self._spools.get(tag) is spool:
                del self._spools[tag]
            spool.drop()
        self._sweep()

    def _sweep(self) -> None:
        idle = {tag: spool for tag, spool in self._spools.items() if spool.readers == 0}
        left = sum(spool.size for spool in idle.values())
        for tag, spool in idle.items():
            if left <= KEPT:
                return
            left -= spool.size
            del self._spools[tag]
            spool.drop()


class Spooled:
    """A content of a spool, for one client."""

    def __init__(self, spools: Spools, tag: str, make: Make, piece: Callable[[], int]) -> None:
        """`piece` says how many bytes to take at a time."""
        self._spools = spools
        self._tag = tag
        self._make = make
        self._piece = piece
        self._spool: Spool | None = None

    async def open(self) -> None:
        """Wait for the first bytes: what goes wrong before them is raised here."""
        self._spool = self._spools.join(self._tag, self._make)
        await self._spool.read(0, 1)

    async def close(self) -> None:
        """Read it no longer."""
        spool, self._spool = self._spool, None
        if spool is not None:
            self._spools.leave(self._tag, spool)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = 0
        assert self._spool is not None
        while piece := await self._spool.read(at, self._piece()):
            at += len(piece)
            yield piece
