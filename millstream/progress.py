"""How far capture is, for people: a bar on a terminal, a plain line every few seconds elsewhere. All of it on stderr."""

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from pipeline.printable import flat, plain

LINE_EVERY = 5.0
"""Seconds between two plain lines."""


class Shown(Protocol):
    """What `producer.progress.Progress` asks for, and an end."""

    def say(self, text: str) -> None:
        """Show a sentence."""
        ...

    def captured(self, name: str, rows: int, share: float | None) -> None:
        """Show how far a file is."""
        ...

    def waits(self, name: str, why: str) -> None:
        """Show why a file isn't captured any further just now."""
        ...

    def done(self, name: str) -> None:
        """Show that it is captured."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


def progress(stream: TextIO | None = None) -> Shown:
    """Return what fits the stream: a bar where it is a terminal."""
    stream = stream or sys.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


class Lines:
    """Plain lines, at most one every few seconds for each file."""

    def __init__(
        self, stream: TextIO, *, every: float = LINE_EVERY, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._every = every
        self._now = now
        self._started: dict[str, float] = {}
        self._said = now()

    def say(self, text: str) -> None:
        """See Progress."""
        print(plain(text), file=self._stream, flush=True)

    def captured(self, name: str, rows: int, share: float | None) -> None:
        """See Progress."""
        now = self._now()
        started = self._started.setdefault(name, now)
        if now - self._said >= self._every:
            self._said = now
            how_far = f" ({share:.0%})" if share is not None else ""
            speed = f", {rows / (now - started):,.0f} rows/s" if now > started else ""
            self.say(f"{name}: {rows:,} {'row' if rows == 1 else 'rows'} captured{how_far}{speed}")

    def waits(self, name: str, why: str) -> None:
        """See Progress."""
        now = self._now()
        if now - self._said >= self._every:
            self._said = now
            self.say(f"{name}: waits: {why}")

    def done(self, name: str) -> None:
        """See Progress."""
        self._started.pop(name, None)

    def close(self) -> None:
        """See Shown."""


class Bar:
    """A progress bar for each file, one below the other."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskID,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def say(self, text: str) -> None:
        """See Progress."""
        self._bars.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def captured(self, name: str, rows: int, share: float | None) -> None:
        """See Progress."""
        now = time.monotonic()
        if name not in self._tasks:
            self._bars.start()
            self._started[name] = now
            self._tasks[name] = self._bars.add_task(flat(name), total=None, rows=0, speed="")
        elapsed = now - self._started[name]
        speed = f"{rows / elapsed:,.0f} rows/s" if elapsed > 0.5 else ""
        total = None if share is None else 1.0
        self._bars.update(self._tasks[name], total=total, completed=share or 0.0, rows=rows, speed=speed)

    def waits(self, name: str, why: str) -> None:
        """See Progress."""
        if name in self._tasks:
            self._bars.update(self._tasks[name], speed=f"waits: {flat(why)}")

    def done(self, name: str) -> None:
        """See Progress."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))

    def close(self) -> None:
        """See Shown."""
        self._bars.stop()
