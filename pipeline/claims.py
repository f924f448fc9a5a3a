"""Claims: a small object on S3 says who works on a job, so that others wait instead of doing it too.

A claim names its holder by a nonce and is renewed every few seconds. Nobody's wall clock counts: whoever finds a claim watches
it on a monotonic clock of its own, and takes it over (If-Match) once it has stood unchanged for STALE seconds. A holder that
was asleep notices at its next renewal, which then fails. What it did meanwhile does no harm: a claim saves work, it never
decides a result.
"""

import secrets
import time
from collections.abc import Callable

from pipeline import records
from pipeline.errors import ClaimLost, NotFound, PreconditionFailed
from pipeline.jobs import Claim
from pipeline.store import ObjectStore

RENEWAL = 3.0
"""Seconds between two renewals of a claim."""

STALE = 30.0
"""Seconds that a claim has to stand unchanged before an observer takes it over: ten renewals missed."""

FREE = ""
"""The nonce of a claim that its holder gave back: it is nobody's, and keeps how far the work came."""


class Held:
    """A claim of ours on a job."""

    def __init__(self, store: ObjectStore, key: str, claim: Claim, etag: str) -> None:
        self._store = store
        self._key = key
        self._etag = etag
        self.claim = claim

    def renew(self, **progress: int) -> None:
        """Write that we are still at it, and how far (fields of Claim); raises ClaimLost where it is another's by now."""
        self._write(self.claim.nonce, progress)

    def release(self, **progress: int) -> None:
        """Give the claim back, so that nobody has to wait until it is stale."""
        self._write(FREE, progress)

    def _write(self, nonce: str, progress: dict[str, int]) -> None:
        claim = self.claim.model_copy(update=progress | {"nonce": nonce, "beat": self.claim.beat + 1})
        etag = _swap(self._store, self._key, claim, self._etag)
        if etag is None:
            # An earlier renewal that was taken for failed may be there: whoever takes a claim over brings a nonce of its own.
            found = records.read_with_etag(self._store, self._key, Claim)
            if found is not None and found[0].nonce == self.claim.nonce:
                etag = _swap(self._store, self._key, claim, found[1])
        if etag is None:
            raise ClaimLost(f"{self._key}: another process has taken the work over")
        self.claim, self._etag = claim, etag


class Observer:
    """Looks at a job's claim, takes it when it is free, and knows when it has gone stale.

    One that it took itself it takes again at once: so it is to be asked only when the work that it took it for is over,
    whether the claim could be given back or not. `now` counts seconds and never goes back.
    """

    def __init__(
        self, store: ObjectStore, key: str, *, stale: float = STALE, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._key = key
        self._stale = stale
        self._now = now
        self._seen: str | None = None
        self._since = 0.0
        self._nonces: set[str] = set()
        self.claim: Claim | None = None

    def take(self) -> Held | None:
        """Return the claim if it was free or stale and is ours now; None while another holds it: see `claim`."""
        nonce = secrets.token_hex(8)
        found = records.read_with_etag(self._store, self._key, Claim)
        if found is None:
            return self._swap(Claim(nonce=nonce), None)
        self.claim, etag = found
        if etag != self._seen:
            self._seen, self._since = etag, self._now()
        free = self.claim.nonce == FREE or self.claim.nonce in self._nonces
        if not free and self._now() - self._since < self._stale:
            return None
        return self._swap(self.claim.model_copy(update={"nonce": nonce, "beat": self.claim.beat + 1}), etag)

    def create(self) -> Held | None:
        """Return the claim if there was none, without looking first; None where there is one: then `take` tells."""
        return self._swap(Claim(nonce=secrets.token_hex(8)), None)

    def _swap(self, claim: Claim, etag: str | None) -> Held | None:
        self._nonces.add(claim.nonce)  # before: a write whose answer is lost may be there
        written = _swap(self._store, self._key, claim, etag)
        return Held(self._store, self._key, claim, written) if written is not None else None


def _swap(store: ObjectStore, key: str, claim: Claim, etag: str | None) -> str | None:
    """Write a claim over the one with this ETag (None: over none); return its ETag, None where another was first.

    A lost answer is no answer: where the condition fails, what is there may be what was to be written.
    """
    data = claim.dump()
    try:
        return store.put(key, data, if_match=etag, if_none_match=etag is None)
    except (PreconditionFailed, NotFound):  # S3 says the latter where the claim went with its job
        try:
            there, head = store.get(key)
        except NotFound:
            return None
        return head.etag if there == data else None
