"""Where settings come from, and whom a message about a wrong one names."""

import json
import os
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import load

CALCULATION = """
[calculations.orders]
match = "*.csv"
id = "order_id"
outputs = { total = "quantity" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings, and an environment without any."""
    for name in os.environ:
        if name.startswith("MILLSTREAM_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def up(folder: Path) -> Path:
    """A folder with a running `up`: this process stands for it."""
    (folder / ".millstream").mkdir()
    record = {
        "kafka": "127.0.0.1:1234",
        "s3": {
            "endpoint": "http://127.0.0.1:5678",
            "access_key": "a",
            "secret_key": "b",
            "uploads": "inbox",
            "results": "outbox",
        },
        "http": "http://127.0.0.1:8081",
        "processes": {"kafka": os.getpid()},
    }
    (folder / ".millstream" / "up.json").write_text(json.dumps(record))
    return folder


def test_a_running_up_stands_in_for_what_nobody_says(up: Path) -> None:
    found = load(up)
    assert (found.kafka, found.http.port) == ("127.0.0.1:1234", 8081)
    assert (found.s3.endpoint, found.s3.access_key, found.s3.uploads) == (
        "http://127.0.0.1:5678",
        "a",
        "inbox",
    )


def test_how_ups_broker_is_kept_small_holds_for_who_uses_it_and_for_nobody_else(
    up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = up / ".millstream" / "up.json"
    record = json.loads(path.read_text()) | {"broker": {"purge": True, "in_flight": "512MB"}}
    path.write_text(json.dumps(record))
    found = load(up)
    assert (found.purge, found.in_flight) == (True, "512MB")
    monkeypatch.setenv("MILLSTREAM_IN_FLIGHT", "64MB")
    assert load(up).in_flight == "64MB"
    monkeypatch.setenv("MILLSTREAM_KAFKA", "127.0.0.1:1")
    assert not load(up).purge


def test_who_names_another_broker_keeps_ups_s3(up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_KAFKA", "127.0.0.1:1")
    found = load(up)
    assert found.kafka == "127.0.0.1:1"
    assert (found.s3.endpoint, found.http.port) == ("http://127.0.0.1:5678", 8081)


def test_another_s3_server_is_never_given_ups_keys(up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_S3_ENDPOINT", "http://127.0.0.1:1")
    found = load(up)
    assert (found.s3.endpoint, found.s3.access_key, found.s3.uploads) == (
        "http://127.0.0.1:1",
        None,
        "uploads",
    )
    assert found.kafka == "127.0.0.1:1234"


def test_who_names_a_bucket_alone_means_one_of_ups(up: Path) -> None:
    (up / "millstream.toml").write_text('[s3]\nuploads = "mine"\n')
    found = load(up)
    assert (found.s3.endpoint, found.s3.uploads, found.s3.results) == (
        "http://127.0.0.1:5678",
        "mine",
        "outbox",
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MILLSTREAM_PARTITIONS", "0", "MILLSTREAM_PARTITIONS in the environment: partitions = '0': "),
        ("MILLSTREAM_HTTP_PORT", "x", "MILLSTREAM_HTTP_PORT in the environment: http.port = 'x': "),
        ("MILLSTREAM_S3_ENDPOINT", "x", "MILLSTREAM_S3_ENDPOINT in the environment: s3.endpoint = 'x': "),
        (
            "MILLSTREAM_SPOOL",
            "/nowhere/at/all",
            "MILLSTREAM_SPOOL in the environment: spool = '/nowhere/at/all': there is no such folder",
        ),
        ("MILLSTREAM_KAFKA_OPTIONS", "x", "MILLSTREAM_KAFKA_OPTIONS in the environment: not valid JSON"),
        (
            "MILLSTREAM_PROFILE",
            "embedded",
            "MILLSTREAM_PROFILE in the environment is no setting; there are: ",
        ),
    ],
)
def test_a_wrong_value_of_the_environment_is_blamed_on_its_variable(
    variable: str, value: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "millstream.toml").write_text("partitions = 2\n[http]\nport = 8081\n" + CALCULATION)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as wrong:
        load(folder)
    assert str(wrong.value).startswith(message)


def test_a_wrong_flag_is_blamed_on_the_flag_and_the_rest_on_the_file(folder: Path) -> None:
    (folder / "millstream.toml").write_text("block = 0\npartitions = 2\n" + CALCULATION)
    with pytest.raises(SettingsError) as wrong:
        load(folder, partitions="0", http={"port": "x"})
    lines = sorted(str(wrong.value).splitlines())
    assert [line.partition(": ")[0] for line in lines] == [
        "--set http.port = 'x'",
        "--set partitions = '0'",
        f"{folder / 'millstream.toml'}",
    ]


@pytest.mark.parametrize("missing", ["match", "id", "outputs"])
def test_what_a_calculation_lacks_is_said_with_an_example(missing: str, folder: Path) -> None:
    lines = [line for line in CALCULATION.splitlines() if not line.startswith(missing)]
    (folder / "millstream.toml").write_text("\n".join(lines))
    with pytest.raises(
        SettingsError, match=f"calculations.orders.{missing} is missing: {missing} = .* would be right"
    ):
        load(folder)
