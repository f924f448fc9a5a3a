"""A process that ends is started again, later each time; in the end nothing is left running."""

import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest

from millstream import process
from millstream.embedded import s3_was_left
from millstream.loglines import LogLines, Milestones
from millstream.process import Command, Process
from millstream.supervise import BackOff, Restarts, Supervisor


def test_each_restart_waits_twice_as_long_up_to_a_limit() -> None:
    restarts = Restarts(BackOff(first=0.5, longest=30, steady=60))
    assert [restarts.delay(uptime=1) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_who_was_up_for_a_minute_begins_anew() -> None:
    restarts = Restarts(BackOff())
    delays = [restarts.delay(uptime=uptime) for uptime in (0, 0, 59, 60, 1)]
    assert delays == [0.5, 1, 2, 0.5, 1]


@dataclass
class FakeProcess:
    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        return self.code


@dataclass
class World:
    """A supervisor over processes that end when a test says so, with a clock that a test moves."""

    now: float = 0.0
    started: list[FakeProcess] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    changes: int = 0

    def supervisor(self) -> Supervisor:
        return Supervisor(self.spawn, self.said.append, changed=self.change, now=lambda: self.now)  # type: ignore[arg-type]

    def spawn(self, _command: Command) -> FakeProcess:
        self.started.append(FakeProcess(pid=100 + len(self.started)))
        return self.started[-1]

    def change(self) -> None:
        self.changes += 1


def _command(name: str, *argv: str) -> Command:
    return Command(name, argv, Path.cwd(), dict(os.environ))


def test_a_process_that_ends_is_started_again_after_its_delay_and_said_so() -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.add(_command("sink-1"))
    assert supervisor.pids() == {"sink-1": 100}

    world.now, world.started[0].code = 3.0, 1
    supervisor.check()
    assert supervisor.pids() == {}
    world.now = 3.4
    supervisor.check()
    assert len(world.started) == 1
    world.now = 3.5
    supervisor.check()
    assert supervisor.pids() == {"sink-1": 101}
    assert world.changes == 1
    assert world.said == [
        "sink-1 ended with exit code 1 after 3.0 s; it starts again in 0.5 s",
        "sink-1 started again",
    ]


def test_a_killed_process_is_called_killed() -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.add(_command("kafka"))
    world.started[0].code = -9
    supervisor.check()
    assert world.said == ["kafka was killed by signal 9 after 0.0 s; it starts again in 0.5 s"]


def test_one_process_ending_leaves_the_others_alone() -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.add(_command("watch"))
    supervisor.add(_command("serve"))
    world.started[0].code = 0
    supervisor.check()
    assert supervisor.pids() == {"serve": 101}


def test_a_process_is_started_again_on_demand_without_a_delay() -> None:
    said: list[str] = []
    started: list[Process] = []

    def spawn(command: Command) -> Process:
        started.append(_started(command.name, _POLITE)[1])
        return started[-1]

    supervisor = Supervisor(spawn, said.append)
    first = supervisor.add(_command("s3"))
    supervisor.restart("s3", "its disk was full")
    assert first.returncode == -signal.SIGTERM
    assert supervisor.pids() == {"s3": started[1].pid}
    supervisor.check()
    assert said == ["s3 started again: its disk was full"]
    supervisor.stop(["s3"], 5)
    for child in started:
        assert child.stdout is not None
        child.stdout.close()


_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
time.sleep(60)
"""
_POLITE = "import time; print('on', flush=True); time.sleep(60)"


def _started(name: str, program: str) -> tuple[Command, Process]:
    """A real process that has said it is on."""
    command = _command(name, sys.executable, "-c", program)
    child = process.start(command)
    assert child.stdout is not None
    assert child.stdout.readline() == b"on\n"
    return command, child


def test_stop_asks_first_and_kills_who_does_not_listen() -> None:
    polite, stubborn = _started("polite", _POLITE), _started("stubborn", _STUBBORN)
    assert process.stop([polite, stubborn], timeout=1) == ["stubborn"]
    assert (polite[1].returncode, stubborn[1].returncode) == (-signal.SIGTERM, -signal.SIGKILL)
    for _, child in (polite, stubborn):
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells children of their parent's death"
)
def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    parent_program = """
import os, sys, time
from pathlib import Path
from millstream.process import Command, start
child = start(Command("c", (sys.executable, "-c", "import time; time.sleep(60)"), Path.cwd(), dict(os.environ)), 2)
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent_program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watch = os.pidfd_open(child)
        parent.kill()
        parent.wait()
    try:
        assert select.select([watch], [], [], 10)[0] == [watch]  # readable once the child has ended
    finally:
        os.close(watch)


def test_a_child_of_one_who_ignores_ctrl_c_can_be_ended_by_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        command, child = _started("child", _POLITE)
    finally:
        signal.signal(signal.SIGINT, before)
    asked = Command(command.name, command.argv, command.cwd, command.env, stop_signal=signal.SIGINT)
    assert process.stop([(asked, child)], timeout=5) == []
    assert child.stdout is not None
    child.stdout.close()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = _command("nothing", str(tmp_path / "no-such-program"))
    child = process.start(command)
    output, _ = child.communicate(timeout=10)
    assert child.returncode != 0
    assert b"no-such-program" in output


def test_each_line_comes_after_its_name_on_the_stream_and_in_the_file(tmp_path: Path) -> None:
    stream = StringIO()
    lines = LogLines(tmp_path / "up.log", stream)
    program = r"import sys; sys.stdout.buffer.write(b'out\n'); sys.stderr.buffer.write(b'bad \xff\n')"
    command = _command("sink-1", sys.executable, "-c", program)
    child = process.start(command)
    lines.follow("sink-1", child)
    child.wait(10)
    lines.write("up", "all ended")
    lines.close()
    assert sorted(stream.getvalue().splitlines()) == sorted(
        ["sink-1    | out", "sink-1    | bad \ufffd", "up        | all ended"]
    )
    assert sorted((tmp_path / "up.log").read_text().splitlines()) == sorted(stream.getvalue().splitlines())


def test_a_terminal_gets_one_colour_for_each_name(tmp_path: Path) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    lines = LogLines(tmp_path / "up.log", stream)
    for name in ("watch", "serve", "watch"):
        lines.write(name, "line")
    lines.close()
    first, second, third = re.findall(r"\x1b\[(\d+)m\w+ ", stream.getvalue())
    assert first == third != second
    assert "\x1b" not in (tmp_path / "up.log").read_text()


def test_a_closed_terminal_does_not_stop_the_file(tmp_path: Path) -> None:
    stream = StringIO()
    lines = LogLines(tmp_path / "up.log", stream)
    stream.close()
    lines.write("up", "one")
    lines.write("up", "two")
    lines.close()
    assert (tmp_path / "up.log").read_text().splitlines() == ["up        | one", "up        | two"]


def test_of_a_server_the_terminal_gets_warnings_alone_and_the_file_everything(tmp_path: Path) -> None:
    stream = StringIO()
    lines = LogLines(tmp_path / "up.log", stream, terse=frozenset({"s3", "kafka"}))
    banner, news = (
        "All components are running and ready to use:",
        "I1122 12:00:00.000000 master.go:1 ERROR is 0",
    )
    go, java = "W1122 12:00:00.000000 volume.go:1 disk full", "WARN org.apache.kafka.Log - slow"
    lines.write("s3", go)  # while it starts
    lines.servers_run = True
    for line in (banner, news, go):
        lines.write("s3", line)
    lines.write("kafka", java)
    lines.write("watch", news)
    lines.close()
    assert stream.getvalue().splitlines() == [
        f"s3        | {go}",
        f"kafka     | {java}",
        f"watch     | {news}",
    ]
    assert len((tmp_path / "up.log").read_text().splitlines()) == 6


def test_a_download_that_its_client_ended_is_no_error_on_the_terminal(tmp_path: Path) -> None:
    """Lines as SeaweedFS 4 writes them; of other errors in the same places the terminal is told."""
    stream = StringIO()
    lines = LogLines(
        tmp_path / "up.log",
        stream,
        terse=frozenset({"s3"}),
        harmless=lambda name, line: name == "s3" and s3_was_left(line),
    )
    lines.servers_run = True
    place, tcp = (
        "E1201 14:47:13.291372 s3api_object_handlers.go:1181",
        "write tcp 127.0.0.1:17842->127.0.0.1:46918",
    )
    partly, whole = (
        f"{place} streamFromVolumeServers: streamFn failed after writing 262144 bytes",
        f"{place} GetObjectHandler: failed to stream results/a: b.csv from volume servers",
    )
    for ended in (
        f"{tcp}: write: broken pipe",
        f"{tcp}: write: connection reset by peer",
        "context canceled",
    ):
        lines.write("s3", f"{partly}: {ended}")
        lines.write("s3", f"{whole}: {ended}")
    bad = [f"{whole}: read chunk: dial tcp 127.0.0.1:1: connection refused", f"{place} write: broken pipe"]
    for line in bad:
        lines.write("s3", line)
    lines.close()
    assert stream.getvalue().splitlines() == [f"s3        | {line}" for line in bad]
    assert len((tmp_path / "up.log").read_text().splitlines()) == 8


def test_milestones_are_reached_when_every_process_has_said_its_own(tmp_path: Path) -> None:
    milestones = Milestones({"serve": "serving", "process-1": "partitions assigned"})
    lines = LogLines(tmp_path / "up.log", StringIO(), listeners=[milestones.note])
    lines.write("serve", "12:00:00 [info] serving  url=http://x")
    lines.write("watch", "partitions assigned")
    assert not milestones.reached()
    lines.write("process-1", "12:00:01 [info] partitions assigned  partitions=[0]")
    assert milestones.reached()
    lines.close()


def test_who_is_killed_at_the_stop_is_said_with_what_that_means() -> None:
    said: list[str] = []
    supervisor = Supervisor(lambda command: _started(command.name, _STUBBORN)[1], said.append)
    child = supervisor.add(_command("process-1"))
    supervisor.stop(["process-1"], 0.2, harm="nothing is lost")
    assert child.stdout is not None
    child.stdout.close()
    assert said == ["process-1 did not end within 0.2 s and was killed: nothing is lost"]
