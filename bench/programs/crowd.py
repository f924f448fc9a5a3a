"""`crowd URL FILE CLIENTS SLOW`: so many clients fetch one address at a time, SLOW of them as slowly as they can; each
compares every byte with FILE. One thread, no library: the clients shall cost little beside the server.
"""

import resource
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.programs.say import say

TAKEN = 256 * 1024
"""Bytes taken at a time."""

SLOW_TAKEN, SLOW_PAUSE = 64 * 1024, 0.05
"""Bytes that a slow client takes, and the seconds until it takes the next."""


@dataclass(slots=True)
class Client:
    """One connection: what of the head is there, how much of the body, and when it takes more."""

    connection: socket.socket
    slow: bool
    head: bytes | None = b""
    at: int = 0
    wakes: float = 0.0


def main(url: str, file: Path, clients: int, slow: int) -> None:
    """Fetch, and say how it went."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    content = file.read_bytes()
    where = urlsplit(url)
    request = f"GET {where.path}?{where.query} HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n".encode()
    selector = selectors.DefaultSelector()
    started = time.perf_counter()
    for number in range(clients):
        connection = socket.create_connection((where.hostname, where.port))
        connection.sendall(request)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, Client(connection, number < slow))
    left, right, quick = clients, 0, 0.0
    sleeping: list[Client] = []
    while left:
        now = time.perf_counter()
        for client in [client for client in sleeping if client.wakes <= now]:
            sleeping.remove(client)
            selector.register(client.connection, selectors.EVENT_READ, client)
        for key, _ in selector.select(0.02):
            client = key.data
            outcome = _take(client, content)
            if outcome is None:
                if client.slow:
                    client.wakes = now + SLOW_PAUSE
                    selector.unregister(client.connection)
                    sleeping.append(client)
                continue
            selector.unregister(client.connection)
            client.connection.close()
            left -= 1
            right += outcome
            if not client.slow:
                quick = time.perf_counter() - started
    say("done", seconds=time.perf_counter() - started, quick_s=quick, right=right, clients=clients)


def _take(client: Client, content: bytes) -> bool | None:
    """Take what is there; return whether all was right at the end, None before."""
    data = client.connection.recv(SLOW_TAKEN if client.slow else TAKEN)
    if not data:
        return client.head is None and client.at == len(content)
    if client.head is not None:
        client.head += data
        head, end, data = client.head.partition(b"\r\n\r\n")
        if not end:
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            return False
        client.head = None
    if content[client.at : client.at + len(data)] != data:
        return False
    client.at += len(data)
    return None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
