"""Logging: one line per event that matters, readable on a terminal, JSON by setting."""

import logging
import sys
from io import StringIO
from typing import Any, TextIO

import structlog

from pipeline.printable import plain
from pipeline.settings import Settings


def configure(settings: Settings, stage: str) -> None:
    """Set logging up for a process; `stage` is in each line. Libraries' warnings come the same way."""
    as_json = settings.log_format == "json"
    level = getattr(logging, settings.log_level.upper())
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=30, exception_formatter=_traceback
        )
    )

    def stamped(_: Any, __: str, event: Any) -> Any:
        event.setdefault("stage", stage)  # not as a context variable: threads don't inherit those
        return event

    shared: list[Any] = [
        stamped,
        structlog.contextvars.merge_contextvars,
        _keep if as_json else _spelt_out,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info if as_json else _keep, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _keep(_: Any, __: str, event: Any) -> Any:
    return event


def _spelt_out(_: Any, __: str, event: Any) -> Any:
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = plain(value)
    return event


def _traceback(stream: TextIO, error: Any) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, error)
    stream.write(plain(text.getvalue()))
