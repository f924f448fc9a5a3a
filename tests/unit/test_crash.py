"""Points at which a test can end a process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import crash
from pipeline.errors import SettingsError

ROOT = Path(__file__).parents[2]


def run(wanted: str) -> "subprocess.CompletedProcess[str]":
    code = (
        "from pipeline import crash\n"
        f"crash.arm({wanted!r})\n"
        "for turn in range(3):\n"
        "    crash.point('sink.committing')\n"
        "    print(turn, flush=True)\n"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_a_process_is_killed_where_it_reaches_the_point_for_the_second_time() -> None:
    done = run("kill:sink.committing:2")
    assert (done.returncode, done.stdout) == (-9, "0\n")


def test_another_point_does_nothing() -> None:
    assert run("kill:sink.committed:1").stdout == "0\n1\n2\n"


@pytest.mark.parametrize(
    "wrong", ["", "kill", "kill:nowhere:1", "hurt:sink.committed:1", "kill:sink.committed:x"]
)
def test_a_point_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="MILLSTREAM_CRASH"):
        crash.arm(wrong)


def test_every_point_is_in_the_code_exactly_once() -> None:
    found = [
        name
        for package in ("pipeline", "producer", "processor", "sink")
        for file in sorted((ROOT / package).rglob("*.py"))
        for name in re.findall(r'crash\.point\("([^"]+)"\)', file.read_text())
    ]
    assert sorted(found) == sorted(crash.POINTS)
