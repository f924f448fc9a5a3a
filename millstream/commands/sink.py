"""`millstream sink`: one sink instance."""

from millstream import options


def command() -> None:
    """Run one sink, which collects results and publishes each file's CSV once it is complete, until Ctrl-C.

    Example:  millstream sink
    """
    settings = options.settings()
    from sink.__main__ import store

    store(settings)
