"""Removes from both topics what every consumer group has committed, as Kafka Streams does with its repartition topics.

Each sink does so for the partitions of results that are its own, and for those of rows that have the same numbers: one process
for each. It goes by nothing but what the broker says is committed, so that one that has lost its partitions and doesn't know
yet does no harm.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from pipeline import metrics
from pipeline.errors import Transient
from pipeline.pace import rest
from pipeline.purge import At, removable
from pipeline.settings import Settings

log = structlog.get_logger("sink")

EVERY = 5.0
"""Seconds between two looks while offsets move: what passes in so long waits on the broker's disk."""

IDLE_EVERY = 60.0
"""Seconds between two looks where ours don't: another group's may."""

AGAIN, LONGEST = 30.0, 300.0
"""Seconds until the next look after one that failed, for the first time and at most; each time twice as many."""

MISSED = 600.0
"""Seconds that a group without members still holds what it hasn't committed: it may be restarting."""

SETTLED = 30.0
"""Seconds after which both stages have noticed that a topic was made anew, generously."""


class Broker(Protocol):
    """What is asked; `pipeline.kafka_offsets.Offsets` is the real one."""

    def led(self, topics: Collection[str]) -> set[At]:
        """Return the partitions that have a leader."""
        ...

    def identities(self, topics: Collection[str]) -> Mapping[str, str]:
        """Return the topics' ids."""
        ...

    def groups(self) -> set[str]:
        """Return the groups that have members."""
        ...

    def committed(self, group: str) -> Mapping[At, int]:
        """Return what a group has committed."""
        ...

    def starts(self, places: Collection[At]) -> Mapping[At, int]:
        """Return where partitions begin."""
        ...

    def remove(self, before: Mapping[At, int]) -> Mapping[At, int]:
        """Remove what is before these offsets; return where the partitions begin now."""
        ...


class Purge:
    """Looks what can go, and has it removed; remembers where partitions begin, so that an idle topic costs no removal."""

    def __init__(self, settings: Settings, broker: Broker, now: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._now = now
        self._groups = {
            settings.rows_topic: settings.processor_group,
            settings.results_topic: settings.sink_group,
        }
        self._labels = {settings.rows_topic: "rows", settings.results_topic: "results"}
        self._starts: dict[At, int] = {}
        self._ids: Mapping[str, str] = {}
        self._stale: dict[At, int] = {}
        self._quiet = 0.0
        self._seen: dict[str, float] = {}

    def look(self, numbers: Collection[int]) -> dict[At, int]:
        """Remove what can go of partitions with these numbers; return how many messages did, by partition.

        Raises Transient or Permanent errors of the broker, Refused where it says no.
        """
        broker, topics = self._broker, list(self._groups)
        led = broker.led(topics)
        wanted = {at for at in led if at[1] in numbers}
        if {topic for topic, _ in led} != set(topics) or not wanted:
            return {}
        ours = {topic: broker.committed(group) for topic, group in self._groups.items()}
        if self._are_new(broker.identities(topics), ours):
            return {}
        before = removable(wanted, ours, [broker.committed(group) for group in self._others()])
        before = {at: offset for at, offset in before.items() if self._stale.get(at) != offset}
        # Of partitions that were another's meanwhile it isn't known what that one has removed.
        self._starts = {at: start for at, start in self._starts.items() if at in wanted}
        unknown = before.keys() - self._starts.keys()
        if unknown:
            self._starts |= broker.starts(unknown)
        due = {at: offset for at, offset in before.items() if offset > self._starts.get(at, offset)}
        removed = {}
        for at, start in (broker.remove(due) if due else {}).items():
            removed[at] = max(0, start - self._starts[at])
            self._starts[at] = start
            metrics.PURGED.labels(self._labels[at[0]]).inc(removed[at])
        return removed

    def _others(self) -> list[str]:
        """Return the groups of somebody else's that have members, or had some a short while ago."""
        now = self._now()
        self._seen |= dict.fromkeys(self._broker.groups() - set(self._groups.values()), now)
        self._seen = {group: seen for group, seen in self._seen.items() if now - seen < MISSED}
        return sorted(self._seen)

    def _are_new(self, ids: Mapping[str, str], ours: Mapping[str, Mapping[At, int]]) -> bool:
        """Whether a topic was made anew a short while ago: offsets that were committed before mean nothing in it.

        A stage may commit one of the old topic's once more, until it notices; and it stays until there is another.
        """
        before, self._ids = self._ids, dict(ids)
        if before and before != ids:
            self._quiet = self._now() + SETTLED
        if self._now() >= self._quiet:
            return False
        self._starts = {}
        self._stale = {at: offset for committed in ours.values() for at, offset in committed.items()}
        return True


class Purging:
    """Looks on a thread of its own. `mine` and `stir` are for the thread that polls."""

    def __init__(self, settings: Settings, broker: Callable[[], Broker]) -> None:
        """`broker` is called once, on that thread."""
        self._settings = settings
        self._broker = broker
        self._mine: frozenset[int] = frozenset()
        self._stirred = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused: str | None = None

    def start(self) -> None:
        """Begin, where the settings say so."""
        if self._settings.purge:
            self._thread = threading.Thread(target=self._run, name="purge", daemon=True)
            self._thread.start()

    def mine(self, partitions: Collection[int]) -> None:
        """Say which partitions are ours now."""
        self._mine = frozenset(partitions)
        self._stirred.set()

    def stir(self) -> None:
        """Say that offsets were committed."""
        self._stirred.set()

    def close(self) -> None:
        """Look no more; a look that is under way ends by itself."""
        self._over.set()

    def _run(self) -> None:
        purge = Purge(self._settings, self._broker())
        pause, failures, idle = EVERY, 0, 0.0
        while not self._over.wait(pause):
            idle += pause
            pause, began = EVERY, time.monotonic()
            if not (self._stirred.is_set() or idle >= IDLE_EVERY):
                continue
            self._stirred.clear()
            idle = 0.0
            try:
                removed = purge.look(self._mine)
            except Exception as error:  # whatever it is: without this thread the disk would fill
                self._say(error)
                failures += 1
                pause = min(LONGEST, AGAIN * 2 ** (failures - 1))
                self._stirred.set()
                continue
            failures = 0
            pause = rest(
                EVERY, time.monotonic() - began
            )  # where there are thousands of groups, a look takes long
            if removed:
                log.debug("purged", messages=sum(removed.values()), partitions=len(removed))

    def _say(self, error: Exception) -> None:
        """Say once what stays so; what passes is of no interest to anybody, as long as it does."""
        if not isinstance(error, Transient) and str(error) != self._refused:
            self._refused = str(error)
            log.warning(
                "what is done can't be removed from the topics: they stay until retention", why=str(error)
            )
        else:
            log.debug("not purged, will be tried again", why=str(error))
