"""`millstream delete`: take back all that there is of a file."""

from typing import Annotated

import typer

from millstream import options


def command(name: Annotated[str, typer.Argument(help="The file's name.", show_default=False)]) -> None:
    """Remove a file's upload, result, rejects and receipt, and end its job.

    Where it was cut off, calling it again goes on. An upload that comes in meanwhile is left alone: then the exit code is 1.

    Example:  millstream delete orders.csv
    """
    from millstream.stores import stores
    from pipeline.names import name_of
    from pipeline.printable import plain
    from sink.withdraw import delete

    both = stores(options.quiet_settings(calculations=False))
    delete(both.uploads, both.results, name_of(name))
    print(plain(f"{name}  deleted"))
