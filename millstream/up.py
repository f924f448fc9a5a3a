"""`millstream up`: everything on this machine, until Ctrl-C.

DIR/up.lock   held while it runs: one `up` for one directory
DIR/up.json   where everything listens, and the process ids (mode 0600); other commands find it there
DIR/up.log    what all processes log; on the terminal the two servers' warnings and errors alone
"""

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel, SecretStr

from millstream import embedded, kafka_jars, ports, process
from millstream.embedded import State
from millstream.fetching import shown_progress
from millstream.local_servers import KafkaBroker, Provisioned, Said, Server, kafka_broker, s3_server
from millstream.loglines import LogLines, Milestones
from millstream.process import Command, Process
from millstream.startup_cache import StartupCache
from millstream.stuck import Stuck
from millstream.supervise import Supervisor
from pipeline.errors import SettingsError, Unreachable
from pipeline.settings import OF_THE_BROKER, PREFIX, S3Settings, Settings

STOP_SECONDS, STAGES_STOP_SECONDS = 5.0, 3.8
"""After Ctrl-C everything has this long to end: the stages first, then the servers, which have what is left. Who takes
longer is killed.

A Faust worker takes 2.3 s and SeaweedFS 1.1 s on two busy cores.
"""

OWN_BROKER: Mapping[str, Any] = {"purge": True, "in_flight": "512MB"}
"""What holds with a broker of ours unless the settings say otherwise: its disk is the user's own."""

_START_SECONDS = 60.0
_CHECK_SECONDS = 0.2


def up(settings: Settings, data: Path, processors: int = 1) -> None:
    """Run the servers that the settings don't name, and all stages, until SIGINT, SIGTERM or a hangup; must be the main thread.

    Raises SettingsError where another `up` has `data`, the reader's port is taken, or there is no server for this platform;
    Unreachable where Kafka's jars can't be fetched, or a server doesn't answer.
    """
    data.mkdir(parents=True, exist_ok=True)
    with _only_one(data):
        port = _reader_port(settings)
        state = embedded.state(data)
        with shown_progress() as progress:  # until here Ctrl-C ends us as it does everything else
            kafka = None if settings.names("kafka") else kafka_broker(data, settings, state, progress)
        with _signals() as stopping:
            s3 = None if settings.names_s3 else s3_server(data, state)
            _Up(data, _local(settings, state, port), kafka, s3, processors, stopping).run()


class _Up:
    """One run: servers, then stages, kept running until `stopping` is set."""

    def __init__(
        self,
        data: Path,
        settings: Settings,
        kafka: KafkaBroker | None,
        s3: Server | None,
        processors: int,
        stopping: threading.Event,
    ) -> None:
        """`settings` are those of the stages; of servers that are somebody else's there is None."""
        self._data, self._settings = data, settings
        self._kafka, self._s3 = kafka, s3
        self._stopping = stopping
        self._record = data / "up.json"
        self._stages = _stages(settings, processors)
        self._servers = [server.command for server in (kafka.server if kafka else None, s3) if server]
        self._milestones = Milestones(_milestones(self._stages))
        self._said, self._stuck = Said("kafka"), Stuck("s3", data)
        self._log = LogLines(
            data / "up.log",
            terse=frozenset(server.name for server in self._servers),
            harmless=lambda name, line: name == "s3" and embedded.s3_was_left(line),
            listeners=[self._milestones.note, self._said.note, self._stuck.note],
        )
        self._supervisor = Supervisor(self._spawn, self._say, changed=self._write_record)
        self._cache = StartupCache(kafka, self._say, os.environ)
        self._provisioned = Provisioned(data, settings)

    def run(self) -> None:
        """Start everything, keep it running, end it."""
        self._record.unlink(missing_ok=True)  # of an `up` that was killed
        self._say(_what_runs(self._settings, self._kafka is not None, self._s3 is not None))
        try:
            self._start()
            self._keep_running()
        finally:
            self._stop()

    def _start(self) -> None:
        """Start servers, buckets and topics, and stages, as far as nobody has said to stop.

        Where buckets and topics are there, stages start beside the servers: they wait for these by themselves.
        """
        kafka, s3 = self._kafka, self._s3
        is_known = kafka is not None and kafka.is_formatted and s3 is not None and s3.has_data
        is_known = is_known and self._provisioned.is_known
        self._start_servers(self._start_stages if is_known else lambda: None)
        self._log.servers_run = True
        if not is_known and not self._stopping.is_set():
            _provision(self._settings, s3 is not None, self._stopping)
            if not self._stopping.is_set():
                self._provisioned.note()
                self._start_stages()
        if not self._stopping.is_set():
            self._write_record()
            where = self._settings
            self._say(f"reader {_http(where)} · Kafka {where.kafka} · S3 {where.s3.endpoint or 'AWS'}")
            logs = self._data / "up.log"
            self._say(f"addresses and keys: {self._record} · logs: {logs} · Ctrl-C ends everything")

    def _start_servers(self, then: Callable[[], None]) -> None:
        """Start those of ours, `then` what doesn't need them at once, and wait until they answer or we are told to stop."""
        kafka, s3, log = self._kafka, self._s3, self._data / "up.log"

        def ready(server: Server) -> Callable[[], bool]:
            return lambda: self._stopping.is_set() or server.answers()

        started = self._supervisor.add(s3.command) if s3 is not None else None
        if kafka is not None:
            kafka.prepare(self._say)
            starts = iter([self._supervisor.add(kafka.server.command)])
        then()
        if s3 is not None and started is not None:
            process.wait_ready(s3.command, started, ready(s3), timeout=_START_SECONDS, log=log)
        if kafka is not None:

            def start() -> process.Process:
                return next(starts, None) or self._supervisor.add(kafka.server.command)

            kafka.wait(start, self._what_kafka_said, ready(kafka.server), log, self._say)

    def _start_stages(self) -> None:
        for command in self._stages:
            self._supervisor.add(command)

    def _keep_running(self) -> None:
        """Start again what ends, and say once that everything is ready, until told to stop."""
        is_ready = False
        while not self._stopping.wait(_CHECK_SECONDS):
            self._supervisor.check()
            if self._stuck.has_room():
                self._supervisor.restart("s3", "its disk was full, and it refused writes since")
                self._stuck.begin_again()
            if not is_ready and self._milestones.reached():
                is_ready = True
                page = f"{_http(self._settings)}/"
                self._say(f"ready: drop a file with  millstream push FILE --wait  or open {page}")
            if is_ready:
                self._cache.look()

    def _stop(self) -> None:
        """End the stages, then the servers, within STOP_SECONDS."""
        ended = time.monotonic() + STOP_SECONDS
        self._log.servers_run = False
        self._cache.stop()
        self._supervisor.stop(
            [command.name for command in self._stages],
            STAGES_STOP_SECONDS,
            harm="nothing is lost, its work comes again at the next start",
        )
        left = max(STOP_SECONDS - STAGES_STOP_SECONDS, ended - time.monotonic())
        self._supervisor.stop([command.name for command in self._servers], left)
        self._record.unlink(missing_ok=True)
        self._say("everything has ended")
        self._log.close()

    def _spawn(self, command: Command) -> Process:
        """Start a process; a broker that ended by itself gets back first what it lacks."""
        if self._kafka is not None and command == self._kafka.server.command and self._log.servers_run:
            self._kafka.mend(self._what_kafka_said(), self._say)
        started = process.start(command)
        self._log.follow(command.name, started)
        return started

    def _say(self, sentence: str) -> None:
        self._log.write("up", sentence)

    def _what_kafka_said(self) -> str:
        self._log.finish("kafka")
        return self._said.text()

    def _write_record(self) -> None:
        _write_record(self._record, self._settings, self._supervisor.pids())


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the directory's lock; the kernel lets it go however we end."""
    with (data / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SettingsError(
                f"another `millstream up` (process {lock.read().strip() or 'unknown'}) is using {data}: "
                "end it, or give this one another directory with --data"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that is set by the signals that end us; what they did before is put back afterwards."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        ending.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in ending}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reader_port(settings: Settings) -> int:
    if settings.http.port == 0:
        return ports.choose(1)[0]
    if not ports.is_free(settings.http.port, settings.http.host):
        raise SettingsError(
            f"port {settings.http.port} on {settings.http.host} is in use: give another with --port, "
            "http.port in millstream.toml or MILLSTREAM_HTTP_PORT"
        )
    return settings.http.port


def _local(settings: Settings, state: State, port: int) -> Settings:
    """The settings with those servers on this machine that they don't name; a broker of ours keeps only what is in flight."""
    here: dict[str, Any] = {"http": settings.http.model_copy(update={"port": port})}
    if not settings.names("kafka"):
        here |= {"kafka": state.bootstrap, "kafka_options": {}, "replication": 1}
        here |= {name: value for name, value in OWN_BROKER.items() if not settings.names(name)}
    if not settings.names_s3:
        here["s3"] = S3Settings(
            endpoint=state.endpoint,
            access_key=state.access_key,
            secret_key=SecretStr(state.secret_key),
            uploads=settings.s3.uploads,
            results=settings.s3.results,
        )
    return settings.model_copy(update=here)


def _what_runs(settings: Settings, own_kafka: bool, own_s3: bool) -> str:
    """The first line: which servers are started, and which are somebody else's."""
    kafka = (
        f"starts Apache Kafka {kafka_jars.version()}"
        if own_kafka
        else f"uses Kafka at {settings.kafka}, which the settings name"
    )
    s3 = (
        "starts an S3 server (SeaweedFS)"
        if own_s3
        else f"uses S3 at {settings.s3.endpoint or 'AWS'}, which the settings name"
    )
    return f"{kafka} · {s3} · and every stage"


def _environment(settings: Settings) -> dict[str, str]:
    """The environment of the stages: ours, and every setting as it is here, flags included.

    Calculations are left out: the stages read them where they are written, and see there when they change.
    """
    variables: dict[str, str] = {}
    for name, value in settings:
        for label, plain in value if isinstance(value, BaseModel) else [("", value)]:
            if plain is None or name == "calculations":
                continue
            variable = "_".join(filter(None, (name, label))).upper()
            text = plain.get_secret_value() if isinstance(plain, SecretStr) else plain
            variables[PREFIX + variable] = text if isinstance(text, str) else json.dumps(text)
    return os.environ | variables | {"PYTHONUNBUFFERED": "1"}


def _stages(settings: Settings, processors: int) -> list[Command]:
    """The stages' commands, downstream first: who stops first leaves nobody writing to who is gone.

    Their ports of health and metrics follow each other from `health_port` on, in the order of this list.
    """
    programs: dict[str, tuple[str, ...]] = {"serve": ("millstream", "serve"), "sink-1": ("sink", "store")}
    programs |= {f"process-{number}": ("processor",) for number in range(1, processors + 1)}
    programs |= {"watch": ("producer", "watch")}
    environment, folder = _environment(settings), Path.cwd()
    return [
        Command(name, (sys.executable, "-m", *program), folder, environment | _health_port(settings, place))
        for place, (name, program) in enumerate(programs.items())
    ]


def _health_port(settings: Settings, place: int) -> dict[str, str]:
    """The setting for the stage at a place of the list; 0 is any port that is free, for each of them."""
    if not settings.health_port:
        return {}
    return {f"{PREFIX}HEALTH_PORT": str(settings.health_port + place)}


def _milestones(stages: list[Command]) -> dict[str, str]:
    """What each stage logs when it has begun to work, as part of a line."""
    said = {"serve": "serving", "watch": "watching"}
    return {stage.name: said.get(stage.name, "partitions assigned") for stage in stages}


def _provision(settings: Settings, own_s3: bool, stopping: threading.Event) -> None:
    """Make buckets and topics by a process of its own: the libraries that it takes would stay in this one's memory for good.

    Raises Unreachable with what it says where it fails.
    """
    argv = (sys.executable, "-m", "millstream.provision", *(("--make-buckets",) if own_s3 else ()))
    command = Command("provision", argv, Path.cwd(), _environment(settings))
    child = process.start(command)
    while child.poll() is None:
        if stopping.wait(_CHECK_SECONDS / 2):
            process.stop([(command, child)], 1)
    assert child.stdout is not None
    with child.stdout as said:
        text = said.read().decode(errors="replace").strip()
    if child.returncode and not stopping.is_set():
        raise Unreachable(text)


def _write_record(path: Path, settings: Settings, pids: dict[str, int]) -> None:
    """Write `up.json`: for other commands in the same folder, and for scripts. Of AWS there are no keys to tell."""
    secret = settings.s3.secret_key
    record = {
        "pid": os.getpid(),
        "kafka": settings.kafka,
        "s3": {
            "endpoint": settings.s3.endpoint,
            "access_key": settings.s3.access_key,
            "secret_key": secret.get_secret_value() if secret is not None else None,
            "uploads": settings.s3.uploads,
            "results": settings.s3.results,
        },
        "broker": {name: getattr(settings, name) for name in OF_THE_BROKER},
        "http": _http(settings),
        "processes": pids,
    }
    embedded.write_private(path, json.dumps(record, indent=2) + "\n")


def _http(settings: Settings) -> str:
    """The reader's address, as somebody on this machine reaches it."""
    host = "127.0.0.1" if settings.http.host in {"0.0.0.0", "::"} else settings.http.host
    return f"http://{host}:{settings.http.port}"
