"""What is done leaves the topics, on a real Apache Kafka."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pipeline.kafka import SEGMENT, ensure_topics
from pipeline.kafka_offsets import Offsets
from tests.integration.chain import millstream, settings
from tests.integration.stack import Stack, stack
from tests.integration.test_chain import FLIGHTS, orders, push
from tests.services.kafka import Broker
from tests.services.s3 import S3

PURGE = {"MILLSTREAM_PURGE": "true", "MILLSTREAM_HEALTH_PORT": "0"}
At = tuple[str, int]


@pytest.fixture
def offsets(broker: Broker, s3: S3, topic_prefix: str) -> Offsets:
    return Offsets(settings(broker, s3, topic_prefix))


def places(prefix: str, *topics: str) -> list[At]:
    return [(f"{prefix}.{topic}", number) for topic in topics or ("rows", "results") for number in range(4)]


def is_empty(offsets: Offsets, prefix: str) -> bool:
    """Whether both topics begin where they end."""
    wanted = places(prefix)
    return offsets.starts(wanted) == offsets.ends(wanted)


@contextmanager
def reader(broker: Broker, group: str, topic: str, *, commit: bool) -> Iterator[dict[int, int]]:
    """A foreign member of a group that has read everything and has committed half of each partition, or all of it."""
    client = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    client.subscribe([topic])
    ends: dict[int, int] = {}
    deadline = time.monotonic() + 60
    while sum(ends.values()) < 20_000:
        assert time.monotonic() < deadline, ends
        for message in client.consume(10_000, timeout=0.2):
            assert message.error() is None
            ends[int(message.partition() or 0)] = int(message.offset() or 0) + 1
    kept = {partition: end if commit else end // 2 for partition, end in ends.items()}
    done = [TopicPartition(topic, partition, offset) for partition, offset in kept.items()]
    client.commit(offsets=done, asynchronous=False)
    try:
        yield kept
    finally:
        client.close()


def test_what_all_groups_have_committed_leaves_the_topics_while_files_go_on(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str, offsets: Offsets
) -> None:
    """And what comes to a group whose offsets are lost is right: it begins where the topics do."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve", **PURGE) as chain:
        expected = {}
        for number in range(4):
            source, expected[f"orders-{number}.csv"] = orders(range(number, 60_000 + number), bad=7)
            (tmp_path / f"orders-{number}.csv").write_text(source)
            push(chain, f"orders-{number}.csv")
        for name, result in expected.items():
            chain.assert_result(name, result)
        chain.until(lambda: is_empty(offsets, topic_prefix), "both topics to be empty", 60)
        ends = offsets.ends(places(topic_prefix))
        assert sum(ends.values()) > 2 * 4 * 60_000
        removed = {
            topic: sum(end for (name, _), end in ends.items() if name == f"{topic_prefix}.{topic}")
            for topic in ("rows", "results")
        }
        chain.until(lambda: counted(chain) == removed, f"{removed} to be counted")

        for name in ("process", "sink"):
            assert chain.stop(name) == 0
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for answer in admin.delete_consumer_groups(
            [f"{topic_prefix}.processor", f"{topic_prefix}.sink"]
        ).values():
            answer.result(20)
        chain.env["MILLSTREAM_STALL_AFTER"] = "3"
        chain.start("process", "sink")
        chain.logged("sink", "partitions assigned", times=2)
        chain.logged("process", "partitions assigned", times=2)
        time.sleep(6)  # past the limit: what was removed isn't taken for work that waits
        assert "standing still" not in chain.log("sink").read_text() + chain.log("process").read_text()
        source, result = orders(range(9, 30_000))
        (tmp_path / "later.csv").write_text(source)
        push(chain, "later.csv", "--wait")
        chain.assert_result("later.csv", result, wait=0)
        chain.until(lambda: is_empty(offsets, topic_prefix), "both topics to be empty again", 60)


def counted(chain: Stack) -> dict[str, float]:
    """Return how many messages the sink says that it has removed."""
    url = chain.log("sink").read_text().partition("health and metrics")[2].partition("url=")[2].split()[0]
    text = httpx.get(f"{url}/metrics", timeout=10).text
    found = re.findall(r'^millstream_purged_messages_total{topic="(\w+)"} (\S+)$', text, re.MULTILINE)
    return {topic: float(number) for topic, number in found}


def test_another_group_that_runs_holds_what_it_has_not_committed_and_one_that_is_gone_does_not(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str, offsets: Offsets
) -> None:
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(20_000))
    (tmp_path / "orders.csv").write_text(source)
    topic = f"{topic_prefix}.results"
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve") as chain:
        push(chain, "orders.csv", "--wait")
        with reader(broker, f"{topic_prefix}.audit", topic, commit=False) as held:
            assert chain.stop("sink") == 0
            chain.env |= PURGE
            chain.start("sink")
            source, result = orders(range(40_000))
            (tmp_path / "more.csv").write_text(source)
            push(chain, "more.csv", "--wait")
            chain.assert_result("more.csv", result, wait=0)
            wanted = places(topic_prefix, "results")
            chain.until(
                lambda: all(
                    offsets.starts(wanted)[topic, number] == offset for number, offset in held.items()
                ),
                "what the other group has committed to go",
                60,
            )
            rows = places(topic_prefix, "rows")
            chain.until(lambda: offsets.starts(rows) == offsets.ends(rows), "all rows to go", 60)
            time.sleep(7)  # another look
            found = offsets.starts(wanted)
            assert {number: found[topic, number] for number in held} == held
        assert chain.stop("sink") == 0  # the next one has never seen that group with members
        chain.start("sink")
        chain.until(lambda: is_empty(offsets, topic_prefix), "all to go once nobody runs that group", 90)


def test_nothing_goes_that_is_not_committed(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str, offsets: Offsets
) -> None:
    """Rows that a sink holds in memory stay on the topic until it has put them on S3: killed, it loses none of them."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(100_000))
    (tmp_path / "orders.csv").write_text(source)
    with stack(tmp_path, broker, s3, topic_prefix, "process", "sink", "serve", **PURGE) as chain:
        chain.logged("process", "partitions assigned")
        chain.logged("sink", "partitions assigned")
        push(chain, "orders.csv", "--wait")
        (tmp_path / "half.csv").write_text(source)
        crash = {**chain.env, "MILLSTREAM_CRASH": "kill:capture.acknowledged:1"}
        cut = millstream("push", "half.csv", folder=tmp_path, env=crash)
        assert cut.returncode != 0
        rows, results = places(topic_prefix, "rows"), places(topic_prefix, "results")
        chain.until(lambda: offsets.starts(rows) == offsets.ends(rows), "the rows to be purged", 60)
        kept = offsets.committed(f"{topic_prefix}.sink")
        ends, starts = offsets.ends(results), offsets.starts(results)
        assert sum(ends.values()) - sum(kept.values()) >= 100_000, "the results are held"
        assert all(starts[at] <= kept[at] for at in results)
        chain.kill("sink")
        chain.start("sink")
        push(chain, "half.csv", "--wait")
        chain.assert_result("half.csv", result, wait=0)
        assert json.loads(chain.get("/receipts/half.csv").text)["rounds"] == 0


def test_topics_are_made_with_retention_and_where_they_are_purged_with_small_segments(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    for purge in (False, True):
        prefix = f"{topic_prefix}-{purge}".lower()
        ensure_topics(settings(broker, s3, prefix, purge=purge, retention=48))
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        [answer] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, f"{prefix}.rows")]).values()
        found = {name: entry.value for name, entry in answer.result(20).items()}
        assert found["retention.ms"] == str(48 * 3_600_000)
        assert (found["segment.bytes"] == str(SEGMENT)) == purge
