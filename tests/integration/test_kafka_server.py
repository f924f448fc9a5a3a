"""The broker that `up` brings along: formatted once, kept, mended where its data are broken, reachable from here alone."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from millstream import embedded, kafka_server, kafka_startup, ports, process
from millstream.embedded import State
from millstream.kafka_server import Java
from millstream.local_servers import KafkaBroker
from millstream.process import Process, running
from pipeline.errors import SettingsError, Unreachable
from pipeline.kafka import ensure_topics
from pipeline.settings import Settings
from tests.services.kafka import java as java_of_up


@pytest.fixture
def java() -> Java:
    return java_of_up()


@dataclass
class Place:
    """A broker's directory, and what was said of it."""

    broker: KafkaBroker
    said: list[str]
    log: Path

    def run(self) -> Iterator[Process]:
        """Start it as `up` does; returns when it answers."""
        started: list[Process] = []

        def start() -> Process:
            with self.log.open("wb") as output:
                started.append(process.start(self.broker.server.command, output))
            return started[-1]

        self.broker.prepare(self.said.append)
        try:
            self.broker.wait(
                start, self.log.read_text, self.broker.server.answers, self.log, self.said.append
            )
            yield started[-1]
        finally:
            process.stop([(self.broker.server.command, one) for one in started], 5)


@pytest.fixture
def place(tmp_path: Path, java: Java) -> Place:
    state = State("key", "secret", *ports.choose(7))
    folder = (
        tmp_path / "a folder, ü\\n & more"
    )  # what a path may have, and a file of Java properties takes for something else
    return Place(KafkaBroker(folder, java, state, {}, tmp_path), [], tmp_path / "kafka.log")


def once(place: Place, work: Callable[[Process], None] = lambda _: None) -> None:
    """Run the broker, do something, and end it."""
    for broker in place.run():
        work(broker)


def test_messages_topics_and_groups_outlive_a_stop_and_a_kill(place: Place) -> None:
    settings = Settings(kafka=place.broker.state.bootstrap)

    def produce(_: Process) -> None:
        ensure_topics(settings)
        producer = Producer({"bootstrap.servers": settings.kafka})
        producer.produce(settings.rows_topic, b"value", b"key", partition=1)
        assert producer.flush(20) == 0

    def kill(broker: Process) -> None:
        assert one_message(settings, commit=True) == (b"key", b"value")
        broker.kill()

    def look(_: Process) -> None:
        assert one_message(settings, group="another") == (b"key", b"value")
        assert one_message(settings, timeout=2) is None, "it was committed"

    once(place, produce)
    once(place, kill)
    once(place, look)
    assert place.said == []


def one_message(
    settings: Settings, *, group: str = "g", commit: bool = False, timeout: float = 20
) -> tuple[bytes | None, bytes | None] | None:
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka, "group.id": group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([settings.rows_topic])
    try:
        message = consumer.poll(timeout)
        if message is None:
            return None
        assert message.error() is None
        if commit:
            consumer.commit(message=message, asynchronous=False)
        key, value = message.key(), message.value()
        assert not isinstance(key, str)
        assert not isinstance(value, str)
        return key, value
    finally:
        consumer.close()


def make_topics(place: Place) -> Callable[[Process], None]:
    def make(_: Process) -> None:
        ensure_topics(Settings(kafka=place.broker.state.bootstrap))

    return make


def metadata_log(log: Path) -> Path:
    return sorted((log / "__cluster_metadata-0").glob("*.log"))[0]


def _is_a_file(log: Path) -> None:
    shutil.rmtree(log)
    log.write_text("x")


def _is_cut(log: Path) -> None:
    os.truncate(log / "meta.properties", 5)


def _has_a_broken_quorum(log: Path) -> None:
    (log / "__cluster_metadata-0" / "quorum-state").write_text("x")


def _has_a_broken_checkpoint(log: Path) -> None:
    (log / "replication-offset-checkpoint").write_text("x\ny")


DAMAGE = (_is_a_file, _is_cut, _has_a_broken_quorum, _has_a_broken_checkpoint)
"""What Kafka can't start with, noticed by us before it starts, and by what it says. A metadata log or a topic that is broken it
cuts off, or makes anew, by itself.
"""


@pytest.mark.parametrize("damage", DAMAGE)
def test_data_that_kafka_cannot_use_are_set_aside_with_a_word_and_begun_anew(
    place: Place, damage: Callable[[Path], None]
) -> None:
    once(place, make_topics(place))
    log = place.broker.directory / "log"
    damage(log)
    once(place, make_topics(place))
    assert len(place.said) == 1
    assert "can't be used" in place.said[0]
    assert "log.broken" in place.said[0]
    assert (place.broker.directory / "log.broken").exists()
    assert (log / "millstream.rows-0").is_dir()


def test_a_metadata_log_that_is_cut_off_is_no_obstacle(place: Place) -> None:
    once(place, make_topics(place))
    log = metadata_log(place.broker.directory / "log")
    os.truncate(log, log.stat().st_size // 2)
    once(place, make_topics(place))


def test_a_format_that_was_broken_off_is_done_again(place: Place) -> None:
    part = place.broker.directory / "log.part"
    part.mkdir(parents=True)
    (part / "meta.properties").write_text("version=1\n")
    once(place)
    assert place.said == []
    assert not part.exists()


def test_a_disk_that_is_full_or_a_port_that_is_taken_is_no_reason_to_set_data_aside() -> None:
    assert kafka_server.says_unusable("ERROR CorruptRecordException: Found record size 3")
    assert not kafka_server.says_unusable(
        "ERROR KafkaStorageException: java.io.IOException: No space left on device"
    )
    assert not kafka_server.says_unusable(
        "ERROR KafkaException: Socket server failed to bind: Address already in use."
    )


def test_a_broker_that_ends_for_another_reason_shows_its_log_and_keeps_its_data(place: Place) -> None:
    once(place)
    other = KafkaBroker(
        place.broker.directory, place.broker.java, place.broker.state, {"node.rack": ""}, Path()
    )
    command = replace(other.server.command, argv=(*other.server.command.argv[:-1], "no-such.properties"))
    with (
        pytest.raises(Unreachable, match=r"(?s)kafka ended at once, exit code 1.*no-such\.properties"),
        running(command, lambda: False, log=place.log),
    ):
        pass
    assert (place.broker.directory / "log").is_dir()
    assert not (place.broker.directory / "log.broken").exists()


def test_it_listens_on_loopback_alone(place: Place) -> None:
    def look(broker: Process) -> None:
        listening = {"0A"}
        inodes = {os.readlink(link) for link in Path(f"/proc/{broker.pid}/fd").iterdir() if link.is_symlink()}
        addresses = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{broker.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] in listening and f"socket:[{fields[9]}]" in inodes:
                    addresses.add(fields[1].rpartition(":")[0])
        assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}, addresses
        assert addresses

    if not Path("/proc/self/net/tcp").exists():
        pytest.skip("no /proc on this system")
    once(place, look)


def test_it_says_nothing_where_nothing_is_wrong_and_ends_at_once(place: Place) -> None:
    def end(broker: Process) -> None:
        began = time.monotonic()
        broker.send_signal(signal.SIGTERM)
        broker.wait(10)
        assert time.monotonic() - began < 3

    once(place, end)
    once(place, end)
    assert place.log.read_text() == ""


def test_the_start_up_cache_is_used_where_it_is_there(tmp_path: Path, java: Java) -> None:
    bare = replace(java, startup_cache=None)
    where = kafka_startup.path(tmp_path, bare)
    assert kafka_startup.with_cache(bare, tmp_path).startup_cache is None
    assert kafka_startup.maker(bare, tmp_path, {}) is not None
    where.write_bytes(b"a cache that Java can't use: it starts as without")
    cached = kafka_startup.with_cache(bare, tmp_path)
    assert cached.startup_cache == where
    assert kafka_startup.maker(bare, tmp_path, {}) is None
    place = Place(
        KafkaBroker(tmp_path / "kafka", cached, State("key", "secret", *ports.choose(7)), {}, tmp_path),
        [],
        tmp_path / "kafka.log",
    )
    once(place)


def test_the_start_up_cache_is_made_by_a_broker_of_its_own_which_leaves_nothing_behind(
    tmp_path: Path, java: Java
) -> None:
    jars = Path(java.jars[0]).parent
    made = kafka_startup.make(jars, tmp_path)
    assert made == kafka_startup.path(tmp_path, kafka_server.java(jars))
    assert made.stat().st_size > 10_000_000
    assert {path.suffix for path in tmp_path.iterdir()} == {".aot", ".lock"}
    argv = kafka_startup.with_cache(kafka_server.java(jars), tmp_path).argv("kafka.Kafka")
    strict = [argv[0], "-XX:AOTMode=on", *argv[1:-1], "-version"]
    done = subprocess.run(strict, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("properties", "trouble"),
    [
        (None, "is missing"),
        (b"\xff\xfe", "can't be read"),
        (b"", "names no cluster"),
        (b"#comment\nversion=1\nnode.id=1\n", "names no cluster"),
        (b"cluster.id=a\nnode.id=2\n", "another node"),
        (b"#Mon\ncluster.id=a=b\nnode.id=1\nversion=1\n", None),
    ],
)
def test_what_is_broken_is_told_before_kafka_reads_it(
    tmp_path: Path, properties: bytes | None, trouble: str | None
) -> None:
    assert kafka_server.what_is_broken(tmp_path / "none") is None
    if properties is not None:
        (tmp_path / "meta.properties").write_bytes(properties)
    found = kafka_server.what_is_broken(tmp_path)
    assert found is None if trouble is None else found is not None and trouble in found


def test_a_folder_without_kafka_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"kafka_jars is {tmp_path}")):
        kafka_server.jars_for(str(tmp_path), tmp_path)


def test_a_port_that_was_taken_moves_and_the_data_stay(tmp_path: Path, java: Java) -> None:
    state = embedded.state(tmp_path)
    first = Place(KafkaBroker(tmp_path / "kafka", java, state, {}, tmp_path), [], tmp_path / "kafka.log")
    once(first, make_topics(first))
    with socket.create_server(("127.0.0.1", state.kafka)):
        moved = embedded.state(tmp_path)
        assert moved.kafka != state.kafka
        second = Place(replace(first.broker, state=moved), [], tmp_path / "kafka.log")
        once(second)
    assert second.said == []
    assert (tmp_path / "kafka" / "log" / "millstream.rows-0").is_dir()
