"""What the client would rather have (RFC 9110, section 12): which format, and compressed how. Pure functions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Format = Literal["csv", "json", "parquet", "arrow"]
Coding = Literal["identity", "gzip", "zstd"]

MEDIA_TYPES: Mapping[Format, str] = {
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
"""What each format is called in Accept and Content-Type; the first is sent where the client doesn't mind."""

CODINGS: Sequence[Coding] = ("zstd", "gzip", "identity")
"""The better first: zstd takes a third of gzip's CPU for the same."""

_ALIASES = {"x-gzip": "gzip"}

_WEIGHT = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)

_UNSAID = 0.0001
"""The weight of identity where nothing is said of it: it may always be sent, and whatever is named is better."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One element of such a header, in lower case, with its weight, 0 to 1."""

    value: str
    weight: float


def wishes(header: str) -> list[Wish]:
    """Return what a header lists; an element whose weight can't be read counts as 1."""
    found = []
    for element in header.lower().split(","):
        value, *parameters = (part.strip() for part in element.split(";"))
        weights = [float(match[1]) for text in parameters if (match := _WEIGHT.fullmatch(text))]
        if value:
            found.append(Wish(value, weights[0] if weights else 1.0))
    return found


def format_of(accept: str | None) -> Format:
    """Return the format that Accept likes best; CSV where it likes none better, or none that there is."""
    if accept is None:
        return "csv"
    listed = wishes(accept)
    weights = {kind: _weight(listed, media_type) for kind, media_type in MEDIA_TYPES.items()}
    best = max(weights.values())
    return next(kind for kind, weight in weights.items() if weight == best)


def codings_of(accept_encoding: str | None) -> list[Coding]:
    """Return the codings that may be sent, the best first; none where the client takes nothing that there is."""
    if accept_encoding is None:
        return ["identity"]
    listed = {_ALIASES.get(wish.value, wish.value): wish.weight for wish in wishes(accept_encoding)}
    others = listed.get("*", 0.0)
    weights = {coding: listed.get(coding, others) for coding in CODINGS}
    if "identity" not in listed and "*" not in listed:
        weights["identity"] = _UNSAID
    return sorted((c for c in CODINGS if weights[c] > 0), key=lambda coding: -weights[coding])


def _weight(listed: Sequence[Wish], media_type: str) -> float:
    """Return the weight of a media type by the element that is most specific for it; 0 where none is."""
    for pattern in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        for wish in listed:
            if wish.value == pattern:
                return wish.weight
    return 0.0
