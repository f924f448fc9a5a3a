"""The servers that one `up` starts: those that its settings don't name."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from millstream import embedded, kafka_jars, kafka_server, kafka_startup, process
from millstream.embedded import State
from millstream.kafka_server import Java
from millstream.process import Command, Process
from pipeline.errors import MillstreamError, Unreachable
from pipeline.settings import Settings

_START_SECONDS = 60.0
"""Kafka looks through data that it didn't close, after kill -9: 1 GB took a few seconds."""


@dataclass(frozen=True)
class Server:
    """A server of ours: how to run it, and how to see that it answers."""

    command: Command
    answers: Callable[[], bool]
    has_data: bool = False
    """Whether it ran here before."""


class Provisioned:
    """Whether buckets and topics of these names were made in a data directory, all of them: DIR/provisioned.json says which."""

    def __init__(self, data: Path, settings: Settings) -> None:
        """Nothing is read yet."""
        self._path = data / "provisioned.json"
        self._wanted = [settings.s3.uploads, settings.s3.results, *settings.topics]

    @property
    def is_known(self) -> bool:
        """Whether they were."""
        try:
            return bool(json.loads(self._path.read_text()) == self._wanted)
        except (OSError, ValueError):
            return False

    def note(self) -> None:
        """Say that they are."""
        self._path.write_text(json.dumps(self._wanted) + "\n")


class Said:
    """The last lines of one process; fed line by line, from any thread."""

    def __init__(self, name: str) -> None:
        """Nothing yet."""
        self._name = name
        self._lines: list[str] = []

    def note(self, name: str, line: str) -> None:
        """Take a line of a process's log."""
        if name == self._name:
            self._lines = [*self._lines[-49:], line]

    def text(self) -> str:
        """Return them."""
        return "\n".join(self._lines)


@dataclass(frozen=True)
class KafkaBroker:
    """The broker in a data directory, with its port, and what is particular about its start."""

    directory: Path
    java: Java
    state: State
    properties: Mapping[str, str]
    cache_folder: Path

    @property
    def server(self) -> Server:
        """How to run it."""
        command = kafka_server.command(self.directory, self.java)
        return Server(command, lambda: kafka_server.answers(self.state.bootstrap))

    @property
    def is_formatted(self) -> bool:
        """Whether it ran here before."""
        return (self.directory / "log").is_dir()

    def prepare(self, say: Callable[[str], None]) -> None:
        """Write its properties, and format what isn't; say so where its data can't be used."""
        trouble = kafka_server.prepare(
            self.directory, self.java, self.state.kafka, self.state.controller, self.properties
        )
        if trouble is not None:
            say(self._set_aside(trouble))

    def wait(
        self,
        start: Callable[[], Process],
        said: Callable[[], str],
        ready: Callable[[], bool],
        log: Path,
        say: Callable[[str], None],
    ) -> None:
        """Wait until it answers. Where it ends because its data can't be used, they are set aside and it is started once more.

        `said` returns the last that it said, all of it where it has ended. Raises Unreachable where it ends for another
        reason, or doesn't answer.
        """
        command = self.server.command
        try:
            process.wait_ready(command, start(), ready, timeout=_START_SECONDS, log=log)
        except Unreachable:
            if not kafka_server.says_unusable(said()):
                raise
            kafka_server.set_aside(self.directory)
            say(self._set_aside("Kafka ended while it read them"))
            self.prepare(say)
            process.wait_ready(command, start(), ready, timeout=_START_SECONDS, log=log)

    def mend(self, said: str, say: Callable[[str], None]) -> None:
        """Set aside data of which a broker that ended said they can't be used, and make anew what somebody removed.

        `said` is the last that it said. What fails is said: the next start tries it again.
        """
        try:
            if self.is_formatted and kafka_server.says_unusable(said):
                kafka_server.set_aside(self.directory)
                say(self._set_aside("it ended because of them"))
            self.prepare(say)
        except (MillstreamError, OSError) as error:
            say(f"the broker can't be prepared: {error}")

    def _set_aside(self, why: str) -> str:
        return (
            f"Kafka's data can't be used ({why}): they lie in {self.directory / 'log.broken'} now, and it begins with new "
            "ones. Nothing is lost: what was in flight is captured again"
        )


def kafka_broker(data: Path, settings: Settings, state: State, progress: kafka_jars.Progress) -> KafkaBroker:
    """Return the broker for a data directory, having fetched its jars where they aren't there.

    Raises SettingsError where there is no Java for this platform or no Kafka in `kafka_jars`, Unreachable where the jars can't
    be fetched.
    """
    cache = settings.cache_folder
    jars = kafka_server.jars_for(settings.kafka_jars, cache, progress)
    java = kafka_startup.with_cache(kafka_server.java(jars), cache)
    properties = kafka_server.largest_message(settings.message_bytes)
    return KafkaBroker(data.absolute() / "kafka", java, state, properties, cache)


def s3_server(data: Path, state: State) -> Server:
    """Return the S3 server for a data directory. Raises SettingsError where there is none for this platform."""
    directory = data.absolute() / "s3"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    has_data = (directory / "data").is_dir()
    return Server(embedded.s3_command(directory, state), lambda: embedded.s3_answers(state), has_data)
