"""`millstream status`: which files it lists."""

from pathlib import Path

import pytest

from tests.cli import run
from tests.files import Files


@pytest.fixture
def files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """One file that is published, and one that was deleted."""
    files = Files()
    files.published()
    files.published("old.csv")
    monkeypatch.setattr("millstream.stores.stores", lambda _: files)
    assert run("delete", "old.csv").exit_code == 0
    return files


def test_deleted_files_are_listed_only_where_that_is_wanted(files: Files) -> None:
    assert run("status").stdout == "orders.csv  published: 1 row in, 1 out, 0 rejected\n"
    assert "old.csv     deleted\n" in run("status", "--deleted").stdout
    assert run("status", "old.csv").stdout == "old.csv  deleted\n"


def test_a_deleted_file_that_is_there_again_is_listed(files: Files) -> None:
    files.upload("old.csv")
    assert "old.csv     uploaded\n" in run("status").stdout


def test_where_nothing_is_left_that_is_said(files: Files) -> None:
    assert run("delete", "orders.csv").exit_code == 0
    done = run("status")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no files but deleted ones\n")


def test_that_a_file_was_deleted_is_said_once(files: Files) -> None:
    assert "old.csv has no result: it was deleted\n" in run("get", "old.csv").stderr
    for command in ("get", "status"):
        done = run(command, "old.csv")
        assert (done.stdout + done.stderr).count("deleted") == 1
