"""Apache Kafka's jars: which ones (`kafka.lock.toml`), and where they lie once they were fetched from Maven Central.

CACHE/kafka-VERSION-DIGEST/         the jars, all of them, each with the SHA-256 that the lock file names
CACHE/kafka-VERSION-DIGEST.part/    those that were fetched so far, where a fetch was broken off: the next one goes on

CACHE is `Settings.cache_folder`, one for all data directories of a user. `python -m millstream.kafka_jars` resolves the
versions below anew and writes the lock file.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import ThreadPool
from pathlib import Path

from pipeline.errors import SettingsError, Unreachable

COORDINATES = ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36")
"""What `make lock` resolves: the broker, and the smallest logger that it can write its warnings with."""

MAIN_JAR = "kafka_2.13-*.jar"
"""The jar that has `kafka.Kafka`, by which a folder of jars is known."""

_LOCK = Path(__file__).with_name("kafka.lock.toml")
_OF_OUR_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_CONNECTIONS = 8
_TIMEOUT = 20
"""Seconds without a byte from the server."""

Progress = Callable[[int, int], None]
"""Told how many jars are there, and of how many."""


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """What it is called."""
        return f"{self.name}-{self.version}.jar"


@cache
def locked() -> tuple[Jar, ...]:
    """Return the jars that the lock file names."""
    found = tomllib.loads(_LOCK.read_text(encoding="utf-8"))["dependencies"]
    return tuple(Jar(one["groupId"], one["artifactId"], one["version"], one["sha256"]) for one in found)


def version() -> str:
    """Return the version of Apache Kafka that the lock file names."""
    return next(jar.version for jar in locked() if jar.name == "kafka_2.13")


def folder(cache_folder: Path) -> Path:
    """Return where the locked jars lie in a cache once they are there; its name changes with the lock file."""
    digest = hashlib.sha256("\n".join(jar.sha256 for jar in locked()).encode()).hexdigest()[:8]
    return cache_folder / f"kafka-{version()}-{digest}"


def given(folder: str) -> Path:
    """Return the folder of jars that the setting `kafka_jars` names; raises SettingsError where Kafka isn't in it."""
    jars = Path(folder).expanduser().absolute()  # Kafka runs in a folder of its own
    if ":" in str(jars):
        raise SettingsError(
            f"kafka_jars is {jars}: Java takes a colon for the end of a path; name a folder without"
        )
    if not any(jars.glob(MAIN_JAR)):
        raise SettingsError(
            f"kafka_jars is {jars}, and no {MAIN_JAR} lies there: name the folder `libs` of a Kafka distribution "
            f"(version {version()} is what Millstream is tested with), or leave the setting out"
        )
    return jars


def are_there(cache_folder: Path) -> bool:
    """Whether nothing has to be fetched."""
    return folder(cache_folder).is_dir()


def fetch(cache_folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """Return the folder of the locked jars, having fetched what isn't there yet: 44 MB, some seconds.

    Where they are there already, nothing is asked of the network. Raises Unreachable where they can't be fetched, and says
    what else does; OSError where the cache can't be written to.
    """
    target = folder(cache_folder)
    if target.is_dir():
        return target
    cache_folder.mkdir(parents=True, exist_ok=True)
    with _alone(cache_folder / f"{target.name}.lock"):
        if target.is_dir():  # another process was first
            return target
        part = target.with_name(f"{target.name}.part")
        part.mkdir(exist_ok=True)
        missing = [jar for jar in locked() if not (part / jar.file).exists()]
        done = len(locked()) - len(missing)
        progress(done, len(locked()))
        with ThreadPool(_CONNECTIONS) as pool:  # of daemon threads: Ctrl-C doesn't wait for them
            for _ in pool.imap_unordered(lambda jar: _fetch_one(jar, part), missing):
                done += 1
                progress(done, len(locked()))
        for left in part.iterdir():
            if left.is_dir():  # of a process that was killed while it fetched
                shutil.rmtree(left)
        part.rename(target)
    return target


def _fetch_one(jar: Jar, part: Path) -> None:
    """Put a jar into `part` once all of it is there and is what the lock file says."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory(dir=part, prefix=".") as own:
        try:
            maven = MavenContext(
                repo_cache=Path(own), local_repos=[], remote_repos=_repositories(), timeout=_TIMEOUT
            )
            path = maven.project(jar.group, jar.name).at_version(jar.version).artifact().resolve()
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except (
            OSError,
            RuntimeError,
        ) as error:  # jgo's "not found" is a RuntimeError, requests' errors are OSErrors
            if isinstance(error, OSError) and error.errno in _OF_OUR_DISK:
                raise
            raise _unreachable(jar, str(error).partition("\n")[0][:200]) from None
        if found != jar.sha256:
            raise _unreachable(jar, f"its SHA-256 is {found}, and should be {jar.sha256}")
        path.replace(part / jar.file)


def _unreachable(jar: Jar, why: str) -> Unreachable:
    return Unreachable(
        f"{jar.file} of Apache Kafka could not be fetched from Maven Central: {why}\n"
        "  It is needed once, for the broker of `up` and `demo`. Instead, any of these will do:\n"
        "  - try again with a network; what was fetched so far is kept\n"
        '  - name a broker of your own:  kafka = "host:port"  in millstream.toml\n'
        f'  - name a folder with Kafka\'s jars ({version()}), as `libs` of its distribution:  kafka_jars = "/opt/kafka/libs"\n'
        "  - name a mirror of Maven Central in ~/.config/jgo.conf:  [repositories]  central = https://mirror.example.com/maven2"
    )


@cache
def _repositories() -> dict[str, str]:
    """Return where jars come from: Maven Central, or what jgo's own configuration names."""
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL

    return {"central": MAVEN_CENTRAL_URL} | dict(GlobalSettings.load().repositories)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file: one process fetches, others wait for it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lock_again() -> None:
    """Have jgo resolve COORDINATES with all that they need, and write the lock file."""
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as own:
        maven = MavenContext(repo_cache=Path(own) / "m2", local_repos=[], remote_repos=_repositories())
        builder = EnvironmentBuilder(context=maven, cache_dir=Path(own) / "cache")
        environment = builder.from_endpoint("+".join(COORDINATES), main_class="kafka.Kafka")
        shutil.copyfile(environment.path / "jgo.lock.toml", _LOCK)


if __name__ == "__main__":
    os.umask(0o022)
    lock_again()
    print(f"{_LOCK.name}: {len(locked())} jars of Apache Kafka {version()}", file=sys.stderr)
