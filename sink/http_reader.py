"""What the routes share: the two buckets, the settings, and a way to ask S3 without holding up anybody else."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from pipeline.calculations import Calculation
from pipeline.errors import SettingsError
from pipeline.picture import Picture
from pipeline.settings import Settings
from pipeline.states import State, look
from pipeline.store import READ_CHUNK, ObjectStore
from sink.http_catalogue import Catalogue
from sink.http_problems import Trouble
from sink.http_spool import Spools
from sink.inventory import Inventory

T = TypeVar("T")

THREADS = 48
"""Calls of S3 at a time; a download takes a thread only while it reads its next piece, however slow its client is."""

UPLOADS = 16
"""Uploads at a time: each keeps a thread, and up to two parts of 8 MiB, until it is done."""


_PIECES = 16 * 1024 * 1024
"""Bytes that all downloads together have in hand, as far as each of them takes _LEAST."""

_LEAST, _MOST = 16 * 1024, READ_CHUNK
"""Bytes of one piece of a download: small ones where there are many downloads."""

_log = structlog.get_logger()


def _running_on() -> bool:
    return False


def _unchanged() -> Settings | None:
    return None


@dataclass(slots=True)
class Seat:
    """One of the downloads that may be under way at a time; `leave` it at the end, once or twice."""

    reader: "Reader"
    tag: str
    taken: bool = True

    def leave(self) -> None:
        """Let somebody else have it."""
        if self.taken:
            self.taken = False
            self.reader.downloads -= 1
            self.reader.underway[self.tag] -= 1
            self.reader.underway += Counter()  # without what has come to 0


@dataclass(slots=True)
class Reader:
    """The reader's surroundings.

    `reload` returns the settings where they have changed since it was last asked. `stopping` tells whoever waits that the
    server is asked to end. `picture` is what the stages tell of what runs.
    """

    settings: Settings
    uploads: ObjectStore
    results: ObjectStore
    reload: Callable[[], Settings | None] = _unchanged
    stopping: Callable[[], bool] = _running_on
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))
    upload_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(UPLOADS))
    downloads: int = 0
    made: int = 0
    partials: int = 0
    trouble: str | None = None
    """Why the settings can't be used as they are written now; None where they can."""
    inventories: dict[str, Inventory] = field(default_factory=dict)
    underway: Counter[str] = field(default_factory=Counter)
    spools: Spools = field(init=False)
    picture: Picture = field(default_factory=Picture)
    catalogue: Catalogue = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is listed or spooled yet."""
        self.spools = Spools(self.settings.spool_folder)
        self.catalogue = Catalogue(self.uploads, self.results, self.call, self.look)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a call of S3 on a thread and return its result."""
        return await to_thread.run_sync(function, limiter=self.threads)

    def seat(self, tag: str) -> Seat:
        """Take part in the downloads of a content; raise a 503 where as many of all are under way as may be."""
        if self.downloads >= self.settings.http.downloads:
            raise Trouble(503, "as many downloads are under way as may be: ask again", {"Retry-After": "5"})
        self.downloads += 1
        self.underway[tag] += 1
        return Seat(self, tag)

    def making(self) -> int:
        """Return how many forms are being made."""
        return self.spools.unfinished + self.made

    def piece(self) -> int:
        """Return how many bytes of a download to have in hand."""
        return max(_LEAST, min(_MOST, _PIECES // max(1, self.downloads)))

    def calculations(self) -> Iterable[Calculation]:
        """Return the calculations as they are written now; the last ones that could be used where these can't."""
        try:
            changed = self.reload()
        except SettingsError as error:
            _log.warning(
                "the settings have changed and can't be used; going on with the old ones", error=str(error)
            )
            self.trouble = str(error)
            return self.settings.calculations.values()
        if changed is not None:
            self.trouble = None
            # Addresses and tokens stay what the server was started with.
            self.settings = self.settings.model_copy(update={"calculations": changed.calculations})
        return self.settings.calculations.values()

    def settings_trouble(self) -> str | None:
        """Return why the settings can't be used as they are written now; None where they can."""
        self.calculations()
        return self.trouble

    async def look(self, name: str) -> State:
        """Return where a file is."""
        return await self.call(lambda: look(self.uploads, self.results, name))


def _reader(request: Request) -> Reader:
    reader = request.app.state.reader
    assert isinstance(reader, Reader)
    return reader


TheReader = Annotated[Reader, Depends(_reader)]
