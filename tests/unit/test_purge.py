"""What is removed from the topics: what every group that anybody runs has committed, and nothing else."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
import structlog

import sink.purge
from pipeline import metrics
from pipeline.errors import MillstreamError, Refused, Unreachable
from pipeline.purge import At, removable
from pipeline.settings import Settings
from sink.purge import MISSED, SETTLED, Purge, Purging
from tests.wait import wait_until

ROWS, RESULTS = "millstream.rows", "millstream.results"
PROCESSOR, SINK = "millstream.processor", "millstream.sink"


@dataclass
class Broker:
    """A broker with two partitions of each topic; `removed` has what was asked for."""

    offsets: dict[str, dict[At, int]]
    first: dict[At, int] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    leaderless: set[At] = field(default_factory=set)
    ids: dict[str, str] = field(default_factory=lambda: {ROWS: "a", RESULTS: "b"})
    removed: list[dict[At, int]] = field(default_factory=list)

    def led(self, topics: Collection[str]) -> set[At]:
        return {(topic, number) for topic in topics for number in (0, 1)} - self.leaderless

    def identities(self, topics: Collection[str]) -> Mapping[str, str]:
        return {topic: self.ids[topic] for topic in topics}

    def groups(self) -> set[str]:
        return {PROCESSOR, SINK} | self.live

    def committed(self, group: str) -> Mapping[At, int]:
        return self.offsets.get(group, {})

    def starts(self, places: Collection[At]) -> Mapping[At, int]:
        return {at: self.first.get(at, 0) for at in places}

    def remove(self, before: Mapping[At, int]) -> Mapping[At, int]:
        self.removed.append(dict(before))
        self.first |= before
        return dict(before)


@pytest.fixture
def broker() -> Broker:
    return Broker(
        {
            PROCESSOR: {(ROWS, 0): 70, (ROWS, 1): 80},
            SINK: {(RESULTS, 0): 50, (RESULTS, 1): 60},
        }
    )


def purged() -> dict[str, float]:
    return {
        topic: metrics.REGISTRY.get_sample_value("millstream_purged_messages_total", {"topic": topic}) or 0.0
        for topic in ("rows", "results")
    }


def test_what_our_groups_have_committed_goes_and_is_counted(broker: Broker) -> None:
    broker.first = {(ROWS, 0): 30}
    before = purged()
    removed = Purge(Settings(), broker).look({0, 1})
    assert removed == {(ROWS, 0): 40, (ROWS, 1): 80, (RESULTS, 0): 50, (RESULTS, 1): 60}
    after = purged()
    assert {topic: after[topic] - before[topic] for topic in after} == {"rows": 120, "results": 110}


def test_each_sink_purges_its_own_partitions_of_both_topics(broker: Broker) -> None:
    assert Purge(Settings(), broker).look({1}) == {(ROWS, 1): 80, (RESULTS, 1): 60}
    assert Purge(Settings(), broker).look(set()) == {}


def test_nothing_is_asked_to_go_twice(broker: Broker) -> None:
    purge = Purge(Settings(), broker)
    purge.look({0, 1})
    assert purge.look({0, 1}) == {}
    broker.offsets[SINK][RESULTS, 0] = 55
    assert purge.look({0, 1}) == {(RESULTS, 0): 5}
    assert len(broker.removed) == 2


def test_offsets_that_went_back_remove_nothing(broker: Broker) -> None:
    purge = Purge(Settings(), broker)
    purge.look({0, 1})
    broker.offsets[SINK][RESULTS, 0] = 10
    assert purge.look({0, 1}) == {}


def test_a_partition_that_ours_has_not_committed_is_left_alone(broker: Broker) -> None:
    del broker.offsets[PROCESSOR][ROWS, 0]
    assert Purge(Settings(), broker).look({0}) == {(RESULTS, 0): 50}


def test_another_group_holds_what_it_has_not_committed_until_nobody_has_run_it_for_a_while(
    broker: Broker,
) -> None:
    now = 0.0
    broker.offsets["audit"] = {(RESULTS, 0): 20, (RESULTS, 1): 90}
    purge = Purge(Settings(), broker, lambda: now)
    broker.live = {"audit", "of something else"}
    assert purge.look({0, 1}) == {(ROWS, 0): 70, (ROWS, 1): 80, (RESULTS, 0): 20, (RESULTS, 1): 60}
    broker.live = {"of something else"}
    now = MISSED - 1
    assert purge.look({0, 1}) == {}, "it may be restarting"
    now = MISSED
    assert purge.look({0, 1}) == {(RESULTS, 0): 30}


def test_a_group_holds_the_partitions_that_it_has_not_come_to(broker: Broker) -> None:
    found = removable([(ROWS, 0), (ROWS, 1)], {ROWS: broker.offsets[PROCESSOR]}, [{(ROWS, 0): 5}])
    assert found == {(ROWS, 0): 5}


def test_a_partition_without_a_leader_is_not_asked_about(broker: Broker) -> None:
    broker.leaderless = {(ROWS, 0)}
    Purge(Settings(), broker).look({0})
    assert broker.removed == [{(RESULTS, 0): 50}]


def test_offsets_of_a_topic_that_is_no_more_remove_nothing_of_the_one_made_anew(broker: Broker) -> None:
    """They are there until both stages have noticed, or longer: only what is committed later counts."""
    now = 0.0
    purge = Purge(Settings(), broker, lambda: now)
    broker.offsets = {PROCESSOR: {}, SINK: {}}
    purge.look({0, 1})
    broker.ids[RESULTS] = "c"
    broker.offsets = {PROCESSOR: {(ROWS, 0): 70}, SINK: {(RESULTS, 0): 50}}
    assert purge.look({0, 1}) == {}
    now = SETTLED - 1
    assert purge.look({0, 1}) == {}
    now = SETTLED
    assert purge.look({0, 1}) == {}
    broker.offsets[SINK][RESULTS, 0] = 7
    assert purge.look({0, 1}) == {(RESULTS, 0): 7}


@pytest.mark.parametrize("error", [Refused("no"), Unreachable("away")])
def test_what_fails_is_not_taken_for_done(
    broker: Broker, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge = Purge(Settings(), broker)
    with monkeypatch.context() as patch:

        def fails(self: Broker, before: Mapping[At, int]) -> Mapping[At, int]:
            raise error

        patch.setattr(Broker, "remove", fails)
        with pytest.raises(type(error)):
            purge.look({0})
    assert purge.look({0}) == {(ROWS, 0): 70, (RESULTS, 0): 50}


@pytest.mark.parametrize(
    ("error", "warnings"),
    [(Refused("Kafka: purging: not allowed"), 1), (Unreachable("away"), 0)],
    ids=["refused", "away"],
)
def test_a_broker_that_says_no_is_told_of_once_and_asked_again_later(
    error: MillstreamError, warnings: int, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sink goes on without; what only isn't there at the moment is nobody's business."""
    monkeypatch.setattr(sink.purge, "EVERY", 0.001)
    monkeypatch.setattr(sink.purge, "AGAIN", 0.001)
    monkeypatch.setattr(sink.purge, "LONGEST", 0.002)
    answers = [error, error, error]
    remove = Broker.remove

    def fails(self: Broker, before: Mapping[At, int]) -> Mapping[At, int]:
        if answers:
            raise answers.pop()
        return remove(self, before)

    monkeypatch.setattr(Broker, "remove", fails)
    purging = Purging(Settings(purge=True), lambda: broker)
    with structlog.testing.capture_logs() as logs:
        purging.start()
        purging.mine({0})
        wait_until(lambda: bool(broker.removed))
        purging.close()
    assert broker.removed == [{(ROWS, 0): 70, (RESULTS, 0): 50}]
    said = [line["why"] for line in logs if line["log_level"] == "warning"]
    assert said == [str(error)] * warnings


def test_nothing_is_purged_unless_it_is_set(broker: Broker) -> None:
    asked: list[Broker] = []

    def ask() -> Broker:
        asked.append(broker)
        return broker

    purging = Purging(Settings(), ask)
    purging.start()
    purging.mine({0, 1})
    purging.close()
    assert asked == []
