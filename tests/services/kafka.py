"""Apache Kafka for tests: one node or a cluster from its jars, or the image in a container."""

import contextlib
import functools
import gc
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millstream import kafka_server, kafka_startup, ports
from millstream.kafka_server import Java
from millstream.process import Process, start, stop, wait_ready
from pipeline.settings import load
from tests.services.require import missing

IMAGE = "apache/kafka:4.1.0"


@dataclass(frozen=True)
class Broker:
    """A running broker, or several: their addresses."""

    bootstrap: str
    restart: Callable[..., None] | None = None
    """Kill it and start it again on the same port after so many seconds (0), without its data where `wiped` is said."""


@functools.cache
def java() -> Java:
    """Return the Java and the jars of `up`'s broker, fetched once; with its start-up cache, where some `up` has made it."""
    settings = load(beside_up=False)
    cache = settings.cache_folder
    return kafka_startup.with_cache(
        kafka_server.java(kafka_server.jars_for(settings.kafka_jars, cache)), cache
    )


@contextmanager
def apache_kafka(directory: Path, port: int | None = None) -> Iterator[Broker]:
    """One node as `up` runs it, on a free port unless told which; its log is `directory`/kafka.log."""
    free, controller = ports.choose(2)
    with contextlib.ExitStack() as process:
        node = Node(directory, port or free, controller)
        node.prepare()
        node.start(process)

        def restart(away: float = 0, *, wiped: bool = False) -> None:
            node.kill()
            process.close()
            time.sleep(away)
            if wiped:
                shutil.rmtree(directory / "log")
                node.prepare()
            node.start(process)

        yield Broker(node.bootstrap, restart)


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
def apache_cluster(directory: Path, nodes: int = 3) -> Iterator[tuple[Broker, list["Node"]]]:
    """Several nodes, each of which may be killed and revived; topics keep their data while any one is dead."""
    free = ports.choose(2 * nodes)
    voters = ",".join(f"{number}@127.0.0.1:{free[2 * number - 1]}" for number in range(1, nodes + 1))
    cluster = kafka_server.cluster_id()
    members = []
    for number in range(1, nodes + 1):
        properties = {
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "offsets.topic.replication.factor": str(nodes),
            "default.replication.factor": str(nodes),
            "min.insync.replicas": str(nodes // 2 + 1),
            # Two of three controllers on a busy machine lose each other within the usual 2 s, and elect without end.
            "controller.quorum.fetch.timeout.ms": "6000",
            "controller.quorum.request.timeout.ms": "6000",
        }
        folder = directory / f"node-{number}"
        folder.mkdir()
        members.append(Node(folder, free[2 * number - 2], free[2 * number - 1], properties, cluster))
    with contextlib.ExitStack() as processes:
        for node in members:
            node.prepare()
        starting = [node.launch(processes) for node in members]
        for node, process in zip(members, starting, strict=True):
            node.wait(process)
        yield Broker(",".join(node.bootstrap for node in members)), members


class Node:
    """One node of Apache Kafka, run as `up` runs it."""

    def __init__(
        self,
        directory: Path,
        port: int,
        controller: int,
        properties: Mapping[str, str] | None = None,
        cluster: str | None = None,
    ) -> None:
        self.bootstrap = f"127.0.0.1:{port}"
        self._directory = directory
        self._ports = port, controller
        self._properties = properties
        self._cluster = cluster
        self._log = directory / "kafka.log"
        self._command = kafka_server.command(directory, java())
        self._process: Process | None = None

    def prepare(self) -> None:
        """Write its properties, and format its data where there are none."""
        trouble = kafka_server.prepare(
            self._directory, java(), *self._ports, self._properties, cluster=self._cluster
        )
        assert trouble is None

    def launch(self, until: contextlib.ExitStack) -> Process:
        """Start it, without waiting until it answers; it ends with `until`."""
        self._until = until
        with self._log.open("ab") as output:
            process = self._process = start(self._command, output)
        until.callback(lambda: stop([(self._command, process)], timeout=5))
        return process

    def wait(self, process: Process) -> None:
        """Wait until it answers."""
        ready = functools.partial(kafka_server.answers, self.bootstrap)
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
