"""What an `up` takes from its machine: CPU and resident memory of each of its processes, the disk of its two servers.

Sampled from outside while it works. The memory of all is a sum of resident sets: pages that processes share count once for
each. Disk is what files have allocated, as `du` counts it. MB are 10**6 bytes.
"""

import os
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import usage
from bench.running import OTHER, Up

EVERY = 0.5
"""Seconds between two samples."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Lap:
    """What was seen between two moments: CPU seconds of each process, and peaks in MB: of each, of all at once, of disks."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    each_mb: dict[str, float] = field(default_factory=dict)
    memory_mb: float = 0.0
    broker_mb: float = 0.0
    s3_mb: float = 0.0

    def note(self, memory: dict[str, float], broker_mb: float, s3_mb: float) -> None:
        """Take one sample's memory of each and disks into the peaks."""
        for name, mb in memory.items():
            self.each_mb[name] = max(self.each_mb.get(name, 0.0), mb)
        self.memory_mb = max(self.memory_mb, sum(memory.values()))
        self.broker_mb = max(self.broker_mb, broker_mb)
        self.s3_mb = max(self.s3_mb, s3_mb)

    def peaks(self, other: "Lap") -> None:
        """Take the peaks of another lap, too; the CPU seconds stay what they are."""
        self.memory_mb = max(self.memory_mb, other.memory_mb)
        self.broker_mb = max(self.broker_mb, other.broker_mb)
        self.s3_mb = max(self.s3_mb, other.s3_mb)
        for name, mb in other.each_mb.items():
            self.each_mb[name] = max(self.each_mb.get(name, 0.0), mb)


class Footprint:
    """Samples an `up` every half second, on a thread of its own, from `__enter__` to `__exit__`."""

    def __init__(self, up: Up) -> None:
        """Nothing is sampled yet."""
        self._up = up
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="footprint", daemon=True)
        self._lap = Lap()
        self._cpu: dict[int, tuple[str, float]] = {}
        self._before: dict[int, float] = {}
        self._failed: Exception | None = None

    def lap(self) -> Lap:
        """Return what was seen since the last call, and begin anew. Raises what sampling failed with."""
        if self._failed is not None:
            raise self._failed
        with self._lock:
            self._sample()
            done, self._lap = self._lap, Lap()
            spent: dict[str, float] = defaultdict(float)
            for pid, (name, cpu_s) in self._cpu.items():
                spent[name] += cpu_s - self._before.get(pid, 0.0)
            done.cpu_s = {name: round(cpu_s, 2) for name, cpu_s in spent.items()}
            self._before = {pid: cpu_s for pid, (_, cpu_s) in self._cpu.items()}
            return done

    @property
    def restarts(self) -> int:
        """How many processes took the place of another that has ended, as far as they have names."""
        named = Counter(name for name, _ in self._cpu.values())
        return sum(count - 1 for name, count in named.items() if name in self._up.record["processes"])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample_on(self) -> None:
        try:
            while not self._ended.wait(EVERY):
                with self._lock:
                    self._sample()
        except Exception as error:
            self._failed = error

    def _sample(self) -> None:
        memory: dict[str, float] = defaultdict(float)
        for pid, name in self._up.processes().items():
            known, before = self._cpu.get(pid, (OTHER, 0.0))
            called = name if known == OTHER else known  # it may have ended, and another have its name by now
            memory[called] += resident_mb(pid)
            self._cpu[pid] = called, max(before, usage.of(pid).cpu_s)
        self._lap.note(dict(memory), disk_mb(self._up.broker), disk_mb(self._up.s3))


def resident_mb(pid: int) -> float:
    """Return a process's resident memory in MB; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6
    except OSError:
        return 0.0


def disk_mb(folder: Path) -> float:
    """Return what the files below a folder have allocated, in MB."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue  # removed meanwhile
    return total / 1e6
