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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel, SecretStr

from millstream import embedded, kafka_jars, ports, process
from millstream.embedded import State
from millstream.fetching import shown_progress
from millstream.local_servers import KafkaBroker, Said, Server, kafka_broker, s3_server
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
_CHECK_SECONDS = 0.1


def up(settings: Settings, data: Path, processors: int = 1) -> None:
    """Run the servers that the settings don't name, and all stages, until SIGINT, SIGTERM or a hangup; must be the main thread.

    Raises SettingsError where another `up` has `data`, the reader's port is taken, or there is no server for this platform;
    Unreachable where Kafka's jars can't be fetched, or a server doesn't answer.
    """
    data.mkdir(parents=True, exist_ok=True)
    with _only_one(data), ExitStack() as until:
        port = _reader_port(settings)
        state = embedded.state(data)
        with shown_progress() as progress:  # until here Ctrl-C ends us as it does everything else
            kafka = None if settings.names("kafka") else kafka_broker(data, settings, state, progress)
        stopping = until.enter_context(_signals())
        s3 = None if settings.names_s3 else s3_server(data, state)
        local = _local(settings, state, port)
        record = data / "up.json"
        record.unlink(missing_ok=True)  # of an `up` that was killed
        stages = _stages(local, processors)
        servers = [server.command for server in (kafka.server if kafka else None, s3) if server is not None]
        milestones, said, stuck = Milestones(_milestones(stages)), Said("kafka"), Stuck("s3", data)
        log = LogLines(
            data / "up.log",
            terse=frozenset(server.name for server in servers),
            listeners=[milestones.note, said.note, stuck.note],
        )

        def say(sentence: str) -> None:
            log.write("up", sentence)

        supervisor = Supervisor(
            _spawner(log), say, changed=lambda: _write_record(record, local, supervisor.pids())
        )
        say(_what_runs(local, kafka is not None, s3 is not None))
        cache = StartupCache(kafka, say, os.environ)
        # Where buckets and topics are there, stages may start beside the servers: they wait for these by themselves.
        is_known = kafka is not None and kafka.is_formatted and s3 is not None and s3.has_data

        def start_stages() -> None:
            for command in stages:
                supervisor.add(command)

        try:
            _start_servers(
                kafka,
                s3,
                start_stages if is_known else _nothing,
                supervisor,
                said,
                data / "up.log",
                stopping,
                say,
            )
            log.servers_run = True
            if not is_known and not stopping.is_set():
                _provision(local, s3 is not None, stopping)
                if not stopping.is_set():
                    start_stages()
            if not stopping.is_set():
                _write_record(record, local, supervisor.pids())
                say(f"reader {_http(local)} · Kafka {local.kafka} · S3 {local.s3.endpoint or 'AWS'}")
                say(f"addresses and keys: {record} · logs: {data / 'up.log'} · Ctrl-C ends everything")
            _keep_running(supervisor, milestones, stuck, cache, stopping, say, _http(local))
        finally:
            ended = time.monotonic() + STOP_SECONDS
            log.servers_run = False
            cache.stop()
            supervisor.stop(
                [command.name for command in stages],
                STAGES_STOP_SECONDS,
                harm="nothing is lost, its work comes again at the next start",
            )
            left = max(STOP_SECONDS - STAGES_STOP_SECONDS, ended - time.monotonic())
            supervisor.stop([command.name for command in servers], left)
            record.unlink(missing_ok=True)
            say("everything has ended")
            log.close()


def _keep_running(
    supervisor: Supervisor,
    milestones: Milestones,
    stuck: Stuck,
    cache: StartupCache,
    stopping: threading.Event,
    say: Callable[[str], None],
    http: str,
) -> None:
    """Start again what ends, and say once that everything is ready, until told to stop."""
    is_ready = False
    while not stopping.wait(_CHECK_SECONDS):
        supervisor.check()
        if stuck.has_room():
            supervisor.restart("s3", "its disk was full, and it refused writes since")
            stuck.begin_again()
        if not is_ready and milestones.reached():
            is_ready = True
            say(f"ready: drop a file with  millstream push FILE --wait  or open {http}/")
        if is_ready:
            cache.look()


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


def _spawner(log: LogLines) -> Callable[[Command], Process]:
    def spawn(command: Command) -> Process:
        started = process.start(command)
        log.follow(command.name, started)
        return started

    return spawn


def _start_servers(
    kafka: KafkaBroker | None,
    s3: Server | None,
    then: Callable[[], None],
    supervisor: Supervisor,
    said: Said,
    log: Path,
    stopping: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Start the servers of ours, `then` what doesn't need them at once, and wait until they answer or we are told to stop."""
    if s3 is not None:
        started = supervisor.add(s3.command)
    if kafka is not None:
        kafka.prepare(say)
        first = supervisor.add(kafka.server.command)
    then()
    if s3 is not None:
        process.wait_ready(
            s3.command, started, lambda: stopping.is_set() or s3.answers(), timeout=_START_SECONDS, log=log
        )
    if kafka is not None:
        starts = iter([first])

        def start() -> process.Process:
            return next(starts, None) or supervisor.add(kafka.server.command)

        kafka.wait(start, said, lambda: stopping.is_set() or kafka.server.answers(), log, say)


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


def _nothing() -> None:
    """Do nothing."""


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
