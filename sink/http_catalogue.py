"""The list of all files, kept from one request to the next: only what has changed is read again.

A file whose records and upload are listed as they were before is where it was, unless it was on its way then.
"""

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol, TypeVar

from anyio import Lock, create_task_group

from pipeline import layout
from pipeline.errors import MillstreamError, NameRefused
from pipeline.names import name_of
from pipeline.states import State
from pipeline.store import Head, ObjectStore

T = TypeVar("T")

SMALL = 0.1
"""Seconds. Where listing takes less, it is done for every request, and the answer is of now."""

REUSED = 10.0
"""Where listing takes longer, a listing is answered from for this many times as long as it took."""

RENEWED = 4.0
"""After so many times of what it took it is renewed, beside the answers that are still given from it."""

LONGEST = 60.0
"""Seconds that a listing is used at the most once it is there: it may have taken long because S3 didn't answer."""

KEPT = 12_000
"""Files whose state is remembered, some 5 KB each; of more, those that nobody looked at for longest are forgotten."""


class _Call(Protocol):
    async def __call__(self, function: Callable[[], T], /) -> T: ...


@dataclass(frozen=True, slots=True)
class Listing:
    """All names in order. A trace is unlike another where anything that is listed of a file differs.

    `changed` is when the latest of it was written, `sizes` are the uploads' bytes, where they lie there.
    `began`: monotonic seconds; `took`: seconds.
    """

    names: list[str]
    traces: dict[str, int]
    changed: dict[str, datetime]
    sizes: dict[str, int]
    began: float
    took: float

    def lasts(self, times: float) -> float:
        """Return the age, in seconds, at which it is so many times as old as it was when it was there, or LONGEST older."""
        return self.took + min((times - 1) * self.took, LONGEST)


@dataclass(slots=True)
class Catalogue:
    """All files by name. `call` runs a function that blocks on a thread, `look` finds out where one file is."""

    uploads: ObjectStore
    results: ObjectStore
    call: _Call
    look: Callable[[str], Awaitable[State]]
    clock: Callable[[], float] = time.monotonic
    _listing: Listing | None = None
    _lock: Lock = field(default_factory=Lock)
    _renewal: "asyncio.Task[None] | None" = None
    _known: dict[str, tuple[int, State]] = field(default_factory=dict)

    async def page(self, prefix: str, after: str, limit: int) -> tuple[list[State], str | None]:
        """Return the states of up to `limit` names that start with `prefix` and come after `after`, in order.

        The second value is the name that the next page starts after. Deleted files count for the limit, and are left out.
        """
        listing = await self._current()
        start = max(bisect_left(listing.names, prefix), bisect_right(listing.names, after))
        names = []
        for name in islice(listing.names, start, start + limit + 1):
            if not name.startswith(prefix):
                break
            names.append(name)
        more = names[limit - 1] if len(names) > limit else None
        states = await self._states(names[:limit], listing.traces)
        return [state for state in states if state.state not in ("deleted", "unknown")], more

    async def search(
        self, text: str, sort: str, *, descending: bool, offset: int, limit: int
    ) -> tuple[list[State], int]:
        """Return the states of up to `limit` files from the `offset`-th on whose name has `text` in it, in any case.

        They are sorted by `name`, by `changed`, when anything about them was last written, or by the upload's `size`. The
        second value is how many there are, deleted files among them.
        """
        listing = await self._current()
        wanted = text.casefold()
        names = (
            [name for name in listing.names if wanted in name.casefold()] if wanted else list(listing.names)
        )
        match sort:
            case "changed":
                names.sort(key=listing.changed.__getitem__)
            case "size":
                names.sort(key=lambda name: listing.sizes.get(name, 0))
        if descending:
            names.reverse()
        states = await self._states(names[offset : offset + limit], listing.traces)
        return [state for state in states if state.state not in ("deleted", "unknown")], len(names)

    async def version(self) -> int:
        """Return a number that is another when anything that is listed of any file has changed."""
        listing = await self._current()
        return hash(frozenset(listing.traces.items())) & 0xFFFFFFFFFFFF

    async def _current(self) -> Listing:
        asked = self.clock()
        if (fresh := self._fresh(asked)) is not None:
            if asked - fresh.began > fresh.lasts(RENEWED) and (self._renewal is None or self._renewal.done()):
                self._renewal = asyncio.create_task(self._renew())
            return fresh
        async with self._lock:  # whoever else asks meanwhile gets what is listed after they asked
            if (fresh := self._fresh(asked)) is None:
                self._listing = fresh = await self.call(self._list)
            return fresh

    async def renewed(self) -> None:
        """Wait until the listing that is being made, if any, is there."""
        if self._renewal is not None:
            await self._renewal

    async def _renew(self) -> None:
        with suppress(MillstreamError):  # whoever asks when the listing is too old is told
            self._listing = await self.call(self._list)

    def _fresh(self, asked: float) -> Listing | None:
        listing = self._listing
        if listing is None:
            return None
        if listing.took < SMALL:
            return listing if listing.began >= asked else None
        return listing if asked - listing.began <= listing.lasts(REUSED) else None

    def _list(self) -> Listing:
        began = self.clock()
        traces: dict[str, int] = defaultdict(int)
        changed: dict[str, datetime] = {}
        sizes: dict[str, int] = {}

        def note(name: str, head: Head) -> None:
            changed[name] = max(head.last_modified, changed.get(name, head.last_modified))

        for folder in (layout.NAMES, layout.RECEIPTS, layout.REFUSED):
            for head in self.results.list(folder):
                name = head.key.removeprefix(folder).removesuffix(".json")
                with suppress(NameRefused):
                    name = name_of(name) if folder == layout.REFUSED else name
                    traces[name] ^= hash((head.key, head.etag))
                    note(name, head)
        for head in self.uploads.list():
            with suppress(NameRefused):
                name = name_of(head.key)
                traces[name] ^= hash((head.key, head.etag, head.last_modified))
                sizes[name] = head.size
                note(name, head)
        return Listing(sorted(traces), dict(traces), changed, sizes, began, self.clock() - began)

    async def _states(self, names: list[str], traces: dict[str, int]) -> list[State]:
        found: dict[str, State] = {}

        async def look(name: str) -> None:
            found[name] = state = await self.look(name)
            self._known.pop(name, None)
            if not state.pending:
                self._known[name] = (traces[name], state)

        async with create_task_group() as group:
            for name in names:
                known = self._known.get(name)
                if known is not None and known[0] == traces[name]:
                    found[name] = known[1]
                    self._known[name] = self._known.pop(name)
                else:
                    group.start_soon(look, name)
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        return [found[name] for name in names]
