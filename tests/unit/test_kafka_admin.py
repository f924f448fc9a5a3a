"""How clients are configured that ask about topics and groups, and what is asked of a topic while nobody answers."""

import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipeline import kafka, kafka_topic
from pipeline.kafka_topic import Ends, Identity
from pipeline.settings import Settings


def test_connections_are_held_whatever_the_settings_say() -> None:
    """A client that connects on demand spins while a broker is dead."""
    options = {
        "enable.sparse.connections": "true",
        "topic.metadata.refresh.interval.ms": "60000",
        "client.id": "me",
    }
    config = kafka.admin_config(Settings(kafka="somewhere:9092", kafka_options=options))
    assert config["enable.sparse.connections"] is False
    assert config["topic.metadata.refresh.interval.ms"] == "60000"
    assert (config["bootstrap.servers"], config["client.id"]) == ("somewhere:9092", "me")


def test_the_client_takes_its_configuration() -> None:
    """The property that holds connections isn't in librdkafka's documentation: a version without it would say so here."""
    kafka.admin_client(Settings(kafka="127.0.0.1:1"))


class Silent:
    """An admin client that takes questions, and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[Any], float]] = []

    def describe_topics(self, _: Any, *, request_timeout: float) -> dict[str, Future[Any]]:
        return {"rows": self._ask(request_timeout)}

    def list_offsets(self, wanted: dict[Any, Any], *, request_timeout: float) -> dict[Any, Future[Any]]:
        return {place: self._ask(request_timeout) for place in wanted}

    def _ask(self, request_timeout: float) -> Future[Any]:
        self.asked.append((Future(), request_timeout))
        return self.asked[-1][0]

    def fail(self) -> None:
        for answer, _ in self.asked:
            if not answer.done():
                answer.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [1000.0]
    monkeypatch.setattr(kafka_topic, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_while_nobody_answers_one_question_waits_and_no_other_is_asked(clock: list[float]) -> None:
    admin: Any = Silent()
    identity, ends = Identity(admin, "rows"), Ends(admin, "rows")
    for _ in range(100):
        assert not identity.has_changed()
        ends.look([0, 1])
        clock[0] += 0.1
    assert [limit for _, limit in admin.asked] == [kafka.PATIENCE] * 3  # the topic, and two partitions
    admin.fail()
    assert not identity.has_changed()
    ends.look([0, 1])
    assert (ends.known, identity.gone) == ({}, False)
    assert len(admin.asked) == 5, "the ends are asked for anew; of the topic it is known that it isn't known"
    assert not identity.has_changed()
    assert len(admin.asked) == 6


def test_whoever_waits_for_the_topic_waits_no_longer_than_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "PATIENCE", 0.05)
    admin: Any = Silent()
    began = time.monotonic()
    assert not Identity(admin, "rows").has_changed(wait=True)
    assert 0.04 < time.monotonic() - began < 5
