"""`millstream up`: one per directory, restarts what dies, ends everything."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from millstream import ports
from millstream.up import _environment
from pipeline.errors import Transient
from pipeline.s3 import S3Store, client
from pipeline.settings import S3Settings, load
from tests.integration.chain import CONFIGURATION, ROOT, millstream
from tests.services.kafka import Broker
from tests.services.s3 import S3
from tests.wait import wait_until

_START = (
    "import sys; from pathlib import Path; from millstream.up import up; from pipeline.settings import load; "
)
_RUN = _START + "up(load(beside_up=False, http={'port': int(sys.argv[2])}), Path(sys.argv[1]))"


@dataclass
class Up:
    """A running `up` and its record."""

    process: subprocess.Popen[str]
    data: Path

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return found


@contextmanager
def _up(data: Path, port: int) -> Iterator[Up]:
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(data), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        cwd=data.parent,
    )
    try:
        yield Up(process, data)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=15)


def _line(up: Up, wanted: str) -> str:
    """Read the log until a line that holds `wanted`."""
    assert up.process.stdout is not None
    seen = []
    for line in up.process.stdout:
        seen.append(line)
        if wanted in line:
            return line
    pytest.fail(f"ended without {wanted!r}:\n{''.join(seen)}")


def _alive(pid: int) -> bool:
    """Whether the process runs: one that has ended may be there until its new parent asks for its exit code."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # gone meanwhile, or a system without /proc


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_with_everything_it_started_within_five_seconds(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    with _up(tmp_path / "data", 0) as up:
        _line(up, "Ctrl-C ends everything")
        record = up.record()
        assert set(record["processes"]) == {"watch", "process-1", "sink-1", "serve", "kafka", "s3"}
        assert stat.S_IMODE((up.data / "up.json").stat().st_mode) == 0o600
        began = time.monotonic()
        up.process.send_signal(signal_number)
        assert up.process.wait(10) == 0
        assert time.monotonic() - began < 5.5
        assert not any(_alive(pid) for pid in record["processes"].values())
        assert not (up.data / "up.json").exists()


def test_up_says_when_everything_is_ready_and_what_to_do_next(tmp_path: Path) -> None:
    with _up(tmp_path / "data", 0) as up:
        line = _line(up, "ready: drop a file with  millstream push FILE --wait  or open ")
        assert up.record()["http"] in line
        log = (up.data / "up.log").read_text()
        assert log.count("partitions assigned") >= 2
        assert "s3        | " in log


def test_servers_that_the_settings_name_are_used_and_none_is_started(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """It used to start its own broker all the same: `push` sent to the one, workers listened to the other."""
    (tmp_path / "millstream.toml").write_text(
        f"kafka = '{broker.bootstrap}'\ntopic_prefix = '{topic_prefix}'\n[s3]\nendpoint = '{s3.endpoint}'\n"
        f"access_key = '{s3.access_key}'\nsecret_key = '{s3.secret_key}'\nuploads = '{s3.uploads}'\nresults = '{s3.results}'\n"
        + CONFIGURATION
    )
    (tmp_path / "orders.csv").write_text("order_id,quantity\n1,2\n")
    with _up(tmp_path / ".millstream", 0) as up:
        first = _line(up, "and every stage")
        assert f"uses Kafka at {broker.bootstrap}" in first
        assert f"uses S3 at {s3.endpoint}" in first
        _line(up, "ready: ")
        record = up.record()
        assert (record["kafka"], record["s3"]["endpoint"]) == (broker.bootstrap, s3.endpoint)
        assert set(record["processes"]) == {"watch", "process-1", "sink-1", "serve"}
        done = millstream("push", "orders.csv", "--wait", folder=tmp_path, env=_plain_env())
        assert done.returncode == 0, done.stderr
        got = millstream("get", "orders.csv", folder=tmp_path, env=_plain_env())
        assert got.stdout == "order_id,twice\n1,4\n"


def test_one_server_may_be_named_and_the_other_started(
    tmp_path: Path, broker: Broker, topic_prefix: str
) -> None:
    (tmp_path / "millstream.toml").write_text(
        f"kafka = '{broker.bootstrap}'\ntopic_prefix = '{topic_prefix}'\n"
    )
    with _up(tmp_path / ".millstream", 0) as up:
        assert "starts an S3 server" in _line(up, f"uses Kafka at {broker.bootstrap}")
        _line(up, "Ctrl-C ends everything")
        assert set(up.record()["processes"]) == {"watch", "process-1", "sink-1", "serve", "s3"}


def test_a_command_whose_settings_name_another_server_than_up_uses_says_so(tmp_path: Path) -> None:
    with _up(tmp_path / ".millstream", 0) as up:
        _line(up, "Ctrl-C ends everything")
        used = up.record()["kafka"]
        for command in (("status",), ("status", "orders.csv")):
            done = millstream(*command, folder=tmp_path, env=_plain_env())
            assert "warning" not in done.stderr
        (tmp_path / "millstream.toml").write_text("kafka = '127.0.0.1:1'\n")
        done = millstream("status", folder=tmp_path, env=_plain_env())
        assert f"warning: the `up` that runs in this folder works with Kafka at {used}" in done.stderr
        assert "kafka is 127.0.0.1:1 here" in done.stderr


def _plain_env() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return mine | {"PYTHONPATH": str(ROOT)}


def test_a_server_that_is_killed_comes_back_on_its_port_with_a_new_process_id(tmp_path: Path) -> None:
    with _up(tmp_path / "data", 0) as up:
        _line(up, "Ctrl-C ends everything")
        before = up.record()
        os.kill(before["processes"]["s3"], signal.SIGKILL)
        _line(up, "s3 was killed by signal 9")
        _line(up, "s3 started again")
        after = up.record()
        assert after["s3"] == before["s3"]
        assert after["processes"]["s3"] != before["processes"]["s3"]
        assert after["processes"]["kafka"] == before["processes"]["kafka"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets limits of a running process")
def test_an_s3_server_that_refuses_writes_since_its_disk_was_full_is_started_again(tmp_path: Path) -> None:
    """SeaweedFS keeps the error of a journal that it couldn't write: some keys could not be deleted any more, for ever."""
    with _up(tmp_path / "data", ports.choose(1)[0]) as up:
        _line(up, "ready: ")
        found = up.record()
        s3, weed = found["s3"], found["processes"]["s3"]
        settings = S3Settings(
            endpoint=s3["endpoint"], access_key=s3["access_key"], secret_key=SecretStr(s3["secret_key"])
        )
        with closing(client(settings)) as connection:
            store = S3Store(connection, s3["results"])
            store.put("key", b"x")
            resource.prlimit(weed, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            _deletes(store, "key")  # which fails, unless the server is a new one by the third try
            _line(up, "s3 started again: its disk was full")
            wait_until(lambda: _deletes(store, "key"), 30)
        assert up.record()["processes"]["s3"] != weed


def _deletes(store: S3Store, key: str) -> bool:
    try:
        store.delete(key)
    except Transient:
        return False
    return True


def test_killing_up_leaves_nothing_running_and_the_next_one_starts(tmp_path: Path) -> None:
    with _up(tmp_path / "data", 0) as up:
        _line(up, "Ctrl-C ends everything")
        first = up.record()
        up.process.kill()
        up.process.wait()
    with _up(tmp_path / "data", 0) as up:
        _line(up, "Ctrl-C ends everything")
        second = up.record()
    assert second["s3"]["access_key"] == first["s3"]["access_key"]
    if sys.platform.startswith("linux"):
        assert not any(_alive(pid) for pid in first["processes"].values())


def test_an_up_that_was_killed_before_its_buckets_were_made_is_followed_by_one_that_makes_them(
    tmp_path: Path,
) -> None:
    """And so is one that is told of other buckets."""
    data = tmp_path / "data"
    with _up(data, 0) as up:
        wait_until(lambda: (data / "kafka" / "log").is_dir() and (data / "s3" / "data").is_dir(), 60)
        up.process.kill()
        up.process.wait()
    with _up(data, 0) as up:
        _line(up, "ready: ")
    (tmp_path / "millstream.toml").write_text("[s3]\nuploads = 'another'\n")
    with _up(data, 0) as up:
        _line(up, "ready: ")
        found = up.record()["s3"]
        settings = S3Settings(
            endpoint=found["endpoint"],
            access_key=found["access_key"],
            secret_key=SecretStr(found["secret_key"]),
        )
        with closing(client(settings)) as connection:
            S3Store(connection, "another").check()


def test_a_second_up_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with _up(tmp_path / "data", 0) as first:
        _line(first, "Ctrl-C ends everything")
        with _up(tmp_path / "data", 0) as second:
            output, _ = second.process.communicate(timeout=20)
        assert f"another `millstream up` (process {first.process.pid})" in output
        assert second.process.returncode != 0
        assert first.record()["kafka"]


def test_the_stages_get_every_setting_as_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MILLSTREAM_")]:
        monkeypatch.delenv(name)
    (tmp_path / "millstream.toml").write_text("partitions = 2\n[s3]\nuploads = 'inbox'\n")
    here = load(
        tmp_path, block=100, http={"port": 8081, "token": "secret"}, s3={"access_key": "a", "secret_key": "b"}
    )
    for name, value in _environment(here).items():
        monkeypatch.setenv(name, value)
    assert load(tmp_path).model_dump() == here.model_dump()


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    import socket

    [port] = ports.choose(1)
    with socket.create_server(("127.0.0.1", port)), _up(tmp_path / "data", port) as up:
        output, _ = up.process.communicate(timeout=20)
    assert f"port {port} on 127.0.0.1 is in use" in output
    assert "--port" in output
    assert "MILLSTREAM_HTTP_PORT" in output
    assert up.process.returncode != 0
