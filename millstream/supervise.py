"""Keep named processes running: one that ends is started again, later each time, and said so.

`BackOff` and `Restarts` decide when; `Supervisor` does it. It has no thread of its own: whoever owns it calls
`check()` several times a second, always from the same thread (children die with the one that started them, see
leash.py).
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from millstream import process
from millstream.process import Command, Process


@dataclass(frozen=True)
class BackOff:
    """How long to wait before a process that ended is started again, in seconds.

    The first time `first`, then twice as long each time up to `longest`; who was up for `steady` begins anew.
    """

    first: float = 0.5
    longest: float = 30.0
    steady: float = 60.0


class Restarts:
    """How often one process ended lately."""

    def __init__(self, policy: BackOff) -> None:
        self._policy = policy
        self._next = policy.first

    def delay(self, uptime: float) -> float:
        """Seconds to wait now that the process has ended after `uptime` seconds."""
        if uptime >= self._policy.steady:
            self._next = self._policy.first
        delay = self._next
        self._next = min(2 * delay, self._policy.longest)
        return delay


@dataclass
class _Child:
    command: Command
    restarts: Restarts
    process: Process
    since: float
    due: float | None = field(default=None)  # when it starts again; None while it runs


class Supervisor:
    """A set of running processes.

    `spawn` starts one; `say` gets a sentence for the log; `changed` is called after one was started again. `now`
    counts seconds and never goes back.
    """

    def __init__(
        self,
        spawn: Callable[[Command], Process],
        say: Callable[[str], None],
        *,
        changed: Callable[[], None] = lambda: None,
        policy: BackOff | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spawn = spawn
        self._say = say
        self._changed = changed
        self._policy = policy or BackOff()
        self._now = now
        self._children: dict[str, _Child] = {}

    def add(self, command: Command) -> Process:
        """Start a process and keep it running from now on."""
        started = self._spawn(command)
        self._children[command.name] = _Child(command, Restarts(self._policy), started, self._now())
        return started

    def pids(self) -> dict[str, int]:
        """Name to process id of all that run."""
        return {name: child.process.pid for name, child in self._children.items() if child.due is None}

    def check(self) -> None:
        """Note who has ended, and start again whose time has come."""
        now = self._now()
        for child in self._children.values():
            if child.due is None:
                self._note_end(child, now)
            elif now >= child.due:
                self._start_again(child, f"{child.command.name} started again")

    def _note_end(self, child: _Child, now: float) -> None:
        code = child.process.poll()
        if code is None:
            return
        delay = child.restarts.delay(now - child.since)
        child.due = now + delay
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._say(
            f"{child.command.name} {how} after {now - child.since:.1f} s; it starts again in {delay:g} s"
        )

    def restart(self, name: str, why: str, timeout: float = 5.0) -> None:
        """End a process that runs, and start it again at once; the sentence said is "NAME started again: WHY"."""
        child = self._children[name]
        if child.due is None:
            process.stop([(child.command, child.process)], timeout)
        self._start_again(child, f"{name} started again: {why}")

    def _start_again(self, child: _Child, sentence: str) -> None:
        child.process, child.since, child.due = self._spawn(child.command), self._now(), None
        self._changed()
        self._say(sentence)

    def stop(self, names: Iterable[str], timeout: float, *, harm: str = "") -> None:
        """End these for good, all at once, and kill what still runs after `timeout` seconds; `harm` says what that means."""
        children = [self._children.pop(name) for name in names if name in self._children]
        running = [(child.command, child.process) for child in children]
        for name in process.stop(running, timeout):
            self._say(
                f"{name} did not end within {timeout:.1f} s and was killed" + (f": {harm}" if harm else "")
            )
