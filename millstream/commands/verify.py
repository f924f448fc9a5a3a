"""`millstream verify`: is a result still what its receipt says?"""

from typing import Annotated

import typer

from millstream import options


def command(
    name: Annotated[str, typer.Argument(help="The file's name.", show_default=False)],
    deep: Annotated[
        bool, typer.Option("--deep", help="Also compute the whole result anew from the upload, and compare.")
    ] = False,
) -> None:
    """Recompute a result's receipt from the stored bytes: counts, and SHA-256 of input and output.

    With --deep the job's SQL is run on the whole upload, and what it gives is compared with what was published, byte by byte.
    Ends with exit code 1 and the first difference where something isn't as it was.

    Example:  millstream verify orders.csv --deep
    """
    from millstream.stores import stores
    from millstream.verify import verify
    from pipeline.names import name_of
    from pipeline.printable import plain

    both = stores(options.quiet_settings(calculations=False))
    for found in verify(both.uploads, both.results, name_of(name), deep=deep):
        print(plain(found))
