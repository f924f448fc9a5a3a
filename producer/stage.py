"""What capture works with: the settings, both buckets, the topic that rows go to, and who is told how far it is."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pipeline.kafka import ensure_topics
from pipeline.kafka_progress import outlet
from pipeline.s3 import S3Store, client
from pipeline.settings import Settings
from pipeline.store import ObjectStore
from pipeline.teller import Teller, Work, silent
from producer.flow import Flow


@dataclass(frozen=True, slots=True)
class Stage:
    """The surroundings of every step of capture."""

    settings: Settings
    uploads: ObjectStore
    results: ObjectStore
    partitions: int
    teller: Teller = field(default_factory=silent)
    flow: Flow = field(default_factory=lambda: Flow(None, {}, dict))

    def configured(self, settings: Settings) -> "Stage":
        """Return the same surroundings with other settings, for what isn't connected yet: the calculations."""
        return replace(self, settings=settings)


def uploads_bucket(settings: Settings) -> ObjectStore:
    """Return the uploads bucket by itself; whether it can be reached is seen when it is used."""
    return S3Store(client(settings.s3), settings.s3.uploads)


def open_stage(settings: Settings, command: str, work: Callable[[], Work] = Work) -> Stage:
    """Reach S3 and Kafka, making the topics where they are missing.

    `command` is how progress calls this process, `work` what it says of itself.
    Raises Unreachable within about ten seconds where one of them doesn't answer, naming its address; Refused where it answers,
    and says no.
    """
    s3 = client(settings.s3)
    uploads, results = S3Store(s3, settings.s3.uploads), S3Store(s3, settings.s3.results)
    uploads.check()
    results.check()
    partitions = ensure_topics(settings)
    flow = Flow.of(settings)

    def all_work() -> Work:
        said = work()
        return replace(said, waits=[*said.waits, *flow.waits()])

    teller = Teller(command, outlet(settings), all_work)
    teller.start()
    return Stage(settings, uploads, results, partitions, teller, flow)
