"""With a collector, each file is one trace through all stages."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.integration.stack import stack
from tests.integration.test_chain import FLIGHTS, orders
from tests.services.kafka import Broker
from tests.services.s3 import S3

Received = list[tuple[str, str, str]]
"""Service, name and trace of each span."""


@contextmanager
def collector() -> Iterator[tuple[str, Received]]:
    """An OTLP receiver; its address, and what it has received."""
    received: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {item.key: item.value.string_value for item in resource.resource.attributes}
                for scope in resource.scope_spans:
                    received.extend(
                        (names["service.name"], span.name, span.trace_id.hex()) for span in scope.spans
                    )
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_a_file_is_one_trace_from_its_upload_to_its_publication(
    tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str
) -> None:
    """Also one that begins with the client; another file is another trace."""
    (tmp_path / "millstream.toml").write_text(FLIGHTS)
    source, result = orders(range(20_000))
    stages = ("watch", "process", "sink", "serve")
    begun = "ab" * 16
    with collector() as (address, received):
        with stack(tmp_path, broker, s3, topic_prefix, *stages, MILLSTREAM_TRACES=address) as chain:
            chain.logged("serve", "serving")
            for name, headers in (("a.csv", {"traceparent": f"00-{begun}-{'cd' * 8}-01"}), ("b.csv", {})):
                done = httpx.put(f"{chain.http}/uploads/{name}", content=source, headers=headers, timeout=60)
                assert done.status_code == 201
            for name in ("a.csv", "b.csv"):
                chain.assert_result(name, result)
        traces = {trace for _, _, trace in received}
        assert len(traces) == 2
        assert begun in traces
        for trace in traces:
            steps = {(service, name) for service, name, found in received if found == trace}
            assert steps == {
                ("millstream-serve", "upload"),
                ("millstream-capture", "take on"),
                ("millstream-capture", "capture"),
                ("millstream-process", "compute"),
                ("millstream-store", "collect"),
                ("millstream-store", "publish"),
            }
