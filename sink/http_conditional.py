"""Conditional requests (RFC 9110, section 13): does the client have it already, and is a range still of it."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal

Verdict = Literal["send", "not modified", "precondition failed"]

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*)"')


def evaluate(headers: Mapping[str, str], etag: str, modified: datetime) -> Verdict:
    """Return what a GET or HEAD comes to, in the order of RFC 9110, section 13.2.2.

    `headers` are looked up in lower case; `etag` is strong and without quotes; `modified` is in UTC. What should be a
    date and isn't is ignored.
    """
    stamp = modified.replace(microsecond=0)
    if (if_match := headers.get("if-match")) is not None:
        if not _lists(if_match, etag, weak=False):
            return "precondition failed"
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and stamp > since:
        return "precondition failed"
    if (if_none_match := headers.get("if-none-match")) is not None:
        return "not modified" if _lists(if_none_match, etag, weak=True) else "send"
    if (since := _date(headers.get("if-modified-since"))) is not None and stamp <= since:
        return "not modified"
    return "send"


def named(headers: Mapping[str, str], etags: Sequence[str]) -> str | None:
    """Return the first of `etags` that the client's conditions name: of several representations it has that one in mind."""
    for header in ("if-match", "if-none-match"):
        tags = {found[2] for found in _TAG.finditer(headers.get(header, ""))}
        for etag in etags:
            if etag in tags:
                return etag
    return None


def range_holds(if_range: str | None, etag: str, modified: datetime, *, only_version: bool) -> bool:
    """Whether the Range header counts: where If-Range is missing, or names this very representation.

    A date names it only where there never was another version: two may have been published within one second, and a
    file made of halves of both would be nobody's.
    """
    if if_range is None:
        return True
    if _TAG.fullmatch(if_range.strip()):
        return if_range.strip() == f'"{etag}"'
    return only_version and _date(if_range) == modified.replace(microsecond=0)


def http_date(when: datetime) -> str:
    """Return a time in UTC as HTTP writes it."""
    return format_datetime(when.astimezone(UTC), usegmt=True)


def _lists(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    return any(found[2] == etag and (weak or not found[1]) for found in _TAG.finditer(header))


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text.strip())
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
