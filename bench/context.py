"""What every benchmark works with, and the steps that several of them share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.data import Oracle, write_csv
from bench.place import PARTITIONS, Place, Services
from bench.progress import Observer

NAME = "orders.csv"


@dataclass
class Context:
    """Running services, how many rows are wanted, which peers, and where to tell what is going on."""

    services: Services
    rows: int
    peers: frozenset[str]
    tell: Callable[[str], None]
    _oracles: dict[int, Oracle] = field(default_factory=dict)

    def oracle(self, rows: int | None = None) -> Oracle:
        """Return a file of so many rows, with what it has to become."""
        rows = rows or self.rows
        if rows not in self._oracles:
            path = self._folder(f"data-{rows}") / NAME
            write_csv(path, rows)
            self._oracles[rows] = Oracle(path)
        return self._oracles[rows]

    def timeout(self, rows: int | None = None) -> float:
        """Return the seconds after which so many rows will never come: 2,000 rows/s, and two minutes."""
        return 120 + (rows or self.rows) / 2_000

    def observer(self, topic: str) -> Observer:
        """Return an observer of a topic."""
        return Observer(self.services.broker, topic, PARTITIONS)

    def produce(self, oracle: Oracle, topic: str) -> None:
        """Fill a topic with a file's rows, without ends."""
        with self.services.place() as here:
            here.start("produce", "-m", "bench.programs.produce", str(oracle.path), topic)
            here.processes.said("produce", "done", timeout=self.timeout())

    def capture(self, here: Place, path: Path, rows: int) -> int:
        """Capture a file with our producer; return how many messages its rows and ends are."""
        here.start("push", "-m", "bench.programs.push", str(path))
        here.processes.said("push", "done", timeout=self.timeout(rows))
        here.processes.stop("push")
        return messages_of(here, rows)

    def _folder(self, name: str) -> Path:
        folder = self.services.folder / name
        folder.mkdir(exist_ok=True)
        return folder


def messages_of(here: Place, rows: int) -> int:
    """Return how many messages a file's rows and ends are: there is an end on each partition that has rows."""
    blocks = -(-rows // here.settings.block)
    return rows + min(max(blocks, 1), PARTITIONS)
