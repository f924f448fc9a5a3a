"""Messages are handed to Kafka's client all of them and in order, however small its queue is."""

from pathlib import Path

import pytest

from millstream import ports
from pipeline.errors import DeliveryFailed, Unreachable
from pipeline.kafka import Publisher, ensure_topics, producer_config
from pipeline.messages import Messages
from tests.integration.chain import consume, settings
from tests.services import kafka
from tests.services.kafka import Broker
from tests.services.s3 import S3

KEYS = [b"%d" % number for number in range(5000)]


def test_a_full_queue_loses_no_message_and_moves_none(broker: Broker, s3: S3, topic_prefix: str) -> None:
    """The client takes 100 messages at a time; the others wait."""
    chosen = settings(broker, s3, topic_prefix, kafka_options={"queue.buffering.max.messages": "100"})
    ensure_topics(chosen)
    publisher = Publisher(chosen)
    publisher.send(chosen.rows_topic, 0, Messages.of(KEYS, [b"v" + key for key in KEYS]))
    publisher.flush(30)
    found = consume(broker, chosen.rows_topic)
    assert [key for _, key, _ in found] == [key.decode() for key in KEYS]
    assert [value for _, _, value in found] == [b"v" + key for key in KEYS]


def test_a_message_that_is_too_large_is_named_by_its_size(broker: Broker, s3: S3, topic_prefix: str) -> None:
    """What was handed over before it is sent."""
    chosen = settings(broker, s3, topic_prefix, message_bytes=10_000)
    ensure_topics(chosen)
    publisher = Publisher(chosen)
    with pytest.raises(DeliveryFailed, match="20001 bytes"):
        publisher.send(chosen.rows_topic, 0, Messages.of([b"a", b"b", b"c"], [b"1", b"x" * 20_001, b"3"]))
    publisher.flush(30)
    assert [key for _, key, _ in consume(broker, chosen.rows_topic)] == ["a"]


def test_empty_keys_and_values_arrive_as_such(broker: Broker, s3: S3, topic_prefix: str) -> None:
    chosen = settings(broker, s3, topic_prefix)
    ensure_topics(chosen)
    publisher = Publisher(chosen)
    publisher.send(chosen.rows_topic, 0, Messages.of([b"", b"b"], [b"", b""]))
    publisher.send(chosen.rows_topic, 0, Messages.of([], []))
    publisher.flush(30)
    assert [(key, value) for _, key, value in consume(broker, chosen.rows_topic)] == [("", b""), ("b", b"")]


def test_what_no_broker_takes_is_told_until_it_is_forgotten(s3: S3, topic_prefix: str) -> None:
    """Nobody listens there; what comes after a failure can't be taken for delivered."""
    nobody = Broker(f"127.0.0.1:{ports.choose(1)[0]}")
    chosen = settings(nobody, s3, topic_prefix, kafka_options={"message.timeout.ms": "300"})
    publisher = Publisher(chosen)
    publisher.send(chosen.rows_topic, 0, Messages.of([b"a"], [b"1"]))
    assert publisher.pending()
    with pytest.raises(Unreachable, match="did not take a message"):
        publisher.flush(30)
    with pytest.raises(Unreachable):
        publisher.send(chosen.rows_topic, 0, Messages.of([b"b"], [b"2"]))
    publisher.forget()
    publisher.flush(10)


def test_a_producer_that_a_broker_without_its_data_takes_for_another_begins_again(
    tmp_path: Path, s3: S3, topic_prefix: str
) -> None:
    """The broker gives out the same numbers again: a new producer goes by that of an old one, which goes on sending."""
    with kafka.apache_kafka(tmp_path) as broker:
        chosen = settings(broker, s3, topic_prefix)
        old = Publisher(chosen)

        def send(publisher: Publisher, *values: bytes) -> None:
            for value in values:  # as many batches
                publisher.send(chosen.rows_topic, 0, Messages.of([b""], [value]))
                publisher.flush(30)

        ensure_topics(chosen)
        send(old, b"1", b"2")
        assert broker.restart is not None
        broker.restart(wiped=True)
        ensure_topics(chosen)
        send(old, b"3")
        new = Publisher(chosen)
        with pytest.raises(Unreachable):
            send(new, b"4")
        new.forget()
        send(new, b"4", b"5")
        assert [value for _, _, value in consume(broker, chosen.rows_topic)] == [b"3", b"4", b"5"]


def test_keys_without_values_are_a_mistake_of_the_caller() -> None:
    """The client would read memory that isn't there."""
    with pytest.raises(ValueError, match="2 keys for 1 values"):
        Messages.of([b"a", b"b"], [b"1"])


def test_options_set_how_fast_and_never_how_safe(broker: Broker, s3: S3, topic_prefix: str) -> None:
    options = {"compression.type": "zstd", "acks": "0", "enable.idempotence": "false"}
    chosen = settings(broker, s3, topic_prefix, kafka_options=options)
    config = producer_config(chosen)
    assert (config["compression.type"], config["acks"], config["enable.idempotence"]) == ("zstd", "all", True)
