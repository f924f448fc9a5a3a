"""Up to where a topic may be emptied: pure policy."""

from collections.abc import Iterable, Mapping

At = tuple[str, int]
"""A topic and a partition of it."""

Committed = Mapping[At, int]
"""What a group has committed: the next offset that it will read."""


def removable(
    wanted: Iterable[At], ours: Mapping[str, Committed], others: Iterable[Committed]
) -> dict[At, int]:
    """Return before which offset nothing of each partition is needed any more; those of which that isn't known are left out.

    `ours` has, by topic, what our group that reads it has committed; `others` what each other group has that anybody runs.
    Another group holds a whole topic from its first commit there: a partition that it hasn't committed yet is left alone.
    """
    known = [(committed, {topic for topic, _ in committed}) for committed in others]
    found = {}
    for at in wanted:
        groups = [ours.get(at[0], {}), *(committed for committed, topics in known if at[0] in topics)]
        offsets = [committed.get(at) for committed in groups]
        least = [offset for offset in offsets if offset is not None]
        if len(least) == len(groups):
            found[at] = min(least)
    return found
