"""A partition is only called stalled when work waits and the place stays the same; then it is named wherever one looks."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from pipeline import metrics
from pipeline.stalls import Place, Row, Stalls, row_of

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


@pytest.fixture
def stalls() -> Iterator[Stalls]:
    made = Stalls("process", 30, lambda _partition, _offset: Row("ab", "orders.csv", 7), lambda: NOON)
    yield made
    made.look({}, 1e9)


def figure(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, {"stage": "process", **labels})


def test_a_partition_without_lag_never_stalls(stalls: Stalls) -> None:
    assert stalls.look({0: Place(5, 5)}, 0) == []
    assert stalls.look({0: Place(5, 5)}, 1000) == []
    assert stalls.look({0: Place(5, 9)}, 1001) == []


def test_lag_without_movement_is_a_stall_after_the_limit(stalls: Stalls) -> None:
    stalls.look({0: Place(5, 9), 1: Place(3, 9)}, 0)
    assert stalls.look({0: Place(5, 9), 1: Place(4, 9)}, 29) == []
    [stall] = stalls.look({0: Place(5, 12), 1: Place(4, 9)}, 40)
    assert (stall.stage, stall.partition, stall.offset, stall.lag) == ("process", 0, 5, 7)
    assert stall.seconds == 40
    assert stall.dump()["since"] == "2026-05-06T11:59:20+00:00"
    assert (stall.dump()["file"], stall.dump()["row"]) == ("orders.csv", 7)
    assert str(stall) == (
        "partition 0 stands still at offset 5 for 40 s, at row 7 of orders.csv (7 messages wait)"
    )


def test_work_in_hand_counts_where_the_end_of_the_partition_is_not_known(stalls: Stalls) -> None:
    stalls.look({0: Place(5, 0, in_hand=True)}, 0)
    assert stalls.look({0: Place(5, 0, in_hand=True)}, 30)[0].in_hand


def test_the_longest_standing_comes_first(stalls: Stalls) -> None:
    stalls.look({0: Place(1, 9), 1: Place(5, 9)}, 0)
    stalls.look({0: Place(2, 9), 1: Place(5, 9)}, 10)
    assert [stall.partition for stall in stalls.look({0: Place(2, 9), 1: Place(5, 9)}, 50)] == [1, 0]


def test_moving_on_ends_it_and_a_partition_that_comes_back_starts_anew(stalls: Stalls) -> None:
    stalls.look({0: Place(5, 9)}, 0)
    assert stalls.look({0: Place(5, 9)}, 40)
    assert stalls.look({0: Place(6, 9)}, 41) == []
    stalls.look({}, 42)
    assert stalls.look({0: Place(6, 9)}, 80) == []


def test_each_stall_is_logged_once_and_its_end_too(stalls: Stalls) -> None:
    with capture_logs() as logs:
        for now in (0, 40, 50, 60):
            stalls.look({0: Place(5, 9)}, now)
        stalls.look({0: Place(6, 9)}, 61)
    begin, end = logs
    assert (begin["event"], begin["partition"], begin["offset"]) == ("standing still", 0, 5)
    assert (begin["job"], begin["file"], begin["row"], begin["lag"]) == ("ab", "orders.csv", 7, 4)
    assert (end["event"], end["partition"]) == ("moving again", 0)


def test_metrics_tell_lag_and_standing_and_forget_what_is_anothers(stalls: Stalls) -> None:
    before = figure("millstream_stalls_total") or 0
    stalls.look({3: Place(5, 9)}, 0)
    assert figure("millstream_consumer_lag_messages", partition="3") == 4
    assert figure("millstream_stalled_seconds", partition="3") == 0
    for now in (40, 50):
        stalls.look({3: Place(5, 9)}, now)
    assert figure("millstream_stalled_seconds", partition="3") == 50
    assert figure("millstream_stalls_total") == before + 1
    stalls.look({3: Place(9, 9)}, 51)
    assert figure("millstream_stalled_seconds", partition="3") == 0
    stalls.look({4: Place(0, 0)}, 52)
    assert figure("millstream_consumer_lag_messages", partition="3") is None
    assert figure("millstream_partitions") == 1


@pytest.mark.parametrize(
    ("key", "row"),
    [
        (b"0123456789abcdef" * 2 + b":41", Row("0123456789abcdef" * 2, "a.csv", 41)),
        (b"0123456789abcdef" * 2 + b":41:rejected", Row("0123456789abcdef" * 2, "a.csv", 41)),
        (b"0123456789abcdef" * 2 + b":end", Row("0123456789abcdef" * 2, "a.csv", None)),
        (b"anything", Row()),
        (None, Row()),
    ],
)
def test_a_messages_key_names_its_row(key: bytes | None, row: Row) -> None:
    assert row_of(key, lambda _: "a.csv") == row
