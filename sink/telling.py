"""What a sink instance tells whoever watches: a few entries per batch, and once a second a look at what it holds."""

from collections.abc import Callable, Mapping

from pipeline.jobs import Job
from pipeline.kafka_batch import Batch
from pipeline.kafka_reader import Reader
from pipeline.teller import Outlet, Teller, Work
from sink.collector import Collection


class Telling:
    """For the sink's own thread; `ended` is for any."""

    def __init__(self, outlet: Callable[[], Outlet], waits: Callable[[], list[str]]) -> None:
        """`outlet` is as in Teller; `waits` says what stands in the way of work."""
        self._work = Work()
        self._waits = waits
        self._teller = Teller("sink", outlet, lambda: self._work)
        self._next: dict[int, int] = {}
        self._highest: dict[tuple[str, int], int] = {}
        self._touched: dict[tuple[str, int], Job] = {}

    def start(self) -> None:
        """Begin to tell."""
        self._teller.start()

    def close(self) -> None:
        """Tell that we have gone."""
        self._teller.close()

    def read(self, batch: Batch) -> None:
        """Note that a batch is being collected."""
        self._next[batch.partition] = batch.last + 1
        self._teller.count(len(batch.keys))

    def reached(self, job: Job, partition: int, row: int) -> None:
        """Note a row of a job that came over a partition."""
        key = (job.file_id, partition)
        self._touched[key] = job
        self._highest[key] = max(row, self._highest.get(key, -1))

    def ended(self, job: Job, state: str) -> None:
        """Tell how a job ended."""
        self._teller.tell("publish", job, state=state)

    def look(self, reader: Reader, partitions: list[int], held: Mapping[str, Collection]) -> None:
        """Tell what has come since the last look; `partitions` are ours, `held` is what they brought."""
        touched, self._touched = self._touched, {}
        rejects: dict[str, dict[int, int]] = {}
        for (file_id, partition), job in touched.items():
            if (collection := held.get(file_id)) is None:
                continue
            if file_id not in rejects:
                rejects[file_id] = collection.rejects_by_partition()
            row = self._highest[file_id, partition]
            self._teller.reached("store", job, partition, row, rejects[file_id].get(partition, 0))
        for key in [key for key in self._highest if key[0] not in held]:
            del self._highest[key]
        lag = {
            number: max(0, reader.high(number) - self._next[number])
            for number in partitions
            if number in self._next
        }
        self._work = Work(partitions, lag, self._waits())
