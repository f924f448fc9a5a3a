"""The child of `processor.suspects`: computes batches that it may die of, one after the other.

It is given, over a pipe, first the settings and then batches; for each it says True once all calculations are loaded (what it
dies of before is no row's fault), then the results, or as text what of its surroundings fails.
"""

import ctypes
import pickle
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline import s3
from pipeline.errors import Transient
from pipeline.events import Kind, parse_keys
from pipeline.jobbook import JobBook
from pipeline.kafka_batch import Batch
from pipeline.limits import size_in_bytes
from pipeline.settings import Settings
from processor.batch import process
from processor.calculators import CalculatorCache

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the pipe is closed."""
    connection = Connection(int(sys.argv[1]))
    if sys.platform.startswith("linux"):
        # A loop that doesn't end would outlive a parent that is killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    settings = Settings.model_validate(pickle.loads(connection.recv_bytes()))
    _limit_memory(size_in_bytes(settings.memory))
    book = JobBook(s3.S3Store(s3.client(settings.s3), settings.s3.results))
    calculators = CalculatorCache(settings)
    while True:
        try:
            batch: Batch = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            _load(batch, book, calculators)
            connection.send_bytes(pickle.dumps(True))
            answer: object = process(batch, book.find, calculators, settings.message_bytes)
        except Transient as error:
            connection.send_bytes(pickle.dumps(str(error)))
            continue
        connection.send_bytes(pickle.dumps(answer))


def _load(batch: Batch, book: JobBook, calculators: CalculatorCache) -> None:
    keys = parse_keys(batch.keys)
    for number, file_id in enumerate(keys.file_ids):
        job = book.find(file_id)
        if job is not None and ((keys.jobs == number) & (keys.kinds == Kind.ROW)).any():
            calculators(job)


def _limit_memory(size: int) -> None:
    """Let this process grow by twice what a calculation may use; only Linux keeps it."""
    if not sys.platform.startswith("linux"):
        return
    data = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (data + 2 * size, hard))


if __name__ == "__main__":
    main()
