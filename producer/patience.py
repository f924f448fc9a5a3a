"""When to give a broker up, for a command that a person waits for; `watch` never does."""

import re
import socket
import time
from collections.abc import Callable

from pipeline.errors import Unreachable
from pipeline.kafka import PATIENCE

_STINT = 2.0
"""Seconds between two checks that belong to one wait, at most: they come twice a second, or more often."""


class Patience:
    """Gives up where nothing was acknowledged for PATIENCE seconds of waiting, and nothing listens at the broker's address.

    A broker that listens and is slow is waited for as long as the client does. `pending` tells how many messages aren't
    acknowledged; `now` counts seconds.
    """

    def __init__(
        self,
        kafka: str,
        pending: Callable[[], int],
        *,
        now: Callable[[], float] = time.monotonic,
        listens: Callable[[str], bool] | None = None,
    ) -> None:
        self._kafka = kafka
        self._pending = pending
        self._now = now
        self._listens = listens or _listens
        self._checked = self._since = now()
        self._seen = -1

    def check(self) -> None:
        """Raise Unreachable where the broker has gone away; to be called again and again while something waits for it."""
        now, pending = self._now(), self._pending()
        if pending != self._seen or now - self._checked > _STINT:
            self._since, self._seen = now, pending
        self._checked = now
        if now - self._since < PATIENCE:
            return
        if not self._listens(self._kafka):
            raise Unreachable(f"Kafka at {self._kafka} has gone away")
        self._since = self._checked = self._now()


def _listens(servers: str) -> bool:
    """Whether something takes connections at one of the addresses, host:port with commas between."""
    return any(_connects(server.strip()) for server in servers.split(","))


def _connects(server: str) -> bool:
    found = re.fullmatch(r"(?:\w+://)?\[?([^\]]+?)\]?(?::(\d+))?", server)
    if found is None:
        return True  # the client understands it, perhaps: not for us to judge
    try:
        with socket.create_connection((found[1], int(found[2] or 9092)), timeout=1):
            return True
    except OSError:
        return False
