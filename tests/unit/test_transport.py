"""What Faust's transport of ours asks of the reader."""

import queue
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from processor.transport import BatchConsumer


class Reading:
    """A reader that notes what it is to commit."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.committed: list[Mapping[int, int]] = []

    def commit(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        self.committed.append(offsets)
        return offsets


def test_offsets_of_an_assignment_that_is_over_are_not_committed() -> None:
    """Results were delivered for so long that the topic is another by now: its first rows would be passed over."""
    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    consumer._commits = queue.SimpleQueue()
    reader = Reading(epoch=2)
    answers: list[Future[Mapping[int, int]]] = [Future(), Future()]
    consumer._commits.put(({3: 1000}, 1, answers[0]))
    consumer._commits.put(({3: 1}, 2, answers[1]))
    consumer._serve_commits(reader)
    assert [answer.result(0) for answer in answers] == [{}, {3: 1}]
    assert reader.committed == [{3: 1}]
