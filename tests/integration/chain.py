"""What the integration tests share: settings for a test's own topics and buckets, and a plain consumer of ours or anybody's."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from pipeline.settings import Settings
from tests.services.kafka import Broker
from tests.services.s3 import S3

ROOT = Path(__file__).parents[2]

CONFIGURATION = """
[calculations.orders]
match = "*.csv"
id = "order_id"
columns = { quantity = "BIGINT" }
outputs = { twice = "quantity * 2" }
"""

Message = tuple[int, str, bytes]


def environment(broker: Broker, s3: S3, prefix: str, **more: str) -> dict[str, str]:
    """Return the environment that points a command at a test's own services."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return mine | {
        "PYTHONPATH": str(ROOT),
        "MILLSTREAM_KAFKA": broker.bootstrap,
        "MILLSTREAM_TOPIC_PREFIX": prefix,
        "MILLSTREAM_S3_ENDPOINT": s3.endpoint,
        "MILLSTREAM_S3_ACCESS_KEY": s3.access_key,
        "MILLSTREAM_S3_SECRET_KEY": s3.secret_key,
        "MILLSTREAM_S3_UPLOADS": s3.uploads,
        "MILLSTREAM_S3_RESULTS": s3.results,
        **more,
    }


def settings(broker: Broker, s3: S3, prefix: str, **more: Any) -> Settings:
    """Return settings for a test's own topics and buckets."""
    return Settings.model_validate(
        {
            "kafka": broker.bootstrap,
            "topic_prefix": prefix,
            "s3": {
                "endpoint": s3.endpoint,
                "access_key": s3.access_key,
                "secret_key": s3.secret_key,
                "uploads": s3.uploads,
                "results": s3.results,
            },
            "calculations": {
                "orders": {
                    "match": "*.csv",
                    "id": "order_id",
                    "columns": {"quantity": "BIGINT"},
                    "outputs": {"twice": "quantity * 2"},
                }
            },
            **more,
        }
    )


def consume(broker: Broker, topic: str) -> list[Message]:
    """Read a topic from its start to its end as any Kafka client would: partition, key, value."""
    client = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "somebody",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
        }
    )
    try:
        partitions = list(client.list_topics(topic, timeout=10).topics[topic].partitions)
        client.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        ended: set[int] = set()
        found: list[Message] = []
        deadline = time.monotonic() + 60
        while len(ended) < len(partitions):
            assert time.monotonic() < deadline, f"no end of {topic} after 60 s"
            for message in client.consume(10_000, timeout=0.2):
                error, partition, key, value = (
                    message.error(),
                    message.partition(),
                    message.key(),
                    message.value(),
                )
                assert partition is not None
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error.str()
                    ended.add(partition)
                    continue
                assert isinstance(key, bytes)
                assert value is not None
                found.append((partition, key.decode(), value))
        return found
    finally:
        client.close()


@contextmanager
def running(command: list[str], folder: Path, env: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of ours, and kill it in the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def millstream(
    *arguments: str, folder: Path, env: dict[str, str], timeout: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "millstream", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
