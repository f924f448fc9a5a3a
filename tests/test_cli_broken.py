"""A calculation that can't be right stops the commands that compute with it, and no others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import CALCULATION, ORDERS, run
from tests.files import Files

BROKEN = [
    CALCULATION.replace('id = "order_id"', ""),
    CALCULATION.replace('id = "order_id"', 'id = "order_id"\ncolour = "red"'),
    CALCULATION + 'python = "no function"\nversion = "1"\n[calculations.other]\n',
    "calculations = 3\n",
    "[calculations]\norders = 3\n",
]


@pytest.fixture
def files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A published orders.csv."""
    files = Files()
    files.published()
    monkeypatch.setattr("millstream.stores.stores", lambda _: files)
    return files


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["get", "orders.csv"], "007,29.97"),
        (["status"], "orders.csv  published"),
        (["status", "orders.csv"], "orders.csv  published"),
        (["delete", "orders.csv"], "orders.csv  deleted"),
    ],
    ids=" ".join,
)
def test_commands_that_need_no_calculation_go_on_with_a_line_of_warning(
    command: list[str], said: str, broken: str, files: Files, folder: Path
) -> None:
    (folder / "millstream.toml").write_text(broken)
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    assert said in done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith(f"millstream: warning: {folder / 'millstream.toml'}: calculations")


def test_so_do_cancel_verify_and_top(files: Files, folder: Path) -> None:
    """Which have something else to say of a file that is made up."""
    (folder / "millstream.toml").write_text(BROKEN[0])
    done = run("cancel", "orders.csv")
    assert "orders.csv was published already" in done.stderr
    done = run("verify", "orders.csv")
    assert "calculations" not in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 2
    done = run("--set", "kafka=127.0.0.1:1", "top", "--once")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("command", ["push", "try"])
def test_commands_that_compute_stop_at_it(command: str, broken: str, folder: Path) -> None:
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "millstream.toml").write_text(broken)
    done = run(command, "orders.csv")
    assert done.exit_code == 2
    assert "calculations" in done.stderr


@pytest.mark.parametrize(
    "text", ["this is no TOML", "partitions = 0\n" + BROKEN[0], "partitons = 3\n", '[s3]\naccess_key = "a"\n']
)
def test_whatever_else_is_wrong_stops_every_command(text: str, files: Files, folder: Path) -> None:
    (folder / "millstream.toml").write_text(text)
    assert run("status").exit_code == 2


@pytest.mark.parametrize("command", [["millstream", "sink"], ["sink", "store"]])
def test_a_sink_needs_none_either(command: list[str], folder: Path) -> None:
    (folder / "millstream.toml").write_text(BROKEN[0])
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "MILLSTREAM_KAFKA": "127.0.0.1:1",
        "MILLSTREAM_S3_ENDPOINT": "http://127.0.0.1:1",
        "MILLSTREAM_S3_ACCESS_KEY": "a",
        "MILLSTREAM_S3_SECRET_KEY": "b",
    }
    program = subprocess.Popen(
        [sys.executable, "-m", *command],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | environment,
    )
    try:
        assert program.stderr is not None
        line = program.stderr.readline()
        assert "calculations" not in line
        assert "127.0.0.1:1" in line
    finally:
        program.kill()
        program.communicate()
