"""A command run as a user runs it: a process of its own, timed from before it is started until it has ended.

So its start, its imports and its way out are in the figure. CPU seconds are what the system counted for it; its peak of memory
is looked up in /proc while it runs: what the system tells afterwards counts the parent's memory too (see `bench.usage`).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import usage
from bench.processes import Broken
from bench.usage import Usage
from millstream.process import tail

ROOT = Path(__file__).parents[1]
ABSENT = Path(__file__).parent / "absent"

LOOK = 0.02
"""Seconds between two looks at a command's memory."""


@dataclass(frozen=True)
class Ran:
    """A command that ended with exit code 0: how long it took, in seconds, and what it used."""

    seconds: float
    used: Usage


def environment(python: str = sys.executable) -> dict[str, str]:
    """Return the environment of whatever is measured: our code, none of our settings, and no pandas where ours runs."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MILLSTREAM_")}
    paths = (str(ABSENT), str(ROOT)) if python == sys.executable else (str(ROOT),)
    return env | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def millstream(*arguments: str) -> tuple[str, ...]:
    """Return the command line of `millstream ARGUMENTS…`."""
    return (sys.executable, "-m", "millstream", *arguments)


def run(argv: Sequence[str], folder: Path, env: Mapping[str, str], *, log: Path, timeout: float) -> Ran:
    """Run a command in a folder to its end; what it writes goes to `log`.

    Raises Broken, with the end of the log, for another exit code than 0, and where `timeout` seconds weren't enough.
    """
    what = " ".join(argv)[:200]
    with log.open("ab") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        peak = _Peak(process.pid)
        late = threading.Timer(timeout, os.kill, (process.pid, signal.SIGKILL))
        late.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            late.cancel()
            peak_mb = peak.close()
    if process.returncode:
        how = (
            f"ended with {process.returncode}" if seconds < timeout else f"had not ended after {timeout:g} s"
        )
        raise Broken(f"{what} {how}\n{tail(log, 30)}")
    return Ran(seconds, Usage(round(used.ru_utime + used.ru_stime, 2), peak_mb))


class _Peak:
    """Looks up a process's peak of memory as long as it is there."""

    def __init__(self, pid: int) -> None:
        self._mb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(pid,), name="peak", daemon=True)
        self._thread.start()

    def close(self) -> float:
        """Return the peak that was seen last, in MB."""
        self._ended.set()
        self._thread.join()
        return self._mb

    def _look(self, pid: int) -> None:
        while not self._ended.wait(LOOK):
            self._mb = max(self._mb, usage.of(pid).peak_mb)
