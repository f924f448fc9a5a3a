"""`millstream get`: where the result goes, and what is never overwritten."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import Unreachable
from pipeline.store import Body, MemoryStore
from tests.cli import run
from tests.files import Files

RESULT = "order_id,total\n007,29.97\n"


class Cut(MemoryStore):
    """A store whose content stops coming half way."""

    @contextmanager
    def open(self, key: str, **conditions: object) -> Iterator[Body]:
        with super().open(key, **conditions) as body:  # type: ignore[arg-type]

            def half(size: int) -> bytes:
                if first:
                    return first.pop()
                raise Unreachable("S3 does not answer")

            first = [b"order_id,to"]
            yield body if key.endswith(".json") else replace(body, read=half)


@pytest.fixture
def files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A published orders.csv; the upload of that name lies in the working directory."""
    (folder / "orders.csv").write_text("mine\n")
    files = Files()
    files.published()
    monkeypatch.setattr("millstream.stores.stores", lambda _: files)
    return files


@pytest.mark.parametrize(
    ("output", "written"),
    [
        ("computed.csv", "computed.csv"),
        (".", "orders.results.csv"),
        ("", "orders.results.csv"),
        ("..", "../orders.results.csv"),
        ("folder", "folder/orders.results.csv"),
        ("folder/", "folder/orders.results.csv"),
        ("folder/link", "folder/orders.results.csv"),
        ("-x.csv", "-x.csv"),
        ("n" * 255, "n" * 255),
    ],
)
def test_the_result_goes_where_it_is_wanted(
    output: str, written: str, files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "folder").mkdir()
    (folder / "folder" / "link").symlink_to(folder / "folder")
    if output == "..":
        monkeypatch.chdir("folder")
    done = run("get", "orders.csv", "-o", output)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert "written to" in done.stderr
    assert Path(written).read_text() == RESULT
    assert (folder / "orders.csv").read_text() == "mine\n"
    assert not list(folder.rglob("*.part"))


def test_in_a_folder_it_is_called_after_the_last_part_of_its_name(files: Files, folder: Path) -> None:
    for name in ("2024/orders.CSV", "2024/plain", "2024/.csv"):
        files.published(name)
        assert run("get", name, "-o", ".").exit_code == 0
    found = {path.name for path in folder.iterdir()} - {"orders.csv"}
    assert found == {"orders.results.csv", "plain.results.csv", ".csv.results.csv"}


@pytest.mark.parametrize("output", ["-", None])
def test_without_a_file_it_goes_to_stdout(output: str | None, files: Files) -> None:
    done = run("get", "orders.csv", *(() if output is None else ("-o", output)))
    assert (done.exit_code, done.stdout, done.stderr) == (0, RESULT, "")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("nowhere/computed.csv", "nowhere/computed.csv: there is no folder nowhere"),
        ("nowhere/", "nowhere/: there is no such folder"),
        ("orders.csv/computed.csv", "orders.csv/computed.csv: there is no folder orders.csv"),
        ("taken", "taken/orders.results.csv: is a folder"),
        ("orders.csv", "orders.csv is there already; --force replaces it"),
        ("dangling", "dangling is there already"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_target_that_cant_be_is_said_before_anything_is_written(
    output: str, message: str, files: Files, folder: Path
) -> None:
    (folder / "taken" / "orders.results.csv").mkdir(parents=True)
    (folder / "dangling").symlink_to("nothing")
    before = sorted(folder.rglob("*"))
    done = run("get", "orders.csv", "-o", output)
    assert done.exit_code == 1
    assert done.stderr.startswith("millstream: ")
    assert message in done.stderr
    assert sorted(folder.rglob("*")) == before
    assert (folder / "orders.csv").read_text() == "mine\n"


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_what_the_system_refuses_is_said_with_the_name_that_was_given(
    code: int, files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code), ".part")

    monkeypatch.setattr("millstream.target._copy", refuse)
    done = run("get", "orders.csv", "-o", "computed.csv")
    assert (done.exit_code, done.stderr) == (1, f"millstream: computed.csv: {os.strerror(code)}\n")
    assert [path.name for path in folder.iterdir()] == ["orders.csv"]


def test_force_replaces_a_file_and_keeps_its_permissions_and_links(files: Files, folder: Path) -> None:
    (folder / "real.csv").write_text("old\n")
    (folder / "real.csv").chmod(0o600)
    (folder / "link.csv").symlink_to("real.csv")
    assert run("get", "orders.csv", "-o", "link.csv", "--force").exit_code == 0
    assert (folder / "real.csv").read_text() == RESULT
    assert (folder / "link.csv").is_symlink()
    assert stat.S_IMODE((folder / "real.csv").stat().st_mode) == 0o600


@pytest.mark.parametrize("force", [True, False])
def test_a_download_that_breaks_off_leaves_what_was_there(
    force: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(results=Cut())
    files.published()
    monkeypatch.setattr("millstream.stores.stores", lambda _: files)
    if force:
        (folder / "computed.csv").write_text("old\n")
    done = run("get", "orders.csv", "-o", "computed.csv", *(["--force"] if force else []))
    assert done.exit_code == 1
    assert "S3 does not answer" in done.stderr
    assert [path.read_text() for path in folder.iterdir()] == (["old\n"] if force else [])


def test_a_file_that_comes_meanwhile_is_kept(
    files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        target.write_text("theirs\n")
        raise FileExistsError

    monkeypatch.setattr("os.link", link)
    done = run("get", "orders.csv", "-o", "computed.csv")
    assert done.exit_code == 1
    assert "computed.csv is there already" in done.stderr
    assert (folder / "computed.csv").read_text() == "theirs\n"


def test_a_device_is_written_to_as_it_is(files: Files) -> None:
    for force in ([], ["--force"]):
        assert run("get", "orders.csv", "-o", "/dev/null", *force).exit_code == 0
    assert not Path("/dev/null").is_file()
