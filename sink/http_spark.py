"""A line of rows/s as SVG: for a file's page, drawn by the server, moved on by the script where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.picture import Sample

WIDTH, HEIGHT = 600, 96
SAMPLES = 120
"""Seconds that are shown, at most."""

FEWEST = 30
"""Seconds that the picture is wide, at least."""


@dataclass(frozen=True, slots=True)
class Spark:
    """Three lines, as points of SVG, and the rate at the top of the picture."""

    lines: dict[str, str]
    top: float
    values: dict[str, list[int]]


def spark(history: Sequence[Sample]) -> Spark:
    """Return the lines of the last samples; the newest is at the right edge."""
    recent = list(history)[-SAMPLES:]
    top = max((rate for sample in recent for rate in sample[1:]), default=0.0)
    lines, values = {}, {}
    for place, stage in enumerate(("capture", "compute", "store"), start=1):
        rates = [sample[place] for sample in recent]
        step = WIDTH / (max(FEWEST, len(rates)) - 1)
        start = WIDTH - step * (len(rates) - 1)
        lines[stage] = " ".join(
            f"{start + step * at:.1f},{HEIGHT - 4 - (HEIGHT - 10) * (rate / top if top else 0):.1f}"
            for at, rate in enumerate(rates)
        )
        values[stage] = [round(rate) for rate in rates]
    return Spark(lines, top, values)
