"""`millstream try`: a calculation on a file's first rows, without any service."""

from pathlib import Path
from typing import Annotated

import typer

from millstream import dialect_options as dialect
from millstream import options


def command(
    file: Annotated[Path, typer.Argument(help="A CSV file, also .csv.gz and .csv.zst.", show_default=False)],
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=100_000, help="How many rows.")] = 20,
    name: Annotated[
        str | None, typer.Option(help="What the file would be called; else its own name.", show_default=False)
    ] = None,
    delimiter: dialect.Delimiter = None,
    quote: dialect.Quote = None,
    escape: dialect.Escape = None,
    encoding: dialect.Encoding = None,
    skip: dialect.Skip = None,
) -> None:
    """Compute a file's first rows here and now, and show results and rejects side by side.

    Needs no services: only millstream.toml and the file.

    Example:  millstream try orders.csv -n 50
    """
    told = dialect.overrides(delimiter, quote, escape, encoding, skip)
    settings = options.quiet_settings()
    from millstream.trial import trial
    from pipeline.printable import plain

    for line in trial(file, settings, rows, name, told):
        print(plain(line))
