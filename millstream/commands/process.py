"""`millstream process`: one Faust worker."""

from millstream import options


def command() -> None:
    """Run one worker, which computes each row, until Ctrl-C. Several share the work.

    Example:  millstream process
    """
    from pipeline.signals import Ending

    with Ending() as ending:
        settings = options.settings()
        from pipeline.logs import configure
        from pipeline.s3 import S3Store, client
        from processor.app import run

        configure(settings, "process")
        run(settings, S3Store(client(settings.s3), settings.s3.results), ending)
