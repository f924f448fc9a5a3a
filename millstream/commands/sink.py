"""`millstream sink`: one sink instance."""

from millstream import options


def command() -> None:
    """Run one sink, which collects results and publishes each file's CSV once it is complete, until Ctrl-C.

    Example:  millstream sink
    """
    from pipeline.leave import leave
    from pipeline.signals import Ending

    with Ending() as ending:
        settings = options.settings(calculations=False)
        from sink.__main__ import store

        store(settings, ending)
        leave(0)
