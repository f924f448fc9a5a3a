"""The logs of several processes as one: each line after its process's name, on stdout and in a file.

Of some only the file has everything: servers that aren't ours say much that is for their makers.
"""

import logging
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from millstream.process import Process
from pipeline.printable import plain

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI
_WIDTH = 9
_FILE_BYTES = 10_000_000  # of the file and of each of its two predecessors


_TROUBLE = re.compile(r"[WEF]\d{4} |(?!I\d{4} ).*\b(WARN|WARNING|ERROR|FATAL|panic|panicked)\b")
"""A warning or worse, as Go's glog and Kafka have it."""


class Milestones:
    """Whether each of some processes has said something by now; fed line by line, from any thread."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        """`wanted` has a process's words by its name."""
        self._wanted = dict(wanted)

    def note(self, name: str, line: str) -> None:
        """Take a line of a process's log."""
        if name in self._wanted and self._wanted[name] in line:
            self._wanted.pop(name, None)

    def reached(self) -> bool:
        """Whether all of them have."""
        return not self._wanted


class LogLines:
    """Writes `name | line` to a stream, in colour on a terminal, and to a file of limited size.

    Of processes in `terse` the stream gets warnings and errors alone, and those only while `servers_run` is true: what they
    warn of while they start and end is of no use to anybody. Nor are lines of theirs that are `harmless`, which is asked with
    the process and the line. `listeners` are told each process and line, by any thread.
    """

    def __init__(
        self,
        path: Path,
        stream: TextIO | None = None,
        *,
        terse: frozenset[str] = frozenset(),
        harmless: Callable[[str, str], bool] = lambda name, line: False,
        listeners: Sequence[Callable[[str, str], None]] = (),
    ) -> None:
        self.servers_run = False
        self._terse = terse
        self._harmless = harmless
        self._listeners = listeners
        self._stream: TextIO | None = stream or sys.stdout
        self._colour = self._stream.isatty()
        self._file = RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=2, encoding="utf-8")
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._readers: list[threading.Thread] = []

    def follow(self, name: str, process: Process) -> None:
        """Read `process`'s output in a thread until it ends."""
        reader = threading.Thread(target=self._read, args=(name, process), name=f"log of {name}", daemon=True)
        self._readers = [thread for thread in self._readers if thread.is_alive()] + [reader]
        reader.start()

    def finish(self, name: str) -> None:
        """Wait until all is written that a process has said which has ended; two seconds at most."""
        for reader in self._readers:
            if reader.name == f"log of {name}":
                reader.join(timeout=2)

    def _read(self, name: str, process: Process) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self.write(name, line.decode("utf-8", "replace").rstrip("\r\n"))

    def write(self, name: str, line: str) -> None:
        """Write one line."""
        for listener in self._listeners:
            listener(name, line)
        with self._lock:
            text = f"{name:<{_WIDTH}} | {plain(line)}"
            self._file.emit(logging.makeLogRecord({"msg": text}))
            if self._stream is None or (
                name in self._terse
                and (not self.servers_run or not _TROUBLE.match(line) or self._harmless(name, line))
            ):
                return
            try:
                print(self._paint(name, text), file=self._stream, flush=True)
            except (BrokenPipeError, ValueError):
                self._stream = None  # nobody reads it any more; the file goes on

    def _paint(self, name: str, text: str) -> str:
        if not self._colour:
            return text
        if name not in self._names:
            self._names.append(name)
        colour = _COLOURS[self._names.index(name) % len(_COLOURS)]
        head, bar, line = text.partition(" | ")
        return f"\x1b[{colour}m{head}{bar}\x1b[0m{line}"

    def close(self) -> None:
        """Write what the processes, ended by now, had still to say, and close the file."""
        for reader in self._readers:
            reader.join(timeout=1)
        self._file.close()
