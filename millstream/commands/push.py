"""`millstream push`: upload files and capture them right here."""

from pathlib import Path
from typing import Annotated

import typer

from millstream import dialect_options as dialect
from millstream import options


def command(
    files: Annotated[
        list[Path], typer.Argument(help="CSV files, also .csv.gz and .csv.zst.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="What the file is to be called; else its own name.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the result is there.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Compute it anew, though it is known already.")
    ] = False,
    max_rejects: Annotated[
        str | None,
        typer.Option(
            metavar="N|N%",
            help="With --wait: how many rows of each file may be rejected; exit code 1 where more are.",
            show_default=False,
        ),
    ] = None,
    delimiter: dialect.Delimiter = None,
    quote: dialect.Quote = None,
    escape: dialect.Escape = None,
    encoding: dialect.Encoding = None,
    skip: dialect.Skip = None,
) -> None:
    """Upload CSV files and send their rows to be computed.

    A file is known by its content: pushing the same again does nothing but say so, with exit code 1 where its calculation has
    changed since. With --wait the exit code is 0 only if the result is there.

    Example:  millstream push orders.csv --wait
    """
    settings = options.quiet_settings()
    overrides = dialect.overrides(delimiter, quote, escape, encoding, skip)
    from millstream.progress import progress
    from pipeline import runtime
    from producer.push import push

    runtime.tune()
    shown = progress()
    try:
        push(
            files,
            settings,
            name=name,
            wait=wait,
            again=again,
            max_rejects=max_rejects,
            dialect=overrides,
            progress=shown,
        )
    finally:
        shown.close()
