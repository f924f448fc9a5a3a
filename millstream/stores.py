"""Both buckets, for commands that only look at what lies there."""

from dataclasses import dataclass

from pipeline.s3 import S3Store, client
from pipeline.settings import Settings
from pipeline.store import ObjectStore


@dataclass(frozen=True)
class Stores:
    """The uploads and the results."""

    uploads: ObjectStore
    results: ObjectStore


def stores(settings: Settings) -> Stores:
    """Return both buckets. Raises Unreachable within about ten seconds where S3 doesn't answer, naming its address."""
    s3 = client(settings.s3)
    results = S3Store(s3, settings.s3.results)
    results.check()
    return Stores(S3Store(s3, settings.s3.uploads), results)
