"""`millstream preview`: what capture would publish, without any service."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from millstream import dialect_options as dialect


def command(
    file: Annotated[Path, typer.Argument(help="A CSV file, also .csv.gz and .csv.zst.", show_default=False)],
    delimiter: dialect.Delimiter = None,
    quote: dialect.Quote = None,
    escape: dialect.Escape = None,
    encoding: dialect.Encoding = None,
    skip: dialect.Skip = None,
) -> None:
    """Show what capture would publish: one line of JSON for each event, and on stderr how the file is read.

    Needs no services and no settings. The file's id stands as zeros.

    Example:  millstream preview orders.csv | head
    """
    from pipeline.printable import plain
    from producer.preview import preview

    def explain(text: str) -> None:
        print(plain(text), file=sys.stderr)

    for line in preview(file, dialect.overrides(delimiter, quote, escape, encoding, skip), explain):
        sys.stdout.buffer.write(line)
