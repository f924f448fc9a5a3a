"""`millstream get`: fetch a result straight from S3."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from millstream import options


def command(
    name: Annotated[str, typer.Argument(help="The file's name.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write it; else to stdout.", show_default=False),
    ] = None,
) -> None:
    """Fetch the computed CSV.

    What comes is the newest result that is whole; stderr says so where a newer one is on its way.

    Example:  millstream get orders.csv -o computed.csv
    """
    from millstream.stores import stores
    from pipeline.errors import NotFound
    from pipeline.names import name_of
    from pipeline.printable import plain
    from pipeline.states import look

    both = stores(options.quiet_settings())
    state = look(both.uploads, both.results, name_of(name))
    if state.served is None or state.served.output is None:
        raise NotFound(f"{name} has no result: {state.summary}")
    if state.state != "published":
        older = f"millstream: this is an older result; the newest is {state.summary}"
        print(plain(older), file=sys.stderr)
    with both.results.open(state.served.output.key) as body:
        if output is None:
            for chunk in body.chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        # Whole or not at all: a file that is there already stays until the new one is.
        fresh = output.with_name(f".{output.name}.part")
        try:
            with fresh.open("wb") as file:
                for chunk in body.chunks:
                    file.write(chunk)
            fresh.replace(output)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(output)) from None  # not the name that nobody gave
        finally:
            fresh.unlink(missing_ok=True)
