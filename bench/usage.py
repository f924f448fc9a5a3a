"""What a process has used: CPU seconds and peak memory, from /proc.

Not from `os.wait4`: on Linux the peak that it tells of a child counts what the parent had in memory when it forked.
"""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user and system) and the peak of resident memory in MB (10**6 bytes)."""

    cpu_s: float
    peak_mb: float

    def since(self, start: "Usage") -> "Usage":
        """Return what was used after `start`; the peak is of the whole life."""
        return Usage(round(self.cpu_s - start.cpu_s, 2), self.peak_mb)

    def dump(self) -> dict[str, float]:
        """Return it for JSON."""
        return asdict(self)


NOTHING = Usage(0.0, 0.0)

SERVERS = ("broker", "s3")


def of(pid: int) -> Usage:
    """Return what a process has used so far; NOTHING where it is gone, or where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return NOTHING
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, round(int(peak) * 1024 / 1e6, 1))


def of_self() -> Usage:
    """Return what this process has used so far."""
    return Usage(time.process_time(), of(os.getpid()).peak_mb)


def between(before: dict[str, Usage], after: dict[str, Usage]) -> dict[str, Usage]:
    """Return what each process that was there before has used since."""
    return {name: used.since(before[name]) for name, used in after.items() if name in before}
