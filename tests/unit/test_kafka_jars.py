"""Kafka's jars: fetched once, whole or not at all, each as the lock file says; the repository is a folder served by HTTP."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from millstream import kafka_jars
from millstream.kafka_jars import Jar
from pipeline.errors import SettingsError, Unreachable

# Where it finds nothing, jgo leaves the connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Quiet(SimpleHTTPRequestHandler):
    """Notes what is asked for."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    class Handler(Quiet):
        asked: list[str] = []  # noqa: RUF012 - of this server alone

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Handler.asked
        server.shutdown()
        thread.join()


@pytest.fixture
def jars(monkeypatch: pytest.MonkeyPatch) -> tuple[Jar, ...]:
    """Three small files in place of the jars that the lock file names."""
    found = tuple(
        Jar("org.example", name, "1.0", hashlib.sha256(name.encode()).hexdigest())
        for name in ("kafka_2.13", "b", "c")
    )
    monkeypatch.setattr(kafka_jars, "locked", lambda: found)
    return found


@pytest.fixture
def repository(tmp_path: Path, jars: tuple[Jar, ...]) -> Path:
    """A Maven repository that has them."""
    folder = tmp_path / "maven2"
    for jar in jars:
        (place := folder / "org" / "example" / jar.name / "1.0").mkdir(parents=True)
        (place / jar.file).write_text(jar.name)
    return folder


@pytest.fixture
def asked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the repository is asked for."""
    with served(repository) as (address, asked):
        monkeypatch.setattr(kafka_jars, "_repositories", lambda: {"central": address})
        yield asked


def test_jars_are_fetched_once_and_nothing_is_asked_of_the_network_then(
    tmp_path: Path, asked: list[str], jars: tuple[Jar, ...]
) -> None:
    told: list[tuple[int, int]] = []
    found = kafka_jars.fetch(tmp_path / "cache", lambda done, total: told.append((done, total)))
    assert {path.name for path in found.iterdir()} == {jar.file for jar in jars}
    assert sorted(told) == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert kafka_jars.are_there(tmp_path / "cache")
    asked.clear()
    told.clear()
    assert kafka_jars.fetch(tmp_path / "cache", lambda *_: told.append((0, 0))) == found
    assert asked == []
    assert told == []


def test_what_was_fetched_is_kept_where_the_rest_fails_and_the_next_try_goes_on(
    tmp_path: Path, repository: Path, asked: list[str], jars: tuple[Jar, ...]
) -> None:
    gone = repository / "org" / "example" / "c" / "1.0" / "c-1.0.jar"
    gone.rename(tmp_path / "away")
    with pytest.raises(
        Unreachable, match=r"(?s)c-1\.0\.jar of Apache Kafka could not be fetched.*kafka = .*kafka_jars = "
    ):
        kafka_jars.fetch(tmp_path / "cache")
    assert not kafka_jars.are_there(tmp_path / "cache")
    part = next((tmp_path / "cache").glob("*.part"))
    (part / ".left by one that was killed").mkdir()
    (tmp_path / "away").rename(gone)
    before = {path.name for path in part.glob("*.jar")}
    asked.clear()
    found = kafka_jars.fetch(tmp_path / "cache")
    assert {path.name for path in found.iterdir()} == {jar.file for jar in jars}
    assert not any(name in path for name in before for path in asked)


def test_a_jar_that_is_not_what_the_lock_file_says_is_refused(
    tmp_path: Path, repository: Path, asked: list[str]
) -> None:
    (repository / "org" / "example" / "b" / "1.0" / "b-1.0.jar").write_text("something else")
    with pytest.raises(Unreachable, match="its SHA-256 is"):
        kafka_jars.fetch(tmp_path / "cache")
    assert asked
    assert not list((tmp_path / "cache").glob("*/b-1.0.jar"))


def test_a_repository_that_does_not_answer_is_told_with_what_else_does(
    tmp_path: Path, jars: tuple[Jar, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_jars, "_repositories", lambda: {"central": "http://127.0.0.1:9/maven2"})
    with pytest.raises(
        Unreachable, match=r"(?s)could not be fetched.*try again.*kafka = .*kafka_jars = .*jgo\.conf"
    ):
        kafka_jars.fetch(tmp_path)


def test_the_cache_of_another_lock_file_is_another_folder(
    tmp_path: Path, jars: tuple[Jar, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kafka_jars.folder(tmp_path)
    monkeypatch.setattr(kafka_jars, "locked", lambda: jars[:2])
    assert kafka_jars.folder(tmp_path) != before


def test_the_lock_file_names_every_jar_with_its_checksum_and_one_version_of_kafka() -> None:
    locked = kafka_jars.locked()
    assert len({jar.file for jar in locked}) == len(locked) > 40
    assert all(len(jar.sha256) == 64 for jar in locked)
    assert {jar.version for jar in locked if jar.group == "org.apache.kafka"} == {kafka_jars.version()}
    assert all(any(f":{jar.name}:" in one for jar in locked) for one in kafka_jars.COORDINATES)


def test_a_folder_of_ones_own_has_to_have_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="kafka_jars is"):
        kafka_jars.given(str(tmp_path))
    (tmp_path / "kafka_2.13-4.3.1.jar").touch()
    assert kafka_jars.given(str(tmp_path)) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert kafka_jars.given(".") == tmp_path, "Kafka runs in another folder"
    (tmp_path / "a:b").mkdir()
    with pytest.raises(SettingsError, match="colon"):
        kafka_jars.given("a:b")
