"""Leaving at once, without taking the interpreter down.

A worker leaves so without a commit: nothing is acknowledged by a process that is no more, and whoever comes next starts there.
A reader that has ended in good order is spared the list that DuckDB's binding prints of what it holds at the end.
"""

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start_over() -> NoReturn:
    """Begin this process anew, with its configuration and its modules as they are now."""
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
