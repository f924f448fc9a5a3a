"""A `millstream up`, started as a user starts it: the command, in a folder with a configuration, with nothing else told.

Its processes are found from outside: it and all that descend from it, by the names that its up.json gives them. So whatever
else it starts is seen as well, under OTHER.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import command
from bench.command import Ran
from bench.data import CONFIGURATION
from millstream import ports, process
from millstream.process import Command

START_SECONDS = 600
"""The first start on a machine may have to fetch its broker."""

UP, OTHER = "up", "other"


@dataclass(frozen=True)
class Up:
    """A running `up`, and the folder that it and other commands are run in."""

    folder: Path
    pid: int

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / ".millstream"

    @property
    def broker(self) -> Path:
        """The directory of its broker."""
        return self.data / "kafka"

    @property
    def s3(self) -> Path:
        """The directory of its S3 server."""
        return self.data / "s3"

    @property
    def record(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return found

    def processes(self) -> dict[int, str]:
        """Return all processes of it, itself included: id to name."""
        names = {pid: name for name, pid in self.record["processes"].items()}
        return {pid: UP if pid == self.pid else names.get(pid, OTHER) for pid in _family(self.pid)}

    def run(self, *arguments: str, timeout: float) -> Ran:
        """Run `millstream ARGUMENTS…` beside it to its end, timed as its user would; raise Broken where it fails."""
        log = self.folder / f"millstream-{arguments[0]}.log"
        argv = command.millstream(*arguments)
        return command.run(argv, self.folder, command.environment(), log=log, timeout=timeout)


@contextmanager
def up(folder: Path) -> Iterator[Up]:
    """Run an `up` in an empty folder; it is ready within the `with` block and gone after it.

    Raises Unreachable where it isn't ready in time.
    """
    (folder / "millstream.toml").write_text(CONFIGURATION)
    [port] = ports.choose(1)
    argv = command.millstream("up", "--data", ".millstream", "--port", str(port))
    wanted = Command("up", argv, folder, command.environment(), stop_signal=signal.SIGINT)
    log = folder / "up.out"
    with log.open("ab") as output:
        child = process.start(wanted, output)
    try:
        process.wait_ready(
            wanted, child, lambda: b"ready: " in log.read_bytes(), timeout=START_SECONDS, log=log
        )
        yield Up(folder, child.pid)
    finally:
        process.stop([(wanted, child)], timeout=30)


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it and run now."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # it has ended meanwhile
        for child in children:
            yield from _family(int(child))
