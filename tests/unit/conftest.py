"""What the unit tests of the reader share."""

from collections.abc import Iterator

import pytest

from tests.files import Files
from tests.http_client import Client, reader


@pytest.fixture
def files() -> Files:
    """Both buckets, empty."""
    return Files()


@pytest.fixture
def client(files: Files) -> Iterator[Client]:
    """A client of a reader over `files`."""
    with reader(files) as found:
        yield found
