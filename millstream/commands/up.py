"""`millstream up`: everything on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from millstream import options


def command(
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where both servers keep their data, and addresses and logs lie."),
    ] = Path(".millstream"),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the HTTP reader; 0 chooses a free one.")
    ] = None,
    processors: Annotated[int, typer.Option(min=1, max=64, help="How many processes calculate.")] = 1,
) -> None:
    """Run Apache Kafka, an S3 server and all stages on this machine, until Ctrl-C.

    A server that the settings name (kafka, s3.endpoint) is used, and none is started for it. Other commands in the same folder
    find all of it by themselves. What lies on S3 and on Kafka is kept: the next `up` goes on where this one was.

    Example:  millstream up --port 8081 --processors 2
    """
    settings = options.quiet_settings(beside_up=False)
    if port is not None:
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})
    from millstream.up import up

    up(settings, data, processors)
