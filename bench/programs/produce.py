"""The ceiling of capture: `python -m bench.programs.produce FILE TOPIC`.

`produce_batch` with keys, in blocks dealt to partitions as ours are, with our producers' settings. The messages are made before
the clock starts, dicts and all; it stops when all are acknowledged.
"""

import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from bench import usage
from bench.data import Oracle
from bench.place import PARTITIONS
from bench.programs.client import hand_over
from bench.programs.say import done, say
from pipeline.kafka import producer_config
from pipeline.settings import load

FILE_ID = "0123456789abcdef" * 2


def main() -> None:
    """Produce one message per row of the file."""
    path, topic = Path(sys.argv[1]), sys.argv[2]
    settings = load()
    values = [text.encode() for text in Oracle(path).messages.to_pylist()]
    messages = [
        {"key": f"{FILE_ID}:{row}".encode("ascii"), "value": value} for row, value in enumerate(values)
    ]
    del values
    blocks: list[list[dict[str, Any]]] = [
        messages[first : first + settings.block] for first in range(0, len(messages), settings.block)
    ]
    producer = Producer(producer_config(settings))
    producer.list_topics(topic, timeout=30)  # connected before the clock starts
    say("ready")
    used, start = usage.of_self(), time.time()
    for number, block in enumerate(blocks):
        hand_over(producer, topic, number % PARTITIONS, block)
    left = producer.flush(120)
    end = time.time()
    if left:
        sys.exit(f"{left} messages not acknowledged")
    done(start, end, used, len(messages))


if __name__ == "__main__":
    main()
