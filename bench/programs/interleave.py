"""Many files at once: `python -m bench.programs.interleave SOURCE TARGET MESSAGES`.

Copies results from topic to topic, partition by partition, such that files that came one after the other come all at once: some
rows of each in turn, and the ends last.
"""

import itertools
import sys
import time

from confluent_kafka import Producer

from bench import usage
from bench.programs.client import Group, hand_over
from bench.programs.say import done
from pipeline.kafka import producer_config
from pipeline.settings import load

RUN = 50
"""Rows of a file that come together."""


def main() -> None:
    """Copy so many messages."""
    source, target, total = sys.argv[1], sys.argv[2], int(sys.argv[3])
    settings = load()
    group = Group(settings, f"{source}.interleave", source)
    files: dict[tuple[int, bytes], list[dict[str, bytes | None]]] = {}
    read = 0
    while read < total:
        for message in group.read():
            key, partition = message.key() or b"", message.partition() or 0
            files.setdefault((partition, key[:32]), []).append({"key": key, "value": message.value()})
            read += 1
    group.close()
    producer, used, start = Producer(producer_config(settings)), usage.of_self(), time.time()
    for first in itertools.count(0, RUN):
        runs = [(partition, messages[first : first + RUN]) for (partition, _), messages in files.items()]
        for partition, run in runs:
            if run:
                hand_over(producer, target, partition, run)
        if not any(run for _, run in runs):
            break
    producer.flush()
    done(start, time.time(), used, total)


if __name__ == "__main__":
    main()
