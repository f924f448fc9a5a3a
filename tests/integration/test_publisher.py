"""Messages are handed to Kafka's client all of them and in order, however small its queue is."""

import pytest

from pipeline.errors import DeliveryFailed
from pipeline.kafka import Publisher, ensure_topics, producer_config
from tests.integration.chain import consume, settings
from tests.services.kafka import Broker
from tests.services.s3 import S3

KEYS = [b"%d" % number for number in range(5000)]


def test_a_full_queue_loses_no_message_and_moves_none(broker: Broker, s3: S3, topic_prefix: str) -> None:
    """The client takes 100 messages at a time; the others wait."""
    chosen = settings(broker, s3, topic_prefix, kafka_options={"queue.buffering.max.messages": "100"})
    ensure_topics(chosen)
    publisher = Publisher(chosen)
    publisher.send(chosen.rows_topic, 0, KEYS, [b"v" + key for key in KEYS])
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
        publisher.send(chosen.rows_topic, 0, [b"a", b"b", b"c"], [b"1", b"x" * 20_001, b"3"])
    publisher.flush(30)
    assert [key for _, key, _ in consume(broker, chosen.rows_topic)] == ["a"]


def test_keys_without_values_are_a_mistake_of_the_caller(
    embedded_kafka: Broker, s3: S3, topic_prefix: str
) -> None:
    """A loop that ends with the shorter list would lose the rest."""
    publisher = Publisher(settings(embedded_kafka, s3, topic_prefix))
    with pytest.raises(ValueError, match="2 keys for 1 values"):
        publisher.send("t", 0, [b"a", b"b"], [b"1"])


def test_options_set_how_fast_and_never_how_safe(embedded_kafka: Broker, s3: S3, topic_prefix: str) -> None:
    options = {"compression.type": "zstd", "acks": "0", "enable.idempotence": "false"}
    chosen = settings(embedded_kafka, s3, topic_prefix, kafka_options=options, profile="kafka")
    config = producer_config(chosen)
    assert (config["compression.type"], config["acks"], config["enable.idempotence"]) == ("zstd", "all", True)
