"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], seconds: float = 20, every: float = 0.1) -> None:
    """Wait for a condition, looking at it `every` so many seconds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s"
        time.sleep(every)
