"""A worker ends when it is asked to, also while it is still starting; a reader whatever it is computing."""

import base64
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from millstream import ports
from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS
from tests.services.kafka import Broker
from tests.services.s3 import S3


def _reasons(port: int) -> list[str]:
    try:
        reasons: list[str] = httpx.get(f"http://127.0.0.1:{port}/health/ready").json().get("reasons", [])
    except httpx.TransportError:
        return []
    return reasons


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_has_not_joined_its_group_yet_ends_at_once(
    number: signal.Signals, tmp_path: Path, embedded_kafka: Broker, s3: S3, topic_prefix: str
) -> None:
    """Joining takes three seconds on this broker. Faust by itself would go on starting, and stay for ever."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    [port] = ports.choose(1)
    chain: Stack
    with stack(tmp_path, embedded_kafka, s3, topic_prefix, MILLSTREAM_HEALTH_PORT=str(port)) as chain:
        chain.start("process")
        chain.until(lambda: _reasons(port) == ["no partitions assigned yet"], "the worker to start")
        worker = chain.processes.pop("process")
        worker.send_signal(number)
        assert worker.wait(10) == 0
        assert "partitions assigned" not in chain.log("process").read_text()


def test_stages_end_without_a_word_of_their_libraries(
    tmp_path: Path, embedded_kafka: Broker, s3: S3, topic_prefix: str
) -> None:
    """DuckDB's binding lists what it holds when an interpreter is taken down: a hundred lines, by each stage, at Ctrl-C."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    said = {
        "watch": "watching",
        "process": "partitions assigned",
        "sink": "partitions assigned",
        "serve": "serving",
    }
    with stack(tmp_path, embedded_kafka, s3, topic_prefix, *said) as chain:
        for name, line in said.items():
            chain.logged(name, line)
        assert chain.get("/").status_code == 200
        for name in said:
            assert chain.stop(name) == 0
            assert "leaked" not in chain.log(name).read_text()


def test_a_reader_ends_in_time_whatever_somebody_tries(
    tmp_path: Path, embedded_kafka: Broker, s3: S3, topic_prefix: str
) -> None:
    """Two calculations that take a core each for as long as they may, and one that waits for its turn."""
    slow = "levenshtein(repeat(a, 20000), repeat(b, 20000))"
    calculation = f'[calculations.mine]\nmatch = "*.csv"\nid = "a"\noutputs = {{ c = "{slow}" }}\n'
    content = base64.b64encode(b"a,b\n" + b"1,2\n" * 1000).decode()
    wanted = {"name": "x.csv", "content": content, "calculation": calculation}
    with (
        stack(tmp_path, embedded_kafka, s3, topic_prefix, "serve") as chain,
        ThreadPoolExecutor(3) as clients,
    ):
        chain.logged("serve", "serving")
        reader = chain.processes["serve"]
        asked = [clients.submit(httpx.post, f"{chain.http}/try", json=wanted, timeout=60) for _ in range(3)]
        chain.until(lambda: _children(reader.pid) == 2, "two calculations to be tried")
        began = time.monotonic()
        assert chain.stop("serve") == 0
        assert time.monotonic() - began < 8
        assert [answer.result().status_code for answer in asked] == [503, 503, 503]


def _children(pid: int) -> int:
    return sum(len(file.read_text().split()) for file in Path(f"/proc/{pid}/task").glob("*/children"))
