"""`python -m tests.chaos.skewed HOURS COMMAND…`: millstream, believing that it is so many hours later.

Only its own clock is wrong: S3's signatures carry the right time, since no server takes them an hour late.
"""

import sys
from datetime import datetime, timedelta


def main() -> None:
    """Change what `now` is before anybody else imports it, and run the command."""
    hours = timedelta(hours=float(sys.argv.pop(1)))
    from pipeline import jobs

    right = jobs.now

    def skewed() -> datetime:
        return right() + hours

    jobs.now = skewed
    from millstream.cli import main

    main()


if __name__ == "__main__":
    main()
