"""`up` dies in the middle of two jobs: the next one goes on where it was, or from the start where the broker lost its data."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from confluent_kafka import Consumer, TopicPartition

from millstream import kafka_server, ports
from tests.integration.chain import CONFIGURATION, ROOT, millstream
from tests.integration.test_up import Up

ROWS = 600_000


def csv(rows: int) -> bytes:
    return b"order_id,quantity\n" + b"".join(b"%07d,%d\n" % (row, row % 9) for row in range(rows))


def result(rows: int) -> bytes:
    return b"order_id,twice\n" + b"".join(b"%07d,%d\n" % (row, row % 9 * 2) for row in range(rows))


@pytest.fixture
def env() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return mine | {"PYTHONPATH": str(ROOT)}


@contextmanager
def up(folder: Path, env: dict[str, str], port: int) -> Iterator[Up]:
    """Run `up` until it is ready; end it with the block."""
    with (folder / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "millstream", "up", "--port", str(port)],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        )
    running = Up(process, folder / ".millstream")
    try:
        until(
            lambda: httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200, folder / "up.log"
        )
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=20)


def until(look: Callable[[], Any], log: Path, seconds: float = 120) -> Any:
    """Return what `look` finds once it is something; what isn't there yet may raise."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError, IndexError):
            if found := look():
                return found
        time.sleep(0.02)
    pytest.fail(log.read_text()[-5000:])


def bucket(running: Up) -> Any:
    s3 = running.record()["s3"]
    return boto3.client(
        "s3",
        endpoint_url=s3["endpoint"],
        aws_access_key_id=s3["access_key"],
        aws_secret_access_key=s3["secret_key"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


def messages(running: Up) -> int:
    """Return how many messages were ever sent to the topic of rows."""
    consumer = Consumer({"bootstrap.servers": running.record()["kafka"], "group.id": "nobody"})
    ends = [
        consumer.get_watermark_offsets(TopicPartition("millstream.rows", number), 20)[1]
        for number in range(4)
    ]
    consumer.close()
    return sum(ends)


def keys(client: Any, suffix: str) -> list[str]:
    found = client.list_objects_v2(Bucket="results", Prefix="_millstream/jobs/").get("Contents", ())
    return [item["Key"] for item in found if item["Key"].endswith(suffix)]


@pytest.mark.parametrize("wiped", [False, True], ids=["goes on", "broker's data are gone"])
def test_up_killed_in_the_middle_of_two_jobs_ends_both_right_when_it_is_started_again(
    tmp_path: Path, env: dict[str, str], wiped: bool
) -> None:
    """One is captured and not computed, one is captured in part."""
    (tmp_path / "millstream.toml").write_text(CONFIGURATION)
    (tmp_path / "captured.csv").write_bytes(csv(20_000))
    [port] = ports.choose(1)
    with up(tmp_path, env, port) as first:
        processes = first.record()["processes"]
        os.kill(processes["process-1"], signal.SIGSTOP)
        done = millstream("push", "captured.csv", folder=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        client = bucket(first)
        client.put_object(Bucket="uploads", Key="partly.csv", Body=csv(ROWS))
        until(lambda: keys(client, "/claim.json")[1], tmp_path / "up.log")
        os.kill(processes["watch"], signal.SIGSTOP)
        assert len(keys(client, "/captured.json")) == 1, "all of it was captured before watch was stopped"
        client.close()
        sent = messages(first)
        first.process.kill()
        first.process.wait()
    if wiped:
        shutil.rmtree(first.data / "kafka" / "log")
    with up(tmp_path, env, port) as second:
        for name, rows in (("captured.csv", 20_000), ("partly.csv", ROWS)):
            until(
                lambda name=name: httpx.get(f"http://127.0.0.1:{port}/results/{name}").status_code == 200,  # type: ignore[misc]
                tmp_path / "up.log",
            )
            assert httpx.get(f"http://127.0.0.1:{port}/results/{name}").content == result(rows)
            verified = millstream("verify", name, "--deep", folder=tmp_path, env=env)
            assert verified.returncode == 0, verified.stderr
            receipt = httpx.get(f"http://127.0.0.1:{port}/receipts/{name}").json()
            if not wiped:
                assert receipt["rounds"] == 0, "nothing was lost"
        if not wiped:
            # What came since: the rest of the file that was captured in part, at most all of it once more; and ends.
            assert messages(second) - sent < ROWS + 1_000, "what was captured was not captured again"
        client = bucket(second)
        until(
            lambda: "Contents" not in client.list_objects_v2(Bucket="results", Prefix="_millstream/open/"),
            tmp_path / "up.log",
        )
        client.close()


def test_a_broker_whose_data_are_removed_in_mid_run_comes_back_and_what_was_in_flight_with_it(
    tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "millstream.toml").write_text(CONFIGURATION)
    (tmp_path / "before.csv").write_bytes(csv(20_000))
    (tmp_path / "after.csv").write_bytes(csv(10_000))
    [port] = ports.choose(1)
    with up(tmp_path, env | {"MILLSTREAM_REPAIR_AFTER": "12"}, port) as running:
        processes = running.record()["processes"]
        os.kill(processes["process-1"], signal.SIGSTOP)
        done = millstream("push", "before.csv", folder=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(running.data / "kafka")
        os.kill(processes["kafka"], signal.SIGKILL)
        os.kill(processes["process-1"], signal.SIGCONT)
        until(lambda: kafka_server.answers(running.record()["kafka"]), tmp_path / "up.log")
        done = millstream("push", "after.csv", "--wait", folder=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        for name, rows in (("before.csv", 20_000), ("after.csv", 10_000)):
            until(
                lambda name=name: httpx.get(f"http://127.0.0.1:{port}/results/{name}").status_code == 200,  # type: ignore[misc]
                tmp_path / "up.log",
            )
            assert httpx.get(f"http://127.0.0.1:{port}/results/{name}").content == result(rows)
    assert "WARNING" not in (tmp_path / "up.log").read_text(), (
        "the broker's own chatter isn't for the console"
    )
