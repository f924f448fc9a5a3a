"""Named points in the stages at which a test can have the process killed or stopped. Otherwise they do nothing.

`arm` is told MILLSTREAM_CRASH by `pipeline.settings.load`: `kill:sink.committing:2` kills the process as it reaches that point
for the second time, `stop:…` stops it (SIGSTOP) until somebody has it go on. What lies between two calls of S3 needs no point
here: the tests' proxy knows such calls by their keys.
"""

import os
import signal
import threading

from pipeline.errors import SettingsError

POINTS = {
    "capture.sent": "a block of rows is handed to the client, and perhaps acknowledged",
    "capture.acknowledged": "rows are acknowledged, and the claim doesn't say so yet",
    "capture.ends_sent": "the ends are acknowledged, and nothing else is left to do",
    "process.sent": "a run's results are handed to the client",
    "process.delivered": "results are acknowledged, the offsets of their rows not committed",
    "process.committed": "offsets of rows are committed",
    "sink.published": "a job is published, its rows' offsets not committed",
    "sink.committing": "offsets of results are about to be committed",
    "sink.committed": "offsets of results are committed",
}
"""What is done when each is reached. `tests/unit/test_crash.py` holds that each is in the code exactly once."""

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_armed: dict[str, tuple[signal.Signals, int]] = {}
_lock = threading.Lock()


def arm(wanted: str | None) -> None:
    """Have a point do something, by `how:point:count`; nothing where `wanted` is None. Raises SettingsError."""
    if wanted is None:
        return
    how, _, rest = wanted.partition(":")
    point, _, count = rest.partition(":")
    if how not in _SIGNALS or point not in POINTS or not count.isdecimal():
        raise SettingsError(
            f"MILLSTREAM_CRASH={wanted!r} in the environment: kill:sink.committing:1 would be right"
        )
    _armed[point] = (_SIGNALS[how], int(count))


def point(name: str) -> None:
    """Be at a point; called per batch at most."""
    if _armed:
        _reached(name)


def _reached(name: str) -> None:
    with _lock:
        signal_, left = _armed.get(name, (None, 0))
        if signal_ is None:
            return
        if left > 1:
            _armed[name] = (signal_, left - 1)
            return
        del _armed[name]
    os.kill(os.getpid(), signal_)
