"""The soak's chart: what each round took, in three panels over the same rounds, as SVG written by hand."""

from collections.abc import Sequence
from math import ceil, log10
from typing import Any

from bench.floors import SOAK_BROKER_MB, SOAK_MEMORY_MB

Json = dict[str, Any]

WIDTH, LEFT, RIGHT = 800, 70, 24
HEIGHT, TITLE, BOTTOM = 130, 36, 46
LINE, TEXT, FAINT, GRID, BOUND = "#1f6f5c", "#1b2421", "#5d6b66", "#e3e8e6", "#b4452f"

PANELS: tuple[tuple[str, str, str, float | None], ...] = (
    ("push_s", "Time of a push", "seconds", None),
    ("memory_mb", "Memory of everything that `up` started", "MB, peak of the round", SOAK_MEMORY_MB),
    ("broker_mb", "Broker's disk", "MB, peak of the round", SOAK_BROKER_MB),
)


def draw(document: Json) -> str:
    """Return an SVG of a soak's rounds: time, memory, broker's disk; floors are dashed lines."""
    rounds = [repetition["ours"] for repetition in document["repetitions"]]
    parts: list[str] = []
    y = 8
    for figure, title, unit, bound in PANELS:
        parts += _panel([one[figure] for one in rounds], f"{title}", unit, bound, y)
        y += TITLE + HEIGHT + BOTTOM
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
            'font-family="system-ui, sans-serif" font-size="13">',
            f"<title>{len(rounds)} rounds of {document['rows']:,} rows on one millstream up</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def ticks(most: float) -> list[float]:
    """Return round numbers from 0 to the first that isn't below `most`, four steps or about that."""
    raw = max(most, 1e-9) / 4
    unit: float = 10 ** (ceil(log10(raw)) - 1)
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * (1 - 1e-9))
    return [step * number for number in range(ceil(most / step - 1e-9) + 1)]


def _panel(values: Sequence[float], title: str, unit: str, bound: float | None, y: int) -> list[str]:
    """Draw one panel from `y` on: its own scale from zero, a point per round, the bound where there is one."""
    marks = ticks(max([*values, bound or 0]))
    bottom = y + TITLE + HEIGHT
    width = WIDTH - LEFT - RIGHT

    def across(number: int) -> float:
        return LEFT + width * (number + 0.5) / len(values)

    def up(value: float) -> float:
        return bottom - HEIGHT * value / marks[-1]

    parts = [
        f'<text x="10" y="{y + 18}" font-weight="600" fill="{TEXT}">{title} '
        f'<tspan font-weight="400" fill="{FAINT}">{unit}</tspan></text>'
    ]
    for mark in marks:
        height = f"{up(mark):.1f}"
        parts += [
            f'<path d="M{LEFT} {height}H{WIDTH - RIGHT}" stroke="{FAINT if not mark else GRID}"/>',
            f'<text x="{LEFT - 8}" y="{up(mark) + 4.5:.1f}" text-anchor="end" fill="{FAINT}">{mark:,g}</text>',
        ]
    every = ceil(len(values) / 20)
    for number in range(len(values)):
        if (number + 1) % every == 0:
            parts.append(
                f'<text x="{across(number):.1f}" y="{bottom + 18}" text-anchor="middle" fill="{FAINT}">{number + 1}</text>'
            )
    parts.append(f'<text x="{LEFT - 8}" y="{bottom + 18}" text-anchor="end" fill="{FAINT}">round</text>')
    if bound is not None:
        height = f"{up(bound):.1f}"
        parts += [
            f'<path d="M{LEFT} {height}H{WIDTH - RIGHT}" stroke="{BOUND}" stroke-dasharray="6 4"/>',
            f'<text x="{WIDTH - RIGHT}" y="{up(bound) - 5:.1f}" text-anchor="end" fill="{BOUND}">'
            f"at most {bound:,g}</text>",
        ]
    points = [f"{across(number):.1f} {up(value):.1f}" for number, value in enumerate(values)]
    parts.append(f'<path d="M{"L".join(points)}" fill="none" stroke="{LINE}" stroke-width="2"/>')
    parts += [
        f'<circle cx="{place.split()[0]}" cy="{place.split()[1]}" r="3" fill="{LINE}"/>' for place in points
    ]
    return parts
