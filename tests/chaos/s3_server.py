"""The S3 server of many runs of chaos: its disk can be full, and it is started again where `up` would do that."""

import functools
import resource
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from millstream import embedded, ports
from millstream.process import Process, running, stop
from tests.services.s3 import S3


class S3Server:
    """SeaweedFS; `address` says where it is, and who may use it."""

    def __init__(self, folder: Path, enter: Callable[..., Any]) -> None:
        """Start it: `enter` enters the context that a function gives when called with arguments, and returns its value."""
        state = embedded.State("TESTACCESSKEY", uuid.uuid4().hex, *ports.choose(7))
        self.address = S3(state.endpoint, state.access_key, state.secret_key, "", "")
        self._command = embedded.s3_command(folder, state)
        self._log = folder / "s3.log"
        ready = functools.partial(embedded.s3_answers, state)
        self._start = functools.partial(enter, running, self._command, ready, log=self._log, timeout=30)
        self._process: Process = self._start()
        self._read = 0

    def limit_disk(self, size: int) -> None:
        """Let it write no file beyond so many bytes."""
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def mend(self) -> bool:
        """Start it again where it refuses writes since its disk was full, as `up` does; return whether it was."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            said = log.read()
        self._read += len(said)
        if not any(map(embedded.s3_is_stuck, said.decode(errors="replace").splitlines())):
            return False
        stop([(self._command, self._process)], timeout=5)
        self._process = self._start()
        self._read = self._log.stat().st_size
        return True
