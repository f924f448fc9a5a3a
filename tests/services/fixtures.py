"""The fixtures that every test may ask for.

Services start with the first test that needs them and end with the session.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import flights, kafka, s3
from tests.services.kafka import Broker
from tests.services.s3 import S3


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Apache Kafka, one node; don't restart it: it is shared."""
    with kafka.apache_kafka(tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for the topics of one test: brokers are shared."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The S3 server itself; tests want `s3`."""
    with s3.s3_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(name="s3")
def s3_buckets(s3_server: S3) -> Iterator[S3]:
    """Two fresh buckets, uploads and results, on a real S3 server."""
    with s3.fresh_buckets(s3_server) as buckets:
        yield buckets


@pytest.fixture(scope="session")
def flights_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real-world file: flights.csv, 336,776 rows, 31 MB. Don't change it: it is shared."""
    return flights.unpack(tmp_path_factory.mktemp("flights"))
