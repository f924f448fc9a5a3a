"""The command line, run in this process, and the folders that it is run in."""

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from millstream import cli

ORDERS = 'order_id,quantity,price\n007,3,9.99\n008,x,1\n009,4\n010,5,"2.50"\n'
CALCULATION = """
[calculations.orders]
match = "*.csv"
id = "order_id"
columns = { quantity = "BIGINT", price = "DECIMAL(18,2)" }
outputs = { total = "quantity * price" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without settings of ours."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("MILLSTREAM_"):
            monkeypatch.delenv(name)
    # It is for a whole process: what the runner gives it as stderr is closed when the command ends.
    monkeypatch.setattr("pipeline.logs.configure", lambda *_: None)
    return tmp_path


@pytest.fixture
def orders(folder: Path) -> Path:
    """The same, with a file and its calculation."""
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "millstream.toml").write_text(CALCULATION)
    return folder


def run(*arguments: str) -> Result:
    """Run a command, given as its words."""
    return CliRunner().invoke(cli._app(), arguments)


def shell_words(command: str) -> list[str]:
    """Return the words that a shell makes of a command which was shown to be copied."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]
