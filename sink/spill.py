"""Puts lots on S3 as parts, on threads of its own, for as long as it takes."""

import queue
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from pipeline import backoff, layout, metrics, runtime
from pipeline.errors import MillstreamError, NotFound
from pipeline.store import ObjectStore
from sink.collector import Lot
from sink.inventory import Inventory
from sink.parts import Part, encode

log = structlog.get_logger("sink")

THREADS = 3
"""Parts that are made and sent at a time."""


@dataclass(frozen=True, slots=True)
class Spilled:
    """What became of a lot: the part that it is on S3; None where its job has ended and nobody wants it."""

    file_id: str
    partition: int
    lot: int
    part: Part | None


class _GivenUp(Exception):
    """A lot that is no longer to be put on S3."""


class Spiller:
    """Takes lots, and tells when they are on S3. All methods belong to the thread that holds the rows."""

    def __init__(self, results: ObjectStore, inventory: Inventory) -> None:
        """`results` is the bucket."""
        self._store = results
        self._inventory = inventory
        self._pool = ThreadPoolExecutor(THREADS, "spill")
        self._done: queue.SimpleQueue[tuple[Lot, Part | BaseException | None]] = queue.SimpleQueue()
        self._leaving: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._closing = threading.Event()
        self.trouble: str | None = None
        """Why parts can't be written just now."""

    @property
    def size(self) -> int:
        """Return how many bytes are on their way."""
        return sum(self._leaving.values())

    def put(self, lot: Lot) -> None:
        """Put a lot on S3."""
        self._leaving[lot.number] = lot.size
        self._pool.submit(self._work, lot)

    def give_up(self, lots: Iterable[int]) -> None:
        """Try no longer: these rows are somebody else's, and come again there."""
        self._given_up.update(self._leaving.keys() & set(lots))

    def done(self, timeout: float = 0.0) -> list[Spilled]:
        """Return what is done, waiting so many seconds for the first where anything is on its way.

        Raises what went wrong where it wasn't S3.
        """
        found: list[Spilled] = []
        try:
            while self._leaving:
                wait = timeout > 0 and not found
                lot, outcome = self._done.get(timeout=timeout) if wait else self._done.get_nowait()
                del self._leaving[lot.number]
                self._given_up.discard(lot.number)
                if isinstance(outcome, _GivenUp):
                    continue
                if isinstance(outcome, BaseException):
                    raise outcome
                found.append(Spilled(lot.job.file_id, lot.partition, lot.number, outcome))
        except queue.Empty:
            pass
        return found

    def close(self) -> None:
        """Finish; what isn't on S3 yet is given up."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    def _work(self, lot: Lot) -> None:
        try:
            self._done.put((lot, self._patiently(lot)))
        except BaseException as error:
            self._done.put((lot, error))
        lot.blocks.clear()  # the books know it by its number alone
        runtime.give_back()

    def _patiently(self, lot: Lot) -> Part | None:
        tries = 0
        part: tuple[Part, bytes] | None = None
        while lot.number not in self._given_up:
            try:
                if self._has_ended(lot):
                    return None
                part = part or encode(lot)
                self._store.put(part[0].key, part[1])
            except MillstreamError as error:
                if backoff.is_worth_saying(tries):
                    log.warning(
                        "rows can't be put on S3, will be tried again", job=lot.job.file_id, why=str(error)
                    )
                self.trouble = str(error)
                metrics.RETRIES.labels("store", "s3").inc()
                if self._closing.wait(backoff.pause(tries)):
                    break
                tries += 1
            else:
                self.trouble = None
                metrics.SPILLED.inc(len(part[1]))
                self._inventory.add(part[0])
                return part[0]
        raise _GivenUp

    def _has_ended(self, lot: Lot) -> bool:
        try:
            self._store.head(layout.end(lot.job.file_id))
        except NotFound:
            return False
        return True
