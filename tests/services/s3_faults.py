"""An HTTP proxy in front of an S3 server that fails on purpose: refusals, resets, answers lost after the effect.

Bytes go through as they are, the Host header included, so that signatures hold. Each client gets a gate, a port of its own:
what fails may depend on who asks, and who asks can be told apart.
"""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["twice", "500", "503", "reset", "cut", "lost", "slow", "refuse"]
KINDS: tuple[Kind, ...] = ("twice", "500", "503", "reset", "cut", "lost", "slow", "refuse")

_UNAVAILABLE = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_BROKEN = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and with how large a share of the calls.

    twice: every call fails twice with 500, then works · 500, 503: refused · reset: the connection
    is closed before anything is done · cut: it is closed in the middle of the answer's body, or, where that has none, before
    the answer · lost: the call has its effect, and the connection is closed in place of the answer · slow: the answer takes up
    to `seconds` · refuse: 503 to everything.
    """

    kind: Kind
    rate: float = 1.0
    seconds: float = 1.0


@dataclass(slots=True)
class Trap:
    """Springs once, before or after the effect of the `count`-th call whose "METHOD /path?query" matches."""

    pattern: str
    when: Literal["before", "after"]
    spring: Callable[[str], None]
    """Called with the name of the gate, on the proxy's thread; the call is answered with a closed connection."""
    count: int = 1
    sprung: bool = False

    def matches(self, line: str) -> bool:
        """Whether it is time, with this call."""
        if self.sprung or re.search(self.pattern, line) is None:
            return False
        self.count -= 1
        self.sprung = self.count <= 0
        return self.sprung


@dataclass(frozen=True, slots=True)
class _Request:
    line: str
    head: bytes
    body: bytes

    @property
    def call(self) -> str:
        """What boto3 calls it, the same at each try; the line itself for other clients."""
        return (_header(self.head, b"amz-sdk-invocation-id") or self.line.encode()).decode()


class _Lost(Exception):
    """Close the client's connection."""


@dataclass(slots=True)
class FaultProxy:
    """The proxy. `faults` and `traps` may be replaced at any time, from any thread; `calls` counts what came, by gate."""

    upstream: str
    seed: int = 0
    faults: tuple[Fault, ...] = ()
    traps: tuple[Trap, ...] = ()
    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    _random: Random = field(init=False)
    _failures: Counter[str] = field(default_factory=Counter)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def gate(self, name: str) -> str:
        """Open a gate; return its address. Its calls are counted under its name, and traps are told it."""

        async def serve() -> int:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._serve(name, reader, writer)

            server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 20)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        port = asyncio.run_coroutine_threadsafe(serve(), self._loop).result(10)
        return f"http://127.0.0.1:{port}"

    def clear(self) -> None:
        """Fail nothing any more."""
        self.faults, self.traps = (), ()

    async def _serve(self, gate: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while (request := await _read(reader, writer)) is not None:
                self.calls[gate] += 1
                await self._answer(gate, request, writer)
        except (_Lost, OSError, EOFError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, gate: str, request: _Request, writer: asyncio.StreamWriter) -> None:
        trap = next((trap for trap in self.traps if trap.matches(request.line)), None)
        if trap is not None and trap.when == "before":
            trap.spring(gate)
            raise _Lost
        fault = self._choose(request)
        if fault is not None:
            self.failed[fault.kind] += 1
        match fault and fault.kind:
            case "500" | "twice":
                await _refuse(writer, b"500 Internal Server Error", _BROKEN, request)
                return
            case "503" | "refuse":
                await _refuse(writer, b"503 Service Unavailable", _UNAVAILABLE, request)
                return
            case "reset":
                raise _Lost
            case "slow":
                assert fault is not None
                await asyncio.sleep(self._random.uniform(0, fault.seconds))
        head, body = await self._forward(request)
        if trap is not None:
            trap.spring(gate)
            raise _Lost
        if fault is not None and fault.kind == "lost":
            raise _Lost
        if fault is not None and fault.kind == "cut":
            if len(body) > 1:
                writer.write(head + body[: len(body) // 2])
                await writer.drain()
            raise _Lost
        writer.write(head + body)
        await writer.drain()

    def _choose(self, request: _Request) -> Fault | None:
        for fault in self.faults:
            if fault.kind == "twice":
                if self._failures[request.call] < 2:
                    self._failures[request.call] += 1
                    return fault
            elif self._random.random() < fault.rate:
                return fault
        return None

    async def _forward(self, request: _Request) -> tuple[bytes, bytes]:
        address = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 20)
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            if request.line.startswith("HEAD ") or head.split(b" ", 2)[1] in {b"204", b"304"}:
                return _without(head, b"connection"), b""
            length = _header(head, b"content-length")
            body = await (reader.readexactly(int(length)) if length is not None else _chunked(reader))
            return _without(head, b"connection"), body
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Request | None:
    """Read a request, its body whole; None where the client has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    if _header(head, b"expect") is not None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if (_header(head, b"transfer-encoding") or b"").lower() == b"chunked":
        body = await _chunked(reader)
    else:
        body = await reader.readexactly(int(_header(head, b"content-length") or 0))
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    head = _without(_without(head, b"expect"), b"connection")[:-2] + b"Connection: close\r\n\r\n"
    return _Request(f"{method} {target}", head, body)


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    """Read a body in chunks, and return it with their framing."""
    pieces = []
    while True:
        size = await reader.readuntil(b"\r\n")
        pieces.append(size)
        count = int(size.split(b";")[0], 16)
        if count:
            pieces.append(await reader.readexactly(count + 2))
            continue
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            pieces.append(line)
        return b"".join((*pieces, b"\r\n"))


async def _refuse(writer: asyncio.StreamWriter, status: bytes, body: bytes, request: _Request) -> None:
    writer.write(
        b"HTTP/1.1 " + status + b"\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    if not request.line.startswith("HEAD "):
        writer.write(body)
    await writer.drain()


def _header(head: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r]*)\r\n", head, re.IGNORECASE)
    return found[1].strip() if found else None


def _without(head: bytes, name: bytes) -> bytes:
    return re.sub(rb"\r\n" + name + rb":[^\r]*(?=\r\n)", b"", head, flags=re.IGNORECASE)


@contextmanager
def fault_proxy(upstream: str, seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy to the S3 server at `upstream`, an address with http://; it has no gates yet."""
    proxy = FaultProxy(upstream, seed)
    loop = proxy._loop
    thread = threading.Thread(target=loop.run_forever, name="s3 faults", daemon=True)
    thread.start()

    async def end() -> None:
        for server in proxy._servers:
            server.close()
        for writer in list(proxy._open):
            writer.transport.abort()
        while proxy._open:
            await asyncio.sleep(0.01)

    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
