"""Why a stage ends is a line of its log, whatever was wrong before there was a log."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.ends import ended
from pipeline.errors import InputError

ROOT = Path(__file__).parents[2]


def run(folder: Path, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MILLSTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def line(text: str) -> dict[str, Any]:
    [only] = text.splitlines()
    found: dict[str, Any] = json.loads(only)
    assert datetime.fromisoformat(found["timestamp"]).tzinfo is not None
    return found


@pytest.mark.parametrize(
    ("command", "stage"),
    [
        (["millstream", "watch"], "capture"),
        (["millstream", "serve"], "serve"),
        (["producer", "watch"], "capture"),
        (["processor"], "process"),
        (["sink", "store"], "store"),
        (["sink", "serve"], "serve"),
    ],
)
def test_with_json_logs_a_wrong_setting_is_told_as_a_line_of_json(
    command: list[str], stage: str, tmp_path: Path
) -> None:
    (tmp_path / "millstream.toml").write_text('log_format = "json"\npartitions = 0\n')
    done = run(tmp_path, *command)
    assert done.returncode == 2
    found = line(done.stderr)
    assert (found["stage"], found["level"], found["exit_code"]) == (stage, "critical", 2)
    assert "partitions = 0" in found["event"]


def test_environment_and_flag_say_so_before_the_file_and_commands_for_people_stay_text(
    tmp_path: Path,
) -> None:
    (tmp_path / "millstream.toml").write_text("this is no TOML")
    assert (
        "not valid TOML" in line(run(tmp_path, "sink", "store", MILLSTREAM_LOG_FORMAT="json").stderr)["event"]
    )
    command = ["millstream", "--set", "log_format=json", "serve"]
    assert "not valid TOML" in line(run(tmp_path, *command).stderr)["event"]
    assert run(tmp_path, "sink", "store").stderr.startswith("sink: ")
    people = run(tmp_path, "millstream", "status", MILLSTREAM_LOG_FORMAT="json")
    assert people.stderr.startswith("millstream: ")


def test_what_nobody_foresaw_is_a_line_of_json_too_and_else_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("MILLSTREAM_LOG_FORMAT", "json")
    assert ended("sink", "store", fail) == 1
    found = line(capsys.readouterr().err)
    assert found["event"] == "ZeroDivisionError"
    assert "Traceback" in found["exception"]
    monkeypatch.setenv("MILLSTREAM_LOG_FORMAT", "text")
    with pytest.raises(ZeroDivisionError):
        ended("sink", "store", fail)


def test_a_message_has_the_programs_name_and_the_errors_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise InputError("a.csv is empty")

    assert ended("producer", "capture", fail) == 1
    assert capsys.readouterr().err == "producer: a.csv is empty\n"
