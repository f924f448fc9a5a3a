"""Processes under test whose threads run one at a time, each up to its next call of the outside: a store, a broker, a timer.

A test lets call after call through and says how each one goes. So any interleaving, crash and lost answer can be had, nothing
ever waits for time to pass, and the same steps give the same again.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

from pipeline.errors import Unreachable

Fate = Literal["right", "failed", "lost", "again", "crash before", "crash after"]
"""How a call goes: as it should; without effect; with its effect, and the answer is lost; likewise, and S3's client
makes it once more; the process dies before its effect, or after it."""

PATIENCE = 60.0
"""Seconds until a thread that comes to no further call has hung; real ones, for a fault of the code or of the test."""

T = TypeVar("T")
_here = threading.local()


class Crash(BaseException):
    """The process is no more."""


class World:
    """The time, in seconds, and what was seen to go wrong in whichever thread."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fault: BaseException | None = None

    def monotonic(self) -> float:
        """Return the time as the process sees it whose thread asks."""
        track: Track | None = getattr(_here, "track", None)
        return self.now + (track.process.ahead if track is not None else 0.0)


class Process:
    """Some threads that die together; their clock is `ahead` of the world's by so many seconds."""

    def __init__(self, world: World, ahead: float = 0.0) -> None:
        self.world = world
        self.ahead = ahead
        self.dead = False
        self.tracks: list[Track] = []

    def start(self, name: str, work: Callable[[], object]) -> "Track":
        """Begin a thread, and return when it has come to its first call."""
        track = Track(self, name, work)
        self.tracks.append(track)
        track.begin()
        return track

    @property
    def running(self) -> list["Track"]:
        """Return the threads that have not ended."""
        self.tracks = [track for track in self.tracks if not track.over]
        return self.tracks

    def call(self, what: str, work: Callable[[], T], *, is_repeated: bool = False) -> T:
        """Do what has an effect outside, once it is let through; it may be one that is repeated without an answer."""
        fate = self._arrive(what)
        if fate == "failed":
            raise Unreachable(f"{what} failed")
        try:
            result = work()
            if fate == "again" and is_repeated:
                result = work()
        except AssertionError as error:
            self.world.fault = self.world.fault or error  # whatever the code under test makes of it
            raise
        if fate == "crash after":
            self.dead = True
            raise Crash
        if fate == "lost":
            raise Unreachable(f"the answer to {what} is lost")
        return result

    def pause(self, what: str) -> None:
        """Wait to be let through, without any effect."""
        self._arrive(what)

    def kill(self) -> None:
        """Die at once; none of its calls has an effect any more."""
        self.dead = True
        while self.running:
            self.running[0].let_through("right")

    def _arrive(self, what: str) -> Fate:
        fate: Fate = "right" if self.dead else here().arrive(what)
        self.dead = self.dead or fate == "crash before"
        if self.dead:
            raise Crash
        return fate


class Track:
    """A thread of a process; `at` is the call that waits to be let through."""

    def __init__(self, process: Process, name: str, work: Callable[[], object]) -> None:
        self.process = process
        self.name = name
        self.at = ""
        self.over = False
        self._work = work
        self._orders: queue.SimpleQueue[Fate] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[None] = queue.SimpleQueue()

    def begin(self) -> None:
        threading.Thread(target=self._run, name=self.name, daemon=True).start()
        self._arrived.get(timeout=PATIENCE)

    def step(self, fate: Fate = "right") -> None:
        """Let the call through, and return when the thread has come to its next one, or to its end."""
        self.let_through(fate)
        if self.process.world.fault is not None:
            raise self.process.world.fault

    def let_through(self, fate: Fate) -> None:
        """Do as `step`, whatever has gone wrong."""
        self._orders.put(fate)
        self._arrived.get(timeout=PATIENCE)

    def arrive(self, what: str) -> Fate:
        """Wait to be let through; for the thread itself."""
        self.at = what
        self._arrived.put(None)
        return self._orders.get()

    def _run(self) -> None:
        _here.track = self
        try:
            self._work()
        except Crash:
            pass
        except BaseException as error:
            self.process.world.fault = self.process.world.fault or error
        self.over = True
        self._arrived.put(None)


def here() -> Track:
    """Return the thread that asks."""
    track: Track = _here.track
    return track


class Stepped:
    """A store as one process sees it."""

    def __init__(self, process: Process, store: Any) -> None:
        self._process = process
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def work(*arguments: Any, **options: Any) -> Any:
            found = method(*arguments, **options)
            return iter(list(found)) if name in {"list", "unfinished"} else found

        def call(*arguments: Any, **options: Any) -> Any:
            if name == "upload":
                arguments = (arguments[0], list(arguments[1]))  # reading what is sent has calls of its own
            what = " ".join([name, *map(str, arguments[:1])])
            return self._process.call(what, lambda: work(*arguments, **options), is_repeated=True)

        return call


class Event:
    """threading.Event, whose time runs out when the waiting thread is let through."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            here().process.pause("timer")
        return self._is_set


class Thread:
    """threading.Thread, as one of the process that makes it."""

    def __init__(self, target: Callable[[], object], name: str = "", daemon: bool = False) -> None:
        self._process = here().process
        self._target, self._name = target, name
        self._track: Track | None = None

    def start(self) -> None:
        self._track = self._process.start(self._name, self._target)

    def join(self, timeout: float | None = None) -> None:
        while self._track is not None and not self._track.over:
            self._process.pause("join")


class Queue(queue.SimpleQueue[Any]):
    """queue.SimpleQueue, which has been waited for when the waiting thread is let through."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        process = here().process
        process.pause("queue")
        try:
            return self.get_nowait()
        except queue.Empty:
            process.world.now += timeout or 0.0
            raise


class Pool:
    """concurrent.futures.ThreadPoolExecutor, with threads of the process that makes it."""

    def __init__(self, workers: int, name: str) -> None:
        self._process = here().process
        self._workers, self._name = workers, name
        self._tracks: list[Track] = []
        self._tasks: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self._tasks.append((future, lambda: work(*arguments)))
        self._tracks = [track for track in self._tracks if not track.over]
        if len(self._tracks) < self._workers:
            self._tracks.append(self._process.start(self._name, self._run))
        return future

    def _run(self) -> None:
        while self._tasks:
            future, work = self._tasks.pop(0)
            self._process.pause(f"begin {self._name}")
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self._tasks.clear()
        while any(not track.over for track in self._tracks):
            self._process.pause(f"end {self._name}")


class Inline:
    """concurrent.futures.ThreadPoolExecutor that does what it is given in the thread that gives it."""

    def __init__(self, workers: int, name: str) -> None:
        pass

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


THREADING = SimpleNamespace(Event=Event, Thread=Thread, local=threading.local)
QUEUE = SimpleNamespace(SimpleQueue=Queue, Empty=queue.Empty)


def time_of(world: World) -> SimpleNamespace:
    """Return what stands for the module `time` in a world."""
    return SimpleNamespace(monotonic=world.monotonic, perf_counter=time.perf_counter)
