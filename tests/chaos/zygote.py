"""Makes the stages' processes by fork, from one that has imported everything: Faust alone takes two seconds to import.

`Zygote` is the runner's side; `python -m tests.chaos.zygote` is the other. They talk in lines of JSON. A forked process is
one like any other: it has its own signals, connections and threads, and may be killed or stopped at any moment. When the
runner is gone, so are they.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

MODULES = (
    "millstream.cli",
    *(f"millstream.commands.{name}" for name in ("watch", "process", "sink", "serve", "push")),
    *("processor.app", "producer.watch", "producer.push", "sink.store", "sink.http_server", "pipeline.s3"),
)


class Zygote:
    """Starts processes. For any thread."""

    def __init__(self) -> None:
        """Start the process that the others are forked from."""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(
        self, arguments: list[str], *, cwd: Path, env: Mapping[str, str], log: Path, hours: float = 0.0
    ) -> "Forked":
        """Run the command line with these arguments; with `hours` it believes to be so much later."""
        asked = {"start": arguments, "cwd": str(cwd), "env": dict(env), "log": str(log), "hours": hours}
        return Forked(self, int(self.ask(asked)))

    def ask(self, question: dict[str, Any]) -> Any:
        """Return the answer to a question."""
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it, and all that it forked."""
        with self._lock:
            self._process.communicate(timeout=30)


class Forked:
    """A process that was forked; the methods are those of subprocess.Popen."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None:
            self.returncode = self._zygote.ask({"poll": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end; raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return code


def main() -> None:
    """Fork as told, until nobody tells any more; a child returns from here into the command line."""
    for name in MODULES:
        __import__(name)
    gc.freeze()
    children: set[int] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            pid = os.fork()
            if not pid:
                _become(asked)
                return
            children.add(pid)
            answer: int | None = pid
        else:
            ended, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
            children.discard(ended)
        print(json.dumps(answer), flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)  # taking the interpreter down would have DuckDB's binding list what it holds


def _become(asked: dict[str, Any]) -> None:
    os.chdir(asked["cwd"])
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for ours, standard in ((null, 0), (log, 1), (log, 2)):
        os.dup2(ours, standard)
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path.insert(0, asked["cwd"])
    sys.argv = ["millstream", *asked["start"]]
    sys.orig_argv = [sys.executable, "-m", "millstream", *asked["start"]]
    if asked["hours"]:
        _skew(timedelta(hours=asked["hours"]))


def _skew(hours: timedelta) -> None:
    """Change what `pipeline.jobs.now` is, wherever it was imported.

    S3's signatures go on to carry the right time: no server takes them an hour late.
    """
    from pipeline import jobs

    right = jobs.now

    def skewed() -> datetime:
        return right() + hours

    for module in list(sys.modules.values()):
        if getattr(module, "now", None) is right:
            module.now = skewed  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
    from millstream.cli import main as command_line

    command_line()
