"""Stages end when they are asked to, also while they are still starting; a reader whatever it is computing."""

import base64
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer

from millstream import ports
from pipeline.kafka import ensure_topics
from pipeline.settings import Settings
from tests.integration.chain import millstream, settings
from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS
from tests.services.kafka import Broker
from tests.services.s3 import S3

TWICE = """
[calculations.twice]
match = "*.csv"
id = "order_id"
columns = { quantity = "BIGINT" }
outputs = { twice = "BIGINT" }
python = "twice:twice"
version = "1"
"""
TWICE_MODULE = """
import pyarrow.compute

def twice(rows):
    return rows.select([]).append_column("twice", pyarrow.compute.multiply(rows["quantity"], 2))
"""


def _reasons(port: int) -> list[str]:
    try:
        reasons: list[str] = httpx.get(f"http://127.0.0.1:{port}/health/ready").json().get("reasons", [])
    except httpx.TransportError:
        return []
    return reasons


@dataclass(frozen=True)
class _SlowS3:
    """Where an S3 server is that was `asked` something, and answers from `may_answer` on: all buckets are empty."""

    endpoint: str
    asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _slow_s3() -> Iterator[_SlowS3]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.set()
            found.may_answer.wait()
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked may be gone
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = _SlowS3(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield found
        finally:
            found.may_answer.set()
            server.shutdown()


@pytest.mark.parametrize("answer", ["comes", "never comes"])
@pytest.mark.parametrize("stage", ["watch", "process", "sink"])
def test_a_stage_that_is_asked_to_end_while_it_looks_for_its_services_ends(
    stage: str, answer: str, tmp_path: Path, broker: Broker, topic_prefix: str
) -> None:
    """A worker and a sink whose services answered in that moment forgot that they had been asked, and stayed for ever."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with _slow_s3() as slow:
        s3 = S3(slow.endpoint, "access", "secret", "uploads", "results")
        with stack(tmp_path, broker, s3, topic_prefix, stage) as chain:
            chain.until(slow.asked.is_set, "S3 to be asked")
            process = chain.processes[stage]
            process.send_signal(signal.SIGTERM)
            if answer == "comes":
                slow.may_answer.set()
            assert process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_has_not_joined_its_group_yet_ends_at_once(
    number: signal.Signals, tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Another member doesn't give its partitions up. Faust by itself would go on starting, and stay for ever."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    [port] = ports.choose(1)
    chain: Stack
    with (
        _reluctant(broker, settings(broker, s3, topic_prefix)),
        stack(tmp_path, broker, s3, topic_prefix, MILLSTREAM_HEALTH_PORT=str(port)) as chain,
    ):
        chain.start("process")
        chain.until(lambda: _reasons(port) == ["no partitions assigned yet"], "the worker to start")
        worker = chain.processes.pop("process")
        worker.send_signal(number)
        assert worker.wait(10) == 0
        assert "partitions assigned" not in chain.log("process").read_text()


@contextmanager
def _reluctant(broker: Broker, chosen: Settings) -> Iterator[None]:
    """A member of the workers' group that has all partitions and isn't asked to poll: who joins waits for it."""
    ensure_topics(chosen)
    member = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": f"{chosen.topic_prefix}.processor",
            "partition.assignment.strategy": "range",
        }
    )
    member.subscribe([chosen.rows_topic])
    while not member.assignment():
        member.poll(0.1)
    yield
    member.close()


def test_a_worker_that_holds_a_batch_ends_at_once_and_it_comes_again(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """A batch whose function isn't there is held for as long as that is so; a worker that ends doesn't wait for it."""
    (tmp_path / "millstream.toml").write_text(TWICE)
    module = tmp_path / "twice.py"
    module.write_text(TWICE_MODULE)
    (tmp_path / "orders.csv").write_text("order_id,quantity\n" + "".join(f"{n},{n}\n" for n in range(100)))
    chain: Stack
    with stack(tmp_path, broker, s3, topic_prefix) as chain:
        pushed = millstream("push", "orders.csv", folder=tmp_path, env=chain.env)
        assert pushed.returncode == 0, pushed.stderr
        module.rename(tmp_path / "away")
        chain.start("process")
        chain.logged("process", "held, will be tried again")
        began = time.monotonic()
        assert chain.stop("process") == 0
        assert time.monotonic() - began < 6  # with all that leaving the group may take
        assert "let go of a batch that was held" in chain.log("process").read_text()
        (tmp_path / "away").rename(module)
        chain.start("process", "sink", "serve")
        chain.assert_result("orders.csv", "order_id,twice\n" + "".join(f"{n},{2 * n}\n" for n in range(100)))


def test_stages_end_without_a_word_of_their_libraries(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """DuckDB's binding lists what it holds when an interpreter is taken down: a hundred lines, by each stage, at Ctrl-C."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    said = {
        "watch": "watching",
        "process": "partitions assigned",
        "sink": "partitions assigned",
        "serve": "serving",
    }
    with stack(tmp_path, broker, s3, topic_prefix, *said) as chain:
        for name, line in said.items():
            chain.logged(name, line)
        assert chain.get("/").status_code == 200
        for name in said:
            assert chain.stop(name) == 0
            assert "leaked" not in chain.log(name).read_text()


def test_a_reader_ends_in_time_whatever_somebody_tries(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Two calculations that take a core each for as long as they may, and one that waits for its turn."""
    slow = "levenshtein(repeat(a, 20000), repeat(b, 20000))"
    calculation = f'[calculations.mine]\nmatch = "*.csv"\nid = "a"\noutputs = {{ c = "{slow}" }}\n'
    content = base64.b64encode(b"a,b\n" + b"1,2\n" * 1000).decode()
    wanted = {"name": "x.csv", "content": content, "calculation": calculation}
    with (
        stack(tmp_path, broker, s3, topic_prefix, "serve") as chain,
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
