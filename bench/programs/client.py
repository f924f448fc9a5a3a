"""What the ceilings do with the client, and nothing else."""

import sys
import time
from typing import Any

from confluent_kafka import Consumer, Message, Producer

from bench.programs.say import say
from pipeline.kafka import consumer_config
from pipeline.kafka_reader import CONSUME
from pipeline.settings import Settings

SILENCE = 30.0
"""Seconds without a message until a consumer gives up."""


def hand_over(producer: Producer, topic: str, partition: int, messages: list[dict[str, Any]]) -> None:
    """Give messages to the client; where its queue is full, wait for room."""
    while messages:
        producer.produce_batch(topic, messages, partition=partition)
        messages = [message for message in messages if message.pop("_error", None) is not None]
        producer.poll(0.05 if messages else 0)


class Group:
    """A member of a consumer group that reads a topic with our consumers' settings, and says when it is assigned."""

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        """Joins when first read."""
        self.assigned = 0.0
        self._client = Consumer(consumer_config(settings, group))
        self._client.subscribe([topic], on_assign=self._assign)
        self._heard = time.monotonic()

    def read(self) -> list[Message]:
        """Return the next messages, at most as many as ours asks for at once."""
        messages: list[Message] = self._client.consume(CONSUME, 0.1)
        now = time.monotonic()
        if messages:
            self._heard = now
            if error := next((error for message in messages if (error := message.error())), None):
                sys.exit(f"consumer: {error}")
        elif self.assigned and now - self._heard > SILENCE:
            sys.exit(f"no message for {SILENCE:.0f} s")
        return messages

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def _assign(self, _: Consumer, partitions: list[Any]) -> None:
        self.assigned = time.time()
        self._heard = time.monotonic()
        say("assigned", partitions=len(partitions))
