"""What users and servers chose to say can't drive a terminal, wherever it is printed."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from millstream import cli
from millstream.loglines import LogLines
from millstream.progress import Lines
from millstream.stores import Stores
from millstream.top import as_tables, left
from millstream.watching import Look
from pipeline import layout
from pipeline.ends import ended
from pipeline.errors import InputError
from pipeline.figures import Figures
from pipeline.jobs import Refusal
from pipeline.picture import InstancePicture, Picture
from pipeline.printable import flat, plain
from pipeline.progress import InstanceEvent
from pipeline.states import State
from tests.files import Files
from tests.jobs import WHEN

TITLE = "\x1b]0;owned\x07"
"""Sets a terminal's title; `\\x9b` is the C1 twin of ESC [, and the last one turns the line round."""
HOSTILE = f"a{TITLE}\x9b2J\u202e.csv"
SPELT = r"a\x1b]0;owned\x07\x9b2J\u202e.csv"


def obeyed(text: str) -> set[str]:
    """The characters of an output that a terminal would do something with, but for new lines and colours of our own."""
    return {c for c in text if not c.isprintable() and c != "\n"}


def test_what_is_not_printable_is_spelt_out_and_all_else_stays() -> None:
    assert plain(HOSTILE) == flat(HOSTILE) == SPELT
    assert plain("Zoë 🙂 一\n\tü") == "Zoë 🙂 一\n\tü"
    assert flat("two\nlines\tand a lone \udc80") == r"two\nlines\tand a lone \udc80"
    assert plain("over\rwritten \udc80") == r"over\rwritten \udc80"


def test_top_and_status_show_names_processes_and_reasons_spelt_out() -> None:
    files = Files()
    files.results.put(
        layout.refused(HOSTILE),
        Refusal(etag="e", configuration="c", reason=f"no column {TITLE}", refused=WHEN).dump(),
    )
    running = Look(Stores(files.uploads, files.results), Picture())()
    said = InstanceEvent(at=WHEN.timestamp(), started=WHEN.timestamp())
    running.processes.append(InstancePicture("process", f"[red]{TITLE}", said, 0.0))
    running.errors.append(f"S3 says {TITLE}")
    console = Console(file=StringIO(), width=200)
    console.print(as_tables(running))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert obeyed(shown) == set()
    assert f"{SPELT} was refused: no column \\x1b]0;owned\\x07" in shown
    assert "S3 says \\x1b]0;owned\\x07" in shown
    assert r"[red]\x1b]0;owned\x07" in shown  # a process's name is no markup either
    found = Figures(waits_for=f"S3 says {TITLE}")
    assert left(State("a.csv", "computing"), found).endswith(r"\x1b]0;owned\x07")


def test_status_of_all_files_spells_their_names_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = Files()
    files.results.put(layout.name_record(HOSTILE), b"{}")
    files.uploads.put("b\u202ec.csv", b"id\n1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.logs.configure", lambda *_: None)
    monkeypatch.setattr("millstream.stores.stores", lambda _: Stores(files.uploads, files.results))
    monkeypatch.setattr("pipeline.states.look", lambda _u, _r, name: State(name, "failed", reason=TITLE))
    shown = CliRunner().invoke(cli._app(), ["status"]).stdout
    assert obeyed(shown) == set()
    assert SPELT in shown


def test_errors_progress_and_the_log_of_up_are_spelt_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise InputError(f"{HOSTILE} is empty")

    assert ended("producer", "capture", fail) == 1
    with pytest.raises(SystemExit):
        cli._presented("push", fail)()
    assert capsys.readouterr().err == f"producer: {SPELT} is empty\nmillstream: {SPELT} is empty\n"
    stream = StringIO()
    Lines(stream).say(f"{HOSTILE}: published")
    log = LogLines(tmp_path / "up.log", stream)
    log.write("s3", f"GET /{HOSTILE}")
    log.close()
    assert stream.getvalue() == f"{SPELT}: published\ns3        | GET /{SPELT}\n"
    assert SPELT in (tmp_path / "up.log").read_text()


def test_lines_of_log_are_spelt_out_with_their_values_and_tracebacks() -> None:
    program = (
        "import logging, structlog; from pipeline.logs import configure; from pipeline.settings import Settings;"
        "configure(Settings(log_format='text'), 'watch'); bad = 'a\\x1b]0;owned\\x07.csv';"
        "structlog.get_logger().warning('refused', name=bad); logging.getLogger('other').warning('got ' + bad)\n"
        "try: raise ValueError(bad)\n"
        "except ValueError: structlog.get_logger().exception('fault')"
    )
    environment = {key: text for key, text in os.environ.items() if not key.startswith("MILLSTREAM_")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert obeyed(done.stderr) == set()
    assert done.stderr.count(r"a\x1b]0;owned\x07.csv") == 3
