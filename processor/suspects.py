"""Batches that may kill: computed in a child process with limits of time and memory, and cut down to the rows that do.

A batch is suspect when workers have died at its partition's offset again and again (`pipeline.attempts`): a library that
crashes, memory that runs out, a loop that doesn't end. The child has it first whole. Where the child dies, it has pieces of
it, down to single rows; a row that kills the child by itself is a reject. So is each row of what still kills after MOST of
them: then it is hardly the rows.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from signal import Signals
from typing import IO

import structlog

from pipeline.errors import Hold, Transient
from pipeline.events import ID_LENGTH
from pipeline.kafka_batch import Batch
from pipeline.messages import Messages
from pipeline.settings import OVERHEAD, Settings
from processor.batch import Results
from processor.encode import reject

log = structlog.get_logger("processor")

PIECES = 16
"""Into how many pieces a batch that kills is cut: each level of cutting costs one death or little more."""

MOST = 4
"""Rows of a batch that are found one by one."""

LONGEST_START = 60.0
"""Seconds that a child may take to start and to load a calculation."""


class Deadly(Exception):
    """The child died of what it was given; the message says how."""


class Suspects:
    """Computes suspect batches. Not for two threads at once; the child stays until `close`, or until it dies."""

    def __init__(
        self, settings: Settings, *, seconds: float | None = None, check: Callable[[], None] = lambda: None
    ) -> None:
        """A piece may take `seconds`, a tenth of `stall_exit` as a rule. `check` is called between pieces; it may raise."""
        self._settings = settings
        self._seconds = seconds if seconds is not None else max(5.0, settings.stall_exit / 10)
        self._check = check
        self._child: _Child | None = None

    def process(self, batch: Batch) -> Results:
        """Compute a batch as `processor.batch.process` does; raises Transient where the surroundings fail."""
        out = Results()
        guilty = self._look(batch, out, 0)
        if guilty:
            log.error("rows that kill their worker were rejected", partition=batch.partition, rows=guilty)
        return out

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _look(self, batch: Batch, out: Results, guilty: int) -> int:
        """Add what a piece comes to; return how many rows are found guilty by now."""
        self._check()
        if not batch.keys:
            return guilty
        try:
            _add(out, self._compute(batch))
        except Deadly as death:
            if len(batch.keys) > 1 and guilty < MOST:
                for piece in _pieces(batch):
                    guilty = self._look(piece, out, guilty)
                return guilty
            log.warning("a row kills its worker", key=batch.keys[0], rows=len(batch.keys), how=str(death))
            _blame(batch, str(death), self._settings.message_bytes, out)
            return guilty + len(batch.keys)
        return guilty

    def _compute(self, batch: Batch) -> Results:
        if self._child is None:
            self._child = _Child(self._settings)
        try:
            return self._child.compute(batch, self._seconds)
        except (Deadly, Hold):
            self.close()
            raise


class _Child:
    """`python -m processor.suspect_child`, and what it says."""

    def __init__(self, settings: Settings) -> None:
        ours, theirs = Pipe()
        self._connection: Connection = ours
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed with the child
        command = [sys.executable, "-m", "processor.suspect_child", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
        )
        theirs.close()
        self._send(settings.model_dump())

    def compute(self, batch: Batch, seconds: float) -> Results:
        """Compute a batch; raises Deadly where it kills, Transient where something is missing."""
        self._send(batch)
        answer = self._answer(LONGEST_START)
        if answer is None:
            raise Hold(
                f"a process that looks at suspect rows died before it came to them {self._last_words()}"
            )
        if answer is True:
            answer = self._answer(seconds)
        if isinstance(answer, Results):
            return answer
        if isinstance(answer, str):
            raise Transient(answer)
        if self._process.poll() is None:
            raise Deadly(f"it takes longer than {seconds:g} s")
        raise Deadly(f"{self._end()} {self._last_words()}".rstrip())

    def end(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()
        self._connection.close()
        self._errors.close()

    def _send(self, what: object) -> None:
        try:
            self._connection.send_bytes(pickle.dumps(what))
        except OSError:
            pass  # it is dead: there is no answer either

    def _answer(self, seconds: float) -> Results | str | bool | None:
        """Return what it says, or None where it says nothing: it has died, or takes too long."""
        try:
            if not self._connection.poll(seconds):
                return None
            answer: Results | str | bool = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._process.wait()
            return None
        return answer

    def _end(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"it ends its process with {Signals(-code).name}"
        return f"it ends its process with exit code {code}"

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 200))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"({lines[-1].strip()})" if lines else ""


def _pieces(batch: Batch) -> list[Batch]:
    size = -(-len(batch.keys) // PIECES)
    return [
        Batch(
            batch.topic,
            batch.partition,
            batch.first,
            batch.last,
            batch.keys[at : at + size],
            batch.values[at : at + size],
        )
        for at in range(0, len(batch.keys), size)
    ]


def _add(out: Results, found: Results) -> None:
    out.messages += found.messages
    out.end_keys += found.end_keys
    out.end_values += found.end_values
    out.results += found.results
    out.rejected += found.rejected
    out.dropped += found.dropped
    out.highest += found.highest
    out.reasons.update(found.reasons)


def _blame(batch: Batch, how: str, limit: int, out: Results) -> None:
    """Reject rows; what is no row passes as it is, and says itself what it is."""
    room = limit - OVERHEAD - ID_LENGTH - 32
    passed, rejects = [], []
    for key, value in zip(batch.keys, batch.values, strict=True):
        if key is None or value is None or key.endswith(b":rejected"):
            passed.append((key or b"", value or b""))
        elif key.endswith(b":end"):
            out.end_keys.append(key)
            out.end_values.append(value)
        else:
            rejects.append((key + b":rejected", _rejected(value, f"the row can't be computed: {how}", room)))
    if passed:
        out.messages.append(Messages.of(*zip(*passed, strict=True)))
    out.reject(rejects, "calculation")


def _rejected(value: bytes, error: str, room: int) -> bytes:
    try:
        return reject(value, error, None, room)
    except ValueError:  # not even JSON
        return reject(None, error, None, room)
