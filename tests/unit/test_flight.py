"""How many messages are in flight: what isn't committed, and is still there."""

from collections.abc import Collection, Iterable, Mapping

import pytest

from pipeline import kafka_flight
from pipeline.kafka_flight import Flight
from pipeline.settings import Settings

ROWS, RESULTS = Settings().rows_topic, Settings().results_topic

At = tuple[str, int]


class Broker:
    """Two partitions of each topic."""

    def __init__(self, ends: int, commits: dict[str, dict[At, int]], first: dict[At, int]) -> None:
        self._ends, self._commits, self._first = ends, commits, first

    def led(self, topics: Collection[str]) -> set[At]:
        return {(topic, number) for topic in topics for number in (0, 1)}

    def ends(self, places: Iterable[At]) -> Mapping[At, int]:
        return dict.fromkeys(places, self._ends)

    def starts(self, places: Iterable[At]) -> Mapping[At, int]:
        return {at: self._first.get(at, 0) for at in places}

    def committed(self, group: str) -> Mapping[At, int]:
        return self._commits.get(group, {})


@pytest.mark.parametrize(
    ("commits", "first", "rows"),
    [
        ({}, {}, 20),
        ({(ROWS, 0): 10, (ROWS, 1): 7}, {}, 3),
        ({(ROWS, 0): 0, (ROWS, 1): 5}, {(ROWS, 0): 10, (ROWS, 1): 10}, 0),
        ({(ROWS, 0): 4}, {(ROWS, 0): 2, (ROWS, 1): 9}, 7),
        ({(ROWS, 0): 99, (ROWS, 1): 99}, {}, 0),
    ],
    ids=[
        "nothing committed",
        "some",
        "gone by age before they were committed",
        "a commit missing",
        "of another topic",
    ],
)
def test_what_is_gone_is_in_flight_no_more(
    monkeypatch: pytest.MonkeyPatch, commits: dict[At, int], first: dict[At, int], rows: int
) -> None:
    settings = Settings()
    done = dict.fromkeys(((RESULTS, 0), (RESULTS, 1)), 10)
    broker = Broker(10, {settings.processor_group: commits, settings.sink_group: done}, first)
    monkeypatch.setattr(kafka_flight, "Offsets", lambda _: broker)
    monkeypatch.setattr("pipeline.kafka.unacknowledged", lambda: 0)
    assert Flight(settings).messages() == {ROWS: rows, RESULTS: 0}
