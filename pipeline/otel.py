"""The edge to OpenTelemetry: the only file that knows it, imported where the setting `traces` asks for it."""

import re
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_SEND_EVERY = 1000
"""Milliseconds between two sendings of spans, by a thread of its own."""


class Tracer:
    """Makes spans and sends them to a collector: OTLP over HTTP, or to `exporter`."""

    def __init__(self, endpoint: str, stage: str, exporter: SpanExporter | None = None) -> None:
        resource = Resource.create({"service.name": f"millstream-{stage}", "service.namespace": "millstream"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        sender = exporter or OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(sender, schedule_delay_millis=_SEND_EVERY))
        self._tracer = self._provider.get_tracer("millstream")

    def start(self, name: str, parent: str | None, began: int | None, attributes: Mapping[str, Any]) -> Span:
        """Begin a span below a traceparent; without one, or below one that isn't well-formed, it begins a trace."""
        below = Context()
        if parent is not None and _TRACEPARENT.fullmatch(parent):
            below = TraceContextTextMapPropagator().extract({"traceparent": parent}, below)
        return self._tracer.start_span(name, below, attributes=dict(attributes), start_time=began)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def traceparent(span: Span) -> str:
    """Return what hands a span on to another process, as W3C's Trace Context has it."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"


def fail(span: Span, error: BaseException) -> None:
    """Note that what a span tells of has failed."""
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, str(error)))
