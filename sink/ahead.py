"""Batches that are decoded on a thread of their own, while the polling thread fetches the next ones and keeps the books."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline import duck
from pipeline.kafka_batch import Batch
from sink.decode import Decoder, Looked, Results


class Ahead:
    """Batches in the order in which they were read. All methods belong to the polling thread."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._decoder = Decoder(duck.connect())
        self._pool = ThreadPoolExecutor(1, "decode")
        self._waiting: deque[tuple[int, Batch, Future[Results]]] = deque()
        self._ended: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, epoch: int, looked: Looked) -> None:
        """Have a batch decoded, which was read in this epoch of the assignment."""
        self._waiting.append((epoch, looked.batch, self._pool.submit(self._decoder.decode, looked)))

    def next(self) -> tuple[int, Batch]:
        """Return the epoch and the batch whose turn it is."""
        return self._waiting[0][:2]

    def has(self, partition: int) -> bool:
        """Whether there are batches of a partition."""
        return any(batch.partition == partition for _, batch, _ in self._waiting)

    def take(self) -> Results:
        """Return what that batch is, as soon as it is decoded, without jobs that have ended since it was looked at."""
        results = self._waiting.popleft()[2].result()
        results.drop(self._ended)
        self._let_go()
        return results

    def skip(self) -> None:
        """Drop that batch."""
        self._waiting.popleft()[2].cancel()
        self._let_go()

    def forget(self, file_id: str) -> None:
        """A job has ended: its rows aren't wanted any more."""
        if self._waiting:
            self._ended.add(file_id)

    def close(self) -> None:
        """End; what isn't taken was never acknowledged."""
        self._pool.shutdown(cancel_futures=True)

    def _let_go(self) -> None:
        if not self._waiting:
            self._ended.clear()
