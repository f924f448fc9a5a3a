"""`python -m processor`: one Faust worker; settings as `millstream process` reads them."""

import sys

from pipeline import logs, s3, settings
from pipeline.ends import ended
from pipeline.signals import Ending
from processor.app import run


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    with Ending() as ending:
        chosen = settings.load()
        logs.configure(chosen, "process")
        run(chosen, s3.S3Store(s3.client(chosen.s3), chosen.s3.results), ending)


if __name__ == "__main__":
    sys.exit(ended("processor", "process", main))
