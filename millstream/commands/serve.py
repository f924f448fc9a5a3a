"""`millstream serve`: the HTTP reader."""

from typing import Annotated

import typer

from millstream import options


def command(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 is everyone's.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on.", show_default=False)
    ] = None,
) -> None:
    """Serve results over HTTP until Ctrl-C.

    Example:  millstream serve --port 8081
    """
    from pipeline.leave import leave
    from pipeline.signals import Ending

    with Ending() as ending:
        settings = options.settings()
        told = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        settings = settings.model_copy(update={"http": settings.http.model_copy(update=told)})
        from millstream import trialbox
        from pipeline.logs import configure
        from pipeline.settings import changed
        from sink.http_server import serve

        configure(settings, "serve")
        serve(settings, ending, reload=changed(options.settings), trial=trialbox.run)
        leave(0)
