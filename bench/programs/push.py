"""Our capture with a stop-watch: `python -m bench.programs.push FILE…`. The clock starts after the imports."""

import sys
import time
from pathlib import Path

from bench import usage
from bench.programs.say import done
from pipeline import runtime
from pipeline.logs import configure
from pipeline.settings import load
from producer.progress import Silent
from producer.push import push


def main() -> None:
    """Push the files, all of them, from this process."""
    settings = load()
    configure(settings, "push")
    runtime.tune()
    files = [Path(name) for argument in sys.argv[1:] for name in _expanded(argument)]
    used, start = usage.of_self(), time.time()
    push(files, settings, progress=Silent())
    done(start, time.time(), used, len(files))


def _expanded(argument: str) -> list[str]:
    """Return the files of a folder, or the file: 2,000 names don't belong on a command line."""
    path = Path(argument)
    return sorted(str(file) for file in path.glob("*.csv")) if path.is_dir() else [argument]


if __name__ == "__main__":
    main()
