"""Capture doesn't run away from the worker and the sink, on a real Apache Kafka."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.kafka_offsets import Offsets
from tests.integration.chain import consume, settings
from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS, orders
from tests.services.kafka import Broker
from tests.services.s3 import S3

BOUND = 16_000_000
FLOW = {"MILLSTREAM_IN_FLIGHT": "16MB", "MILLSTREAM_STALL_AFTER": "600"}
MESSAGE = 110
"""Bytes of a row of `orders`, about."""

MANY = 4 * BOUND // MESSAGE


@contextmanager
def pushing(chain: Stack, *names: str) -> Iterator[list["subprocess.Popen[str]"]]:
    """Push files, each with a command of its own."""
    command = [sys.executable, "-m", "millstream", "push", "--wait"]
    processes = [
        subprocess.Popen(
            [*command, name],
            cwd=chain.folder,
            env=chain.env,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


def ended(chain: Stack, process: "subprocess.Popen[str]") -> str:
    """Wait until a command has ended well; return what it said."""
    chain.until(lambda: process.poll() is not None, "a push to end", 240)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return said


def waits_for(chain: Stack, name: str) -> str:
    return chain.get(f"/jobs/{name}").json().get("waits_for") or ""


@pytest.mark.parametrize(
    ("stage", "called", "topic"), [("process", "processor", "rows"), ("sink", "sink", "results")]
)
def test_capture_waits_for_a_stage_that_stands_still_and_goes_on_with_it(
    stage: str, called: str, topic: str, tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """With about as much on the topic as may be, and says so."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(MANY))
    (tmp_path / "orders.csv").write_text(source)
    offsets = Offsets(settings(broker, s3, topic_prefix))
    places = [(f"{topic_prefix}.{name}", number) for name in ("rows", "results") for number in range(4)]
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve", **FLOW) as chain:
        chain.logged("process", "partitions assigned")
        chain.logged("sink", "partitions assigned")
        chain.pause(stage)
        with pushing(chain, "orders.csv") as [push]:
            behind = f"MB behind on topic {topic_prefix}.{topic}"
            chain.until(lambda: behind in waits_for(chain, "orders.csv"), f"{behind} to be said", 120)
            said = waits_for(chain, "orders.csv")
            assert said.startswith("push ")
            assert "orders.csv: capture waits, for " in said
            assert f"the {called} is " in said
            before = offsets.ends(places)
            chain.until(lambda: f"for {6} s" in waits_for(chain, "orders.csv"), "it to wait on", 60)
            assert offsets.ends(places) == before
            for name in ("rows", "results"):
                messages = consume(broker, f"{topic_prefix}.{name}")
                size = sum(len(key) + len(value) for _, key, value in messages)
                done = sum(
                    offsets.committed(f"{topic_prefix}.{'processor' if name == 'rows' else 'sink'}").values()
                )
                in_flight = size * (1 - done / len(messages)) if messages else 0
                assert in_flight <= 1.25 * BOUND
                if name == topic:
                    assert len(messages) - done > 0.6 * BOUND / (MESSAGE * 1.2)
            chain.processes[stage].send_signal(signal.SIGCONT)
            assert f"waits: the {called} is" in ended(chain, push)
        chain.assert_result("orders.csv", result, wait=0)


def test_captures_at_once_within_a_small_bound_come_to_an_end(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """The sink holds rows of both, and lets go of them long before they are old or too much for it."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(MANY))
    names = ["orders-1.csv", "orders-2.csv", "orders-3.csv"]
    for name in names:
        (tmp_path / name).write_text(source)
    more = {"MILLSTREAM_SINK_AGE": "3600", "MILLSTREAM_SINK_MEMORY": "1GB", "MILLSTREAM_PURGE": "true"}
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve", **FLOW, **more) as chain:
        chain.logged("sink", "partitions assigned")
        with pushing(chain, *names) as processes:
            for process in processes:
                ended(chain, process)
        for name in names:
            chain.assert_result(name, result, wait=0)
            assert chain.get(f"/receipts/{name}").json()["rounds"] == 0


def test_wide_rows_with_small_results_do_not_wait_until_what_the_sink_holds_is_old(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Capture counts bytes of rows, the sink those of results: with rows of 2 KB it would hold all that may be in flight."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(40_000))
    head, *lines = source.splitlines()
    wide = "".join(f"{line},{'x' * 2_000}\n" for line in lines)
    (tmp_path / "orders.csv").write_text(f"{head},text\n{wide}")
    more = {"MILLSTREAM_SINK_AGE": "3600", "MILLSTREAM_SINK_MEMORY": "1GB"}
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve", **FLOW, **more) as chain:
        chain.logged("sink", "partitions assigned")
        with pushing(chain, "orders.csv") as [push]:
            ended(chain, push)
        chain.assert_result("orders.csv", result, wait=0)


def test_a_repair_does_not_wait_for_what_waits_for_it(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """A share that lacks rows holds the sink's commits, and with them a capture: until its rows are captured again."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    lost, lost_result = orders(range(20_000))
    source, result = orders(range(MANY))
    more = {"MILLSTREAM_REPAIR_AFTER": "12"}
    stages = ("watch", "process", "sink", "serve")
    with stack(tmp_path, broker, s3, topic_prefix, *stages, **FLOW, **more) as chain:
        chain.logged("process", "partitions assigned")
        chain.logged("sink", "partitions assigned")
        chain.logged("serve", "serving")
        assert chain.stop("process") == 0
        put(chain, "lost.csv", lost)
        chain.logged("watch", "captured")
        lose_rows(broker, f"{topic_prefix}.rows")
        chain.start("process")
        put(chain, "orders.csv", source)
        behind = f"MB behind on topic {topic_prefix}.results"
        chain.until(lambda: behind in waits_for(chain, "orders.csv"), f"{behind} to be said", 120)
        chain.assert_result("lost.csv", lost_result)
        chain.assert_result("orders.csv", result, wait=120)
        assert chain.get("/receipts/lost.csv").json()["rounds"] == 1
        assert chain.get("/receipts/orders.csv").json()["rounds"] == 0


def put(chain: Stack, name: str, content: str) -> None:
    answer = httpx.put(f"{chain.http}/uploads/{name}", content=content.encode(), timeout=60)
    assert answer.status_code == 201, answer.text


def lose_rows(broker: Broker, topic: str) -> None:
    """Have the broker forget the first half of each partition that has anything."""
    client = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "nobody"})
    partitions = [TopicPartition(topic, number) for number in range(4)]
    ends = {at.partition: client.get_watermark_offsets(at, timeout=20)[1] for at in partitions}
    client.close()
    before = [TopicPartition(topic, number, end // 2) for number, end in ends.items() if end > 1]
    assert before
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for answer in admin.delete_records(before).values():
        answer.result(20)
