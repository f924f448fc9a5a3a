"""Uploads that no job could be made of: why, written down for the reader and so that nobody tries again and again.

A refusal holds for one content of the upload (its ETag) and one configuration; when either changes it is tried again.
"""

import json
from collections.abc import Collection
from hashlib import blake2b

from pipeline import layout, records
from pipeline.errors import Permanent
from pipeline.jobs import Refusal, now
from pipeline.settings import Settings
from pipeline.store import ObjectStore

FEW = 8
"""Uploads up to which it costs less to remove refusals that may not be there than to list all that there are, twice."""


def configuration_digest(settings: Settings) -> str:
    """Return a digest of everything configured that decides whether a job can be made of an upload."""
    parts = [calculation.model_dump(mode="json") for calculation in settings.calculations.values()]
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def refuse(results: ObjectStore, key: str, etag: str, error: Permanent, configuration: str) -> None:
    """Write down why the upload at `key` was refused."""
    refusal = Refusal(etag=etag, configuration=configuration, reason=str(error), refused=now())
    results.put(layout.refused(key), refusal.dump())


def is_refused(results: ObjectStore, key: str, etag: str, configuration: str) -> bool:
    """Whether this very content was refused under this very configuration."""
    refusal = records.read(results, layout.refused(key), Refusal)
    return refusal is not None and (refusal.etag, refusal.configuration) == (etag, configuration)


def refused_keys(results: ObjectStore) -> set[str]:
    """Return the keys of the uploads that have a refusal, of whatever content."""
    suffix = len(".json")
    return {head.key[len(layout.REFUSED) : -suffix] for head in results.list(layout.REFUSED)}


class Forgiving:
    """Removes the refusals of the uploads `keys` as they are taken on. Of many uploads few have one: a listing says which."""

    def __init__(self, results: ObjectStore, keys: Collection[str]) -> None:
        self._results = results
        self._listed = len(keys) > FEW
        self._refused = refused_keys(results) if self._listed else set(keys)
        self._taken: set[str] = set()

    def taken_on(self, key: str) -> None:
        """An upload has been taken on."""
        self._taken.add(key)
        if key in self._refused:
            forgive(self._results, key)

    def finish(self) -> None:
        """Look once more: another process, with another configuration, may have refused some of them meanwhile."""
        if self._listed:
            for key in refused_keys(self._results) & self._taken:
                forgive(self._results, key)


def forgive(results: ObjectStore, key: str) -> None:
    """Remove an upload's refusal: it has been taken on, or is gone."""
    results.delete(layout.refused(key))
