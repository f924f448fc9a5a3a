"""`millstream get`: fetch a result straight from S3."""

import sys
from typing import Annotated

import typer

from millstream import options


def command(
    name: Annotated[str, typer.Argument(help="The file's name.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|FOLDER",
            help="Where to write it, in a folder as NAME.results.csv; else to stdout.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
) -> None:
    """Fetch the computed CSV.

    What comes is the newest result that is whole; stderr says so where a newer one is on its way. A file that is there already
    is left as it is, with exit code 1, unless --force says to replace it.

    Example:  millstream get orders.csv -o computed.csv
    """
    from millstream import target
    from millstream.stores import stores
    from pipeline.errors import NotFound
    from pipeline.names import name_of
    from pipeline.printable import plain
    from pipeline.states import look

    called = name_of(name)
    settings = options.quiet_settings(calculations=False)
    file = None
    if output is not None and output != target.STDOUT:
        file = target.file_for(output, called, force=force)
    both = stores(settings)
    state = look(both.uploads, both.results, called)
    if state.served is None or state.served.output is None:
        why = state.reason if state.state == "deleted" else state.summary
        raise NotFound(f"{name} has no result: {why}")
    if state.state != "published":
        older = f"millstream: this is an older result; the newest is {state.summary}"
        print(plain(older), file=sys.stderr)
    with both.results.open(state.served.output.key) as body:
        if file is not None:
            target.write(file, body.chunks, force=force)
            print(plain(f"{called}  written to {file}"), file=sys.stderr)
            return
        for chunk in body.chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
