"""How a program answers: one JSON line per event, on stdout."""

import json
import time
from typing import Any

from bench import usage


def say(event: str, **more: Any) -> None:
    """Write an event with the time, seconds since 1970."""
    print(json.dumps({"event": event, "when": time.time()} | more), flush=True)


def done(start: float, end: float, used: usage.Usage, rows: int) -> None:
    """Say that the work is done: what was measured, and what this process used from `used` on."""
    say("done", start=start, end=end, rows=rows, **usage.of_self().since(used).dump())
