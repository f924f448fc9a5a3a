"""A port of its own for each process: `/health/live`, `/health/ready` and `/metrics`.

The standard library's server on a daemon thread: it answers one scraper every few seconds, and nothing of it is on the way of
a row.
"""

import atexit
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from pipeline import metrics
from pipeline.errors import SettingsError
from pipeline.stalls import Stalls

log = structlog.get_logger("health")

Reasons = Callable[[], list[str]]
"""Returns why the process is not ready; nothing where it is."""


def serve(host: str, port: int, reasons: Reasons, stalls: Stalls | None = None) -> ThreadingHTTPServer:
    """Answer on a port until the process ends; port 0 is any that is free.

    Readiness names the partitions that stand still in `stalls`. Raises SettingsError where the port can't be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer a probe or a scraper."""
            match self.path.partition("?")[0]:
                case "/health/live":
                    self._answer(200, "application/json", b'{"status":"live"}')
                case "/health/ready":
                    why = reasons()
                    said: dict[str, object] = {"status": "not ready" if why else "ready", "reasons": why}
                    if stalls is not None:
                        said["stalls"] = [stall.dump() for stall in stalls.found]
                    self._answer(503 if why else 200, "application/json", json.dumps(said).encode())
                case "/metrics":
                    self._answer(200, metrics.CONTENT_TYPE, metrics.exposition())
                case _:
                    self._answer(404, "text/plain", b"/health/live, /health/ready or /metrics\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: scrapers come every few seconds."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise SettingsError(
            f"health_port = {port}: can't be listened on: {error.strerror}; choose another"
        ) from None
    threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True).start()
    atexit.register(
        server.shutdown
    )  # while a thread runs, DuckDB's binding complains of what it holds at the end
    log.info("health and metrics", url=f"http://{host}:{server.server_port}")
    return server
