"""The stages' processes: started, killed, frozen, started again, as whoever runs them in earnest would."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.plan import Point, Skew
from tests.chaos.zygote import Forked, Zygote

RESTART = 0.5
"""Seconds until a process that ended by itself is started again."""


@dataclass(slots=True)
class _Stage:
    process: Forked | None = None
    due: float | None = None
    """When it is to be started (again); None: it is not."""
    wanted: bool = True
    starts: int = 0
    thaw: float | None = None


@dataclass
class Supervisor:
    """Keeps stages running. `gates` gives each stage an S3 address of its own; logs are `<folder>/<name>.log`."""

    zygote: Zygote
    folder: Path
    env: dict[str, str]
    gates: dict[str, str]
    points: dict[str, Point] = field(default_factory=dict)
    skews: dict[str, Skew] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """What happened, in order."""
    began: float = field(default_factory=time.monotonic)
    touched: float = 0.0
    """When something was last done to a process."""
    _stages: dict[str, _Stage] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Write down what happened."""
        self.touched = time.monotonic()
        self.said.append(f"{self.touched - self.began:6.2f} {text}")

    def start(self, name: str) -> None:
        """Start a stage, and start it again whenever it ends."""
        self._stages[name] = _Stage(due=time.monotonic())
        self.look()

    def kill(self, name: str, back: float) -> bool:
        """kill -9; it comes back after so many seconds. False where it doesn't run. For any thread."""
        stage = self._stages.get(name)
        if stage is None or stage.process is None or stage.process.poll() is not None:
            return False
        stage.due = time.monotonic() + back
        stage.process.kill()
        self.note(f"killed {name}")
        return True

    def leave(self, name: str) -> None:
        """Ask a stage to end for good."""
        stage = self._stages[name]
        stage.wanted = False
        if stage.process is not None and stage.process.poll() is None:
            stage.process.terminate()
            self.note(f"told {name} to end")

    def freeze(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        stage = self._stages.get(name)
        if stage is not None and stage.process is not None and stage.process.poll() is None:
            stage.process.send_signal(signal.SIGSTOP)
            stage.thaw = time.monotonic() + seconds
            self.note(f"stopped {name} for {seconds} s")

    def runs(self, name: str) -> bool:
        """Whether a stage's process is there."""
        stage = self._stages.get(name)
        return stage is not None and stage.process is not None and stage.process.poll() is None

    def log(self, name: str) -> Path:
        """Return where a stage's log is."""
        return self.folder / f"{name}.log"

    @property
    def restarts(self) -> int:
        """How often stages were started again."""
        return sum(stage.starts - 1 for stage in self._stages.values())

    def look(self) -> None:
        """Start what is due, thaw what is due, notice who has ended."""
        now = time.monotonic()
        for name, stage in list(self._stages.items()):
            running = stage.process is not None and stage.process.poll() is None
            if running and stage.process is not None:
                self._look_at_stopped(name, stage, now)
                continue
            if stage.process is not None and stage.wanted and stage.due is None:
                self.note(f"{name} has ended with {stage.process.returncode}")
                at_point = name in self.points and stage.process.returncode == -signal.SIGKILL
                stage.due = now + (self.points[name].seconds / 4 if at_point else RESTART)
            if stage.due is not None and stage.wanted and now >= stage.due:
                stage.due = None
                self._spawn(name, stage)

    def _look_at_stopped(self, name: str, stage: _Stage, now: float) -> None:
        assert stage.process is not None
        if stage.thaw is None and name in self.points and _is_stopped(stage.process.pid):
            stage.thaw = now + self.points[name].seconds
            self.note(f"{name} has stopped at {self.points[name].point}")
        if stage.thaw is not None and now >= stage.thaw:
            stage.thaw = None
            stage.process.send_signal(signal.SIGCONT)
            self.note(f"{name} goes on")

    def _spawn(self, name: str, stage: _Stage) -> None:
        env = self.env | {"MILLSTREAM_S3_ENDPOINT": self.gates[name]}
        point = self.points.get(name)
        if point is not None and not stage.starts:
            env["MILLSTREAM_CRASH"] = f"{point.how}:{point.point}:{point.count}"
        skew = self.skews.get(name)
        self.log(name).touch()  # whoever looks for what it says needn't wait for it to be there
        stage.process = self.zygote.start(
            [name.partition("-")[0]],
            cwd=self.folder,
            env=env,
            log=self.log(name),
            hours=skew.hours if skew is not None else 0.0,
        )
        stage.starts += 1
        self.note(f"started {name}")

    def stop(self) -> list[str]:
        """Ask all to end, as a supervisor does; return the complaints about those that don't end well."""
        running = {}
        for name, stage in self._stages.items():
            stage.wanted = False
            if stage.process is not None and stage.process.poll() is None:
                stage.process.send_signal(signal.SIGCONT)
                stage.process.terminate()
                running[name] = stage.process
        wrong = []
        deadline = time.monotonic() + 30
        for name, process in running.items():
            try:
                code = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                wrong.append(f"{name} did not end within 30 s of SIGTERM")
            else:
                if code != 0:
                    wrong.append(f"{name} ended with {code} when told to end")
        return wrong

    def destroy(self) -> None:
        """Leave no process behind."""
        for stage in self._stages.values():
            if stage.process is not None and stage.process.poll() is None:
                os.kill(stage.process.pid, signal.SIGCONT)
                stage.process.kill()
                stage.process.wait()


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")
    except OSError:
        return False
