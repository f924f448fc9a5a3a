"""Commands measured from before their start to their end."""

import os
import sys
import time
from pathlib import Path

import pytest

from bench import command
from bench.processes import Broken

WORK = """
import time
content = bytearray(150_000_000)
end = time.process_time() + 0.4
while time.process_time() < end:
    pass
"""


def run(tmp_path: Path, program: str, timeout: float = 60) -> command.Ran:
    argv = (sys.executable, "-c", program)
    return command.run(argv, tmp_path, os.environ, log=tmp_path / "log", timeout=timeout)


def test_what_a_command_takes_is_all_that_its_user_waits_for(tmp_path: Path) -> None:
    start = time.perf_counter()
    ran = run(tmp_path, WORK)
    assert 0.4 <= ran.seconds <= time.perf_counter() - start
    assert 0.4 <= ran.used.cpu_s <= 2 * ran.seconds
    assert 150 < ran.used.peak_mb < 300


def test_the_start_of_the_interpreter_is_in_the_figure(tmp_path: Path) -> None:
    start = time.time()
    ran = run(tmp_path, "import time; print(time.time())")
    assert ran.seconds > float((tmp_path / "log").read_text()) - start


def test_a_command_that_fails_gives_no_figure_but_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"(?s)ended with 3.*no such file"):
        run(tmp_path, "print('no such file'); raise SystemExit(3)")


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"had not ended after 0.5 s"):
        run(tmp_path, "import time; time.sleep(600)", timeout=0.5)
