"""What capture works with: the settings, both buckets, and the topic that rows go to."""

from dataclasses import dataclass, replace

from pipeline.kafka import ensure_topics
from pipeline.s3 import S3Store, client
from pipeline.settings import Settings
from pipeline.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Stage:
    """The surroundings of every step of capture."""

    settings: Settings
    uploads: ObjectStore
    results: ObjectStore
    partitions: int

    def configured(self, settings: Settings) -> "Stage":
        """Return the same surroundings with other settings, for what isn't connected yet: the calculations."""
        return replace(self, settings=settings)


def open_stage(settings: Settings) -> Stage:
    """Reach S3 and Kafka, making the topics where they are missing.

    Raises Unreachable within about ten seconds where one of them doesn't answer, naming its address; Refused where it answers,
    and says no.
    """
    s3 = client(settings.s3)
    uploads, results = S3Store(s3, settings.s3.uploads), S3Store(s3, settings.s3.results)
    uploads.check()
    results.check()
    return Stage(settings, uploads, results, ensure_topics(settings))
