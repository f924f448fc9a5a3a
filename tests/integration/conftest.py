"""What the tests of capture share: a folder with a configuration, the environment of commands, the topic of rows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.chain import CONFIGURATION, Message, consume, environment
from tests.services.kafka import Broker
from tests.services.s3 import S3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands are run."""
    (tmp_path / "millstream.toml").write_text(CONFIGURATION)
    return tmp_path


@pytest.fixture
def env(broker: Broker, s3: S3, topic_prefix: str) -> dict[str, str]:
    """What points commands at the test's own services."""
    return environment(broker, s3, topic_prefix)


@pytest.fixture
def rows_topic(broker: Broker, topic_prefix: str) -> Callable[[], list[Message]]:
    """Reads the topic of rows from its start."""
    return lambda: consume(broker, f"{topic_prefix}.rows")
