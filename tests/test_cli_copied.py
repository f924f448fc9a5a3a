"""What the command line shows to be copied works when it is copied, whatever a file is called."""

import tomllib
from pathlib import Path

import pytest

from pipeline.shell import shell
from tests.cli import CALCULATION, ORDERS, run, shell_words

NAMES = [
    "my flights.csv",
    "it's.csv",
    'say "a".csv',
    "$HOME `id` $(id).csv",
    "-x.csv",
    "--help",
    "a\\b!.csv",
    "*.csv",
]


@pytest.mark.parametrize("name", [*NAMES, "é.csv", "a\nb.csv", "\x1b[2J.csv", "\udcff.csv", ""])
def test_a_shell_takes_a_command_as_it_is_shown(name: str) -> None:
    command = shell("millstream try", name, "b c")
    assert command.isprintable()
    apart = ["--"] if name.startswith("-") else []
    assert shell_words(command) == ["millstream", "try", *apart, name, "b c"]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_init_shows_works_as_it_is(name: str, folder: Path) -> None:
    (folder / name).write_text("a,b\n1,2\n")
    done = run("init", "--", name)
    assert done.exit_code == 0, done.stderr
    command = done.stdout.splitlines()[-1].partition("see what it does with  ")[2]
    tried = run(*shell_words(command)[1:])
    assert tried.exit_code == 0, tried.stderr
    assert "1 row = 1 result" in tried.stdout


def test_init_keeps_what_it_was_told_of_how_the_file_is_written(folder: Path) -> None:
    """Or what it says to do next fails: the file can't be read without."""
    (folder / "f.csv").write_bytes("note\nname|né\nx|1\n".encode("cp1252"))
    flags = ["--encoding", "cp1252", "--delimiter", "pipe", "--quote", "none", "--skip", "1"]
    assert run("init", "f.csv", *flags).exit_code == 0
    tried = run("try", "f.csv")
    assert tried.exit_code == 0, tried.stderr
    assert "cp1252" in tried.stdout
    assert "1 row = 1 result" in tried.stdout


@pytest.mark.parametrize("name", ["my [1] file.csv", "a*b?.csv", '"q".csv'])
def test_the_calculation_that_a_refusal_suggests_matches_the_file(name: str, folder: Path) -> None:
    (folder / name).write_text(ORDERS)
    (folder / "millstream.toml").write_text(CALCULATION.replace('"*.csv"', '"other"'))
    done = run("try", name)
    assert done.exit_code == 1
    block = done.stderr[done.stderr.index("    [calculations.") : done.stderr.index("or let")]
    suggested = block.replace("a_column_that_names_the_row", "order_id").replace("a_number", "quantity")
    assert tomllib.loads(suggested)
    (folder / "millstream.toml").write_text(suggested)
    assert run("try", name).exit_code == 0
