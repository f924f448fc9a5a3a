"""Apache Kafka for tests: one node or a cluster from its jars, or the image in a container."""

import base64
import contextlib
import fcntl
import functools
import gc
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millstream import embedded, ports
from millstream.process import Command, Process, start, stop, wait_ready
from tests.services.require import missing

KAFKA_VERSION = "4.1.0"
IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_CACHE = Path.home() / ".cache" / "millstream" / f"kafka-{KAFKA_VERSION}"


@dataclass(frozen=True)
class Broker:
    """A running broker, or several: their addresses."""

    bootstrap: str
    restart: Callable[..., None] | None = None
    """Kill it and start it again on the same port after so many seconds (0), without its data where `wiped` is said."""


@contextmanager
def apache_kafka(directory: Path, port: int | None = None) -> Iterator[Broker]:
    """One node from its jars, on a free port unless told which; its log is `directory`/kafka.log."""
    java, maven = _java()
    with _from_jars(directory, java, maven, port) as broker:
        yield broker


def _java() -> tuple[str, str | None]:
    """Return where Java and Maven are, the latter only where jars have to be fetched; skip the test where they aren't."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or (maven is None and not _jars()):
        missing("kafka", "java and mvn are not there")
    return java, maven


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker engine answers."""
    import docker

    with warnings.catch_warnings():
        # Where nothing answers, docker.from_env leaves its socket to the garbage collector, which warns of it.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with contextlib.closing(docker.from_env(timeout=5)) as client:
                return bool(client.ping())
        except docker.errors.DockerException:
            return False
        finally:
            gc.collect()


_START = 120
"""Seconds that a container may take to start."""


@contextmanager
def kafka_in_container() -> Iterator[Broker]:
    """One node of the image, in a container."""
    if not docker_answers():
        missing("docker", "no Docker engine answers")
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # it is read as testcontainers is imported
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    [port] = ports.choose(1)
    container = DockerContainer(IMAGE)
    # with_bind_ports takes no address, and would publish the port on every interface; Docker itself takes one.
    container.ports["9092"] = ("127.0.0.1", port)  # type: ignore[assignment]
    for key, value in _container_properties(port).items():
        container = container.with_env("KAFKA_" + key.upper().replace(".", "_"), value)
    container = container.with_env("KAFKA_HEAP_OPTS", "-Xmx512m")
    container.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(_START))
    try:
        container.start()
        yield Broker(f"127.0.0.1:{port}")
    finally:
        container.stop()


def _container_properties(port: int) -> dict[str, str]:
    """The full set: one property given replaces all of the image's defaults.

    The broker has a listener of its own beside the host's: on the host's port it can't reach itself.
    """
    return _COMMON_PROPERTIES | {
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "HOST://:9092,BROKER://:9094,CONTROLLER://:9093",
        "advertised.listeners": f"HOST://127.0.0.1:{port},BROKER://localhost:9094",
        "listener.security.protocol.map": "HOST:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
    }


_COMMON_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",  # of 50: a test's broker is up and down sooner
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}


@contextmanager
def _from_jars(directory: Path, java: str, maven: str | None, port: int | None) -> Iterator[Broker]:
    free, controller = ports.choose(2)
    voters = {"controller.quorum.voters": f"1@127.0.0.1:{controller}"}
    with contextlib.ExitStack() as process:
        node = _Node(directory, java, maven, port or free, controller)
        node.format(_cluster_id(), voters)
        node.start(process)

        def restart(away: float = 0, *, wiped: bool = False) -> None:
            node.kill()
            process.close()
            time.sleep(away)
            if wiped:
                shutil.rmtree(directory / "log")
                node.format(_cluster_id(), voters)
            node.start(process)

        yield Broker(node.bootstrap, restart)


@contextmanager
def apache_cluster(directory: Path, nodes: int = 3) -> Iterator[tuple[Broker, list["_Node"]]]:
    """Several nodes from jars, each of which may be killed and revived; topics keep their data while any one is dead."""
    java, maven = _java()
    free = ports.choose(2 * nodes)
    members = []
    voters = ",".join(f"{number}@127.0.0.1:{free[2 * number - 1]}" for number in range(1, nodes + 1))
    cluster = _cluster_id()
    for number in range(1, nodes + 1):
        (folder := directory / f"node-{number}").mkdir()
        node = _Node(folder, java, maven, free[2 * number - 2], free[2 * number - 1])
        replicas = {
            "offsets.topic.replication.factor": str(nodes),
            "default.replication.factor": str(nodes),
            "min.insync.replicas": str(nodes // 2 + 1),
            # Two of three controllers on a busy machine lose each other within the usual 2 s, and elect without end.
            "controller.quorum.fetch.timeout.ms": "6000",
            "controller.quorum.request.timeout.ms": "6000",
        }
        node.format(cluster, {"node.id": str(number), "controller.quorum.voters": voters, **replicas})
        members.append(node)
    with contextlib.ExitStack() as processes:
        starting = [node.launch(processes) for node in members]
        for node, process in zip(members, starting, strict=True):
            node.wait(process)
        yield Broker(",".join(node.bootstrap for node in members)), members


class _Node:
    """One node of Apache Kafka from its jars."""

    def __init__(self, directory: Path, java: str, maven: str | None, port: int, controller: int) -> None:
        self.bootstrap = f"127.0.0.1:{port}"
        self._listeners = {
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "log.dirs": str(directory / "log"),
        }
        self._java = java
        self._classpath = str(_jars() or _fetch_jars(maven)) + "/*"
        self._properties = directory / "server.properties"
        self._log = directory / "kafka.log"
        self._command = Command(
            name="Apache Kafka",
            argv=(java, "-Xmx512m", "-cp", self._classpath, "kafka.Kafka", str(self._properties)),
            cwd=directory,
            env=dict(os.environ),
            stop_signal=signal.SIGTERM,
        )
        self._process: Process | None = None

    def format(self, cluster: str, values: dict[str, str]) -> None:
        """Write its properties, and prepare its storage for a cluster."""
        values = _COMMON_PROPERTIES | self._listeners | values
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        storage = (self._java, "-cp", self._classpath, "kafka.tools.StorageTool")
        wanted = ("format", "-t", cluster, "-c", self._properties)
        subprocess.run((*storage, *wanted), check=True, capture_output=True)

    def launch(self, until: contextlib.ExitStack) -> Process:
        """Start it, without waiting until it answers; it ends with `until`."""
        self._until = until
        with self._log.open("ab") as output:
            process = self._process = start(self._command, output)
        until.callback(lambda: stop([(self._command, process)], timeout=5))
        return process

    def wait(self, process: Process) -> None:
        """Wait until it answers."""
        ready = functools.partial(embedded.broker_answers, self.bootstrap)
        wait_ready(self._command, process, ready, timeout=60, log=self._log)

    def start(self, until: contextlib.ExitStack) -> None:
        """Start it and wait until it answers."""
        self.wait(self.launch(until))

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def revive(self) -> None:
        """Start it again, with its data, where it has been killed."""
        assert self._process is not None
        if self._process.poll() is not None:
            self.start(self._until)


def _cluster_id() -> str:
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass  # it would be taken for an option; Kafka's own tool makes none of these either
    return made


def _jars() -> Path | None:
    libraries = _CACHE / "libs"
    return libraries if libraries.is_dir() else None


def _fetch_jars(maven: str | None) -> Path:
    """Have Maven copy Kafka's jars (54 MB) into the cache, in one step: it is whole or not there."""
    _CACHE.parent.mkdir(parents=True, exist_ok=True)
    with (_CACHE.parent / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=_CACHE.parent) as fresh:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Maven's own cache isn't made for two at once
        if found := _jars():
            return found
        (Path(fresh) / "pom.xml").write_text(_POM)
        wanted = f"-DoutputDirectory={fresh}/kafka/libs"
        goal = (str(maven), "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", wanted)
        done = subprocess.run(goal, cwd=fresh, capture_output=True, text=True)
        if done.returncode:
            missing("kafka", f"mvn could not fetch its jars: {(done.stdout + done.stderr).strip()[-500:]}")
        (Path(fresh) / "kafka").rename(_CACHE)
    return _CACHE / "libs"


_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
