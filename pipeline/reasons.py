"""Why rows were rejected, for people: reasons that differ in what the rows hold alone are counted as one. Pure functions."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_MALFORMED = re.compile(r"line [\d,]+: (.+?)(?:: .*)?", re.DOTALL)
"""As capture says it: the line, what is wrong, and, in files of rejects, the row's text."""

_QUOTED = re.compile(r"""(?<!\w)(?:'.*?'|".*?")(?!\w)""", re.DOTALL)
"""What begins and ends beside no letter: neither the `'` of `can't` is a quote, nor the one inside of `'it's'`."""

_NUMBER = re.compile(r"([A-Z]+\(\d+(?:, ?\d+)?\))|(?<!\w)[-+]?\d\w*(?:[.,]\d\w*)*(?:(?<=[eE])[-+]\d+)?")
"""Numbers, unless they belong to a type, as in DECIMAL(18,2), or to a name, as in INT64."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A kind of reject: what its reasons have in common, how many rows have it, and the first one's number and reason."""

    text: str
    count: int
    row: int
    example: str


def reasons(errors: Mapping[int, str]) -> list[Reason]:
    """Group reasons, given by the row's number, by their kind; the most frequent first, else in the order of the rows given."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[int, str]] = {}
    for row, error in errors.items():
        text = kind(error)
        counts[text] += 1
        first.setdefault(text, (row, error))
    return [Reason(text, count, *first[text]) for text, count in counts.most_common()]


def kind(error: str) -> str:
    """Return a reason with `…` in place of the values and numbers in it, and without the line and the text of a row.

    What stands before a colon, a column or an output, stays as it is: columns `2024` and `2025` are two kinds.
    """
    if malformed := _MALFORMED.fullmatch(error):
        return _without_numbers(_without_values(malformed[1]))
    return "; ".join(_labelled(part) for part in _without_values(error).split("; "))


def _labelled(part: str) -> str:
    label, colon, rest = part.partition(": ")
    return f"{label}: {_without_numbers(rest)}" if colon else _without_numbers(part)


def _without_values(text: str) -> str:
    return _QUOTED.sub(lambda found: f"{found[0][0]}…{found[0][-1]}", text)


def _without_numbers(text: str) -> str:
    return _NUMBER.sub(lambda found: found[1] or "…", text)
