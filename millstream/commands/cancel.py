"""`millstream cancel`: end a file's job."""

from typing import Annotated

import typer

from millstream import options


def command(name: Annotated[str, typer.Argument(help="The file's name.", show_default=False)]) -> None:
    """End a file's job without a result; an older result stays.

    It is taken up again when the file is uploaded anew, or pushed with --again. Ends with exit code 1 where the job has ended
    otherwise already.

    Example:  millstream cancel orders.csv
    """
    from millstream.stores import stores
    from pipeline.errors import JobEnded
    from pipeline.names import name_of
    from pipeline.printable import plain
    from sink.withdraw import cancel

    both = stores(options.quiet_settings(calculations=False))
    end = cancel(both.results, name_of(name), "millstream cancel")
    if end.state != "cancelled":
        raise JobEnded(
            f"{name} was {end.state} already"
            + (f": {end.why}" if end.why else "; there is nothing to cancel")
        )
    print(plain(f"{name}  cancelled"))
