"""OpenTelemetry traces, by setting: one trace for each file, from its upload to its publication.

    upload ── take on ─┬─ capture
                       ├─ compute    one span for each batch and job
                       ├─ collect    likewise
                       └─ publish

The context travels as a W3C traceparent: with the upload as its metadata, from there on in `job.json`. So no message carries
anything for it, and nothing is done per row. Without the setting `traces` nothing is imported, and every call returns at once.
"""

import atexit
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from pipeline.errors import SettingsError
from pipeline.settings import Settings

METADATA = "traceparent"
"""Metadata of an upload: which trace it is of. Also the HTTP header of that name."""

Attribute = str | int | float | bool


class _Process:
    """What this process traces with: `pipeline.otel` and its Tracer, or nothing."""

    otel: Any = None
    tracer: Any = None


_process = _Process()


def configure(settings: Settings, stage: str, exporter: Any = None) -> None:
    """Begin to send spans where `traces` names a collector; `exporter` takes them in its place.

    Raises SettingsError where OpenTelemetry isn't installed.
    """
    if settings.traces is None:
        return
    close()
    try:
        _process.otel = import_module("pipeline.otel")
    except ImportError as error:
        raise SettingsError(
            f"traces = {settings.traces!r} needs OpenTelemetry ({error.name} is missing): pip install 'millstream[otel]'"
        ) from None
    _process.tracer = _process.otel.Tracer(settings.traces, stage, exporter)
    atexit.register(close)


def close() -> None:
    """Send what is left; nothing is traced afterwards."""
    tracer, _process.tracer = _process.tracer, None
    if tracer is not None:
        tracer.close()
        atexit.unregister(close)


class Span:
    """A span under way; one that is nowhere where nothing is traced."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    @property
    def context(self) -> str | None:
        """Return the traceparent for what belongs below this span; None where nothing is traced."""
        return None if self._span is None else str(_process.otel.traceparent(self._span))

    def metadata(self) -> dict[str, str]:
        """Return the metadata that hands the trace on with an upload."""
        return {} if self.context is None else {METADATA: self.context}

    def note(self, **attributes: Attribute) -> None:
        """Add to what the span tells."""
        if self._span is not None:
            self._span.set_attributes(_named(attributes))


@contextmanager
def span(name: str, parent: str | None, began: int | None = None, **attributes: Attribute) -> Iterator[Span]:
    """Trace what the `with` block does, as part of `parent`, a traceparent, or as a trace of its own.

    `began` is when it began already, in nanoseconds since 1970. What the block raises is noted.
    """
    if _process.tracer is None:
        yield Span()
        return
    made = _process.tracer.start(name, parent, began, _named(attributes))
    try:
        yield Span(made)
    except Exception as error:
        _process.otel.fail(made, error)
        raise
    finally:
        made.end()


def record(name: str, parents: Iterable[str | None], seconds: float, **attributes: Attribute) -> None:
    """Trace what took the last `seconds`, once for each of the traces that it was done for."""
    if _process.tracer is None:
        return
    now = time.time_ns()
    for parent in {parent for parent in parents if parent is not None}:
        _process.tracer.start(name, parent, now - int(seconds * 1e9), _named(attributes)).end(now)


def _named(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {f"millstream.{name}": value for name, value in attributes.items()}
