"""How a stage that runs by itself ends: with a message and an exit code, never with a traceback of what we foresaw."""

import sys
from collections.abc import Callable

from pipeline.errors import MillstreamError
from pipeline.printable import plain

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def ended(stage: str, work: Callable[[], None]) -> int:
    """Do a stage's work; return the exit code."""
    try:
        work()
    except MillstreamError as error:
        print(f"{stage}: {plain(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
