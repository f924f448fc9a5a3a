"""`millstream watch`: the capture service."""

from millstream import options


def command() -> None:
    """Capture whatever appears in the uploads bucket, until Ctrl-C.

    Goes on with what was left half done by a capture that died.

    Example:  millstream watch
    """
    from pipeline.leave import leave
    from pipeline.signals import Ending

    with Ending() as ending:
        settings = options.settings()
        from pipeline.logs import configure
        from pipeline.settings import changed
        from producer.watch import watch

        configure(settings, "capture")
        watch(settings, ending, reload=changed(options.settings))
        leave(0)
