"""Runs the reader: one process, one port, until SIGTERM or SIGINT."""

import errno
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from pipeline import health, traces
from pipeline.errors import MillstreamError, SettingsError
from pipeline.kafka_progress import Watcher, outlet
from pipeline.picture import Picture
from pipeline.runtime import share_freed
from pipeline.s3 import S3Store, client
from pipeline.settings import HttpSettings, Settings
from pipeline.signals import Ending
from pipeline.store import ObjectStore
from pipeline.teller import Teller
from sink.http_app import make_app
from sink.http_try import Trial

GRACE = 2
"""Seconds that downloads under way have to end, once the process is asked to."""

_FILES = 16_384
"""Files and connections that the process may have open, where the system lets it."""

_log = structlog.get_logger()


def serve(
    settings: Settings,
    ending: Ending,
    *,
    reload: Callable[[], Settings | None] = lambda: None,
    started: Callable[[str], None] | None = None,
    trial: Trial | None = None,
) -> None:
    """Serve until the process is asked to end; `started` gets the address once connections are taken.

    `reload` returns the settings where they have changed since it was last asked: their calculations then say which uploads
    are taken. `trial` runs what `/try` asks for.

    Raises SettingsError where the port can't be had.
    """
    traces.configure(settings, "serve")
    listener = listen(settings.http)
    connection = client(settings.s3)
    uploads, results = S3Store(connection, settings.s3.uploads), S3Store(connection, settings.s3.results)
    if settings.health_port is not None:
        health.serve(settings.http.host, settings.health_port, lambda: _unreachable(uploads, results))
    picture = Picture()
    watcher, teller = Watcher(settings, picture), Teller("serve", outlet(settings))
    watcher.start()
    teller.start()
    try:
        run(
            settings,
            uploads,
            results,
            listener,
            ending,
            reload=reload,
            started=started,
            trial=trial,
            picture=picture,
        )
    finally:
        teller.close()
        watcher.close()
        traces.close()


def _unreachable(*buckets: S3Store) -> list[str]:
    """Return why buckets can't be used; for a probe at the port of metrics, which is never the reader's own."""
    reasons = []
    for bucket in buckets:
        try:
            bucket.check()
        except MillstreamError as error:
            reasons.append(str(error))
    return reasons


def run(
    settings: Settings,
    uploads: ObjectStore,
    results: ObjectStore,
    listener: socket.socket,
    ending: Ending,
    *,
    reload: Callable[[], Settings | None] = lambda: None,
    started: Callable[[str], None] | None = None,
    trial: Trial | None = None,
    picture: Picture | None = None,
) -> None:
    """Serve two buckets on a socket that listens; it is closed at the end."""
    _allow_many_connections()
    share_freed()
    app = make_app(settings, uploads, results, reload, trial, picture)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=30,
        )
    )
    app.state.reader.stopping = lambda: server.should_exit
    url = address(settings.http.host, listener)
    _log.info("serving", url=url)

    def stop() -> None:
        server.should_exit = True

    ending.then(stop)
    try:
        if started is not None:
            started(url)  # the socket listens: whoever connects now is served as soon as the loop runs
        server.run(sockets=[listener])
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn without handlers of signals: `pipeline.signals` listens, and sees to it that it ends in time."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _allow_many_connections() -> None:
    """Raise the limit of open files, often 1,024, as far as we may: a download has two, its client's and S3's."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def listen(settings: HttpSettings) -> socket.socket:
    """Return a socket that listens on `http.host` and `http.port`; port 0 is any that is free."""
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise SettingsError(f"http.host = {host!r}: no such address ({error.strerror})") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SettingsError(_why(host, port, error)) from None
    return listener


def address(host: str, listener: socket.socket) -> str:
    """Return the URL to reach the reader at, from this machine where it listens on all of its addresses."""
    port = listener.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(
        host, f"[{host}]" if ":" in host else host
    )
    return f"http://{name}:{port}"


def _why(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"http.port = {port}: something else listens on {host}:{port}; end that, or choose another (0: any)"
        case errno.EACCES:
            return f"http.port = {port}: not allowed to this user; choose one above 1023"
        case errno.EADDRNOTAVAIL:
            return f"http.host = {host!r}: not this machine's; 127.0.0.1 is for this machine alone, 0.0.0.0 for all"
        case _:
            return f"http.host = {host!r}, http.port = {port}: can't be listened on: {error.strerror}"
