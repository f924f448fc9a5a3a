"""Doubles for capture: a sender that writes down what it gets, and a store in which something happens at a step."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from pipeline.messages import Messages
from pipeline.settings import Settings
from pipeline.store import Body, Head, MemoryStore
from producer.stage import Stage

SETTINGS = Settings.model_validate(
    {
        "block": 4,
        "calculations": {
            "orders": {
                "match": "*.csv",
                "id": "order_id",
                "columns": {"quantity": "BIGINT"},
                "outputs": {"twice": "quantity * 2"},
            }
        },
    }
)


def csv(rows: int, *, start: int = 0) -> bytes:
    """Return a CSV file of so many orders."""
    lines = ["order_id,quantity", *(f"{row:05},{row}" for row in range(start, start + rows))]
    return ("\n".join(lines) + "\n").encode()


@dataclass
class Steps(MemoryStore):
    """A store that notes each write and read of content, and lets something happen before one of them, once."""

    log: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def _step(self, what: str, key: str) -> None:
        for pattern in list(self.before):
            if pattern in f"{what} {key}":
                self.before.pop(pattern)()
        self.log.append(f"{what} {key}")

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        self._step("put", key)
        return super().put(key, data, **conditions)  # type: ignore[arg-type]

    def open(self, key: str, **conditions: object) -> AbstractContextManager[Body]:
        self._step("open", key)
        return super().open(key, **conditions)  # type: ignore[arg-type]

    def head(self, key: str) -> Head:
        self._step("head", key)
        return super().head(key)


@dataclass
class Recorder:
    """A sender that keeps what it is sent; `lost` messages were sent and never acknowledged."""

    log: list[str] = field(default_factory=list)
    messages: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    acknowledged: int = 0
    on_send: Callable[[int], None] = lambda count: None

    def send(self, topic: str, partition: int, messages: Messages) -> None:
        assert topic == SETTINGS.rows_topic
        self.messages += [(partition, key, value) for key, value in messages]
        self.log.append("end" if self.messages[-1][1].endswith(b":end") else "rows")
        self.on_send(len(self.messages))

    def flush(self) -> None:
        self.acknowledged = len(self.messages)
        self.log.append("flush")

    def forget(self) -> None:
        del self.messages[self.acknowledged :]

    def keys(self) -> list[bytes]:
        return [key for _, key, _ in self.messages]


def stage(uploads: MemoryStore | None = None, results: MemoryStore | None = None) -> Stage:
    """Return a stage on stores in memory."""
    return Stage(SETTINGS, uploads or MemoryStore(), results or MemoryStore(), partitions=3)
