"""Flags that say how a CSV file is written, where what is found out by looking at it is wrong."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.dialect import DialectOverrides


Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Between fields: a character, or tab, semicolon, …; none for one value per line.",
        show_default=False,
    ),
]
Quote = Annotated[str | None, typer.Option(help="Around fields: a character, or none.", show_default=False)]
Escape = Annotated[
    str | None,
    typer.Option(help="Before a quote within quotes; mostly the quote itself.", show_default=False),
]
Encoding = Annotated[str | None, typer.Option(help="As in utf-8, utf-16, cp1252.", show_default=False)]
Skip = Annotated[int | None, typer.Option(help="Lines before the header.", min=0, show_default=False)]


def overrides(
    delimiter: str | None, quote: str | None, escape: str | None, encoding: str | None, skip: int | None
) -> "DialectOverrides":
    """Return what was told. Raises UsageError where it can't be."""
    from pydantic import ValidationError

    from pipeline.dialect import DialectOverrides
    from pipeline.errors import UsageError

    try:
        return DialectOverrides(delimiter=delimiter, quote=quote, escape=escape, encoding=encoding, skip=skip)
    except ValidationError as error:
        problem = error.errors()[0]
        flag = "-".join(str(part) for part in problem["loc"])
        raise UsageError(f"--{flag}: {problem['msg'].removeprefix('Value error, ')}") from None
