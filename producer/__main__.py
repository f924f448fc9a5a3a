"""`python -m producer push FILE…`, `python -m producer watch`: the stage by itself; `millstream` has the flags."""

import argparse
import sys
from pathlib import Path

from pipeline import runtime
from pipeline.ends import ended
from pipeline.leave import leave
from pipeline.logs import configure
from pipeline.settings import changed, load
from pipeline.signals import Ending
from producer.progress import Logged
from producer.push import push
from producer.watch import watch


def main() -> int:
    """Run one of the two; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m producer", description="Capture CSV files.")
    commands = parser.add_subparsers(dest="command", required=True)
    pushing = commands.add_parser("push", help="upload files and capture them")
    pushing.add_argument("files", nargs="+", type=Path)
    pushing.add_argument("--name")
    pushing.add_argument("--wait", action="store_true")
    pushing.add_argument("--again", action="store_true")
    commands.add_parser("watch", help="capture whatever appears in the uploads bucket")
    given = parser.parse_args()
    return ended("producer", "capture", lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    if given.command == "watch":
        with Ending() as ending:
            settings = load()
            configure(settings, "capture")
            watch(settings, ending, reload=changed())
            leave(0)
    else:
        settings = load()
        configure(settings, "capture")
        runtime.tune()
        push(given.files, settings, name=given.name, wait=given.wait, again=given.again, progress=Logged())


if __name__ == "__main__":
    sys.exit(main())
