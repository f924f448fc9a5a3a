"""`python -m millstream.provision`: the buckets and topics that the settings name are there, made where they may be made.

Run by `up`, once its servers answer.
"""

import sys

from pipeline import logs
from pipeline.errors import MillstreamError
from pipeline.kafka import ensure_topics
from pipeline.s3 import S3Store, client
from pipeline.settings import load


def main() -> int:
    """Do it; 1 and the reason on stderr where it fails. Buckets are made with `--make-buckets` alone."""
    settings = load(beside_up=False)
    logs.configure(settings, "up")
    make = "--make-buckets" in sys.argv[1:]
    try:
        connection = client(settings.s3)
        for bucket in (settings.s3.uploads, settings.s3.results):
            store = S3Store(connection, bucket)
            store.create_bucket() if make else store.check()
        ensure_topics(settings)
    except MillstreamError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
