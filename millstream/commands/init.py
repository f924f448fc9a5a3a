"""`millstream init`: a first `millstream.toml` from a file's own columns."""

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
    """Write a first calculation for a file into millstream.toml, from the file's own columns.

    Where there is a millstream.toml already, the calculation is added at its end.

    Example:  millstream init orders.csv
    """
    from millstream.init import init
    from pipeline.printable import plain

    print(plain(init(file, dialect.overrides(delimiter, quote, escape, encoding, skip))))
