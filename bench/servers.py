"""Which processes the broker and the S3 server of a benchmark are.

Apart from `bench.usage`, which the measured programs import: Docker's client isn't to be part of what they use.
"""

from contextlib import closing
from pathlib import Path

import docker

from tests.services.kafka import docker_answers


def processes(bootstrap: str) -> dict[str, int]:
    """Return the process ids of the broker and the S3 server that this process has started, as far as they can be seen."""
    found = {}
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            try:
                program, _, arguments = Path(f"/proc/{pid}/cmdline").read_text().partition("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if "tansu" in program or "kafka.Kafka" in arguments:
                found["broker"] = int(pid)
            elif program.endswith("weed"):
                found["s3"] = int(pid)
    if "broker" not in found and docker_answers():
        found |= _container(bootstrap.rpartition(":")[2])
    return found


def _container(port: str) -> dict[str, int]:
    """Return the process id of the broker in the container that publishes a port."""
    with closing(docker.from_env()) as engine:
        for container in engine.containers.list():
            published = [
                binding["HostPort"] for bindings in container.ports.values() for binding in bindings or ()
            ]
            if port in published:
                return {"broker": int(container.attrs["State"]["Pid"])}
    return {}
