"""What the routes share: the two buckets, the settings, and a way to ask S3 without holding up anybody else."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from pipeline.calculations import Calculation
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.states import State, look
from pipeline.store import ObjectStore
from sink.http_catalogue import Catalogue

T = TypeVar("T")

THREADS = 48
"""Calls of S3 at a time; a download takes a thread only while it reads its next piece, however slow its client is."""

UPLOADS = 16
"""Uploads at a time: each keeps a thread, and up to two parts of 8 MiB, until it is done."""


_log = structlog.get_logger()


def _running_on() -> bool:
    return False


def _unchanged() -> Settings | None:
    return None


@dataclass(slots=True)
class Reader:
    """The reader's surroundings.

    `reload` returns the settings where they have changed since it was last asked. `stopping` tells whoever waits that the
    server is asked to end.
    """

    settings: Settings
    uploads: ObjectStore
    results: ObjectStore
    reload: Callable[[], Settings | None] = _unchanged
    stopping: Callable[[], bool] = _running_on
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))
    upload_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(UPLOADS))
    catalogue: Catalogue = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is listed yet."""
        self.catalogue = Catalogue(self.uploads, self.results, self.call, self.look)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a call of S3 on a thread and return its result."""
        return await to_thread.run_sync(function, limiter=self.threads)

    def calculations(self) -> Iterable[Calculation]:
        """Return the calculations as they are written now; the last ones that could be used where these can't."""
        try:
            changed = self.reload()
        except SettingsError as error:
            _log.warning(
                "the settings have changed and can't be used; going on with the old ones", error=str(error)
            )
            changed = None
        if changed is not None:  # addresses and tokens stay what the server was started with
            self.settings = self.settings.model_copy(update={"calculations": changed.calculations})
        return self.settings.calculations.values()

    async def look(self, name: str) -> State:
        """Return where a file is."""
        return await self.call(lambda: look(self.uploads, self.results, name))


def _reader(request: Request) -> Reader:
    reader = request.app.state.reader
    assert isinstance(reader, Reader)
    return reader


TheReader = Annotated[Reader, Depends(_reader)]
