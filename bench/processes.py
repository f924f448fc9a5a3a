"""The processes of a run: started, watched by what they write, measured and ended."""

import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import usage
from bench.usage import Usage
from millstream import process as children
from millstream.process import Command, Process

POLL = 0.02
"""Seconds between two looks at what a process has written."""


class Broken(Exception):
    """A process ended, or stayed silent, or what came out is wrong; the message says which."""


class Processes:
    """Running processes by name. Each writes JSON lines, stages as their log and programs as their answer, to one file."""

    def __init__(self, servers: Mapping[str, int]) -> None:
        """Nothing runs yet but the servers, whose process ids these are."""
        self._servers = dict(servers)
        self._running: dict[str, tuple[Command, Process]] = {}
        self._read: dict[str, tuple[int, list[dict[str, Any]]]] = {}

    def start(self, command: Command) -> None:
        """Start a process; the file it writes to is `<its folder>/<its name>.log`."""
        with self._log(command).open("ab") as output:
            self._running[command.name] = (command, children.start(command, output))

    def said(self, name: str, event: str, count: int = 1, timeout: float = 120) -> dict[str, Any]:
        """Wait until a process has written `count` lines with this event; return the last of them.

        `when` in it is the time, in seconds since 1970, that the process itself says.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = [line for line in self._lines(name) if line.get("event") == event]
            if len(found) >= count:
                return found[count - 1]
            self.check(f"waiting for {name} to say {event!r}")
            if time.monotonic() > deadline:
                raise Broken(
                    f"{name} said {event!r} {len(found)} times of {count} in {timeout:.0f} s\n{self._tail(name)}"
                )
            time.sleep(POLL)

    def last(self, name: str, event: str) -> dict[str, Any] | None:
        """Return the last line with this event that a process has written so far."""
        found = [line for line in self._lines(name) if line.get("event") == event]
        return found[-1] if found else None

    def check(self, doing: str) -> None:
        """Raise Broken where a process has failed."""
        for name, (_, process) in self._running.items():
            if process.poll() not in {None, 0}:
                raise Broken(f"{name} ended with {process.returncode} while {doing}\n{self._tail(name)}")

    def usage(self) -> dict[str, Usage]:
        """Return what each process has used so far, the servers included where they can be seen."""
        pids = {name: process.pid for name, (_, process) in self._running.items()} | self._servers
        return {name: usage.of(pid) for name, pid in pids.items()}

    def send(self, number: signal.Signals, names: Sequence[str]) -> None:
        """Send processes a signal."""
        for name in names:
            self._running[name][1].send_signal(number)

    def stop(self, *names: str) -> None:
        """End processes as a supervisor does."""
        children.stop([self._running.pop(name) for name in names if name in self._running], timeout=15)

    def stop_all(self) -> None:
        """End everything that runs."""
        self.stop(*list(self._running))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        offset, lines = self._read.setdefault(name, (0, []))
        with self._log(self._running[name][0]).open("rb") as file:
            file.seek(offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        lines += _parsed(whole)
        self._read[name] = (offset + len(whole), lines)
        return lines

    def _log(self, command: Command) -> Path:
        return command.cwd / f"{command.name}.log"

    def _tail(self, name: str) -> str:
        return children.tail(self._log(self._running[name][0]), 30)


def _parsed(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # a warning of some library
        if isinstance(found, dict):
            if "timestamp" in found:
                found["when"] = datetime.fromisoformat(found["timestamp"]).timestamp()
            yield found
