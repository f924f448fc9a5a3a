"""Traces are sent where a setting says so, and cost nothing where it doesn't."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline import traces
from pipeline.settings import Settings

ON = Settings.model_validate({"traces": "http://127.0.0.1:1"})
REMOTE = f"00-{'ab' * 16}-{'cd' * 8}-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.configure(ON, "capture", exporter)
    yield exporter
    traces.close()


def test_a_span_hands_its_trace_on_as_a_traceparent(spans: InMemorySpanExporter) -> None:
    with traces.span("upload", None, file="a.csv") as upload:
        pass
    with traces.span("take on", upload.metadata()["traceparent"]) as taking:
        taking.note(rows=3)
    traces.close()
    first, second = spans.get_finished_spans()
    assert (first.name, second.name) == ("upload", "take on")
    assert first.context.trace_id == second.context.trace_id
    assert second.parent is not None
    assert second.parent.span_id == first.context.span_id
    assert dict(first.attributes or {}) == {"millstream.file": "a.csv"}
    assert dict(second.attributes or {}) == {"millstream.rows": 3}
    assert first.resource.attributes["service.name"] == "millstream-capture"


def test_a_trace_from_elsewhere_goes_on_here_and_nonsense_begins_one(spans: InMemorySpanExporter) -> None:
    for parent in (REMOTE, "nonsense", ""):
        with traces.span("upload", parent):
            pass
    traces.close()
    found = [f"{span.context.trace_id:032x}" for span in spans.get_finished_spans()]
    assert found[0] == "ab" * 16
    assert len({*found, "ab" * 16}) == 3


def test_a_batch_is_recorded_once_for_each_trace_with_the_time_it_took(spans: InMemorySpanExporter) -> None:
    other = REMOTE.replace("ab", "ef")
    traces.record("compute", [REMOTE, None, other, REMOTE], 0.25, partition=3)
    traces.close()
    found = spans.get_finished_spans()
    assert {f"{span.context.trace_id:032x}"[:2] for span in found} == {"ab", "ef"}
    assert len(found) == 2
    assert all((span.end_time or 0) - (span.start_time or 0) == 250_000_000 for span in found)


def test_what_fails_is_marked(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="why"), traces.span("publish", None):
        raise ValueError("why")
    traces.close()
    [span] = spans.get_finished_spans()
    assert span.status.description == "why"
    assert span.events[0].name == "exception"


def test_where_nothing_is_traced_nothing_is_imported_and_no_metadata_written() -> None:
    script = """
import sys
from pipeline import traces
from pipeline.settings import Settings
traces.configure(Settings(), "capture")
with traces.span("upload", None) as span:
    span.note(rows=1)
    assert span.context is None and span.metadata() == {}
traces.record("compute", ["00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"], 1.0)
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
