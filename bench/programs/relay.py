"""The ceiling of the processor: `python -m bench.programs.relay INPUT OUTPUT ROWS`.

`consume` and `produce_batch` with keys, no work between, with our clients' settings; values go out as they came in.
"""

import sys
import time
from typing import Any

from confluent_kafka import Producer

from bench import usage
from bench.programs.client import Group, hand_over
from bench.programs.say import done
from pipeline.kafka import producer_config
from pipeline.settings import load


def main() -> None:
    """Move so many messages from one topic to the other, to the partitions that they come from."""
    source, target, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    settings = load()
    group = Group(settings, f"{source}.ceiling-relay-{target}", source)
    producer = Producer(producer_config(settings))
    moved = 0
    used = usage.of_self()
    while moved < rows:
        messages = group.read()
        runs: dict[int, list[dict[str, Any]]] = {}
        for message in messages:
            runs.setdefault(message.partition() or 0, []).append(
                {"key": message.key(), "value": message.value()}
            )
        for partition, run in runs.items():
            hand_over(producer, target, partition, run)
        moved += len(messages)
    left = producer.flush(120)
    if left:
        sys.exit(f"{left} messages not acknowledged")
    done(group.assigned, time.time(), used, moved)
    group.close()


if __name__ == "__main__":
    main()
