"""`millstream up`: everything on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from millstream import options


def command(
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the S3 server keeps its data, and addresses and logs lie."),
    ] = Path(".millstream"),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the HTTP reader; 0 chooses a free one.")
    ] = None,
    processors: Annotated[int, typer.Option(min=1, max=64, help="How many processes calculate.")] = 1,
) -> None:
    """Run a Kafka broker, an S3 server and all stages on this machine, until Ctrl-C.

    Other commands in the same folder find it by themselves. What lies on S3 is kept for the next time.

    Example:  millstream up --port 8081 --processors 2
    """
    settings = options.quiet_settings()
    if port is not None:
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})
    from millstream import embedded

    embedded.require()
    from millstream.up import up

    up(settings, data, processors)
