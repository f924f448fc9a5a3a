"""Child processes: start one on a leash, wait until it answers, end several within a time.

Children run in a session of their own: Ctrl-C in the terminal reaches only us, and we end them in order.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import Unreachable

Process = subprocess.Popen[bytes]
TimedOut = subprocess.TimeoutExpired
DEVNULL = subprocess.DEVNULL

_LEASH = str(Path(__file__).with_name("leash.py"))
_POLL = 0.02  # seconds
_FRAME = re.compile(r"(\w+ +\| )?\s+(at \S+\(|\.\.\. \d+ more)")


@dataclass(frozen=True)
class Command:
    """A program to run: its whole environment, its working directory, and the signal that ends it cleanly.

    `leftovers` are files that it may leave behind outside of its directory: they are removed after its end.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    leftovers: tuple[Path, ...] = ()


def start(command: Command, output: int | IO[bytes] = subprocess.PIPE) -> Process:
    """Start `command` with stdout and stderr on `output`, and no input.

    On Linux it dies with the thread that calls this: call from one that lives as long as the child shall.
    """
    leash = (sys.executable, "-I", "-S", _LEASH, str(os.getpid())) if sys.platform.startswith("linux") else ()
    return subprocess.Popen(
        (*leash, *command.argv),
        cwd=command.cwd,
        env=dict(command.env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_ready(
    command: Command, process: Process, ready: Callable[[], bool], *, timeout: float, log: Path
) -> None:
    """Return when `ready()` says so.

    Raises Unreachable, with the end of `log`, when the process ends first or `timeout` seconds have passed.
    """
    deadline = time.monotonic() + timeout
    while process.poll() is None:
        if ready():
            return
        if time.monotonic() > deadline:
            raise Unreachable(
                f"{command.name} does not answer after {timeout:.0f} s; its log, {log}, ends:\n{tail(log)}"
            )
        time.sleep(_POLL)
    raise Unreachable(
        f"{command.name} ended at once, exit code {process.returncode}; its log, {log}, ends:\n{tail(log)}"
    )


def stop(running: Iterable[tuple[Command, Process]], timeout: float) -> list[str]:
    """End all of them: each one's own signal first, SIGKILL for its whole session after `timeout` seconds.

    Returns the names of those that had to be killed.
    """
    running = list(running)
    for command, process in running:
        if process.poll() is None:
            process.send_signal(command.stop_signal)
    deadline = time.monotonic() + timeout
    killed = []
    for command, process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except TimedOut:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed.append(command.name)
        for path in command.leftovers:
            path.unlink(missing_ok=True)
    return killed


@contextmanager
def running(
    command: Command, ready: Callable[[], bool], *, log: Path, timeout: float = 20
) -> Iterator[Process]:
    """A process that is ready within the `with` block and gone after it; its output goes to `log`."""
    with log.open("ab") as output:
        process = start(command, output)
    try:
        wait_ready(command, process, ready, timeout=timeout, log=log)
        yield process
    finally:
        stop([(command, process)], timeout=5)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log file, indented, without the frames of Java's stack traces; a word where there are none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    told = [line for line in text.splitlines() if not _FRAME.match(line)]
    return "\n".join(f"    {line}" for line in told[-lines:]) or "    (nothing)"
