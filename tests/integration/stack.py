"""The stages as processes of their own, as a user runs them, on a test's own topics and buckets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import httpx

from millstream import ports
from tests.integration.chain import environment
from tests.services.kafka import Broker
from tests.services.s3 import S3

STAGES = {
    "watch": ["-m", "millstream", "watch"],
    "process": ["-m", "millstream", "process"],
    "sink": ["-m", "millstream", "sink"],
    "serve": ["-m", "millstream", "serve"],
}


@dataclass
class Stack:
    """Running stages, by name (`process-2` is a second worker); each one's log is `<folder>/<name>.log`."""

    folder: Path
    env: dict[str, str]
    http: str
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start stages."""
        for name in names:
            command = [sys.executable, *STAGES[name.partition("-")[0]]]
            with self.log(name).open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def logged(self, name: str, text: str, times: int = 1, timeout: float = 60) -> None:
        """Wait until a stage's log says `text` so many times."""
        self.until(
            lambda: self.log(name).read_text().count(text) >= times, f"{name} to say {text!r}", timeout
        )

    def pause(self, name: str) -> None:
        """Have a stage stand still, though its process is there."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        """Ask a stage to end, as a supervisor does; return its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=30)

    def until(self, condition: object, what: str, timeout: float = 60) -> None:
        """Wait for a condition; fail with the logs' ends where it doesn't come, or where a stage has ended."""
        assert callable(condition)
        deadline = time.monotonic() + timeout
        while not condition():
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not dead, f"{dead} ended while waiting for {what}\n{self.logs()}"
            assert time.monotonic() < deadline, f"waited {timeout:.0f} s for {what}\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """Return the ends of all logs."""
        parts = (f"--- {file.name}\n{file.read_text()[-3000:]}" for file in sorted(self.folder.glob("*.log")))
        return "\n".join(parts)

    def get(self, path: str, **query: str) -> httpx.Response:
        """Ask the reader, once it is there."""
        self.logged("serve", "serving")
        return httpx.get(self.http + path, params=query, timeout=120)

    def assert_result(self, name: str, expected: str, wait: int = 90) -> None:
        """Fetch a result, wait for it so many seconds at most, and fail with the first line that differs."""
        answer = self.get(f"/results/{name}", wait=str(wait))
        assert answer.status_code == 200, f"{name}: {answer.status_code} {answer.text[:1000]}\n{self.logs()}"
        same = answer.text == expected  # not in the assertion, which would print both files
        assert same, f"{name}: {difference(answer.text.splitlines(), expected.splitlines())}\n{self.logs()}"


def difference(lines: list[str], expected: list[str]) -> str:
    """Return where two files differ first."""
    pairs = enumerate(zip_longest(lines, expected), start=1)
    number, (line, right) = next(((n, pair) for n, pair in pairs if pair[0] != pair[1]), (0, ("", "")))
    return f"{len(lines)} lines for {len(expected)}; line {number} is {line!r}, expected {right!r}"


@contextmanager
def stack(
    folder: Path, broker: Broker, s3: S3, prefix: str, *stages: str, **settings: str
) -> Iterator[Stack]:
    """Run stages until the block ends, then end them; a stage that doesn't end when asked is an error."""
    port = ports.choose(1)[0]
    env = environment(
        broker, s3, prefix, MILLSTREAM_HTTP_PORT=str(port), MILLSTREAM_SESSION_TIMEOUT="6", **settings
    )
    running = Stack(folder, {**env, "PYTHONUNBUFFERED": "1"}, f"http://127.0.0.1:{port}")
    try:
        running.start(*stages)
        yield running
        for name in list(running.processes):
            code = running.stop(name)
            assert code == 0, f"{name} ended with {code}\n{running.logs()}"
    finally:
        for process in running.processes.values():
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()
