"""How a stage that runs by itself ends: with a message and an exit code, never with a traceback of what we foresaw.

The message may come before there are settings, and so before logging is set up; it looks as the log would all the same.
"""

import json
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.errors import MillstreamError
from pipeline.printable import plain
from pipeline.settings import wanted_log_format

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def ended(program: str, stage: str, work: Callable[[], None], log_format: str | None = None) -> int:
    """Do a stage's work; return the exit code.

    `stage` is what its log calls it; `log_format` is None where the settings aren't read yet.
    """
    try:
        work()
    except MillstreamError as error:
        report(program, stage, str(error), error.exit_code, log_format)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if not report_unforeseen(stage, error, log_format):
            raise
        return 1
    return 0


def report(program: str, stage: str, text: str, code: int, log_format: str | None = None) -> None:
    """Say on stderr why a stage ends: `program: text`, or a line of JSON where `log_format` or the settings ask for that."""
    if _as_json(log_format):
        _line(stage, text, code)
    else:
        print(f"{program}: {plain(text)}", file=sys.stderr)


def report_unforeseen(stage: str, error: Exception, log_format: str | None = None) -> bool:
    """Say the same of an error that nobody foresaw, its traceback included, where it is to be JSON; whether it was."""
    if not _as_json(log_format):
        return False
    _line(stage, str(error) or type(error).__name__, 1, "".join(traceback.format_exception(error)))
    return True


def _as_json(log_format: str | None) -> bool:
    return (log_format or wanted_log_format()) == "json"


def _line(stage: str, text: str, code: int, exception: str | None = None) -> None:
    line: dict[str, object] = {"event": text, "stage": stage, "level": "critical", "exit_code": code}
    if exception is not None:
        line["exception"] = exception
    line["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    print(json.dumps(line), file=sys.stderr)
