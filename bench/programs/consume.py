"""The ceiling of the sink: `python -m bench.programs.consume TOPIC ROWS GROUP`.

`consume` with our consumers' settings, messages counted and dropped. The clock starts with the assignment.
"""

import sys
import time

from bench import usage
from bench.programs.client import Group
from bench.programs.say import done
from pipeline.settings import load


def main() -> None:
    """Consume so many messages."""
    topic, rows, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    group = Group(load(), name, topic)
    read = 0
    used = usage.of_self()
    while read < rows:
        read += len(group.read())
    done(group.assigned, time.time(), used, read)
    group.close()


if __name__ == "__main__":
    main()
