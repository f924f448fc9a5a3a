"""What is said of a published result: rows and rejects, where it can be fetched, and whether too many were rejected."""

import re
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import quote

from pipeline.errors import UsageError
from pipeline.jobs import Receipt
from pipeline.settings import HttpSettings
from pipeline.shell import shell
from pipeline.states import counted

_EVERYONE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what is listened on is no address to go to


@dataclass(frozen=True, slots=True)
class MostRejects:
    """How many rejects a result may have: a number of rows, or a share of the file's in percent."""

    text: str
    number: Decimal
    percent: bool

    @classmethod
    def parse(cls, text: str) -> "MostRejects":
        """Read `10` or `0.5%`. Raises UsageError."""
        found = re.fullmatch(r"\s*(?:(\d+)|(\d+(?:\.\d+)?)\s*%)\s*", text, re.ASCII)
        if found is None or (found[2] is not None and Decimal(found[2]) > 100):
            raise UsageError(
                f"--max-rejects {text!r}: a number of rows or a share of them would be right, as in 10 or 0.5%"
            )
        return cls(text.strip(), Decimal(found[1] or found[2]), found[1] is None)

    def exceeded(self, receipt: Receipt) -> bool:
        """Whether a result has more."""
        most = self.number * receipt.rows / 100 if self.percent else self.number
        return receipt.rejected > most


def verdict(receipt: Receipt) -> str:
    """Return a sentence about a published result; a warning where not a single row came out."""
    name, rows = receipt.name, receipt.rows
    if receipt.rejected and not receipt.results:
        every = "the only row was" if rows == 1 else f"all {counted(rows, 'row')} were"
        return f"{name}: WARNING: published without a single result: {every} rejected"
    return f"{name}: published, {counted(receipt.results, 'row')} and {counted(receipt.rejected, 'reject')}"


def too_many(receipt: Receipt, most: MostRejects) -> str:
    """Return the sentence about a result with more rejects than it may have."""
    return (
        f"{receipt.name}: {receipt.rejected:,} of {counted(receipt.rows, 'row')} were rejected, more than "
        f"--max-rejects {most.text}; the result is published all the same"
    )


def where(receipt: Receipt, http: HttpSettings) -> list[str]:
    """Return lines with the addresses of a result and of its rejects, and the command that fetches it."""
    lines = []
    reader = address(http)
    if reader is not None:
        lines.append(f"    result   {reader}/results/{quote(receipt.name)}")
        if receipt.rejects is not None and receipt.rejected:
            lines.append(f"    rejects  {reader}/rejects/{quote(receipt.name)}")
    return [*lines, f"    fetch    {shell('millstream get -o .', receipt.name)}"]


def where_all(http: HttpSettings) -> str:
    """Return a sentence that says the same of many results."""
    reader = address(http)
    return (f"results: {reader}/results/NAME, or  " if reader else "results:  ") + "millstream get -o . NAME"


def address(http: HttpSettings) -> str | None:
    """Return where the reader answers as far as these settings say; None where its port is any that is free."""
    host = _EVERYONE.get(http.host, http.host)
    if not http.port:
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}"
