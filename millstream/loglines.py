"""The logs of several processes as one: each line after its process's name, on stdout and in a file."""

import logging
import sys
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from millstream.process import Process

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI
_WIDTH = 9
_FILE_BYTES = 10_000_000  # of the file and of each of its two predecessors


class LogLines:
    """Writes `name | line` to a stream, in colour on a terminal, and to a file of limited size."""

    def __init__(self, path: Path, stream: TextIO | None = None) -> None:
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

    def _read(self, name: str, process: Process) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self.write(name, line.decode("utf-8", "replace").rstrip("\r\n"))

    def write(self, name: str, line: str) -> None:
        """Write one line."""
        with self._lock:
            text = f"{name:<{_WIDTH}} | {line}"
            self._file.emit(logging.makeLogRecord({"msg": text}))
            if self._stream is None:
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
