"""Figures as people read them, for the pages."""

from datetime import UTC, datetime

from pipeline.states import State

_UNITS = ("B", "KB", "MB", "GB", "TB")

CHIPS = {
    "uploaded": "waiting",
    "capturing": "moving",
    "computing": "moving",
    "published": "good",
    "failed": "bad",
    "cancelled": "quiet",
    "superseded": "quiet",
    "refused": "bad",
    "deleted": "quiet",
}
"""How each state looks: a class of the style sheet."""

LABELS = {"uploaded": "waiting", "capturing": "capturing", "computing": "computing", "published": "done"}
"""States whose name isn't what a person would call them."""


def number(value: float | None) -> str:
    """Return 12,345; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def size(value: int | None) -> str:
    """Return 3.1 MB, by powers of 1,000."""
    if value is None:
        return "–"
    left, unit = float(value), 0
    while left >= 999.5 and unit < len(_UNITS) - 1:
        left, unit = left / 1000, unit + 1
    return f"{left:.0f} {_UNITS[unit]}" if unit == 0 or left >= 99.95 else f"{left:.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Return 0.4 s, 12 s, 3 min, 2 h 5 min, 4 days."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(hours / 24)} days"


def ago(when: datetime | None) -> str:
    """Return 5 s ago, 3 min ago, or the day."""
    if when is None:
        return "–"
    seconds = (datetime.now(UTC) - when).total_seconds()
    if seconds < 5:
        return "just now"
    return f"{duration(seconds)} ago" if seconds < 36 * 3600 else when.strftime("%-d %b %Y")


def chip(state: State) -> str:
    """Return how a state looks."""
    return "waiting" if _in_vain(state) else CHIPS.get(state.state, "quiet")


def label(state: State) -> str:
    """Return what a person would call a state."""
    return "done, 0 results" if _in_vain(state) else LABELS.get(state.state, state.state)


def _in_vain(state: State) -> bool:
    """Whether it was published, and all of its rows were rejected."""
    done = state.served if state.state == "published" else None
    return done is not None and done.rows > 0 and done.results == 0


def changed(state: State) -> datetime | None:
    """Return when a file last changed, as far as its state tells."""
    if state.state == "published" and state.served is not None:
        return state.served.published
    if state.end is not None:
        return state.end.ended
    if state.job is not None:
        return state.job.created
    return state.upload.last_modified if state.upload else None
