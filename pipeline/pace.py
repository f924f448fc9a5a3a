"""How seldom S3 is looked at where a look takes long."""

SHARE = 20
"""A look that takes long is made more seldom: only every so many times what it takes,"""

LONGEST = 60.0
"""but after so many seconds in any case: it may have taken long because S3 didn't answer, or because the process was asleep."""


def rest(least: float, took: float) -> float:
    """Return the seconds to wait after a look that took so many, `least` at least."""
    return max(least, min(SHARE * took, LONGEST))
