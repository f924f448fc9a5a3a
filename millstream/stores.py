"""Both buckets, for commands that only look at what lies there."""

from dataclasses import dataclass

from pipeline.s3 import S3Store, client
from pipeline.settings import Settings


@dataclass(frozen=True)
class Stores:
    """The uploads and the results."""

    uploads: S3Store
    results: S3Store


def stores(settings: Settings) -> Stores:
    """Return both buckets. Raises Unreachable within about ten seconds where S3 doesn't answer, naming its address."""
    s3 = client(settings.s3)
    both = Stores(S3Store(s3, settings.s3.uploads), S3Store(s3, settings.s3.results))
    both.results.check()
    return both
