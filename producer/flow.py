"""Holds capture back where too much is in flight: sent, and not yet committed by the worker, or by the sink.

The bound is on both topics together, whoever has sent what is on them: what is on rows now will be on results, too, so that
neither ever has more. All captures of a process share one `Flow`, and go on together. Repairs and ends never wait: what is held
on the topics may be waiting for them.
"""

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from pipeline import metrics
from pipeline.errors import MillstreamError, Refused
from pipeline.flight import Mean
from pipeline.kafka_flight import Flight
from pipeline.messages import Messages
from pipeline.settings import Settings

log = structlog.get_logger("capture")

STEP = 16
"""The broker is asked after each sixteenth of the bound that was sent: a file below that is sent without a question."""

LOW = 0.75
"""What was full has room again below this part of the bound: to go on at a stretch, and not a block at a time."""

ASK_EVERY = 0.25
"""Seconds between two questions while capture waits."""

AGAIN = 2.0
"""Seconds until a broker that didn't answer is asked again."""


class Flow:
    """What is in flight as far as this process knows. For any thread; one asks, and the others go by what was found last."""

    def __init__(
        self,
        bound: int | None,
        topics: Mapping[str, str],
        ask: Callable[[], Mapping[str, int]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bound` is in bytes, None for none; `topics` has who reads each; `ask` counts the messages in flight on each."""
        self._bound = bound
        self._readers = topics
        self._ask = ask
        self._now = now
        self._asking = threading.Lock()
        self._mean = Mean()
        self._since_asked = 0
        self._due = self._again = 0.0
        self._full: str | None = None
        self._size: dict[str, float] = {}
        self._waiting: dict[str, float] = {}

    @classmethod
    def of(cls, settings: Settings) -> "Flow":
        """Return one that asks the broker of the settings, once there is need to."""
        flights: list[Flight] = []

        def ask() -> Mapping[str, int]:
            if not flights:
                flights.append(Flight(settings))
            return flights[0].messages()

        readers = {settings.rows_topic: "the processor", settings.results_topic: "the sink"}
        return cls(settings.in_flight_bytes, readers, ask)

    def sent(self, messages: Messages) -> bool:
        """Note what was sent; return whether capture may go on."""
        bound = self._bound
        if bound is None:
            return True
        size = messages.size
        self._mean.take(len(messages), size)
        self._since_asked += size
        if self._full is None and self._since_asked >= bound / STEP and self._now() >= self._again:
            self._look(bound)
        return self._full is None

    def has_room(self, name: str) -> bool:
        """Return whether the capture of a file that waits may go on; to be asked again and again until it does."""
        now = self._now()
        since = self._waiting.setdefault(name, now)
        bound, full = self._bound, self._full
        if bound is not None and full is not None and now >= self._due:
            self._look(LOW * bound)
            full = self._full
        if full is None:
            self.over(name)
            return True
        longest = now - min([since, *list(self._waiting.values())])
        for topic in self._readers:
            metrics.CAPTURE_WAITING.labels(_label(topic)).set(longest if topic == full else 0)
        return False

    def over(self, name: str) -> None:
        """Note that a capture doesn't wait any more."""
        self._waiting.pop(name, None)
        if not self._waiting:
            for topic in self._readers:
                metrics.CAPTURE_WAITING.labels(_label(topic)).set(0)

    @property
    def reason(self) -> str | None:
        """What capture waits for: who is how far behind on which topic."""
        full = self._full
        if full is None:
            return None
        return f"{self._readers[full]} is {self._size[full] / 1e6:,.0f} MB behind on topic {full}"

    def waits(self) -> list[str]:
        """Return which files' captures wait, since when and for what."""
        now, reason = self._now(), self.reason
        waiting = list(self._waiting.items())
        return [
            f"{name}: capture waits, for {now - since:.0f} s by now: {reason}"
            for name, since in waiting
            if reason
        ]

    def _look(self, limit: float) -> None:
        """Ask what is in flight; where it is above `limit`, the topic that has most of it is what capture waits for."""
        if not self._asking.acquire(blocking=False):
            return
        try:
            found = self._ask()
        except MillstreamError as error:
            self._due = self._again = self._now() + AGAIN
            if isinstance(error, Refused):  # it will never tell: then it is as without the setting
                log.warning("in_flight can't be kept: the broker doesn't tell what is there", why=str(error))
                self._bound = self._full = None
            return
        else:
            self._due, self._since_asked = self._now() + ASK_EVERY, 0
            self._size = {topic: messages * self._mean.value for topic, messages in found.items()}
            for topic, size in self._size.items():
                metrics.IN_FLIGHT.labels(_label(topic)).set(size)
            is_full = sum(self._size.values()) > limit
            self._full = max(self._size, key=self._size.__getitem__) if is_full else None
        finally:
            self._asking.release()


def _label(topic: str) -> str:
    return topic.rpartition(".")[2]


class Brake:
    """One capture, as far as it has to wait. For one thread.

    `check` may raise, to give up; `told` hears why it waits, again and again.
    """

    def __init__(
        self,
        flow: Flow,
        name: str,
        check: Callable[[], None],
        told: Callable[[str], None] = lambda why: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._flow = flow
        self._name = name
        self._check = check
        self._told = told
        self._sleep = sleep

    def goes(self, messages: Messages) -> bool:
        """Note what was sent; return whether there is room for more, so that nothing has to be waited for."""
        return self._flow.sent(messages)

    def wait(self) -> None:
        """Return when there is room."""
        try:
            while not self._flow.has_room(self._name):
                self._check()
                if reason := self._flow.reason:
                    self._told(reason)
                self._sleep(ASK_EVERY)
        finally:
            self._flow.over(self._name)
