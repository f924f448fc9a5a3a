"""Which processes the broker and the S3 server of a benchmark are.

Apart from `bench.usage`, which the measured programs import.
"""

from pathlib import Path


def processes() -> dict[str, int]:
    """Return the process ids of the broker and the S3 server that this process has started, as far as they can be seen."""
    found = {}
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            try:
                program, _, arguments = Path(f"/proc/{pid}/cmdline").read_text().partition("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if "kafka.Kafka" in arguments:
                found["broker"] = int(pid)
            elif program.endswith("weed"):
                found["s3"] = int(pid)
    return found
