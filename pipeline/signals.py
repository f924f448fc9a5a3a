"""How a stage is asked to end: by SIGTERM or SIGINT, at any moment between its first line and its last.

One listener for all of that time, on a thread of its own. Handlers that come and go as a stage gets on lose a signal: it comes
when nobody asks any more whether there was one. And Python runs handlers on the main thread only, which may be in a call of
librdkafka's for as long as a broker doesn't answer.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

from pipeline.leave import leave

log = structlog.get_logger("stop")

NUMBERS = (signal.SIGTERM, signal.SIGINT)

STOPPING = 8.0
"""Seconds that a stage has to finish what it has begun when it is asked to end; a container is killed after ten."""

_NOBODY = 0
"""What wakes the listener up without a signal."""


class Ending:
    """Within its `with` block, which is the main thread's, the process ends when it is asked to, with exit code 0.

    At once, until `then` has said what is to be finished; after that within `patience` seconds, whatever hangs.
    """

    def __init__(self, patience: float = STOPPING) -> None:
        """Nothing is listened to before the block."""
        self._patience = patience
        self._finish: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    def then(self, finish: Callable[[], None]) -> None:
        """There is work to be finished from now on: `finish` is called when the process is asked to end, on another thread.

        It begins the end, and returns. Who leaves the block meanwhile isn't hindered.
        """
        with self._lock:
            self._finish = finish

    def __enter__(self) -> "Ending":
        """Begin to listen."""
        self._hear, self._call = os.pipe()
        os.set_blocking(self._call, False)
        self._called_before = signal.set_wakeup_fd(self._call, warn_on_full_buffer=False)
        # What C's handler writes to the pipe is heard at once. Python's writes it once more: an event loop may have put a pipe
        # of its own in this one's place.
        self._before = {number: signal.signal(number, self._hear_of) for number in NUMBERS}
        self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._called_before)
        self._over.set()
        os.write(self._call, bytes([_NOBODY]))
        self._listener.join()
        os.close(self._hear)
        os.close(self._call)

    def _hear_of(self, number: int, _: object) -> None:
        with suppress(BlockingIOError):  # then there is enough to be heard
            os.write(self._call, bytes([number]))

    def _listen(self) -> None:
        while (number := os.read(self._hear, 1)[0]) not in NUMBERS:
            if number == _NOBODY:
                return
        with self._lock:
            finish = self._finish
            if finish is None:
                leave(0)
        finish()
        if not self._over.wait(self._patience):
            log.warning("left with work in hand: it comes again", seconds=self._patience)
            leave(0)
