"""Notices an S3 server that has to be started again: its disk was full, and it goes on refusing writes though there is room."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from millstream import embedded

EVERY = 5.0
"""Seconds between two looks whether the disk has room."""

_ROOM = 4 * 1024 * 1024
"""Bytes that the disk has to take: more than the server's journals need to begin anew."""


class Stuck:
    """Fed line by line from any thread; asked by one."""

    def __init__(self, name: str, folder: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        """`name` is what the server is called, `folder` is on its disk."""
        self._name = name
        self._folder = folder
        self._now = now
        self._noted = False
        self._due = 0.0

    def note(self, name: str, line: str) -> None:
        """Take a line of a process's log."""
        if name == self._name and embedded.s3_is_stuck(line):
            self._noted = True

    def begin_again(self) -> None:
        """Forget it: the server has been started again."""
        self._noted = False

    def has_room(self) -> bool:
        """Whether the server is stuck and its disk takes bytes again; that is looked at every few seconds."""
        if not self._noted or self._now() < self._due:
            return False
        self._due = self._now() + EVERY
        try:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                return file.write(bytes(_ROOM)) == _ROOM
        except OSError:
            return False
