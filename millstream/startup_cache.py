"""Has Kafka's start-up cache made while `up` runs, once, by a process with the least priority (see `kafka_startup`)."""

import time
from collections.abc import Callable, Mapping

from millstream import kafka_startup, process
from millstream.local_servers import KafkaBroker
from millstream.process import Command, Process
from pipeline.settings import PREFIX


class StartupCache:
    """Asked several times a second by the thread that owns `up`'s processes."""

    def __init__(
        self,
        kafka: KafkaBroker | None,
        say: Callable[[str], None],
        environment: Mapping[str, str],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without a broker of ours there is nothing to make. `environment` is the process's."""
        # Of the settings nothing: its broker is another.
        self._environment = {key: value for key, value in environment.items() if not key.startswith(PREFIX)}
        self._kafka = kafka
        self._say = say
        self._now = now
        self._due: float | None = None
        self._running: tuple[Command, Process] | None = None
        self._done = kafka is None or kafka.java.startup_cache is not None

    def look(self) -> None:
        """Start the process when it is time, and note its end; from the first call on `up` is ready."""
        if self._done:
            return
        if self._running is not None:
            _, maker = self._running
            if maker.poll() is not None:
                self._running, self._done = None, True
                if maker.returncode == 0:
                    self._say("from the next start on, Kafka starts in half of the time")
        elif self._due is None:
            self._due = self._now() + kafka_startup.AFTER
        elif self._now() >= self._due:
            self._start()

    def _start(self) -> None:
        assert self._kafka is not None
        command = kafka_startup.maker(self._kafka.java, self._kafka.cache_folder, self._environment)
        if command is None:
            self._done = True
        else:
            self._running = command, process.start(command, process.DEVNULL)

    def stop(self) -> None:
        """End it where it runs; the next `up` makes the cache then."""
        self._done = True
        if self._running is not None:
            process.stop([self._running], 1)
