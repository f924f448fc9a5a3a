"""Where a benchmark runs: a broker and an S3 server of its own, and for each run fresh topics, buckets and a folder."""

import itertools
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from bench import command, servers
from bench.command import Ran
from bench.data import CONFIGURATION, write_csv
from bench.processes import Broken, Processes
from millstream.process import Command
from pipeline import kafka
from pipeline.settings import Settings
from tests.services import kafka as brokers
from tests.services import s3 as stores
from tests.services.kafka import Broker
from tests.services.s3 import S3

PARTITIONS = 4

WARM_UP = 300_000
"""Rows that a broker moves before anything is measured."""


class NotHere(Exception):
    """This machine can't run that; the message says why."""


@dataclass
class Place:
    """Topics, buckets and a folder for one run of one participant. Commands run here find their settings."""

    broker: Broker
    s3: S3
    prefix: str
    folder: Path
    processes: Processes

    @property
    def settings(self) -> Settings:
        """The settings of whatever runs here."""
        return Settings.model_validate(
            {
                "kafka": self.broker.bootstrap,
                "topic_prefix": self.prefix,
                "partitions": PARTITIONS,
                "session_timeout": 6,
                "log_format": "json",
                "calculations": tomllib.loads(CONFIGURATION)["calculations"],
                "s3": {
                    "endpoint": self.s3.endpoint,
                    "access_key": self.s3.access_key,
                    "secret_key": self.s3.secret_key,
                    "uploads": self.s3.uploads,
                    "results": self.s3.results,
                },
            }
        )

    def start(self, name: str, *arguments: str, python: str = sys.executable, **more: str) -> None:
        """Start `python ARGUMENTS…` here, under `name`; `more` are settings, as `http_port="8080"`."""
        env = self._environment(python) | {f"MILLSTREAM_{key.upper()}": value for key, value in more.items()}
        self.processes.start(Command(name, (python, *arguments), self.folder, env))

    def run(self, *arguments: str, timeout: float) -> Ran:
        """Run `millstream ARGUMENTS…` here to its end, timed as its user would; raise Broken where it fails."""
        try:
            return command.run(
                command.millstream(*arguments),
                self.folder,
                self._environment(sys.executable),
                log=self.folder / f"millstream-{arguments[0]}.log",
                timeout=timeout,
            )
        except Broken:
            self.processes.check(f"millstream {arguments[0]} was waited for")  # that may be why
            raise

    def _environment(self, python: str) -> dict[str, str]:
        return command.environment(python) | {
            "MILLSTREAM_KAFKA": self.broker.bootstrap,
            "MILLSTREAM_TOPIC_PREFIX": self.prefix,
            "MILLSTREAM_PARTITIONS": str(PARTITIONS),
            "MILLSTREAM_SESSION_TIMEOUT": "6",
            "MILLSTREAM_LOG_FORMAT": "json",
            "MILLSTREAM_S3_ENDPOINT": self.s3.endpoint,
            "MILLSTREAM_S3_ACCESS_KEY": self.s3.access_key,
            "MILLSTREAM_S3_SECRET_KEY": self.s3.secret_key,
            "MILLSTREAM_S3_UPLOADS": self.s3.uploads,
            "MILLSTREAM_S3_RESULTS": self.s3.results,
        }


class Services:
    """A running broker and S3 server."""

    def __init__(self, broker: Broker, s3: S3, folder: Path) -> None:
        """`folder` is where everything temporary goes."""
        self.broker = broker
        self.s3 = s3
        self.folder = folder
        self._count = itertools.count()
        self._servers = servers.processes()
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 2})

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Make a place for one run; what runs there is ended, and what lies there removed, at the end."""
        prefix = f"bench-{uuid.uuid4().hex[:8]}"
        with stores.fresh_buckets(self.s3) as buckets:
            folder = self.folder / f"run-{next(self._count)}"
            folder.mkdir()
            (folder / "millstream.toml").write_text(CONFIGURATION)
            here = Place(self.broker, buckets, prefix, folder, Processes(self._servers))
            kafka.ensure_topics(here.settings)
            _use(buckets)
            try:
                yield here
            finally:
                here.processes.stop_all()
                self.remove([here.settings.rows_topic, here.settings.results_topic])

    @contextmanager
    def topic(self, name: str) -> Iterator[str]:
        """Make a topic, and remove it at the end."""
        topic = f"bench-{name}-{uuid.uuid4().hex[:8]}"
        self._admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
        try:
            yield topic
        finally:
            self.remove([topic])

    def warm_up(self) -> None:
        """Have the broker take and give some messages: a Java machine is slow before it has seen its work."""
        path = self.folder / "warm-up.csv"
        write_csv(path, WARM_UP)
        rows = str(WARM_UP)
        with self.place() as here, self.topic("warm-up") as source, self.topic("warm-up-too") as target:
            here.start("produce", "-m", "bench.programs.produce", str(path), source)
            here.processes.said("produce", "done")
            here.start("relay", "-m", "bench.programs.relay", source, target, rows)
            here.processes.said("relay", "done")
            here.start("consume", "-m", "bench.programs.consume", target, rows, "warm-up")
            here.processes.said("consume", "done")

    def remove(self, topics: Sequence[str]) -> None:
        """Remove topics: they fill the disk."""
        for answer in self._admin.delete_topics(list(topics)).values():
            with suppress(KafkaException):  # gone already, or the broker is
                answer.result(30)


def _use(buckets: S3) -> None:
    """Write to both buckets once: with the first object of a bucket the server makes its volumes, which takes seconds."""
    client = buckets.client()
    for bucket in (buckets.uploads, buckets.results):
        client.put_object(Bucket=bucket, Key="first", Body=b"x")
        client.delete_object(Bucket=bucket, Key="first")
    client.close()


@contextmanager
def services() -> Iterator[Services]:
    """Start a broker and an S3 server; raise NotHere where that can't be done."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millstream-bench-")))
        for part in ("broker", "s3"):
            (folder / part).mkdir()
        try:
            running = stack.enter_context(brokers.apache_kafka(folder / "broker"))
        except (pytest.skip.Exception, pytest.fail.Exception) as error:
            raise NotHere(str(error)) from None
        yield Services(running, stack.enter_context(stores.s3_server(folder / "s3")), folder)
